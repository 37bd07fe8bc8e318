"""What changes in an ordered list that somebody watches: pure comparison of two looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class ListOp(StrEnum):
    ENTER = "ENTER"
    UPDATE = "UPDATE"
    LEAVE = "LEAVE"


@dataclass(frozen=True, slots=True)
class Entry:
    """A row as one look saw it: two with the same id and revision have the same content."""

    id: int
    revision: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """`position` counts from 0 in the list as it is afterwards; None for what left."""

    op: ListOp
    id: int
    position: int | None


def changes(before: Sequence[Entry], after: Sequence[Entry]) -> list[Change]:
    """What makes `before` into `after`: first what leaves, then what enters or is another, by rising position.

    Who takes every row that is named out of `before`, and then puts those with a position there, in this order, has
    `after`.
    """
    old = {entry.id: entry.revision for entry in before}
    new = {entry.id: entry.revision for entry in after}
    same = {number for number, revision in new.items() if old.get(number) == revision}
    if [entry.id for entry in before if entry.id in same] != [entry.id for entry in after if entry.id in same]:
        # Rows that changed places with each other cannot stay where they are.
        same = set()
    left = [Change(ListOp.LEAVE, entry.id, None) for entry in before if entry.id not in new]
    return left + [
        Change(ListOp.UPDATE if entry.id in old else ListOp.ENTER, entry.id, position)
        for position, entry in enumerate(after)
        if entry.id not in same
    ]
