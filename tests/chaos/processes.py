"""What is done to the processes of the product: they are killed, told to end, held still, and told a wrong time."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.eyes import UNREACHABLE, Eyes
from tests.chaos.part import CLOCK_SIGNAL
from tests.chaos.takeovers import Takeovers
from tests.chaos.town import Part, Town

# How often a process is held and let go again until it is caught in a transaction, and for how long each time.
_TRIES = 40
_GLANCE_SECONDS = 0.03
_CLOCK_SECONDS = 3.0
_HELD = (
    "SELECT w.id AS worker_id, s.id, s.fence, s.status FROM step_run s JOIN worker w ON w.id = s.worker_id"
    " WHERE w.pid = $1 AND w.dead_at IS NULL"
)
_BUSY = "SELECT DISTINCT w.pid FROM worker w JOIN step_run s ON s.worker_id = w.id WHERE w.dead_at IS NULL"
# Two looks at the same transaction that does nothing: its client is held still.
_OPEN = (
    "SELECT pid, backend_xid IS NOT NULL AS writes, state_change FROM pg_stat_activity"
    " WHERE application_name = $1 AND state = 'idle in transaction'"
)


@dataclass
class Processes:
    """`undoing`: how many of the killed workers died with a step in hands that they were undoing."""

    town: Town
    eyes: Eyes
    takeovers: Takeovers
    undoing: int = 0
    caught: Counter[str] = field(default_factory=Counter)
    _going_on: set[asyncio.Task[None]] = field(default_factory=set)

    async def settle(self) -> None:
        """Until everybody that is held still goes on."""
        if self._going_on:
            await asyncio.wait(self._going_on)

    async def signal(self, chance: random.Random, kind: str, number: signal.Signals) -> bool:
        part = self._pick(chance, kind)
        if part is None or part.pid is None:
            return False
        os.kill(part.pid, number)
        return True

    async def stop(self, chance: random.Random, kind: str, seconds: float) -> bool:
        """Held still, and let go on."""
        part = self._pick(chance, kind)
        if part is None or part.pid is None:
            return False
        self._hold(part, part.pid)
        self._let_go_on(part, part.pid, seconds)
        return True

    async def kill_worker(self, chance: random.Random) -> bool:
        """Prefers a worker that has something in hands, and sees to it that others take it on."""
        busy: Collection[int] = ()
        with suppress(*UNREACHABLE):
            busy = {row["pid"] for row in await self.eyes.rows(_BUSY)}
        living = [part.pid for part in self.town.of("worker") if part.pid is not None]
        if not living:
            return False
        pid = chance.choice([pid for pid in living if pid in busy] or living)
        # Held still for a moment, so that what it has in hands is what it dies with.
        os.kill(pid, signal.SIGSTOP)
        held: list[Any] = []
        try:
            with suppress(*UNREACHABLE):
                held = await self.eyes.rows(_HELD, pid)
        finally:
            os.kill(pid, signal.SIGKILL)
        if held:
            self.takeovers.watch(held[0]["worker_id"], [(row["id"], row["fence"]) for row in held])
            self.undoing += any(row["status"] == "COMPENSATING" for row in held)
        return True

    async def catch(self, chance: random.Random, kind: str, seconds: float | None) -> bool:
        """Hold a process still in the middle of a transaction that has written something; then let it go on after so
        many seconds, or kill it there.
        """
        for _ in range(_TRIES):
            part = self._pick(chance, kind)
            if part is not None and part.pid is not None:
                pid = part.pid
                before = {row["pid"] for row in await self.eyes.rows(_OPEN, f"windlass-{kind}")}
                self._hold(part, pid)
                if await self._is_caught(kind, before):
                    self.caught[kind] += 1
                    if seconds is not None:
                        self._let_go_on(part, pid, seconds)
                    else:
                        os.kill(pid, signal.SIGKILL)
                        part.stopped = False
                    return True
                os.kill(pid, signal.SIGCONT)
                part.stopped = False
            await asyncio.sleep(chance.uniform(0.0, 0.2))
        return False

    async def _is_caught(self, kind: str, before: Collection[int]) -> bool:
        """Whether a transaction stands still that did not before. Others of the kind go on, and theirs end."""
        with suppress(*UNREACHABLE):
            looks = []
            for _ in range(2):
                await asyncio.sleep(_GLANCE_SECONDS)
                rows = await self.eyes.rows(_OPEN, f"windlass-{kind}")
                looks.append({(row["pid"], row["state_change"]) for row in rows if row["writes"]})
            return any(pid not in before for pid, _ in looks[0] & looks[1])
        return False

    async def set_clock(self, chance: random.Random, kind: str) -> bool:
        """Set the wall clock that a process sees forward or back by an hour; counted when it has seen it."""
        part = self._pick(chance, kind)
        if part is None or part.pid is None:
            return False
        pid = part.pid
        os.kill(pid, CLOCK_SIGNAL)
        seen = clock_file(self.town.folder, pid)
        try:
            async with asyncio.timeout(_CLOCK_SECONDS):
                while True:
                    if await asyncio.to_thread(seen.exists):
                        break
                    await asyncio.sleep(0.05)
        except TimeoutError:
            return False
        await asyncio.to_thread(seen.unlink)
        return True

    def _pick(self, chance: random.Random, kind: str) -> Part | None:
        living = self.town.of(kind)
        return chance.choice(living) if living else None

    def _hold(self, part: Part, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        part.stopped = True

    def _let_go_on(self, part: Part, pid: int, seconds: float) -> None:
        task = asyncio.ensure_future(self._continue(part, pid, seconds))
        self._going_on.add(task)
        task.add_done_callback(self._going_on.discard)

    async def _continue(self, part: Part, pid: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        part.stopped = False


def clock_file(folder: Path, pid: int) -> Path:
    """What a process leaves that has seen its clock being set."""
    return folder / f"clock-{pid}"
