"""What is done to PostgreSQL and Valkey, and to what is in them."""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import time
from dataclasses import dataclass, field

import redis.asyncio as redis

from app.messages import StepDue
from tests.chaos.eyes import Eyes
from tests.chaos.takeovers import Takeovers
from tests.chaos.town import Town
from workers.actors import declare_actors
from workers.broker import NAMESPACE, make_broker


@dataclass
class Servers:
    """One thing at a time is done to each."""

    town: Town
    eyes: Eyes
    takeovers: Takeovers
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    # ── Valkey ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def flush(self, _chance: random.Random) -> bool:
        async with redis.Redis.from_url(self.town.valkey.url, socket_timeout=2) as client:
            await client.flushall()
        return True

    async def end_valkey(self, chance: random.Random, number: signal.Signals) -> bool:
        async with self._lock:
            pid = self.town.valkey.pid
            if pid is None:
                return False
            os.kill(pid, number)
            await asyncio.sleep(chance.uniform(0.2, 2.0))
            await asyncio.to_thread(self.town.valkey.start)
        return True

    async def double(self, _chance: random.Random) -> bool:
        """Ring again for steps that somebody was rung for already, or that are long over."""
        rows = await self.eyes.rows(
            "SELECT tenant_id, job_id, id FROM step_run TABLESAMPLE SYSTEM (10) ORDER BY random() LIMIT 20"
        )
        await asyncio.to_thread(self._ring, [(row["tenant_id"], row["job_id"], row["id"]) for row in rows])
        return bool(rows)

    def _ring(self, steps: list[tuple[int, int, int]]) -> None:
        broker = make_broker(self.town.valkey.url)
        try:
            declare_actors(broker)
            actor = broker.get_actor(StepDue.actor)
            for step in steps:
                for _ in range(2):
                    actor.send(*step)
        finally:
            broker.close()

    async def garbage(self, _chance: random.Random) -> bool:
        """Messages that nobody can read, that have no body, or that are for nobody."""
        async with redis.Redis.from_url(self.town.valkey.url, socket_timeout=2) as client:
            queue = f"{NAMESPACE}:{StepDue.queue}"
            await client.hset(f"{queue}.msgs", "garbage", b"\xff not a message")
            await client.rpush(queue, "garbage", "without-a-body")
        await asyncio.to_thread(self._ring_for_nobody)
        return True

    def _ring_for_nobody(self) -> None:
        broker = make_broker(self.town.valkey.url)
        try:
            declare_actors(broker)
            actor = broker.get_actor(StepDue.actor)
            actor.send(999_999, 1, 1)
            actor.send("nobody", None, {})
            broker.enqueue(actor.message(1, 1, 999_999_999).copy(actor_name="unknown_actor"))
        finally:
            broker.close()

    # ── PostgreSQL ───────────────────────────────────────────────────────────────────────────────────────────────

    async def end_postgres(self, chance: random.Random, number: signal.Signals) -> bool:
        async with self._lock:
            pid = self.town.postgres.pid
            if pid is None:
                return False
            outages = self.takeovers.outages
            os.kill(pid, number)
            outages.append((time.monotonic(), math.inf))
            await asyncio.sleep(chance.uniform(0.1, 0.5))
            await asyncio.to_thread(self.town.postgres.start)
            outages[-1] = outages[-1][0], time.monotonic()
        return True

    async def terminate(self, _chance: random.Random) -> bool:
        """Six in ten connections of the product are ended by the server."""
        ended = await self.eyes.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'windlass-%'"
            " AND random() < 0.6"
        )
        return bool(ended)

    # ── on the way ───────────────────────────────────────────────────────────────────────────────────────────────

    async def cut(self, _chance: random.Random, who: str, seconds: float = 8.0) -> bool:
        """Let the answer to the next commit of one of them be lost, and the connection with it."""
        return await self.town.wires[who].arm(seconds)

    async def accident(self, _chance: random.Random, kind: str, seconds: float = 8.0) -> bool:
        """Let the next call of a provider that changes something fail like that; counted when it did."""
        folder = self.town.accidents
        token = folder / f"{kind}-{time.monotonic_ns()}"
        await asyncio.to_thread(token.touch)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    if not await asyncio.to_thread(token.exists):
                        return True
                    await asyncio.sleep(0.1)
        except TimeoutError:
            await asyncio.to_thread(token.unlink, missing_ok=True)
            return False
