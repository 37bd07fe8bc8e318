"""Following a stream: look, deliver, and when nothing is new wait for a bell.

A follower is a cursor, not a queue. Whoever reads slowly gets fewer and larger batches, costs no memory meanwhile, and
misses nothing. No transaction is open while a frame is being sent or while nothing happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.bus.bells import Bell
from app.db.uow import Database
from app.domain import cursors
from app.domain.cursors import BEGINNING, Place
from app.domain.errors import NotFound
from app.domain.events import Stream
from app.reads import streams
from app.reads.streams import Batch, Head
from schema.context import Context
from schema.pace import HEARTBEAT_SECONDS, PATIENCE_SECONDS, SWEEP_SECONDS, TROUBLE, sweep_seconds
from schema.types.frames import FrameKind

Item = TypeVar("Item")

_logger = structlog.get_logger("windlass.live")


class Source(Protocol[Item]):
    """What is delivered of a stream."""

    async def start(self, session: AsyncSession, row: Any) -> Start[Item]:
        """What a follower without a place is given first; `row` owns the stream."""

    async def read(self, session: AsyncSession, *, after: Place, until: Place) -> Batch[Item]:
        """What comes next, none above `until`."""

    async def read_on(self, database: Database, *, after: Place) -> tuple[Head, Batch[Item]] | None:
        """The head, and all that has come since `after` was the head, in a short way; None: there is none."""


@dataclass(frozen=True, slots=True)
class Start(Generic[Item]):
    """Where a follower begins, the items to show at once, and the place before which some were left out."""

    place: Place
    items: list[Item] = field(default_factory=list)
    skipped_before: Place | None = None


@dataclass(frozen=True, slots=True)
class Delivery(Generic[Item]):
    """The content of one frame. `row` owns the stream and is None once it is gone."""

    kind: FrameKind
    cursor: str
    row: Any
    items: list[Item]
    lag_ms: int
    skipped_before: str | None = None


@dataclass(frozen=True, slots=True)
class _Look(Generic[Item]):
    """What one look found. Without a `kind` there is nothing to deliver; `more` says that it is no use to wait."""

    kind: FrameKind | None
    place: Place
    more: bool = False
    row: Any = None
    items: list[Item] = field(default_factory=list)
    skipped_before: Place | None = None


@dataclass(frozen=True, slots=True)
class _Seen(Generic[Item]):
    """What was read for one look, or for several. No `head`: the stream is gone. No `batch`: the place is beyond it."""

    head: Head | None
    batch: Batch[Item] | None = None
    row: Any = None


class Follower(Generic[Item]):
    """Follows one stream for one operation."""

    def __init__(self, context: Context, stream: Stream, stream_id: int, source: Source[Item]) -> None:
        self._context = context
        self._stream = stream
        self._id = stream_id
        self._source = source
        self._looked_at = clock.monotonic()
        self._sent_at = clock.monotonic()
        # Where the stream's head was when this follower had come up to it.
        self._arrived_at: Place | None = None
        # Whether the place may be of a history that is no more: one that a client gives, or from before a trouble.
        self._doubted = False

    async def follow(self, after: str | None) -> AsyncGenerator[Delivery[Item], None]:
        """Every frame behind the cursor `after`, until the stream ends.

        Raises NotFound for what the tenant does not have, Forbidden, and Invalid for a cursor of something else.
        """
        self._context.require_read()
        course = self._context.course
        place = None if after is None else cursors.decode(after, self._stream, self._id)
        self._doubted = place is not None and course.start is None
        place = place if course.start is None else course.start
        await self._require()
        bus = self._context.bus
        async with bus.watch(self._context.tenant_id, self._stream, self._id) as bell:
            while True:
                if place is not None and not self._doubted:
                    if course.joins(place):
                        return
                    await course.let_catch_up(place)
                look = await self._look_patiently(place, bell)
                place = look.place
                course.passed(place, delivering=look.kind is not None, last=look.kind is FrameKind.END)
                if look.kind is not None:
                    self._sent_at = clock.monotonic()
                    # The frame is resolved anew: what earlier frames fetched may have changed.
                    self._context.loaders.forget()
                    yield self._delivery(look)
                if look.kind is FrameKind.END:
                    return
                if look.kind is None and not look.more:
                    await bell.wait(sweep_seconds(bus))

    async def _require(self) -> None:
        async with self._context.read() as session:
            found = await streams.head(session, self._context.tenant_id, self._stream, self._id)
        if found is None:
            raise not_found(self._stream)

    async def _look_patiently(self, place: Place | None, bell: Bell) -> _Look[Item]:
        while True:
            try:
                look = await self._look(place, bell)
            except TROUBLE as error:
                if clock.monotonic() - self._looked_at > PATIENCE_SECONDS:
                    raise
                _logger.warning("a stream cannot be read; trying again", stream=self._stream.value, error=str(error))
                # What comes back may be a backup.
                self._doubted = True
                await asyncio.sleep(SWEEP_SECONDS)
            else:
                self._looked_at = clock.monotonic()
                return look

    async def _look(self, place: Place | None, bell: Bell) -> _Look[Item]:
        if place is None or self._doubted:
            return await self._look_anew(place)
        arrived, due = place == self._arrived_at, clock.monotonic() - self._sent_at >= HEARTBEAT_SECONDS
        see = partial(self._see, place, arrived=arrived, due=due)
        if self._context.course.leads and bell.has_company:
            # Of those that the bell has woken, all that are at this place see the same.
            seen = await self._context.services.looks.take((self._source, place, arrived, due), see)
        else:
            seen = await see()
        if seen.head is None:
            return _Look(FrameKind.END, place)
        if seen.batch is None:
            self._doubted = True
            return _Look(None, place, more=True)
        return self._judge(seen.head, seen.batch, seen.row, due=due)

    async def _see(self, place: Place, *, arrived: bool, due: bool) -> _Seen[Item]:
        tenant_id, bound = self._context.tenant_id, self._context.course.bound
        if arrived:
            found = await self._source.read_on(self._context.database, after=place)
            if found is not None and bound(found[0].place) >= found[0].place:
                return _Seen(*found)
        async with self._context.read() as session:
            head = await streams.head(session, tenant_id, self._stream, self._id)
            if head is None or place > head.place:
                return _Seen(head)
            batch = await self._source.read(session, after=place, until=bound(head.place))
            ends = head.closed and batch.place == head.place
            row = None
            if batch.items or ends or due:
                row = await streams.owner(session, tenant_id, self._stream, self._id)
            return _Seen(head, batch, row)

    async def _look_anew(self, place: Place | None) -> _Look[Item]:
        """Begin, unless there is a place to go on from after all."""
        tenant_id = self._context.tenant_id
        async with self._context.read() as session:
            head = await streams.head(session, tenant_id, self._stream, self._id)
            if head is None:
                return _Look(FrameKind.END, place or BEGINNING)
            if place is None:
                return await self._begin(session, FrameKind.SNAPSHOT)
            holds = await streams.holds(session, tenant_id, self._stream, self._id, place, head)
            self._doubted = False
            # From here on it may go along with others.
            return _Look(None, place, more=True) if holds else await self._begin(session, FrameKind.RESYNC)

    def _judge(self, head: Head, batch: Batch[Item], row: Any, *, due: bool) -> _Look[Item]:
        """What is to be done about what was found."""
        arrived = batch.place == head.place
        self._arrived_at = batch.place if arrived else None
        kind = None
        if batch.items:
            kind = FrameKind.EVENTS
        elif arrived and head.closed:
            kind = FrameKind.END
        elif due:
            kind = FrameKind.HEARTBEAT
        return _Look(kind, batch.place, more=not arrived, row=row, items=batch.items)

    async def _begin(self, session: AsyncSession, kind: FrameKind) -> _Look[Item]:
        row = await streams.owner(session, self._context.tenant_id, self._stream, self._id)
        if row is None:
            return _Look(FrameKind.END, BEGINNING)
        start = await self._source.start(session, row)
        return _Look(kind, start.place, row=row, items=start.items, skipped_before=start.skipped_before)

    def _delivery(self, look: _Look[Item]) -> Delivery[Item]:
        kind = look.kind or FrameKind.HEARTBEAT
        lag = 0.0
        if kind is FrameKind.EVENTS:
            newest: Any = look.items[-1]
            lag = (clock.utc_now() - newest.at).total_seconds()
        elif kind is FrameKind.HEARTBEAT:
            lag = clock.monotonic() - self._looked_at
        return Delivery(
            kind=kind,
            cursor=self._cursor(look.place),
            row=look.row,
            items=look.items,
            lag_ms=max(0, round(lag * 1000)),
            skipped_before=None if look.skipped_before is None else self._cursor(look.skipped_before),
        )

    def _cursor(self, place: Place) -> str:
        return cursors.encode(self._stream, self._id, place)


def not_found(stream: Stream) -> NotFound:
    """The one answer for what is absent, another tenant's, or no id at all."""
    return NotFound(f"there is no such {stream.value.lower()}", path=("id",))
