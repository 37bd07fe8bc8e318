"""Streams as those who follow them read them: what comes after a place, up to where the stream is now.

A reader asks for the head first and for facts up to it afterwards. Facts get their numbers under the lock of the owning
row, so everything up to the head is there to be read once the head is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import DeploymentPlan, EventLog, OrchestrationJob
from app.db.statements import Statement
from app.db.uow import Database
from app.domain.cursors import Place
from app.domain.events import Stream
from app.domain.statuses import JOB, PLAN
from app.reads import logs, rows
from app.reads.filters import LogFilter
from app.reads.logs import Chunk, Line, Reach

EVENT_LIMIT = 200
LINE_LIMIT = 500
# A filter that matches little is applied to so many lines at a time.
_LINES_PER_LOOK = 20_000

# Of what has come since the last look; where there is more, it is read in the ordinary way.
_CHUNKS_PER_LOOK = 32
_SINCE: Final = Statement(
    "SELECT j.event_seq, j.event_at, j.status, l.* FROM orchestration_job AS j LEFT JOIN LATERAL (SELECT c.first_seq,"
    " c.last_seq, c.at, c.step_key, c.attempt, c.codec, c.body, c.size FROM job_log AS c"
    " WHERE c.tenant_id = :tenant AND c.job_id = :job AND c.first_seq > :after ORDER BY c.first_seq LIMIT :chunks)"
    " AS l ON true"
    " WHERE j.tenant_id = :tenant AND j.id = :job AND NOT j.is_deleted"
)
# When the fact with a number was written: an event, or the chunk that the line is in.
_WRITTEN: Final = {
    Stream.JOB: text(
        "SELECT coalesce((SELECT e.at FROM event_log AS e WHERE e.tenant_id = :tenant AND e.stream = 'JOB'"
        " AND e.stream_id = :id AND e.seq = :seq), (SELECT CASE WHEN c.last_seq >= :seq THEN c.at END FROM job_log AS c"
        " WHERE c.tenant_id = :tenant AND c.job_id = :id AND c.first_seq <= :seq ORDER BY c.first_seq DESC LIMIT 1))"
    ),
    Stream.PLAN: text(
        "SELECT e.at FROM event_log AS e WHERE e.tenant_id = :tenant AND e.stream = 'PLAN' AND e.stream_id = :id"
        " AND e.seq = :seq"
    ),
}

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Head:
    """Where a stream is: its newest fact, and whether its owner has reached a status that it never leaves."""

    place: Place
    closed: bool


@dataclass(frozen=True, slots=True)
class Batch(Generic[Item]):
    """Items in order. Everything up to `place` is in it, was in an earlier one, or was not asked for."""

    items: list[Item]
    place: Place


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
    query = select(table.event_seq, table.event_at, table.status).where(
        table.tenant_id == tenant_id, table.id == stream_id, ~table.is_deleted
    )
    row = (await session.execute(query)).first()
    return None if row is None else Head(Place(row.event_seq, row.event_at), closed=row.status in closed)


async def holds(
    session: AsyncSession, tenant_id: int, stream: Stream, stream_id: int, place: Place, head: Head
) -> bool:
    """Whether a stream has come by a place, as far as the place says what fact it is.

    It has not where it is not that far, and where a backup was restored and has other facts from there on.
    """
    if place > head.place or place.at is None or (place, place.at) == (head.place, head.place.at):
        return place <= head.place
    written: datetime | None = await session.scalar(
        _WRITTEN[stream], {"tenant": tenant_id, "id": stream_id, "seq": place.seq}
    )
    # Numbers have no gap, and events stay: what is not there is a line that is too old.
    return written == place.at if written is not None else stream is Stream.JOB


async def events_after(
    session: AsyncSession, tenant_id: int, stream: Stream, stream_id: int, *, after: Place, until: Place
) -> Batch[EventLog]:
    """The facts with numbers above `after`, at most EVENT_LIMIT and none above `until`."""
    query = (
        select(EventLog)
        .where(
            EventLog.tenant_id == tenant_id,
            EventLog.stream == stream,
            EventLog.stream_id == stream_id,
            EventLog.seq > after.seq,
            EventLog.seq <= until.seq,
        )
        .order_by(EventLog.seq)
        .limit(EVENT_LIMIT)
    )
    items = list((await session.scalars(query)).all())
    return Batch(items, Place(items[-1].seq, items[-1].at) if len(items) == EVENT_LIMIT else until)


async def lines_after(
    session: AsyncSession,
    tenant_id: int,
    job_id: int,
    wanted: LogFilter,
    *,
    after: Place,
    until: Place,
    limit: int = LINE_LIMIT,
) -> Batch[Line]:
    """The lines that `wanted` describes with numbers above `after`, at most `limit` and none above `until`.

    It may stop before both bounds are reached; `place` says how far it came.
    """
    reach = Reach(after.seq, until.seq)
    asked = limit if wanted == LogFilter() else max(limit, _LINES_PER_LOOK)
    found = (await logs.look(session, tenant_id, {job_id: reach}, wanted, lines=asked))[job_id]
    lines = await logs.lines_in(found.chunks, wanted, reach)
    if len(lines) > limit:
        return Batch(lines[:limit], lines[limit - 1].place)
    edge = None if found.done else found.chunks[-1]
    return Batch(lines, until if edge is None else min(Place(edge.last, edge.written), until))


async def lines_since(
    database: Database, tenant_id: int, job_id: int, wanted: LogFilter, *, after: Place, limit: int
) -> tuple[Head, Batch[Line]] | None:
    """The head of a job's stream and the lines behind a place that was its head before; None: look otherwise.

    What is written since then has numbers of its own, so no chunk has lines on both sides of the place. One statement,
    and nothing of the ORM's: this is what happens for every batch of lines that somebody watches.
    """
    rows = await database.look(
        tenant_id, _SINCE, {"tenant": tenant_id, "job": job_id, "after": after.seq, "chunks": _CHUNKS_PER_LOOK}
    )
    if not rows or rows[0]["event_seq"] < after.seq or len(rows) == _CHUNKS_PER_LOOK:
        return None
    until = Place(rows[0]["event_seq"], rows[0]["event_at"])
    parts = [
        Chunk(
            row["first_seq"],
            row["last_seq"],
            row["at"],
            row["step_key"],
            row["attempt"],
            row["codec"],
            row["body"],
            row["size"],
        )
        for row in rows
        if row["first_seq"] is not None
    ]
    parts.sort(key=lambda part: part.place)
    lines = await logs.lines_in(parts, wanted, Reach(after.seq, until.seq))
    if len(lines) > limit:
        return None
    return Head(until, closed=rows[0]["status"] in JOB.closed), Batch(lines, until)


async def last_lines(
    session: AsyncSession, tenant_id: int, job_id: int, wanted: LogFilter, *, until: int, limit: int
) -> list[Line]:
    """The last `limit` lines that `wanted` describes, none above `until`, oldest first."""
    page = await logs.pages(session, tenant_id, [job_id], wanted, Reach(0, until, backwards=True), limit)
    return page[job_id].lines
