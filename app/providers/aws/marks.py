"""Whose a resource is: two tags say for whom, and by which operation, it was made."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from app.providers.base import Context, ErrorKind, ProviderError

OWNER = "windlass:owner"
OPERATION = "windlass:operation"
_RESERVED = ("windlass:", "aws:")
# What every service takes in the value of a tag. Everything else is written as "=" and two hexadecimal digits a byte.
_STRANGE = re.compile(r"[^A-Za-z0-9 +\-._:/@]")
_LIMIT = 256


@dataclass(frozen=True, slots=True)
class Mark:
    """`owner` as in `Context.owner`, as a tag can hold it; `operation` the id of the operation that made the thing."""

    owner: str
    operation: str

    @classmethod
    def of(cls, context: Context) -> Self:
        """The mark that the operation leaves on what it makes."""
        return cls(_fitting(context.owner), _fitting(context.operation_id))

    @classmethod
    def parse(cls, tags: Mapping[str, str]) -> Self | None:
        """The mark among tags; None where there is none."""
        return cls(tags[OWNER], tags.get(OPERATION, "")) if OWNER in tags else None

    def tags(self, others: Mapping[str, str]) -> dict[str, str]:
        """The mark as tags, beside others."""
        return {**others, OWNER: self.owner, OPERATION: self.operation}


def without_marks(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that are neither ours nor those of AWS."""
    return {key: value for key, value in tags.items() if not key.startswith(_RESERVED)}


def require_own(context: Context, tags: Mapping[str, str], what: str) -> None:
    """Raises ALREADY_EXISTS unless this very operation made the thing."""
    if Mark.parse(tags) != Mark.of(context):
        message = f"{what} exists already, and this operation did not make it"
        raise ProviderError(ErrorKind.ALREADY_EXISTS, message)


def require_free(context: Context, tags: Mapping[str, str], what: str) -> None:
    """Raises ALREADY_EXISTS where somebody else manages the thing that is to be imported."""
    mark = Mark.parse(tags)
    if mark is not None and mark.owner != Mark.of(context).owner:
        message = f"{what} is managed by {mark.owner}"
        raise ProviderError(ErrorKind.ALREADY_EXISTS, message)


def vanished(identity: str, kind: str) -> ProviderError:
    """The refusal to touch what is not, or no longer, the resource that the state describes."""
    return ProviderError(ErrorKind.NOT_FOUND, f"{kind} {identity} is gone, or is not the one that is managed here")


def generated_name(context: Context) -> str:
    """The name of a thing whose declaration gives none: the same for every attempt of the operation, and no other's."""
    return f"windlass-{hashlib.sha256(context.operation_id.encode()).hexdigest()[:16]}"


def token(context: Context) -> str:
    """What AWS recognises a repeated request by, where it does."""
    return hashlib.sha256(context.operation_id.encode()).hexdigest()[:32]


def from_list(tags: Any, key: str = "Key", value: str = "Value") -> dict[str, str]:
    """Tags as most services give them: [{"Key": …, "Value": …}]."""
    return {item[key]: item.get(value, "") for item in tags or ()}


def as_list(tags: Mapping[str, str], key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    """Tags as most services take them."""
    return [{key: name, value: text} for name, text in sorted(tags.items())]


def _fitting(text: str) -> str:
    written = _STRANGE.sub(lambda found: "".join(f"={byte:02X}" for byte in found.group().encode()), text)
    if len(written) <= _LIMIT:
        return written
    return f"{written[: _LIMIT - 33]}:{hashlib.sha256(text.encode()).hexdigest()[:32]}"
