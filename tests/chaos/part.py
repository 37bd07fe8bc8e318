"""A worker, scheduler or API process in an unfriendly world: `python -m tests.chaos.part worker`.

It is the product's own process. Only what surrounds it is changed, before it starts, by CHAOS_SETTINGS (JSON):
doorbells that are never rung or rung twice, a provider that is slow and fails now and then, and a planted
bug if one is named. Files in folders say which provider call fails next, which notes cannot be deleted for now, and
whose making is held back until after its worker's death;
a signal sets the wall clock that the process sees forward or back by an hour.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from itertools import cycle
from pathlib import Path
from typing import TypeVar

from app import clock
from app.messages import StepDue
from app.providers.base import Context, ErrorKind, JsonObject, Pending, ProviderError, ResourceState, ResourceType
from app.providers.core.provider import CoreProvider
from app.providers.faults import Fault, FaultKind, FaultyType
from tests.chaos.live_bugs import LIVE_BUGS
from tests.engine.mutants import plant
from workers.doorbell import Doorbell

Answer = TypeVar("Answer")
VARIABLE = "CHAOS_SETTINGS"
# Calls that change something, or find something out: only these fail.
_FAIL = frozenset({"create", "update", "delete", "recover"})
# Calls that change something: they meet the accidents that somebody has prepared.
_ACCIDENT = frozenset({"create", "update", "delete"})
ACCIDENTS, STUCK, HELD, SENT = "accidents", "stuck", "held", "sent"
CLOCK_SIGNAL = signal.SIGUSR1
_HOURS = (1, -1, 0)
_MAINS = {
    "api": "app.cli.serve:serve_api", "worker": "workers.main:main", "scheduler": "workers.tick_main:main",
    "webhooks": "app.cli.serve:serve_webhooks",
}  # fmt: skip
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

    def __init__(self, inner: ResourceType, world: Unfriendly, chance: random.Random, folder: Path) -> None:
        super().__init__(inner, dict.fromkeys(_FAIL, ()))
        self._world = world
        self._chance = chance
        self._folder = folder

    async def create(self, context: Context, properties: JsonObject) -> ResourceState | Pending:
        self._hold_back(context, properties)
        return await super().create(context, properties)

    def _hold_back(self, context: Context, properties: JsonObject) -> None:
        """Write the request down for somebody to let it arrive later, and die with it on its way, if it is one."""
        name = str(properties["name"])
        begun = self._folder / SENT / f"{name}.begun"
        try:
            (self._folder / HELD / name).rename(begun)
        except FileNotFoundError:
            return
        request = {
            "workspace": str(context.workspace), "owner": context.owner, "operation": context.operation_id,
            "connection": context.connection or "", "properties": json.dumps(properties),
        }  # fmt: skip
        begun.write_text(json.dumps(request))
        begun.rename(self._folder / SENT / name)
        os.kill(os.getpid(), signal.SIGKILL)

    async def delete(self, context: Context, prior: ResourceState) -> Pending | None:
        if (self._folder / STUCK / prior.id).exists():
            message = f"planned: {prior.id} cannot be deleted for now"
            raise ProviderError(ErrorKind.ACCESS_DENIED, message)
        return await super().delete(context, prior)

    async def _call(self, method: str, context: Context, inner: Callable[[], Awaitable[Answer]]) -> Answer:
        await context.sleep(self._chance.random() ** 2 * self._world.slow_seconds)
        self.calls.clear()
        accident = self._next_accident() if method in _ACCIDENT else None
        if accident is not None:
            self._plan[method].append(Fault(accident))
        elif method in _FAIL and self._chance.random() < self._world.failing:
            self._plan[method].append(Fault(self._chance.choice(_KINDS)))
        return await super()._call(method, context, inner)

    def _next_accident(self) -> FaultKind | None:
        """One that was prepared and that no other process has met: whoever removes its file."""
        for prepared in (self._folder / ACCIDENTS).iterdir():
            with suppress(FileNotFoundError):
                prepared.unlink()
                return FaultKind(prepared.name.partition("-")[0])
        return None


def surround(world: Unfriendly) -> None:
    """Change what surrounds the process that is about to start."""
    chance = random.Random()
    types, ring = CoreProvider.types, Doorbell.ring
    folder = Path(os.environ["WINDLASS_DATA_DIR"])

    def unsteady(self: CoreProvider) -> Sequence[ResourceType]:
        return [UnsteadyType(kind, world, chance, folder) for kind in types(self)]

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


def unsettle_clock(folder: Path) -> None:
    """Let a signal set the wall clock: an hour forward, an hour back, right again. The clock that never steps stays."""
    hours, offset = cycle(_HOURS), timedelta()

    def set_clock(*_: object) -> None:
        nonlocal offset
        offset = timedelta(hours=next(hours))
        (folder / f"clock-{os.getpid()}").touch()

    def utc_now() -> datetime:
        return datetime.now(UTC) + offset

    def unix_micros() -> int:
        return time.time_ns() // 1000 + int(offset.total_seconds()) * 1_000_000

    clock.utc_now, clock.unix_micros = utc_now, unix_micros
    signal.signal(CLOCK_SIGNAL, set_clock)


def main() -> None:
    unsettle_clock(Path(os.environ["WINDLASS_DATA_DIR"]))
    surround(Unfriendly(**json.loads(os.environ[VARIABLE])))
    module, _, function = _MAINS[sys.argv[1]].partition(":")
    try:
        getattr(import_module(module), function)()
    finally:
        # The interpreter takes handlers away while it ends, and the signal would kill what ends in order.
        signal.signal(CLOCK_SIGNAL, signal.SIG_IGN)


if __name__ == "__main__":
    main()
