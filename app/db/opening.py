"""How connections to the database are opened: whoever waits for one may leave.

The driver takes it ill when an attempt to connect is cancelled: a future that nobody waits for any more is told of it,
and logged as an error. So the attempt goes on by itself, and what comes of it is closed.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg


class Opener:
    """Opens the connections of a process, for all that keep some."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Future[Any]] = set()

    async def connect(self, *where: Any, **settings: Any) -> Any:
        """As `asyncpg.connect`, which is told what this is told."""
        opening = asyncio.ensure_future(asyncpg.connect(*where, **settings))
        self._under_way.add(opening)
        opening.add_done_callback(self._under_way.discard)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_unwanted)
            raise

    async def close(self) -> None:
        """Wait for attempts that nobody waits for: each has its own deadline."""
        if self._under_way:
            await asyncio.wait(self._under_way)


def _unwanted(opening: asyncio.Future[Any]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().terminate()
