"""A worker, scheduler or API process in an unfriendly world: `python -m tests.chaos.part worker`.

It is the product's own process. Only what surrounds it is changed, before it starts, by CHAOS_SETTINGS (JSON):
doorbells that are never rung or rung twice, a provider that is slow and fails now and then, and a planted
bug if one is named.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TypeVar

from app.messages import StepDue
from app.providers.base import Context, ResourceType
from app.providers.core.provider import CoreProvider
from app.providers.faults import Fault, FaultKind, FaultyType
from tests.chaos.live_bugs import LIVE_BUGS
from tests.engine.mutants import plant
from workers.doorbell import Doorbell

Answer = TypeVar("Answer")
VARIABLE = "CHAOS_SETTINGS"
# Calls that change something, or find something out: only these fail.
_FAIL = frozenset({"create", "update", "delete", "recover"})
_MAINS = {"api": "app.cli.serve:serve_api", "worker": "workers.main:main", "scheduler": "workers.tick_main:main"}
_KINDS = (FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER, FaultKind.THROTTLE)


@dataclass(frozen=True, slots=True)
class Unfriendly:
    """How likely what is; `slow_seconds`: the longest that a provider call takes longer than it needs."""

    silent: float = 0.3
    doubled: float = 0.1
    failing: float = 0.04
    slow_seconds: float = 0.5
    bug: str | None = None

    def dump(self) -> str:
        return json.dumps(asdict(self))


class UnsteadyType(FaultyType):
    """A resource type whose calls take their time, and fail at random."""

    def __init__(self, inner: ResourceType, world: Unfriendly, chance: random.Random) -> None:
        super().__init__(inner, dict.fromkeys(_FAIL, ()))
        self._world = world
        self._chance = chance

    async def _call(self, method: str, context: Context, inner: Callable[[], Awaitable[Answer]]) -> Answer:
        await context.sleep(self._chance.random() ** 2 * self._world.slow_seconds)
        self.calls.clear()
        if method in _FAIL and self._chance.random() < self._world.failing:
            self._plan[method].append(Fault(self._chance.choice(_KINDS)))
        return await super()._call(method, context, inner)


def surround(world: Unfriendly) -> None:
    """Change what surrounds the process that is about to start."""
    chance = random.Random()
    types, ring = CoreProvider.types, Doorbell.ring

    def unsteady(self: CoreProvider) -> Sequence[ResourceType]:
        return [UnsteadyType(kind, world, chance) for kind in types(self)]

    def unreliable(self: Doorbell, messages: Iterable[StepDue]) -> None:
        for message in messages:
            if chance.random() >= world.silent:
                ring(self, [message] * (2 if chance.random() < world.doubled else 1))

    CoreProvider.types = unsteady  # type: ignore[method-assign]
    Doorbell.ring = unreliable  # type: ignore[method-assign]
    if world.bug in LIVE_BUGS:
        LIVE_BUGS[world.bug]()
    elif world.bug is not None:
        plant(world.bug)


def main() -> None:
    surround(Unfriendly(**json.loads(os.environ[VARIABLE])))
    module, _, function = _MAINS[sys.argv[1]].partition(":")
    getattr(import_module(module), function)()


if __name__ == "__main__":
    main()
