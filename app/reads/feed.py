"""The feed of a tenant as those who follow it read it; app.db.feed says how its places are made."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BigInteger, literal_column, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.feed import HORIZON, Position
from app.db.models import EventLog

LIMIT = 200
_HORIZON = literal_column(HORIZON, BigInteger)


@dataclass(frozen=True, slots=True)
class Page:
    """What comes after a place, in order. Everything up to `position` is in it or was before it.

    `unsettled`: there is more, written by transactions beside which others are still at work.
    """

    events: list[EventLog]
    position: Position
    more: bool
    unsettled: bool


async def head(session: AsyncSession) -> Position:
    """The place before which everything is settled."""
    horizon = await session.scalar(select(_HORIZON))
    return Position(int(horizon or 0), "", 0, 0)


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
        place = Position(last.feed or 0, last.stream, last.stream_id, last.seq)
    open_query = select(select(EventLog.seq).where(own, EventLog.feed >= _HORIZON).exists())
    unsettled = len(rows) < LIMIT and bool(await session.scalar(open_query))
    return Page(rows, place, len(rows) == LIMIT, unsettled)
