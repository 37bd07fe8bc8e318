"""How much somebody may ask for in a time: the generic cell rate algorithm, in the memory of a process.

With several processes everybody has the rate in each. That is what it costs that no request waits for a second server,
and that a limit still holds when the bus is down.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from app import clock

_KEPT: Final = 50_000


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second` points come back each second, up to `burst`."""

    per_second: float
    burst: float


@dataclass(slots=True)
class Meter:
    """Points by key. Whoever has not asked for long has all of them, and is forgotten."""

    rate: Rate
    # When everything that a key has taken will have come back.
    _full_at: OrderedDict[Hashable, float] = field(default_factory=OrderedDict)

    def take(self, key: Hashable, points: float = 1) -> float:
        """Take the points and return 0, or take nothing and return after how many seconds they are there.

        Infinity for more than there ever are.
        """
        rate, full = self.rate, self._full_at
        if points > rate.burst:
            return inf
        now = clock.monotonic()
        full_at = max(now, full.get(key, now)) + points / rate.per_second
        wait = full_at - now - rate.burst / rate.per_second
        if wait > 1e-9:
            return wait
        full[key] = full_at
        full.move_to_end(key)
        if len(full) > _KEPT:
            full.popitem(last=False)
        return 0

    def left(self, key: Hashable) -> float:
        """How many points there are."""
        now = clock.monotonic()
        owed = max(0.0, self._full_at.get(key, now) - now)
        return max(0.0, self.rate.burst - owed * self.rate.per_second)
