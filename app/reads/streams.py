"""Streams as those who follow them read them: what comes after a place, up to where the stream is now.

A reader asks for the head first and for facts up to it afterwards. Facts get their numbers under the lock of the owning
row, so everything up to the head is there to be read once the head is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import TextClause, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import DeploymentPlan, EventLog, OrchestrationJob
from app.domain.events import Stream
from app.domain.statuses import JOB, PLAN
from app.reads import rows
from app.reads.filters import LogFilter, at_least
from app.reads.logs import Line, line_of

EVENT_LIMIT = 200
LINE_LIMIT = 500
# A filter that matches little is applied to so many lines at a time, so that no single read takes long.
_LINES_PER_LOOK = 50_000

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Head:
    """Where a stream is: its highest number, and whether its owner has reached a status that it never leaves."""

    seq: int
    closed: bool


@dataclass(frozen=True, slots=True)
class Batch(Generic[Item]):
    """Items in order. Everything up to `seq` is in it, was in an earlier one, or was not asked for."""

    items: list[Item]
    seq: int


async def owner(
    session: AsyncSession, tenant_id: int, stream: Stream, stream_id: int
) -> OrchestrationJob | DeploymentPlan | None:
    """The job or plan that a stream belongs to. Its `event_seq` is the place that its status is true at."""
    if stream is Stream.JOB:
        return await session.scalar(rows.of_tenant(OrchestrationJob, tenant_id).where(OrchestrationJob.id == stream_id))
    return await session.scalar(rows.of_tenant(DeploymentPlan, tenant_id).where(DeploymentPlan.id == stream_id))


async def head(session: AsyncSession, tenant_id: int, stream: Stream, stream_id: int) -> Head | None:
    """Where the stream is now, or None when the tenant has no such stream."""
    table: Any = OrchestrationJob if stream is Stream.JOB else DeploymentPlan
    closed: frozenset[StrEnum] = JOB.closed if stream is Stream.JOB else PLAN.closed
    query = select(table.event_seq, table.status).where(
        table.tenant_id == tenant_id, table.id == stream_id, ~table.is_deleted
    )
    row = (await session.execute(query)).first()
    return None if row is None else Head(row.event_seq, closed=row.status in closed)


async def events_after(
    session: AsyncSession, tenant_id: int, stream: Stream, stream_id: int, *, after: int, until: int
) -> Batch[EventLog]:
    """The facts with numbers above `after`, at most EVENT_LIMIT and none above `until`."""
    query = (
        select(EventLog)
        .where(
            EventLog.tenant_id == tenant_id,
            EventLog.stream == stream,
            EventLog.stream_id == stream_id,
            EventLog.seq > after,
            EventLog.seq <= until,
        )
        .order_by(EventLog.seq)
        .limit(EVENT_LIMIT)
    )
    items = list((await session.scalars(query)).all())
    return Batch(items, items[-1].seq if len(items) == EVENT_LIMIT else until)


async def lines_after(
    session: AsyncSession, tenant_id: int, job_id: int, wanted: LogFilter, *, after: int, until: int
) -> Batch[Line]:
    """The lines that `wanted` describes with numbers above `after`, at most LINE_LIMIT and none above `until`.

    It may stop before both bounds are reached; `seq` says how far it came.
    """
    until = min(until, after + _LINES_PER_LOOK)
    lines = await _lines(session, _FORWARD, tenant_id, job_id, wanted, after=after, until=until, limit=LINE_LIMIT)
    return Batch(lines, lines[-1].seq if len(lines) == LINE_LIMIT else until)


async def last_lines(
    session: AsyncSession, tenant_id: int, job_id: int, wanted: LogFilter, *, until: int, limit: int
) -> list[Line]:
    """The last `limit` lines that `wanted` describes, none above `until`, oldest first."""
    lines = await _lines(session, _BACKWARD, tenant_id, job_id, wanted, after=0, until=until, limit=limit)
    return lines[::-1]


async def _lines(
    session: AsyncSession,
    statement: TextClause,
    tenant_id: int,
    job_id: int,
    wanted: LogFilter,
    *,
    after: int,
    until: int,
    limit: int,
) -> list[Line]:
    levels = None if wanted.min_level is None else [level.value for level in at_least(wanted.min_level)]
    found = await session.execute(
        statement,
        {
            "tenant": tenant_id,
            "job": job_id,
            "after": after,
            "until": until,
            "levels": levels,
            "step": wanted.step_key,
            "contains": wanted.contains,
            "limit": limit,
        },
    )
    return [line_of(seq, value, step_key, attempt) for seq, value, step_key, attempt in found]


def _statement(order: str) -> TextClause:
    # Batches are found by the number of their first line; the one that `after` lies in begins at or before it.
    return text(
        "SELECT batch.first_seq + line.ord - 1 AS seq, line.value, batch.step_key, batch.attempt"  # noqa: S608
        " FROM job_log AS batch"
        " CROSS JOIN LATERAL jsonb_array_elements(batch.lines) WITH ORDINALITY AS line (value, ord)"
        " WHERE batch.tenant_id = :tenant AND batch.job_id = :job"
        " AND batch.first_seq >= coalesce((SELECT max(earlier.first_seq) FROM job_log AS earlier"
        " WHERE earlier.tenant_id = :tenant AND earlier.job_id = :job AND earlier.first_seq <= :after), 0)"
        " AND batch.first_seq <= :until"
        " AND batch.first_seq + line.ord - 1 > :after AND batch.first_seq + line.ord - 1 <= :until"
        " AND (CAST(:levels AS text[]) IS NULL OR line.value ->> 'level' = ANY (CAST(:levels AS text[])))"
        " AND (CAST(:step AS text) IS NULL OR batch.step_key = CAST(:step AS text))"
        " AND (CAST(:contains AS text) IS NULL"
        " OR strpos(lower(line.value ->> 'message'), lower(CAST(:contains AS text))) > 0)"
        f" ORDER BY batch.first_seq {order}, line.ord {order} LIMIT :limit"
    )


_FORWARD = _statement("ASC")
_BACKWARD = _statement("DESC")
