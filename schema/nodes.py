"""Global ids: opaque to clients, unique over all types."""

from __future__ import annotations

import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, cast

import strawberry
from strawberry.dataloader import DataLoader

from app.domain.identity import global_id
from schema import rendering
from schema.symbols import NumberSlot, Slot, Symbol

_PADDING = ("", "===", "==", "=")
_MAX_ID = 2**63 - 1
_MAX_TEXT = 120


class MalformedId(Exception):
    """A text that no id looks like. Clients are told the same as for an id that does not exist."""


def encode_id(kind: str, number: int) -> strawberry.ID:
    """The global id of row `number` of the GraphQL type `kind`."""
    if isinstance(number, Symbol):
        return cast("strawberry.ID", rendering.global_id(kind, number))
    return strawberry.ID(global_id(kind, number))


def decode_id(text: str, expected: str | None = None) -> tuple[str, int]:
    """The type and number in a global id. Raises MalformedId, also when the type is not `expected`."""
    if isinstance(text, Slot):
        return _traced(text, expected)
    try:
        kind, number = _parts(text)
    except (ValueError, binascii.Error) as error:
        message = "this is not an id"
        raise MalformedId(message) from error
    if number > _MAX_ID or (expected is not None and kind != expected):
        message = "this is not an id of the type asked for"
        raise MalformedId(message)
    return kind, number


def _traced(text: Slot, expected: str | None) -> tuple[str, int]:
    """As `decode_id`, for a text that another request will have another of."""
    name = text.name
    kind = kind_in(text) if expected is None else expected
    if kind is None:
        message = "this is not an id"
        raise MalformedId(message)
    return kind, NumberSlot.of(0, lambda variables: number_in(variables[name], kind))


def _parts(text: str) -> tuple[str, int]:
    if len(text) > _MAX_TEXT:
        raise ValueError(text)
    # Ids of ours have neither of the two signs that base64 for addresses writes otherwise.
    standard = text.replace("-", "+").replace("_", "/") + _PADDING[len(text) % 4]
    plain = binascii.a2b_base64(standard, strict_mode=True).decode("ascii")
    kind, _, digits = plain.partition(":")
    if not digits.isdigit():
        raise ValueError(text)
    return kind, int(digits)


def kind_in(text: str) -> str | None:
    """The type in a global id; None for what is none."""
    try:
        return decode_id(str(text))[0]
    except MalformedId:
        return None


def number_in(text: str, expected: str) -> int:
    """The row number in a global id of `expected`, or 0, which no row has, for anything else."""
    try:
        return decode_id(text, expected)[1]
    except MalformedId:
        return 0


_VIEWS: dict[str, type[Node]] = {}


def view(kind: str) -> Callable[[Any], Any]:
    """What makes the GraphQL object of a row. By name, because types refer to each other in circles."""
    return _VIEWS[kind].of


async def load(loader: DataLoader[int, Any], number: Any, kind: str) -> Any:
    """The GraphQL object `kind` of the row `number`, or None."""
    row = None if number is None else await loader.load(number)
    return None if row is None else view(kind)(row)


@dataclass(frozen=True, slots=True)
class Pointer:
    """An object of the type `kind` that nobody has read yet: the row `number` of the loader called `loader`."""

    loader: str
    kind: str
    number: int


async def refer(info: Any, loader: str, number: int | None, kind: str) -> Any:
    """What a nullable field of that one type answers: the row `number`, which no resolver looks at itself, or None."""
    if number is not None and info.schema.compiled:
        return Pointer(loader, kind, number)
    return await load(getattr(info.context.loaders, loader), number, kind)


@strawberry.interface(description="Anything that can be fetched again by its id.")
class Node:
    row: strawberry.Private[Any]

    def __init_subclass__(cls) -> None:
        _VIEWS[cls.__name__] = cls

    @classmethod
    def of(cls, row: Any) -> Self:
        """The GraphQL view of a row."""
        return cls(row=row)

    @strawberry.field
    def id(self) -> strawberry.ID:
        return encode_id(type(self).__name__, self.row.id)
