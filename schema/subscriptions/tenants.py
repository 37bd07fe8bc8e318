"""Everything that happens in a tenant, live: one stream for integrators, the same that webhooks are sent from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import strawberry
import structlog

from app import clock
from app.db.feed import Position
from app.db.models import EventLog
from app.domain.errors import Invalid
from app.domain.events import EventKind
from app.domain.naming import hint, nearest
from app.reads import feed
from schema.context import Context, Info
from schema.pace import HEARTBEAT_SECONDS, PATIENCE_SECONDS, SWEEP_SECONDS, TROUBLE, sweep_seconds
from schema.scalars import Cursor
from schema.types.events import event_of
from schema.types.frames import EventFrame, FrameKind

# What others are still at work beside is settled soon.
_UNSETTLED_SECONDS = 0.02
_KINDS = frozenset(kind.value for kind in EventKind)

_logger = structlog.get_logger("windlass.live")


@strawberry.type
class TenantSubscriptions:
    @strawberry.subscription(  # type: ignore[untyped-decorator]  # a partial of overloads
        description=(
            "Everything that happens in the tenant, each job's and plan's events in their order. Begins with a SNAPSHOT"
            " that holds nothing but the place, or behind `after`, on any server; every event exactly once. `types` are"
            " names of event types, all by default. Cursors are those of webhooks. Never ends by itself."
        ),
    )
    async def tenant_events(
        self, info: Info, after: Cursor | None = None, types: list[str] | None = None
    ) -> AsyncGenerator[EventFrame, None]:
        context = info.context
        context.require_read()
        wanted = _wanted(types)
        place = None if after is None else Position.decode(after)
        async with aclosing(_follow(context, place, wanted)) as frames:
            async for frame in frames:
                yield frame


def _wanted(types: Sequence[str] | None) -> frozenset[str]:
    for place, name in enumerate(types or ()):
        if name not in _KINDS:
            message = f"there is no event type '{name}'{hint(nearest(name, sorted(_KINDS)))}"
            raise Invalid(message, path=("types", str(place)))
    return frozenset(types) if types is not None else _KINDS


class _Feed:
    """One reader of the feed. What the database cannot answer now is asked again for a while."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.looked_at = clock.monotonic()

    async def head(self) -> Position:
        async with self._context.read() as session:
            return await feed.head(session, self._context.tenant_id)

    async def holds(self, place: Position) -> bool:
        async with self._context.read() as session:
            return await feed.holds(session, self._context.tenant_id, place)

    async def after(self, place: Position) -> feed.Page | None:
        """What comes after a place; None where it turns out to be in a history that is no more."""
        doubted = False
        while True:
            try:
                async with self._context.read() as session:
                    if doubted and not await feed.holds(session, self._context.tenant_id, place):
                        return None
                    page = await feed.after(session, self._context.tenant_id, place)
            except TROUBLE as error:
                if clock.monotonic() - self.looked_at > PATIENCE_SECONDS:
                    raise
                _logger.warning("a feed cannot be read; trying again", error=str(error))
                # What comes back may be a backup.
                doubted = True
                await asyncio.sleep(SWEEP_SECONDS)
            else:
                self.looked_at = clock.monotonic()
                return page


async def _follow(context: Context, place: Position | None, wanted: frozenset[str]) -> AsyncGenerator[EventFrame, None]:
    reader, bus, sent_at = _Feed(context), context.bus, clock.monotonic()
    async with bus.watch_tenant(context.tenant_id) as bell:
        if place is None or not await reader.holds(place):
            kind, place = FrameKind.SNAPSHOT if place is None else FrameKind.RESYNC, await reader.head()
            yield _frame(kind, place)
        while True:
            page = await reader.after(place)
            if page is None:
                place = await reader.head()
                yield _frame(FrameKind.RESYNC, place)
                continue
            place = page.position
            events = [row for row in page.events if row.kind in wanted]
            if events:
                # The frame is resolved anew: what earlier frames fetched may have changed.
                context.loaders.forget()
                yield _frame(FrameKind.EVENTS, place, events)
                sent_at = clock.monotonic()
            elif clock.monotonic() - sent_at >= HEARTBEAT_SECONDS:
                yield _frame(FrameKind.HEARTBEAT, place)
                sent_at = clock.monotonic()
            if page.unsettled:
                await bell.wait(_UNSETTLED_SECONDS)
            elif not page.more:
                await bell.wait(sweep_seconds(bus))


def _frame(kind: FrameKind, place: Position, events: Sequence[EventLog] = ()) -> EventFrame:
    lag = (clock.utc_now() - events[-1].at).total_seconds() if events else 0.0
    return EventFrame(
        kind=kind,
        cursor=Cursor(place.encode()),
        events=[event_of(row) for row in events],
        lag_ms=max(0, round(lag * 1000)),
    )
