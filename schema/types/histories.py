"""The facts about a job or a plan, as a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import EventLog
from app.db.pages import Window
from app.domain import cursors
from app.domain.cursors import Place
from app.domain.events import Stream
from app.reads import events
from schema import rendering
from schema.connections import PageInfo
from schema.context import Info
from schema.scalars import Cursor
from schema.symbols import Symbol
from schema.types.events import Event, event_of

MAX_EVENTS = 500


@strawberry.type
class EventEdge:
    node: Event
    cursor: Cursor


@strawberry.type(description="Events in order. The cursors are good for subscriptions, too.")
class EventConnection:
    edges: list[EventEdge]
    page_info: PageInfo

    @strawberry.field
    def nodes(self) -> list[Event]:
        return [edge.node for edge in self.edges]


def head_cursor(stream: Stream, stream_id: int, seq: int, at: datetime | None) -> Cursor:
    """The place in a stream up to which a row's columns tell the story."""
    if isinstance(seq, Symbol):
        return cast("Cursor", rendering.stream_cursor(stream, cast("Any", stream_id), seq, cast("Any", at)))
    return Cursor(cursors.encode(stream, stream_id, Place(seq, at)))


async def events_of(
    info: Info, stream: Stream, stream_id: int, first: int | None, after: Cursor | None
) -> EventConnection:
    """A page of a stream's facts; all objects that ask alike are answered together."""
    size = Window(first).size(MAX_EVENTS, MAX_EVENTS)
    seq = 0 if after is None else cursors.decode(after, stream, stream_id).seq

    async def fetch(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> Mapping[int, list[EventLog]]:
        return await events.after(session, tenant_id, stream, ids, seq=seq, limit=size + 1)

    rows = await info.context.loaders.by(("events", stream, seq, size), fetch).load(stream_id)
    edges = [
        EventEdge(node=event_of(row), cursor=head_cursor(stream, stream_id, row.seq, row.at)) for row in rows[:size]
    ]
    ends = [edge.cursor for edge in edges]
    return EventConnection(
        edges=edges, page_info=PageInfo.of(ends, has_next=len(rows) > size, has_previous=after is not None)
    )
