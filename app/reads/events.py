"""The facts of many jobs or plans, each in order."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.db.models import EventLog
from app.db.pages import unnested
from app.domain.events import Stream


async def after(
    session: AsyncSession, tenant_id: int, stream: Stream, ids: Sequence[int], *, seq: int, limit: int
) -> dict[int, list[EventLog]]:
    """Up to `limit` facts of each stream with a number above `seq`, oldest first."""
    parents = unnested(ids).column_valued("asked_id")
    facts = (
        select(EventLog)
        .where(
            EventLog.tenant_id == tenant_id,
            EventLog.stream == stream,
            EventLog.stream_id == parents,
            EventLog.seq > seq,
        )
        .order_by(EventLog.seq)
        .limit(limit)
        .lateral("facts")
    )
    fact = aliased(EventLog, facts)
    found: dict[int, list[EventLog]] = {number: [] for number in ids}
    query = select(parents, fact).join(fact, true()).order_by(parents, fact.seq)
    for number, row in await session.execute(query):
        found[number].append(row)
    return found
