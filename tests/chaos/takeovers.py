"""How long the steps of killed workers wait until others have them, and what they wait for."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.eyes import UNREACHABLE, Eyes

LONGEST_SECONDS = 60.0
_LOOK_SECONDS = 0.1
_STEPS = (
    "SELECT s.id, s.worker_id, s.fence, j.completed_at IS NOT NULL AS over FROM step_run s"
    " JOIN orchestration_job j ON j.id = s.job_id WHERE s.id = ANY($1::bigint[])"
)
_WORKERS = (
    "SELECT id, pid, extract(epoch FROM dead_at)::float8 AS dead_at FROM worker"
    " WHERE dead_at IS NULL OR id = ANY($1::bigint[])"
)


@dataclass(slots=True)
class _Loss:
    """A step that its worker died with."""

    step_id: int
    worker_id: int
    fence: int
    began: float
    wall: float
    noticed: float | None = None
    given_back: float | None = None


@dataclass
class Takeovers:
    """Watches until `close`. In seconds, time without a database, or without any worker that could take something, not
    counted: `seconds` from the kill until somebody else had the step; `noticing` of those until the dead worker was
    known to be dead, `giving` until the step was anybody's; `lost` are steps nobody took. `able` says which processes
    are workers that run.
    """

    eyes: Eyes
    able: Callable[[], frozenset[int]]
    seconds: list[float] = field(default_factory=list)
    noticing: list[float] = field(default_factory=list)
    giving: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    # When PostgreSQL was away, from its kill until it answered again (crash recovery may take many seconds).
    outages: list[tuple[float, float]] = field(default_factory=list)
    # When no worker was there: each is dead, held still, or has not entered the list of workers yet.
    deserted: list[tuple[float, float]] = field(default_factory=list)
    _watched: list[_Loss] = field(default_factory=list)
    _looked: float | None = None

    def watch(self, worker_id: int, held: Sequence[tuple[int, int]]) -> None:
        """Begin with these steps, each with its fence: their worker has just been killed."""
        now, wall = time.monotonic(), time.time()
        self._watched += [_Loss(step_id, worker_id, fence, now, wall) for step_id, fence in held]

    async def keep(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if not self._watched:
                self._looked = None
                continue
            with suppress(*UNREACHABLE):
                await self._look()

    async def settle(self) -> None:
        """Until nothing is watched any more."""
        while True:
            if not self._watched:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def say(self) -> str:
        """One line of the report."""
        found = sorted(self.seconds)
        later = sum(found[place] > 15 for place in range(len(found)))
        return (
            f"Killed worker's step in other hands: p50 {statistics.median(found):.1f} s,"
            f" p95 {found[int(len(found) * 0.95)]:.1f} s, max {found[-1]:.1f} s, {len(found)} steps, {later} after more"
            f" than 15 s; of that its death was known after p50 {_median(self.noticing):.1f} s,"
            f" max {max(self.noticing, default=0):.1f} s, and the step free after p50 {_median(self.giving):.1f} s"
            f" (time without a database not counted, nor {_total(self.deserted):.0f} s without any worker)"
        )

    async def _look(self) -> None:
        watched = list(self._watched)
        rows = await self.eyes.rows(_STEPS, [loss.step_id for loss in watched])
        workers = await self.eyes.rows(_WORKERS, list({loss.worker_id for loss in watched}))
        steps = {row["id"]: row for row in rows}
        died = {row["id"]: row["dead_at"] for row in workers}
        self._note_absence({row["pid"] for row in workers if row["dead_at"] is None})
        for loss in watched:
            self._judge(loss, steps[loss.step_id], died.get(loss.worker_id))

    def _judge(self, loss: _Loss, row: Any, dead_at: float | None) -> None:
        since = self._since(loss.began)
        if dead_at is not None and loss.noticed is None:
            gone = time.time() - loss.wall - since
            loss.noticed = max(dead_at - loss.wall - gone, 0.0)
        if row["fence"] > loss.fence and loss.given_back is None:
            loss.given_back = since
        # Higher by one only: the step was taken from the dead. By more: it was claimed, and perhaps finished already.
        taken = row["fence"] > loss.fence and (row["worker_id"] is not None or row["fence"] > loss.fence + 1)
        # The outcome was written before the worker died, or nobody waits for it any more.
        needless = row["over"] or (row["worker_id"] is None and row["fence"] == loss.fence)
        if taken:
            self.seconds.append(since)
            if loss.noticed is not None:
                self.noticing.append(min(loss.noticed, since))
            if loss.given_back is not None:
                self.giving.append(loss.given_back)
        elif not needless and since > LONGEST_SECONDS:
            self.lost.append(f"step run {loss.step_id} was not taken on within {LONGEST_SECONDS:.0f} s of its kill")
        elif not needless:
            return
        self._watched.remove(loss)

    def _note_absence(self, registered: set[int]) -> None:
        """That nobody was there since the last look, if nobody is."""
        last, self._looked = self._looked, time.monotonic()
        if last is not None and not registered & self.able():
            self.deserted.append((last, self._looked))

    def _since(self, began: float) -> float:
        """Seconds since then, those without a database or a worker left out."""
        now = time.monotonic()
        absences = sorted((max(start, began), min(end, now)) for start, end in (*self.outages, *self.deserted))
        away, reached = 0.0, began
        for start, end in absences:
            away += max(end - max(start, reached), 0.0)
            reached = max(reached, end)
        return now - began - away


def _total(spans: Sequence[tuple[float, float]]) -> float:
    return sum(end - start for start, end in spans)


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0
