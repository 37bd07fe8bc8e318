"""Whose a role or database is: a mark in its comment says for whom, and by which operation, it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from app.providers.base import Context, ErrorKind, ProviderError, ResourceState

PREFIX = "windlass:"
SEPARATOR = " operation:"


@dataclass(frozen=True, slots=True)
class Mark:
    """`owner` as in `Context.owner`, `operation` the id of the operation that made the thing."""

    owner: str
    operation: str

    @classmethod
    def of(cls, context: Context) -> Self:
        """The mark that the operation leaves on what it makes."""
        return cls(context.owner, context.operation_id)

    @classmethod
    def parse(cls, comment: str | None) -> Self | None:
        """The mark in a comment; None where the comment is somebody's own text."""
        owner, found, operation = (comment or "").partition(SEPARATOR)
        return cls(owner, operation) if found and owner.startswith(PREFIX) else None

    def __str__(self) -> str:
        return f"{self.owner}{SEPARATOR}{self.operation}"


def is_ours(context: Context, comment: str | None, oid: int, state: ResourceState) -> bool:
    """Whether the thing found under the name of `state` is the one it describes.

    A mark decides. Without one (the thing was imported, or somebody wrote another comment) the object id does.
    """
    mark = Mark.parse(comment)
    return mark.owner == context.owner if mark else state.private.get("oid") == oid


def require_own(context: Context, comment: str | None, what: str) -> None:
    """Raises ALREADY_EXISTS unless this very operation made the thing."""
    if Mark.parse(comment) != Mark.of(context):
        message = f"{what} exists already, and this operation did not make it"
        raise ProviderError(ErrorKind.ALREADY_EXISTS, message, path=("name",))


def require_free(context: Context, comment: str | None, what: str) -> None:
    """Raises ALREADY_EXISTS where somebody else manages the thing that is to be imported."""
    mark = Mark.parse(comment)
    if mark is not None and mark.owner != context.owner:
        message = f"{what} is managed by {mark.owner}"
        raise ProviderError(ErrorKind.ALREADY_EXISTS, message)


def vanished(name: str, kind: str) -> ProviderError:
    """The refusal to touch what is not, or no longer, the resource that the state describes."""
    return ProviderError(ErrorKind.NOT_FOUND, f"the {kind} {name} is gone, or is not the one that is managed here")
