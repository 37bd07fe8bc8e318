"""Whoever wants the product to fail: picks a fault at random, injects it, and notes what it was aimed at."""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import redis.asyncio as redis

from app.db.away import DATABASE_AWAY
from app.messages import StepDue
from tests.chaos.town import LEASE_SECONDS, Part, Town
from workers.actors import declare_actors
from workers.broker import NAMESPACE, make_broker

_RERUN_SECONDS = 60.0
# Long enough that a killed worker is mostly back before the next is gone: a fleet that is never there proves little.
_PAUSE_SECONDS = (0.4, 1.6)
UNREACHABLE = (*DATABASE_AWAY, asyncpg.PostgresError, TimeoutError)


@dataclass
class Nemesis:
    """`injected` and `rolling` (while some job was rolling back) by kind of fault; `reruns`: seconds from a worker's
    kill until one of its steps was in other hands, those without a database not counted.
    """

    town: Town
    chance: random.Random
    injected: Counter[str] = field(default_factory=Counter)
    rolling: Counter[str] = field(default_factory=Counter)
    reruns: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    # When PostgreSQL was away, from its kill until it answered again (crash recovery may take many seconds).
    outages: list[tuple[float, float]] = field(default_factory=list)
    _watching: set[asyncio.Task[None]] = field(default_factory=set)
    # One thing at a time is done to PostgreSQL and to Valkey.
    _servers: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def faults(self) -> dict[str, tuple[int, Callable[[], Awaitable[bool]]]]:
        """Weight and deed of each kind; a deed says whether there was anybody to do it to."""
        return {
            "worker kill -9": (6, self._kill_worker),
            "worker SIGSTOP 2 s": (2, lambda: self._stop("worker", 2.0)),
            "worker SIGSTOP > lease": (2, lambda: self._stop("worker", LEASE_SECONDS + 3)),
            "worker SIGTERM": (2, lambda: self._signal("worker", signal.SIGTERM)),
            "scheduler kill -9": (1, lambda: self._signal("scheduler", signal.SIGKILL)),
            "scheduler SIGSTOP 2 s": (1, lambda: self._stop("scheduler", 2.0)),
            "scheduler SIGTERM": (1, lambda: self._signal("scheduler", signal.SIGTERM)),
            "API kill -9": (1, lambda: self._signal("api", signal.SIGKILL)),
            "Valkey FLUSHALL": (2, self._flush),
            "Valkey kill -9": (1, lambda: self._valkey(signal.SIGKILL)),
            "Valkey restart": (1, lambda: self._valkey(signal.SIGTERM)),
            "PostgreSQL kill -9": (1, lambda: self._postgres(signal.SIGKILL)),
            "PostgreSQL immediate restart": (1, lambda: self._postgres(signal.SIGQUIT)),
            "connections terminated": (3, self._terminate),
            "doorbells doubled": (2, self._double),
            "doorbells garbage": (2, self._garbage),
        }

    async def rage(self, until: Callable[[], bool]) -> None:
        """Inject faults until told to stop; what was stopped goes on afterwards."""
        kinds = list(self.faults)
        weights = [weight for weight, _ in self.faults.values()]
        # Each kind once, in random order, before anything is repeated: no run passes because it was lucky.
        first = self.chance.sample(kinds, len(kinds))
        while not until():
            kind = first.pop() if first else self.chance.choices(kinds, weights)[0]
            await self._inject(kind)
            await asyncio.sleep(self.chance.uniform(*_PAUSE_SECONDS))
        if self._watching:
            await asyncio.wait(self._watching, timeout=_RERUN_SECONDS)

    async def _inject(self, kind: str) -> None:
        rolling = await self._count("SELECT count(*) FROM orchestration_job WHERE status = 'ROLLING_BACK'")
        try:
            done = await self.faults[kind][1]()
        except (*UNREACHABLE, redis.RedisError):
            # The victim is away already, from another fault.
            return
        if done:
            self.injected[kind] += 1
            self.rolling[kind] += bool(rolling)

    # ── processes ────────────────────────────────────────────────────────────────────────────────────────────────

    def _pick(self, kind: str) -> Part | None:
        living = self.town.of(kind)
        return self.chance.choice(living) if living else None

    async def _signal(self, kind: str, number: signal.Signals) -> bool:
        part = self._pick(kind)
        if part is None or part.pid is None:
            return False
        os.kill(part.pid, number)
        return True

    async def _stop(self, kind: str, seconds: float) -> bool:
        part = self._pick(kind)
        if part is None or part.pid is None:
            return False
        os.kill(part.pid, signal.SIGSTOP)
        part.stopped = True
        self._watch(self._continue(part, part.pid, seconds))
        return True

    async def _continue(self, part: Part, pid: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        part.stopped = False

    async def _kill_worker(self) -> bool:
        """Prefers a worker that has something in hands, and finds out when others take it on."""
        busy = {row["pid"] for row in await self._rows(
            "SELECT DISTINCT w.pid FROM worker w JOIN step_run s ON s.worker_id = w.id WHERE w.dead_at IS NULL"
        )}  # fmt: skip
        living = [part.pid for part in self.town.of("worker") if part.pid is not None]
        if not living:
            return False
        pid = self.chance.choice([pid for pid in living if pid in busy] or living)
        # Held still for a moment, so that what it has in hands is what it dies with.
        os.kill(pid, signal.SIGSTOP)
        try:
            held = await self._rows(
                "SELECT s.id, s.fence FROM step_run s JOIN worker w ON w.id = s.worker_id"
                " WHERE w.pid = $1 AND w.dead_at IS NULL",
                pid,
            )
        finally:
            os.kill(pid, signal.SIGKILL)
        for row in held:
            self._watch(self._rerun(row["id"], row["fence"], time.monotonic()))
        return True

    async def _rerun(self, step_id: int, fence: int, began: float) -> None:
        """Until the step was claimed anew, or its outcome was written before the worker died."""
        query = (
            "SELECT s.worker_id, s.fence, j.completed_at FROM step_run s JOIN orchestration_job j ON j.id = s.job_id"
            " WHERE s.id = $1"
        )
        while self._since(began) < _RERUN_SECONDS:
            with suppress(*UNREACHABLE):
                (row,) = await self._rows(query, step_id)
                if row["worker_id"] is not None and row["fence"] > fence:
                    self.reruns.append(self._since(began))
                    return
                if row["fence"] > fence + 1:
                    # Claimed and finished between two looks.
                    self.reruns.append(self._since(began))
                    return
                if row["completed_at"] is not None or (row["worker_id"] is None and row["fence"] == fence):
                    # The outcome was written before the worker died, or nobody waits for it any more.
                    return
            await asyncio.sleep(0.05)
        self.lost.append(f"step run {step_id} was not taken on within {_RERUN_SECONDS:.0f} s of its worker's death")

    def _since(self, began: float) -> float:
        """Seconds since then, those without a database left out."""
        now = time.monotonic()
        away = sum(max(min(end, now) - max(start, began), 0.0) for start, end in self.outages)
        return now - began - away

    def _watch(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    # ── Valkey ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _flush(self) -> bool:
        async with redis.Redis.from_url(self.town.valkey.url, socket_timeout=2) as client:
            await client.flushall()
        return True

    async def _valkey(self, number: signal.Signals) -> bool:
        async with self._servers:
            pid = self.town.valkey.pid
            if pid is None:
                return False
            os.kill(pid, number)
            await asyncio.sleep(self.chance.uniform(0.2, 2.0))
            await asyncio.to_thread(self.town.valkey.start)
        return True

    async def _double(self) -> bool:
        """Ring again for steps that somebody was rung for already, or that are long over."""
        rows = await self._rows("SELECT tenant_id, job_id, id FROM step_run ORDER BY random() LIMIT 20")
        broker = make_broker(self.town.valkey.url)
        try:
            declare_actors(broker)
            actor = broker.get_actor(StepDue.actor)
            for row in rows:
                for _ in range(2):
                    await asyncio.to_thread(actor.send, row["tenant_id"], row["job_id"], row["id"])
        finally:
            broker.close()
        return True

    async def _garbage(self) -> bool:
        """Messages that nobody can read, that have no body, or that are for nobody."""
        async with redis.Redis.from_url(self.town.valkey.url, socket_timeout=2) as client:
            queue = f"{NAMESPACE}:{StepDue.queue}"
            await client.hset(f"{queue}.msgs", "garbage", b"\xff not a message")
            await client.rpush(queue, "garbage", "without-a-body")
        broker = make_broker(self.town.valkey.url)
        try:
            declare_actors(broker)
            actor = broker.get_actor(StepDue.actor)
            await asyncio.to_thread(actor.send, 999_999, 1, 1)
            await asyncio.to_thread(actor.send, "nobody", None, {})
            broker.enqueue(actor.message(1, 1, 999_999_999).copy(actor_name="unknown_actor"))
        finally:
            broker.close()
        return True

    # ── PostgreSQL ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _postgres(self, number: signal.Signals) -> bool:
        async with self._servers:
            pid = self.town.postgres.pid
            if pid is None:
                return False
            os.kill(pid, number)
            self.outages.append((time.monotonic(), math.inf))
            await asyncio.sleep(self.chance.uniform(0.1, 0.5))
            await asyncio.to_thread(self.town.postgres.start)
            self.outages[-1] = self.outages[-1][0], time.monotonic()
        return True

    async def _terminate(self) -> bool:
        """Six in ten connections of the product are ended by the server."""
        ended = await self._rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'windlass-%'"
            " AND random() < 0.6"
        )
        return bool(ended)

    async def _count(self, query: str) -> int:
        with suppress(*UNREACHABLE):
            return int((await self._rows(query))[0][0])
        return 0

    async def _rows(self, query: str, *arguments: Any) -> list[Any]:
        connection = await asyncpg.connect(self.town.environment["WINDLASS_DATABASE_URL"], timeout=5)
        try:
            rows: list[Any] = await connection.fetch(query, *arguments, timeout=5)
            return rows
        finally:
            await connection.close()
