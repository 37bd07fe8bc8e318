"""Lists that are watched in this process: each is looked at once, however many watch it.

A bell of the tenant is followed by a look. After a look there is a pause as long as the look took, so that a busy
tenant costs no more than half of one connection; whatever happens meanwhile is seen together afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from app import clock
from app.bus.bus import Bus
from app.domain.errors import LimitExceeded
from app.reads.lists import Listing
from schema.pace import PATIENCE_SECONDS, SWEEP_SECONDS, TROUBLE, sweep_seconds

MAX_LISTS_PER_TENANT = 200
_PAUSE_SECONDS = 0.1

Row = TypeVar("Row")
Look = Callable[[Listing[Row] | None], Awaitable[Listing[Row]]]

_logger = structlog.get_logger("windlass.live")


@dataclass(frozen=True, slots=True)
class ListKey:
    """What two who watch the same list have in common; `what` tells its noun, filter, order and size."""

    tenant_id: int
    what: Hashable


class Board(Generic[Row]):
    """One list as it was when it was last looked at."""

    def __init__(self, bus: Bus, tenant_id: int, look: Look[Row]) -> None:
        self._bus = bus
        self._tenant_id = tenant_id
        self._look = look
        self._listing: Listing[Row] | None = None
        self._failure: Exception | None = None
        self._changed = asyncio.Event()
        self._looking = asyncio.create_task(self._keep_looking())
        self.looked_at = clock.monotonic()
        self.watchers = 0

    async def after(self, seen: Listing[Row] | None, timeout: float) -> Listing[Row] | None:  # noqa: ASYNC109
        """The newest listing once it is another than `seen`; None when it still is the same after `timeout` seconds.

        Raises what the looking failed of, when it was given up.
        """
        until = clock.monotonic() + timeout
        while True:
            if self._failure is not None:
                raise self._failure
            if self._listing is not None and self._listing is not seen:
                return self._listing
            changed = self._changed
            try:
                async with asyncio.timeout(until - clock.monotonic()):
                    await changed.wait()
            except TimeoutError:
                return None

    async def close(self) -> None:
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)

    async def _keep_looking(self) -> None:
        try:
            async with self._bus.watch_tenant(self._tenant_id) as bell:
                while True:
                    began = clock.monotonic()
                    await self._look_once()
                    await asyncio.sleep(max(_PAUSE_SECONDS, clock.monotonic() - began))
                    await bell.wait(sweep_seconds(self._bus))
        except Exception as error:  # whoever watches is told
            self._failure = error
            self._announce()

    async def _look_once(self) -> None:
        try:
            listing = await self._look(self._listing)
        except TROUBLE as error:
            if self._listing is None or clock.monotonic() - self.looked_at > PATIENCE_SECONDS:
                raise
            _logger.warning("a list cannot be read; trying again", error=str(error))
            await asyncio.sleep(SWEEP_SECONDS)
            return
        self.looked_at = clock.monotonic()
        before = self._listing
        if before is None or (before.entries, before.counts) != (listing.entries, listing.counts):
            self._listing = listing
            self._announce()

    def _announce(self) -> None:
        # Whoever waits holds the event that is set; whoever comes later waits for the next one.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class LiveLists:
    """All boards of a process."""

    def __init__(self) -> None:
        self._boards: dict[ListKey, Board[Any]] = {}

    def __len__(self) -> int:
        return len(self._boards)

    @asynccontextmanager
    async def watch(self, bus: Bus, key: ListKey, look: Look[Row]) -> AsyncIterator[Board[Row]]:
        """The board of `key`, which `look` fills if nobody watches it yet.

        Raises LimitExceeded when the tenant watches too many different lists.
        """
        board = self._boards.get(key)
        if board is None:
            if sum(other.tenant_id == key.tenant_id for other in self._boards) >= MAX_LISTS_PER_TENANT:
                message = f"{MAX_LISTS_PER_TENANT} different lists are watched already, and no more may be"
                raise LimitExceeded(message)
            board = self._boards[key] = Board(bus, key.tenant_id, look)
        board.watchers += 1
        try:
            yield board
        finally:
            board.watchers -= 1
            if board.watchers == 0:
                # One that failed may have been followed by another.
                if self._boards.get(key) is board:
                    del self._boards[key]
                await board.close()
