"""The feed of a tenant as those who follow it read it; app.db.feed says how its places are made."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BigInteger, literal_column, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.feed import BEGINNING, HORIZON, Position
from app.db.models import EventLog

LIMIT = 200
_HORIZON = literal_column(HORIZON, BigInteger)
_HEAD = text(
    "SELECT feed, stream, stream_id, seq, at FROM event_log"  # noqa: S608  a constant of ours
    f" WHERE tenant_id = :tenant AND feed < {HORIZON}"
    " ORDER BY feed DESC, stream DESC, stream_id DESC, seq DESC LIMIT 1"
)
_EVENT = text(
    "SELECT feed, at FROM event_log WHERE tenant_id = :tenant AND stream = :stream AND stream_id = :id AND seq = :seq"
)


@dataclass(frozen=True, slots=True)
class Page:
    """What comes after a place, in order. Everything up to `position` is in it or was before it.

    `unsettled`: there is more, written by transactions beside which others are still at work.
    """

    events: list[EventLog]
    position: Position
    more: bool
    unsettled: bool


async def head(session: AsyncSession, tenant_id: int) -> Position:
    """The newest settled event: everything that is settled is before it or is it, and all that comes is behind it."""
    row = (await session.execute(_HEAD, {"tenant": tenant_id})).first()
    return BEGINNING if row is None else Position(row.feed, row.stream, row.stream_id, row.seq, row.at)


async def holds(session: AsyncSession, tenant_id: int, place: Position) -> bool:
    """Whether the feed has come by a place, as far as the place says which event it is.

    It has not where it is not that far, and where a backup was restored and has other events from there on.
    """
    if place.at is None:
        return place.feed <= int(await session.scalar(select(_HORIZON)) or 0)
    values = {"tenant": tenant_id, "stream": place.stream, "id": place.stream_id, "seq": place.seq}
    row = (await session.execute(_EVENT, values)).first()
    return row is not None and (row.feed, row.at) == (place.feed, place.at)


async def after(session: AsyncSession, tenant_id: int, place: Position) -> Page:
    """Up to LIMIT settled events after `place`."""
    position = tuple_(EventLog.feed, EventLog.stream, EventLog.stream_id, EventLog.seq)
    own = EventLog.tenant_id == tenant_id
    query = (
        select(EventLog)
        .where(own, position > (place.feed, place.stream, place.stream_id, place.seq), EventLog.feed < _HORIZON)
        .order_by(EventLog.feed, EventLog.stream, EventLog.stream_id, EventLog.seq)
        .limit(LIMIT)
    )
    rows = list((await session.scalars(query)).all())
    if rows:
        last = rows[-1]
        # What has no place in the feed is not among them.
        place = Position(last.feed or 0, last.stream, last.stream_id, last.seq, last.at)
    open_query = select(select(EventLog.seq).where(own, EventLog.feed >= _HORIZON).exists())
    unsettled = len(rows) < LIMIT and bool(await session.scalar(open_query))
    return Page(rows, place, len(rows) == LIMIT, unsettled)
