"""Bells of one process: who waits for which ring."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Self


class Bell:
    """Waits for rings of one key. A ring while nobody waits is remembered; many rings are one.

    Use it as `async with`; read what it announces after entering, and again after each `wait`.
    """

    def __init__(self, bells: Bells, key: str) -> None:
        self._bells = bells
        self._key = key
        self._rung = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._bells.hang(self._key, self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._bells.take_down(self._key, self)

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109  # a timeout is an answer here, not an error
        """Until it rings or `timeout` seconds have passed; whether it rang."""
        if not self._rung.is_set():
            try:
                async with asyncio.timeout(timeout):
                    await self._rung.wait()
            except TimeoutError:
                return False
        # Cleared before the caller looks, so that a ring during the look is not lost.
        self._rung.clear()
        return True

    def ring(self) -> None:
        self._rung.set()

    @property
    def has_company(self) -> bool:
        """Whether others of this process wait for the same rings."""
        return self._bells.count(self._key) > 1


class Bells:
    """All bells of a process by key."""

    def __init__(self) -> None:
        self._hung: dict[str, set[Bell]] = {}

    def hang(self, key: str, bell: Bell) -> None:
        self._hung.setdefault(key, set()).add(bell)

    def take_down(self, key: str, bell: Bell) -> None:
        bells = self._hung.get(key, set())
        bells.discard(bell)
        if not bells:
            self._hung.pop(key, None)

    def ring(self, keys: Iterable[str]) -> None:
        for key in keys:
            for bell in self._hung.get(key, ()):
                bell.ring()

    def count(self, key: str) -> int:
        return len(self._hung.get(key, ()))

    def ring_all(self) -> None:
        """Something may have been missed."""
        self.ring(list(self._hung))

    def __len__(self) -> int:
        return sum(len(bells) for bells in self._hung.values())
