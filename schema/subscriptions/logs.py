"""The log of a job, live."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.uow import Database
from app.domain import cursors
from app.domain.cursors import BEGINNING, Place
from app.domain.enums import Permission
from app.domain.errors import LimitExceeded
from app.domain.events import Stream
from app.reads import filters, logs, streams
from app.reads.logs import Line
from app.reads.streams import Batch, Head
from schema.context import Context, Info
from schema.fields import selects
from schema.nodes import number_in
from schema.scalars import Cursor
from schema.subscriptions.following import Follower, Start
from schema.types.filters import LogFilter, wanted_lines
from schema.types.frames import FrameKind, LogFrame

MAX_TAIL = 1000
# A frame has more lines where nobody asks for them one by one: those cost 30 times as much.
PACKED_LIMIT = 5_000


@dataclass(frozen=True, slots=True)
class LineSource:
    """The lines of one job that `wanted` describes: from the first on, or from the last `tail` ones."""

    tenant_id: int
    job_id: int
    wanted: filters.LogFilter
    tail: int | None
    limit: int

    async def start(self, session: AsyncSession, row: Any) -> Start[Line]:
        kept = (await logs.kept(session, self.tenant_id, [self.job_id]))[self.job_id]
        gone = Place(kept.before) if kept.lost else None
        if self.tail is None:
            return Start(gone or BEGINNING, skipped_before=gone)
        until = Place(row.event_seq, row.event_at)
        lines = await streams.last_lines(
            session, self.tenant_id, self.job_id, self.wanted, until=until.seq, limit=self.tail
        )
        if len(lines) < self.tail:
            return Start(until, lines, skipped_before=gone)
        return Start(until, lines, skipped_before=Place(lines[0].seq - 1) if lines else until)

    async def read(self, session: AsyncSession, *, after: Place, until: Place) -> Batch[Line]:
        return await streams.lines_after(
            session, self.tenant_id, self.job_id, self.wanted, after=after, until=until, limit=self.limit
        )

    async def read_on(self, database: Database, *, after: Place) -> tuple[Head, Batch[Line]] | None:
        return await streams.lines_since(
            database, self.tenant_id, self.job_id, self.wanted, after=after, limit=self.limit
        )


@strawberry.type
class LogSubscriptions:
    @strawberry.subscription(  # type: ignore[untyped-decorator]  # a partial of overloads
        description=(
            "The log of a job, live: from its first line, from its last `tail` lines (1000 at most), or behind `after`,"
            " which goes before `tail`. Every line exactly once, across connections, servers and restarts; `filter` is"
            " applied by the server. Ends when the job has reached a terminal status and every line is delivered."
        ),
    )
    async def job_logs(
        self,
        info: Info,
        id: strawberry.ID,
        after: Cursor | None = None,
        tail: int | None = None,
        filter: LogFilter | None = None,
    ) -> AsyncGenerator[LogFrame, None]:
        if tail is not None and not 0 <= tail <= MAX_TAIL:
            message = f"tail is from 0 to {MAX_TAIL}"
            raise LimitExceeded(message, path=("tail",))
        context = info.context
        number = number_in(id, "OrchestrationJob")
        limit = streams.LINE_LIMIT if selects(info, "lines") else PACKED_LIMIT
        source = LineSource(context.tenant_id, number, wanted_lines(filter), tail, limit)
        # Whoever goes on from a place of its own has been told already.
        gone = None if context.course.start is not None else await _gone_behind(context, number, after)
        if gone is not None:
            after = Cursor(cursors.encode(Stream.JOB, number, gone))
            yield LogFrame(kind=FrameKind.RESYNC, cursor=after, items=(), lag_ms=0, skipped_before=after)
        follower = Follower(context, Stream.JOB, number, source)
        async with aclosing(follower.follow(after)) as deliveries:
            async for delivery in deliveries:
                yield LogFrame(
                    kind=delivery.kind,
                    cursor=Cursor(delivery.cursor),
                    items=delivery.items,
                    lag_ms=delivery.lag_ms,
                    skipped_before=None if delivery.skipped_before is None else Cursor(delivery.skipped_before),
                )


async def _gone_behind(context: Context, job_id: int, after: str | None) -> Place | None:
    """The place up to which retention has removed lines behind the cursor, if it has removed any.

    Nothing is said here of what the principal may not see: following refuses that itself.
    """
    if after is None or not context.principal.may(Permission.READ):
        return None
    place = cursors.decode(after, Stream.JOB, job_id)
    async with context.read() as session:
        kept = (await logs.kept(session, context.tenant_id, [job_id], place.seq)).get(job_id)
    return Place(kept.before) if kept is not None and kept.lost else None
