"""A process that goes tells those who follow something live to come back, not all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from app import clock

# A few are gone soon: as many a second as other processes let in without noticing.
_A_SECOND: Final = 200
_STEP_SECONDS: Final = 0.1


class Draining:
    """Who would stay for ever, and how each of them is told to go."""

    def __init__(self) -> None:
        # In the order in which they came.
        self._here: dict[Callable[[], None], None] = {}
        self._over = False

    def __len__(self) -> int:
        return len(self._here)

    def enter(self, go: Callable[[], None]) -> None:
        """`go` is called when it is time, once or twice, and at once where that has been."""
        self._here[go] = None
        if self._over:
            asyncio.get_running_loop().call_soon(go)

    def leave(self, go: Callable[[], None]) -> None:
        """Whoever has left is not told any more."""
        self._here.pop(go, None)

    async def drain(self, seconds: float, is_urgent: Callable[[], bool] = lambda: False) -> None:
        """Tell everybody, one after the other in equal distances, within `seconds`; at once where that is urgent.

        Until it is their turn they are served as ever, and nobody waits longer than as many as they are would take.
        """
        here = list(self._here)
        began, seconds = clock.monotonic(), min(seconds, len(here) / _A_SECOND)
        for number, go in enumerate(here):
            due = began + seconds * number / len(here)
            while (left := due - clock.monotonic()) > 0 and not is_urgent():  # noqa: ASYNC110  nothing tells when
                await asyncio.sleep(min(left, _STEP_SECONDS))
            if go in self._here:
                go()
        self._over = True
        # Those who came meanwhile.
        for go in list(self._here):
            go()
