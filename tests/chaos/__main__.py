"""Faults at random while plans are carried out, and a reckoning afterwards: `make chaos ARGS="--seed 7 --faults 300"`.

The exit code is 0 when every job has ended, no invariant is violated, and faults were injected and work was done. With
`--plant BUG` it is 0 when violations were found.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from app.domain.statuses import JOB
from tests.chaos.companions import Companion
from tests.chaos.conditional import Watchers
from tests.chaos.eyes import UNREACHABLE, Eyes
from tests.chaos.integrator import Integrator, UnsteadyReceiver
from tests.chaos.interventions import Interventions
from tests.chaos.late import Latecomers
from tests.chaos.load import SECRET, Customers, Order, orders, wanted
from tests.chaos.nemesis import Nemesis
from tests.chaos.part import Unfriendly
from tests.chaos.standing import Beside
from tests.chaos.timetable import Timetable
from tests.chaos.town import HANDS, LEASE_SECONDS, Town, town
from tests.engine.history import History
from tests.engine.invariants import violations
from tests.engine.mutants import MUTANTS
from tests.schema.webhooks.receiver import receiving

_WORKERS = 4
_SCHEDULERS = 2
_CUSTOMERS = 6
# So many jobs are under way at a time, and no more are handed in: enough that all hands are full.
_OPEN = 60
_CLOSED = tuple(status.value for status in JOB.closed)
_ENDED = "SELECT coalesce(avg((status = ANY($1))::int), 1)::float8 FROM orchestration_job"
# The processes that were workers for a second: one whose very entry was cut may end and begin anew.
_BEGAN = "SELECT pid FROM worker WHERE lease_until > started_at + make_interval(secs => $1)"
_UNDER_WAY = "SELECT count(*) FROM orchestration_job WHERE status <> ALL($1)"


@dataclass(frozen=True, slots=True)
class Given:
    """What a run is to be: at least so many plans and faults, but no faults for longer than `rage` seconds; then as
    many as `settle` for everything to end. `bug` is planted.
    """

    seed: int
    jobs: int
    faults: int
    settle: float
    rage: float
    bug: str | None = None
    log: Path | None = None


@dataclass
class Reckoning:
    """What came of one run."""

    given: Given
    seconds: float
    nemesis: Nemesis
    companions: Sequence[Companion]
    results: Counter[str]
    wrong: list[str] = field(default_factory=list)
    recoveries: int = 0
    attempts: int = 0
    by_api: int = 0
    raged: float = 0.0

    @property
    def proved(self) -> bool:
        """Whether faults were injected and work was done, of every kind."""
        done = all(companion.proved for companion in self.companions)
        return bool(self.nemesis.injected) and bool(self.results["SUCCEEDED"]) and done

    def table(self) -> str:
        """The report, as it stands in docs/reliability.md."""
        injected, rolling = self.nemesis.injected, self.nemesis.rolling
        lines = ["| fault | injected | during a rollback |", "|---|--:|--:|"]
        lines += [f"| {kind} | {n} | {rolling[kind]} |" for kind, n in sorted(injected.items())]
        lines.append(f"| all | {injected.total()} | {rolling.total()} |")
        done = ", ".join(f"{n} {status}" for status, n in sorted(self.results.items()))
        never = sorted(kind for track in self.nemesis.tracks for kind in track.deeds if not injected[kind])
        lines += [
            f"\nJobs: {self.results.total()} ({done}), {self.by_api} of them handed in through the API",
            *(companion.said() for companion in self.companions),
            self._said_of_attempts(),
            *([self.nemesis.takeovers.say()] if self.nemesis.takeovers.seconds else []),
            *([f"Never injected: {', '.join(never)}"] if never else []),
            self._said_of_time(),
        ]
        return "\n".join([*lines, *(f"  {fault}" for fault in self.wrong[:40])])

    def _said_of_attempts(self) -> str:
        return (
            f"Attempts: {self.attempts}; steps taken over from lost workers: {self.recoveries};"
            f" workers killed with an undo in hands: {self.nemesis.processes.undoing}"
        )

    def _said_of_time(self) -> str:
        rate = self.nemesis.injected.total() / max(self.raged, 1)
        return (
            f"Violations: {len(self.wrong)}; seed {self.given.seed}, {self.seconds:.0f} s, faults for"
            f" {self.raged:.0f} s ({rate:.2f} a second)"
        )


@dataclass
class Play:
    """One run: plans are handed in while the nemesis rages; then there is quiet, and everything is looked at."""

    given: Given
    town: Town
    customers: Customers
    nemesis: Nemesis
    interventions: Interventions
    companions: Sequence[Companion]
    eyes: Eyes
    handed: list[Order] = field(default_factory=list)
    _coming: Iterator[Order] = field(default_factory=lambda: iter(()))
    _under_way: float = 0.0
    _began: float = 0.0

    def more(self) -> bool:
        """Whether there are plans to come."""
        if time.monotonic() - self._began > self.given.rage:
            return False
        return len(self.handed) < self.given.jobs or self.nemesis.injected.total() < self.given.faults

    async def run(self) -> float:
        """Until everything has come to rest, or time is up; the seconds for which there were faults."""
        self._coming, self._began = orders(self.given.seed), time.monotonic()
        counting = asyncio.create_task(self._count())
        left = asyncio.Event()
        raging = asyncio.create_task(self.nemesis.rage(self._is_enough(left)))
        try:
            await asyncio.gather(
                *(self._hand_in() for _ in range(_CUSTOMERS)), *(each.go(self.more) for each in self.companions)
            )
            # The nemesis outlasts the customers: many jobs are still under way when the last plan is handed in.
            await self._until_ended(share=0.9)
            left.set()
            await raging
            raged = time.monotonic() - self._began
            await self._until_ended()
            return raged
        finally:
            for task in (counting, raging):
                task.cancel()
            await asyncio.gather(counting, raging, return_exceptions=True)

    def _is_enough(self, left: asyncio.Event) -> Callable[[], bool]:
        if self.given.faults:
            return lambda: left.is_set() or not self.more()
        return left.is_set

    async def _hand_in(self) -> None:
        while self.more():
            if self._under_way >= _OPEN:
                await asyncio.sleep(0.2)
                continue
            order = next(self._coming)
            self.handed.append(order)
            self.interventions.prepare(order)
            await self.customers.hand_in(order)
            self.interventions.begin(order)

    async def _count(self) -> None:
        while True:
            with suppress(*UNREACHABLE):
                self._under_way = await self.eyes.number(_UNDER_WAY, list(_CLOSED))
            await asyncio.sleep(0.3)

    async def _until_ended(self, share: float = 1.0) -> None:
        """Until that share of the jobs has ended, or time is up: then the invariants will say so."""
        deadline = time.monotonic() + self.given.settle
        while time.monotonic() < deadline:
            with suppress(*UNREACHABLE):
                ended = await self.eyes.number(_ENDED, list(_CLOSED))
                if ended >= share and (share < 1.0 or await self._rest()):
                    return
            await asyncio.sleep(0.3)

    async def _rest(self) -> bool:
        return all([await companion.rests(self.eyes) for companion in self.companions])

    async def reckon(self, ends: list[str]) -> Reckoning:
        url, folder = self.eyes.url, self.town.folder / "artifacts"
        history = await History.read(url, folder, {})
        # A claim whose answer was lost counts as held until it is given up, and its hand is free meanwhile.
        expected = wanted(self.handed, list(history.jobs))
        history = await History.read(url, folder, expected, secrets=(SECRET,), hands=2 * HANDS)
        wrong = violations(history) + self.nemesis.takeovers.lost + ends
        for companion in self.companions:
            wrong += await companion.faults(self.eyes, folder)
        missing = self.customers.accepted - {job["plan_name"] for job in history.jobs}
        wrong += [f"I1: {name} was accepted and has no job" for name in sorted(missing)]
        return Reckoning(
            self.given, 0.0, self.nemesis, self.companions, Counter(job["status"] for job in history.jobs), wrong,
            sum(job["recoveries"] for job in history.jobs), len(history.attempts), self.customers.by_api,
        )  # fmt: skip


async def run(given: Given) -> Reckoning:
    """A town of its own for one play."""
    began = time.monotonic()
    chance = random.Random(given.seed)
    receiver = UnsteadyReceiver(chance=random.Random(chance.getrandbits(64)))
    world = Unfriendly(bug=given.bug)
    async with receiving(receiver), town(_WORKERS, _SCHEDULERS, world, webhooks=1, wired=True) as here:
        customers, eyes = await Customers.of(here), Eyes(here.environment["WINDLASS_DATABASE_URL"])
        nemesis = Nemesis(here, chance)
        interventions = Interventions(customers, random.Random(given.seed))
        integrator = Integrator(customers, receiver)
        companions: list[Companion] = [
            Beside(customers, random.Random(given.seed)), interventions,
            Timetable(customers, random.Random(given.seed)), integrator, Latecomers(customers),
            Watchers(customers, random.Random(given.seed)),
        ]  # fmt: skip
        await _until_workers(eyes)
        await integrator.begin()
        play = Play(given, here, customers, nemesis, interventions, companions, eyes)
        raged = await play.run()
        await customers.database.close()
        began_well = {row["pid"] for row in await eyes.rows(_BEGAN, LEASE_SECONDS + 1)}
        ends = here.unexpected_ends(began_well)
        if given.log is not None:
            await asyncio.to_thread(shutil.copy, here.log, given.log)
        await asyncio.to_thread(here.stop)
        reckoning = await play.reckon(ends)
        await eyes.close()
        reckoning.seconds, reckoning.raged = time.monotonic() - began, raged
        return reckoning


async def _until_workers(eyes: Eyes) -> None:
    async with asyncio.timeout(60):
        while True:
            if await eyes.number("SELECT count(*) FROM worker WHERE dead_at IS NULL") >= _WORKERS:
                return
            await asyncio.sleep(0.2)


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed: the same plans and faults")
    parser.add_argument("--jobs", type=int, help="how many plans are handed in at least; 200 without --faults")
    parser.add_argument("--faults", type=int, default=0, help="go on until so many faults were injected, then let end")
    parser.add_argument(
        "--rage", type=float, default=3600, help="seconds after which there are no more faults or plans"
    )
    parser.add_argument("--settle", type=float, default=180, help="seconds for the jobs to end after the last fault")
    parser.add_argument("--plant", choices=sorted(MUTANTS), help="a bug that must be found")
    parser.add_argument("--log", type=Path, help="where to keep what the processes have said")
    asked = parser.parse_args()
    jobs = asked.jobs if asked.jobs is not None else 0 if asked.faults else 200
    given = Given(asked.seed, jobs, asked.faults, asked.settle, asked.rage, asked.plant, asked.log)
    reckoning = asyncio.run(run(given))
    sys.stdout.write(reckoning.table() + "\n")
    if not reckoning.proved:
        sys.stdout.write("nothing was proved: no fault was injected, or no work was done of some kind\n")
        return 1
    if asked.plant:
        sys.stdout.write(f"the planted {asked.plant} was {'found' if reckoning.wrong else 'NOT found'}\n")
    return 1 if bool(reckoning.wrong) != bool(asked.plant) else 0


if __name__ == "__main__":
    sys.exit(main())
