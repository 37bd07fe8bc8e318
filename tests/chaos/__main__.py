"""Faults at random while plans are carried out, and a reckoning afterwards: `make chaos ARGS="--seed 7 --jobs 200"`.

The exit code is 0 when every job has ended, no invariant is violated, and faults were injected and work was done. With
`--plant BUG` it is 0 when violations were found.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from app.domain.statuses import JOB
from tests.chaos.load import SECRET, Customers, Order, orders, wanted
from tests.chaos.nemesis import UNREACHABLE, Nemesis
from tests.chaos.part import Unfriendly
from tests.chaos.standing import Beside
from tests.chaos.town import HANDS, Town, town
from tests.engine.history import History
from tests.engine.invariants import violations
from tests.engine.mutants import MUTANTS

_WORKERS = 4
_SCHEDULERS = 2
_CUSTOMERS = 6
_CLOSED = tuple(status.value for status in JOB.closed)


@dataclass
class Reckoning:
    """What came of one run."""

    seed: int
    seconds: float
    injected: Counter[str]
    rolling: Counter[str]
    results: Counter[str]
    reruns: list[float]
    wrong: list[str] = field(default_factory=list)
    recoveries: int = 0
    attempts: int = 0
    by_api: int = 0
    calls: int = 0
    rehearsed: int = 0

    def table(self) -> str:
        """The report, as it stands in docs/reliability.md."""
        lines = ["| fault | injected | during a rollback |", "|---|--:|--:|"]
        lines += [f"| {kind} | {n} | {self.rolling[kind]} |" for kind, n in sorted(self.injected.items())]
        lines.append(f"| all | {self.injected.total()} | {self.rolling.total()} |")
        done = ", ".join(f"{n} {status}" for status, n in sorted(self.results.items()))
        lines.append(f"\nJobs: {self.results.total()} ({done}), {self.by_api} of them handed in through the API")
        lines.append(f"Among them: {self.calls} runs of a standing plan that was called, {self.rehearsed} simulations")
        lines.append(f"Attempts: {self.attempts}; steps taken over from lost workers: {self.recoveries}")
        if self.reruns:
            lines.append(
                f"Killed worker's step in other hands: p50 {statistics.median(self.reruns):.1f} s,"
                f" max {max(self.reruns):.1f} s, {len(self.reruns)} steps (time without a database not counted)"
            )
        lines.append(f"Violations: {len(self.wrong)}; seed {self.seed}, {self.seconds:.0f} s")
        return "\n".join([*lines, *(f"  {fault}" for fault in self.wrong[:40])])


async def run(
    seed: int, number: int, settle_seconds: float, bug: str | None = None, log: Path | None = None
) -> Reckoning:
    """One run: plans are handed in while the nemesis rages; then there is quiet, and everything is looked at."""
    began = time.monotonic()
    given = orders(seed, number)
    async with town(_WORKERS, _SCHEDULERS, Unfriendly(bug=bug)) as here:
        customers = await Customers.of(here)
        nemesis = Nemesis(here, random.Random(seed))
        await _until_workers(here)
        beside = Beside.of(customers, seed, number)
        handing = asyncio.gather(beside.go(), *(_hand_in(customers, given[n::_CUSTOMERS]) for n in range(_CUSTOMERS)))
        # The nemesis outlasts the customers: most jobs are still under way when the last plan is handed in.
        left = asyncio.Event()
        raging = asyncio.create_task(nemesis.rage(left.is_set))
        await handing
        await _until_ended(here, time.monotonic() + settle_seconds, share=0.9)
        left.set()
        await raging
        await _until_ended(here, time.monotonic() + settle_seconds)
        await customers.database.close()
        began_well = await _registered(here)
        ends = here.unexpected_ends(began_well)
        if log is not None:
            shutil.copy(here.log, log)
        await asyncio.to_thread(here.stop)
        return await _reckon(here, nemesis, beside, given, seed, time.monotonic() - began, ends)


async def _hand_in(customers: Customers, given: list[Order]) -> None:
    for order in given:
        await customers.hand_in(order)


async def _until_workers(here: Town) -> None:
    async with asyncio.timeout(60):
        while True:
            if await _fetch(here, "SELECT count(*) FROM worker WHERE dead_at IS NULL") >= _WORKERS:
                return
            await asyncio.sleep(0.2)


async def _until_ended(here: Town, deadline: float, share: float = 1.0) -> None:
    """Until that share of the jobs has ended, or time is up: then the invariants will say so."""
    while time.monotonic() < deadline:
        try:
            ended = await _fetch(here, "SELECT avg((status = ANY($1))::int) FROM orchestration_job", list(_CLOSED))
            heard = await _fetch(here, "SELECT count(*) FROM plan_trigger WHERE outcome = 'PENDING'")
            if ended >= share and (heard == 0 or share < 1.0):
                return
        except UNREACHABLE:
            pass
        await asyncio.sleep(0.3)


async def _reckon(
    here: Town, nemesis: Nemesis, beside: Beside, given: list[Order], seed: int, seconds: float, ends: list[str]
) -> Reckoning:
    url, folder = here.environment["WINDLASS_DATABASE_URL"], here.folder / "artifacts"
    history = await History.read(url, folder, {})
    # A claim whose answer was lost counts as held until it is given up, and its hand is free meanwhile.
    expected = wanted(given, list(history.jobs))
    history = await History.read(url, folder, expected, secrets=(SECRET,), hands=2 * HANDS)
    wrong = violations(history) + nemesis.lost + ends + await beside.faults(url, folder)
    customers = beside.customers
    missing = customers.accepted - {job["plan_name"] for job in history.jobs}
    wrong += [f"I1: {name} was accepted and has no job" for name in sorted(missing)]
    return Reckoning(
        seed, seconds, nemesis.injected, nemesis.rolling,
        Counter(job["status"] for job in history.jobs), nemesis.reruns, wrong,
        sum(job["recoveries"] for job in history.jobs), len(history.attempts), customers.by_api, len(beside.calls),
        len(beside.rehearsed),
    )  # fmt: skip


async def _registered(here: Town) -> set[int]:
    """The processes that have ever been workers."""
    connection = await asyncpg.connect(here.environment["WINDLASS_DATABASE_URL"], timeout=5)
    try:
        return {row["pid"] for row in await connection.fetch("SELECT pid FROM worker")}
    finally:
        await connection.close()


async def _fetch(here: Town, query: str, *arguments: object) -> float:
    connection = await asyncpg.connect(here.environment["WINDLASS_DATABASE_URL"], timeout=5)
    try:
        return float(await connection.fetchval(query, *arguments, timeout=5) or 0)
    finally:
        await connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed: the same plans and faults")
    parser.add_argument("--jobs", type=int, default=200, help="how many plans are handed in")
    parser.add_argument("--settle", type=float, default=120, help="seconds for the jobs to end after the last fault")
    parser.add_argument("--plant", choices=sorted(MUTANTS), help="a bug that must be found")
    parser.add_argument("--log", type=Path, help="where to keep what the processes have said")
    given = parser.parse_args()
    reckoning = asyncio.run(run(given.seed, given.jobs, given.settle, given.plant, given.log))
    sys.stdout.write(reckoning.table() + "\n")
    if not reckoning.injected or not reckoning.results["SUCCEEDED"]:
        sys.stdout.write("nothing was proved: no fault was injected, or no work was done\n")
        return 1
    if given.plant:
        sys.stdout.write(f"the planted {given.plant} was {'found' if reckoning.wrong else 'NOT found'}\n")
    return 1 if bool(reckoning.wrong) != bool(given.plant) else 0


if __name__ == "__main__":
    sys.exit(main())
