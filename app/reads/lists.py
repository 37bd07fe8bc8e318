"""The first page of a list, as those who watch it see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.db import pages
from app.db.feed import Position
from app.db.pages import Count, Order
from app.domain.listing import Entry
from app.reads import feed, rows

_GONE_LIMIT = 500

Row = TypeVar("Row")


@dataclass(frozen=True)
class ListQuery(Generic[Row]):
    """Which rows, in which order, how many of them; and which ones are counted by the values of `status`.

    The rows have an `id`, a `version` and an `event_seq`. `everything` selects all of them that the tenant has.
    """

    rows: Select[Row]
    everything: Select[Row]
    order: Order
    size: int
    counted: Select[Row]
    status: InstrumentedAttribute[Any]
    statuses: Sequence[StrEnum]


@dataclass(frozen=True)
class Listing(Generic[Row]):
    """One look. Whatever happened in the tenant before `place` is in it; later things may be.

    `gone` holds rows that were in the list lately, as they were when they were missed.
    """

    entries: tuple[Entry, ...]
    rows: Mapping[int, Row]
    counts: Mapping[StrEnum, Count]
    place: Position
    gone: Mapping[int, Row]

    def in_order(self) -> list[Row]:
        return [self.rows[entry.id] for entry in self.entries]


async def look(
    session: AsyncSession, tenant_id: int, wanted: ListQuery[Row], before: Listing[Row] | None
) -> Listing[Row]:
    """The list now. Only rows that are not in `before` as they are now are read again."""
    place = await feed.head(session, tenant_id)
    order = wanted.order
    entity: Any = order.id.class_
    keys = wanted.rows.with_only_columns(order.id, entity.version, entity.event_seq)
    found = await session.execute(keys.order_by(*order.clauses()).limit(wanted.size))
    entries = [Entry(number, (version, seq)) for number, version, seq in found]
    known = {} if before is None else {entry: before.rows[entry.id] for entry in before.entries}
    missing = [entry.id for entry in entries if entry not in known]
    fresh = await rows.by_ids(session, wanted.rows, missing) if missing else {}
    # What stopped belonging here between the two questions leaves now.
    kept = tuple(entry for entry in entries if entry in known or entry.id in fresh)
    left = {entry.id for entry in known} - {entry.id for entry in kept}
    gone = {} if before is None else dict(before.gone)
    if left:
        gone.update(await rows.by_ids(session, wanted.everything, sorted(left)))
    return Listing(
        entries=kept,
        rows={entry.id: fresh[entry.id] if entry.id in fresh else known[entry] for entry in kept},
        counts=await pages.count_nested(session, wanted.counted, wanted.status, wanted.statuses),
        place=place,
        gone=dict(list(gone.items())[-_GONE_LIMIT:]),
    )
