"""Whoever wants the product to fail: picks faults at random, injects them, several at a time, and counts them."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import redis.asyncio as redis

from tests.chaos.eyes import UNREACHABLE, Eyes
from tests.chaos.processes import Processes
from tests.chaos.servers import Servers
from tests.chaos.takeovers import Takeovers
from tests.chaos.town import LEASE_SECONDS, Town

# Whoever does something says whether there was anybody to do it to.
Deed = Callable[[random.Random], Awaitable[bool]]
Deeds = Mapping[str, tuple[int, Deed]]
_AT_A_TIME = 16
_FEWEST_WORKERS = 2
_PATIENCE_SECONDS = 10.0
_ROLLING = "SELECT count(*) FROM (SELECT 1 FROM orchestration_job WHERE status = 'ROLLING_BACK' LIMIT 1) r"
_READY = "SELECT count(*) FROM worker WHERE dead_at IS NULL AND missing_since IS NULL AND lease_until > now()"


@dataclass(frozen=True, slots=True)
class Track:
    """Faults that follow one another at a pace: between two of them lie so many seconds."""

    deeds: Deeds
    pause: tuple[float, float]
    # Whether it waits for the fleet to be there again: one that never is proves little.
    spares: bool = False


@dataclass
class Nemesis:
    """`injected` by kind of fault, and `rolling` of those while some job was rolling back."""

    town: Town
    chance: random.Random
    injected: Counter[str] = field(default_factory=Counter)
    rolling: Counter[str] = field(default_factory=Counter)
    _tried: Counter[str] = field(default_factory=Counter)
    _at_work: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.eyes = Eyes(self.town.environment["WINDLASS_DATABASE_URL"])
        self.takeovers = Takeovers(Eyes(self.eyes.url), self._able)
        self.processes = Processes(self.town, self.eyes, self.takeovers)
        self.servers = Servers(self.town, self.eyes, self.takeovers)

    @property
    def tracks(self) -> list[Track]:
        """What costs next to nothing, at a brisk pace, and beside it what makes a process begin anew: a second or two
        of a processor each time.
        """
        return [Track(self.light, (0.15, 0.45)), Track(self.heavy, (0.8, 2.2), spares=True)]

    @property
    def light(self) -> Deeds:
        stop, servers, clock = self.processes.stop, self.servers, self.processes.set_clock
        return {
            "worker SIGSTOP 2 s": (3, partial(stop, kind="worker", seconds=2.0)),
            "scheduler SIGSTOP 2 s": (2, partial(stop, kind="scheduler", seconds=2.0)),
            "scheduler held in a transaction": (2, partial(self.processes.catch, kind="scheduler", seconds=8.0)),
            "API SIGSTOP 2 s": (1, partial(stop, kind="api", seconds=2.0)),
            "webhooks SIGSTOP 2 s": (1, partial(stop, kind="webhooks", seconds=2.0)),
            "worker's clock set by 1 h": (2, partial(clock, kind="worker")),
            "scheduler's clock set by 1 h": (1, partial(clock, kind="scheduler")),
            "Valkey FLUSHALL": (2, servers.flush),
            "connections terminated": (2, servers.terminate),
            "doorbells doubled": (2, servers.double),
            "doorbells garbage": (2, servers.garbage),
            "commit's answer cut: worker": (4, partial(servers.cut, who="worker")),
            "commit's answer cut: scheduler": (2, partial(servers.cut, who="scheduler")),
            "commit's answer cut: API": (1, partial(servers.cut, who="api")),
            "commit's answer cut: service": (2, partial(servers.cut, who="customer")),
            "provider's answer lost": (5, partial(servers.accident, kind="DROP_AFTER")),
            "provider's request lost": (2, partial(servers.accident, kind="DROP_BEFORE")),
        }

    @property
    def heavy(self) -> Deeds:
        send, servers = self.processes.signal, self.servers
        return {
            "worker kill -9": (10, self.processes.kill_worker),
            "worker SIGSTOP > lease": (2, partial(self.processes.stop, kind="worker", seconds=LEASE_SECONDS + 3)),
            "worker SIGTERM": (2, partial(send, kind="worker", number=signal.SIGTERM)),
            "scheduler kill -9": (1, partial(send, kind="scheduler", number=signal.SIGKILL)),
            "scheduler kill -9 in a transaction": (2, partial(self.processes.catch, kind="scheduler", seconds=None)),
            "scheduler SIGTERM": (1, partial(send, kind="scheduler", number=signal.SIGTERM)),
            "API kill -9": (1, partial(send, kind="api", number=signal.SIGKILL)),
            "webhooks kill -9": (1, partial(send, kind="webhooks", number=signal.SIGKILL)),
            "Valkey kill -9": (1, partial(servers.end_valkey, number=signal.SIGKILL)),
            "Valkey restart": (1, partial(servers.end_valkey, number=signal.SIGTERM)),
            "PostgreSQL kill -9": (1, partial(servers.end_postgres, number=signal.SIGKILL)),
            "PostgreSQL immediate restart": (1, partial(servers.end_postgres, number=signal.SIGQUIT)),
        }

    def _able(self) -> frozenset[int]:
        return frozenset(part.pid for part in self.town.of("worker") if part.pid is not None)

    async def rage(self, until: Callable[[], bool]) -> None:
        """Inject faults until told to stop; what was stopped goes on afterwards."""
        looking = asyncio.create_task(self.takeovers.keep())
        try:
            # A chance for each: how long one of them waits changes nothing about what the others do.
            chances = [random.Random(self.chance.getrandbits(64)) for _ in self.tracks]
            await asyncio.gather(*map(partial(self._follow, until), self.tracks, chances))
            if self._at_work:
                await asyncio.wait(self._at_work)
            await self.processes.settle()
            await self.takeovers.settle()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            await self.eyes.close()
            await self.takeovers.eyes.close()

    async def _follow(self, until: Callable[[], bool], track: Track, chance: random.Random) -> None:
        kinds = list(track.deeds)
        weights = [weight for weight, _ in track.deeds.values()]
        # Each kind once, in random order, before anything is repeated: no run passes because it was lucky.
        first = chance.sample(kinds, len(kinds))
        while not until():
            first = first or [kind for kind in kinds if not self._tried[kind] and not self.injected[kind]]
            kind = first.pop() if first else chance.choices(kinds, weights)[0]
            own, pause = random.Random(chance.getrandbits(64)), chance.uniform(*track.pause)
            if track.spares:
                await self._until_bearable()
            self._tried[kind] += 1
            task = asyncio.create_task(self._inject(kind, track.deeds[kind][1], own))
            self._at_work.add(task)
            task.add_done_callback(self._at_work.discard)
            if len(self._at_work) >= _AT_A_TIME:
                await asyncio.wait(self._at_work, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(pause)

    async def _until_bearable(self) -> None:
        """Until some workers live, for a while at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while True:
                    with suppress(*UNREACHABLE):
                        if await self.eyes.number(_READY) >= _FEWEST_WORKERS:
                            return
                    await asyncio.sleep(0.2)

    async def _inject(self, kind: str, deed: Deed, chance: random.Random) -> None:
        rolling = 0.0
        with suppress(*UNREACHABLE):
            rolling = await self.eyes.number(_ROLLING)
        try:
            done = await deed(chance)
        except (*UNREACHABLE, ProcessLookupError, redis.RedisError):
            # The victim is away already, from another fault.
            return
        finally:
            # Where nothing came of it, it is tried again before others have a second turn.
            self._tried[kind] -= 1
        if done:
            self.injected[kind] += 1
            self.rolling[kind] += rolling > 0
