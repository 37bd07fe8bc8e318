"""Log lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession
from strawberry.scalars import JSON

from app.db.pages import Window
from app.domain import cursors
from app.domain.enums import LogLevel
from app.domain.events import Stream
from app.reads import logs
from schema.connections import PageInfo
from schema.context import Info
from schema.scalars import BigInt, Cursor, json_of
from schema.types.filters import LogFilter, wanted_lines

MAX_LINES = 500


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
    edges: list[LogEdge]
    page_info: PageInfo

    @strawberry.field
    def nodes(self) -> list[LogLine]:
        return [edge.node for edge in self.edges]


async def lines_of(
    info: Info, job_id: int, filter: LogFilter | None, first: int | None, after: Cursor | None
) -> LogConnection:
    """A page of a job's lines; all jobs that ask alike are answered together."""
    wanted = wanted_lines(filter)
    size = Window(first).size(MAX_LINES, MAX_LINES)
    seq = 0 if after is None else cursors.decode(after, Stream.JOB, job_id)

    async def fetch(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> Mapping[int, list[logs.Line]]:
        return await logs.after(session, tenant_id, ids, wanted, seq=seq, limit=size + 1)

    lines = await info.context.loaders.by(("lines", wanted, seq, size), fetch).load(job_id)
    edges = [
        LogEdge(node=LogLine.of(line), cursor=Cursor(cursors.encode(Stream.JOB, job_id, line.seq)))
        for line in lines[:size]
    ]
    ends = [edge.cursor for edge in edges]
    return LogConnection(
        edges=edges, page_info=PageInfo.of(ends, has_next=len(lines) > size, has_previous=after is not None)
    )
