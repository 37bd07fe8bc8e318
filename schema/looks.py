"""Looks into the database that several are about to take: one for all who want to see the same.

Groups with different documents of one job wake up at the same bell, in the same turn of the loop, and each of them is
going to read the same rows from the same place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

Seen = TypeVar("Seen")


class Looks:
    """The looks of a process that have not begun."""

    def __init__(self) -> None:
        self._coming: dict[Hashable, asyncio.Task[Any]] = {}

    async def take(self, what: Hashable, look: Callable[[], Awaitable[Seen]]) -> Seen:
        """What `look` sees, or somebody else's look at the same that begins after this moment."""
        coming: asyncio.Task[Seen] | None = self._coming.get(what)
        if coming is None:
            coming = self._coming[what] = asyncio.get_running_loop().create_task(self._begin(what, look))
            coming.add_done_callback(_heard)
        # Whoever goes meanwhile does not end it for the others.
        return await asyncio.shield(coming)

    async def _begin(self, what: Hashable, look: Callable[[], Awaitable[Seen]]) -> Seen:
        # What is written from now on may not be in it: whoever asks later has a look of their own.
        del self._coming[what]
        return await look()


def _heard(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        # Those who wait for it are told; there may be nobody left.
        task.exception()
