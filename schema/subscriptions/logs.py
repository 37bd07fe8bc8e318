"""The log of a job, live."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from app.domain.errors import LimitExceeded
from app.domain.events import Stream
from app.reads import filters, streams
from app.reads.logs import Line
from app.reads.streams import Batch
from schema.context import Info
from schema.nodes import number_in
from schema.scalars import Cursor
from schema.subscriptions.following import Follower, Start
from schema.types.filters import LogFilter, wanted_lines
from schema.types.frames import LogFrame
from schema.types.logs import LogLine

MAX_TAIL = 1000


@dataclass(frozen=True, slots=True)
class LineSource:
    """The lines of one job that `wanted` describes: from the first on, or from the last `tail` ones."""

    tenant_id: int
    job_id: int
    wanted: filters.LogFilter
    tail: int | None

    async def start(self, session: AsyncSession, row: Any) -> Start[Line]:
        if self.tail is None:
            return Start(0)
        until: int = row.event_seq
        lines = await streams.last_lines(
            session, self.tenant_id, self.job_id, self.wanted, until=until, limit=self.tail
        )
        if len(lines) < self.tail:
            return Start(until, lines)
        return Start(until, lines, skipped_before=lines[0].seq - 1 if lines else until)

    async def read(self, session: AsyncSession, *, after: int, until: int) -> Batch[Line]:
        return await streams.lines_after(session, self.tenant_id, self.job_id, self.wanted, after=after, until=until)


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
        source = LineSource(context.tenant_id, number, wanted_lines(filter), tail)
        follower = Follower(context, Stream.JOB, number, source)
        async with aclosing(follower.follow(after)) as deliveries:
            async for delivery in deliveries:
                yield LogFrame(
                    kind=delivery.kind,
                    cursor=Cursor(delivery.cursor),
                    lines=[LogLine.of(line) for line in delivery.items],
                    lag_ms=delivery.lag_ms,
                    skipped_before=None if delivery.skipped_before is None else Cursor(delivery.skipped_before),
                )
