"""First frames that are made once for all who begin to follow the same at nearly the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from app.domain.cursors import Place
from schema.encoded import Encoded

# It is for whoever comes so soon after it; whoever waits for one waits little longer than making it should take.
_FRESH_SECONDS = 1.0
_MAKING_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Entry:
    """How an operation comes into a group: with whom it shares its frames, and where it begins."""

    key: Hashable
    beginning: Hashable


@dataclass(frozen=True, slots=True)
class Opening:
    """The first frame of somebody who has just joined a group at `place`; its price in points, and when it was made."""

    entry: Entry
    encoded: Encoded
    place: Place
    points: int
    at: float

    def is_fresh(self, now: float) -> bool:
        return now - self.at <= _FRESH_SECONDS


class Makings:
    """First frames that are being made."""

    def __init__(self) -> None:
        self._making: dict[Entry, asyncio.Event] = {}

    async def over(self, entry: Entry) -> bool:
        """Whether one was being made and no longer is, or took too long."""
        making = self._making.get(entry)
        if making is None:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(_MAKING_SECONDS):
                await making.wait()
        return True

    @contextmanager
    def one(self, entry: Entry) -> Iterator[Callable[[], None]]:
        """Others wait for the first frame of this one, until it says that it was sent, or ends."""
        mine = None if entry in self._making else self._making.setdefault(entry, asyncio.Event())

        def over() -> None:
            if mine is not None and self._making.get(entry) is mine:
                del self._making[entry]
                mine.set()

        try:
            yield over
        finally:
            over()
