"""Log lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession
from strawberry.scalars import JSON

from app import clock
from app.db.pages import Window
from app.domain import cursors
from app.domain.enums import LogLevel
from app.domain.events import Stream
from app.reads import logs
from schema.connections import PageInfo
from schema.context import Info
from schema.fields import described
from schema.scalars import BigInt, Cursor, json_of
from schema.types.filters import LogFilter, wanted_lines

MAX_LINES = 500
PACKED = "Each is [seq, at, level, stream, stepKey, attempt, message]; `seq` is a number here. `fields` are left out."


@strawberry.type(description="One line of a job's log.")
class LogLine:
    seq: BigInt = strawberry.field(description="Its place among the job's events and lines.")
    at: datetime
    level: LogLevel
    stream: str
    message: str
    fields: JSON | None
    step_key: str | None
    attempt: int | None

    @classmethod
    def of(cls, line: logs.Line) -> LogLine:
        return cls(
            seq=BigInt(line.seq),
            at=line.at,
            level=line.level,
            stream=line.stream,
            message=line.message,
            fields=json_of(line.fields),
            step_key=line.step_key,
            attempt=line.attempt,
        )


@strawberry.type
class LogEdge:
    node: LogLine
    cursor: Cursor


@strawberry.type(description="Lines in order. The cursors are good for `jobLogs(after:)`, too.")
class LogConnection:
    job_id: strawberry.Private[int]
    page: strawberry.Private[logs.LinePage]

    @strawberry.field
    def edges(self) -> list[LogEdge]:
        return [LogEdge(node=LogLine.of(line), cursor=self._cursor(line)) for line in self.page.lines]

    @strawberry.field
    def nodes(self) -> list[LogLine]:
        return [LogLine.of(line) for line in self.page.lines]

    @described(f"The same lines for those who show many. {PACKED}")
    def packed(self) -> JSON:
        return JSON(logs.packed(self.page.lines))

    @strawberry.field
    def page_info(self) -> PageInfo:
        ends = [self._cursor(line) for line in (*self.page.lines[:1], *self.page.lines[-1:])]
        return PageInfo.of(ends, has_next=self.page.has_next, has_previous=self.page.has_previous)

    @described("When the oldest lines are too old and were removed: when the first one that is kept was written.")
    async def truncated_before(self, info: Info) -> datetime | None:
        loader = info.context.loaders.by(("kept lines",), logs.kept)
        found: logs.Kept = await loader.load(self.job_id)
        return (found.since or clock.utc_now()) if found.lost else None

    def _cursor(self, line: logs.Line) -> Cursor:
        return Cursor(cursors.encode(Stream.JOB, self.job_id, line.place))


async def lines_of(info: Info, job_id: int, filter: LogFilter | None, window: Window) -> LogConnection:
    """A page of a job's lines; all jobs that ask alike are answered together."""
    wanted = wanted_lines(filter)
    size = window.size(MAX_LINES, MAX_LINES)
    after = None if window.after is None else cursors.decode(window.after, Stream.JOB, job_id).seq
    before = None
    if window.before is not None:
        before = cursors.decode(window.before, Stream.JOB, job_id, argument="before").seq
    reach = logs.reach_of(window, after, before)

    async def fetch(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> Mapping[int, logs.LinePage]:
        return await logs.pages(session, tenant_id, ids, wanted, reach, size)

    page = await info.context.loaders.by(("lines", wanted, reach, size), fetch).load(job_id)
    return LogConnection(job_id=job_id, page=page)
