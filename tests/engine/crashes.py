"""The crash points, each as one case: a job, the deaths that meet it, and what must be there in the end."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

from app.auth.principal import Principal
from app.db.models import OrchestrationJob
from app.db.uow import Database, Rings
from app.domain.enums import Permission, Role
from app.domain.statuses import JobStatus
from app.engine.claims import Claimer
from app.engine.connections import Connections
from app.engine.executor import Executor
from app.engine.liveness import Worker
from app.engine.recorder import Recorder
from app.engine.runner import Runner
from app.engine.work import Mode
from app.messages import StepDue
from app.providers.registry import Registry
from app.providers.sessions import Sessions
from tests.engine.harness import SEALER, AccidentalCore, Workshop, note
from tests.engine.history import History, Wanted
from tests.engine.invariants import violations
from tests.engine.mortal import Death, Fate, Killed, MortalDatabase, MortalNotes, Point, mortal_hands

DIAMOND: dict[str, Any] = {
    "a": note("a"),
    "b": note("b", needs=["a"]),
    "c": note("c", needs=["a"]),
    "d": note("d", needs=["b", "c"]),
}
NOTES = dict.fromkeys("abcd", "x")
STEPS = (
    {"key": "all", "type": "RESOURCE_CREATE", "order": 1, "configuration": {"resource": "*"}},
    {"key": "fail", "type": "CUSTOM", "order": 9, "configuration": {"task": "core.assert"},
     "inputs": {"that": False, "message": "on purpose"}},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """Deaths that a job of four notes meets. `fails`: its last step fails, so that everything is taken back. Notes in
    `slow` take their time to be made, those in `lasting` to be removed.
    """

    name: str
    deaths: tuple[Death, ...]
    fails: bool = False
    slow: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()

    def again(self) -> list[Death]:
        """The deaths, none of which has struck."""
        return [replace(death, struck=False) for death in self.deaths]


def cases() -> list[Case]:
    """Every point, before and after, while going forward, polling, finding out and going back."""
    found: list[Case] = []
    for point, after in product(Point, (False, True)):
        place = f"{'after' if after else 'before'}-{point}"
        unsent = Death(Point.SEND, False, Mode.RUN, "b")
        unheard = Death(Point.REPLY, False, Mode.RUN, "b")
        observed = Death(point, after, Mode.OBSERVE, "b")
        found += [
            Case(f"forward-{place}", (Death(point, after, Mode.RUN, "b"),)),
            Case(f"forward-then-back-{place}", (Death(point, after, Mode.RUN, "d"),), fails=True),
            Case(f"undo-{place}", (Death(point, after, Mode.UNDO, "b"),), fails=True),
            Case(f"undo-poll-{place}", (Death(point, after, Mode.UNDO, "b", back=True),), fails=True, lasting=("b",)),
            Case(f"poll-{place}", (Death(point, after, Mode.POLL, "b"),), slow=("b",)),
            Case(f"observe-nothing-{place}", (unsent, observed)),
            Case(f"observe-something-{place}", (unheard, observed)),
        ]
    everywhere = tuple(
        Death(point, after, Mode.UNDO, key)
        for key, (point, after) in product("dcba", ((Point.SEND, True), (Point.REPLY, False), (Point.FINISH, False)))
    )
    found += [Case("undo-every-step-three-times", everywhere, fails=True)]
    return found


@dataclass
class MortalWorkshop(Workshop):
    """A workshop whose workers die as planned; whoever is gone is replaced."""

    url: str = ""
    fate: Fate = field(default_factory=Fate)
    buried: int = 0
    _databases: list[MortalDatabase] = field(default_factory=list)

    @classmethod
    async def open_mortal(
        cls, database_url: str, tenant_id: int, user_id: int, folder: Path, case: Case
    ) -> MortalWorkshop:
        """A workshop in which the case's deaths are to come."""
        rung: list[StepDue] = []
        fate = Fate(case.again())
        provider = AccidentalCore({})
        provider.notes = MortalNotes(provider.notes, fate, case.slow, case.lasting)
        principal = Principal(
            tenant_id, "acme", user_id, Role.ADMIN, frozenset(Permission), 1, datetime.now(UTC) + timedelta(hours=1)
        )
        database = Database.connect(
            database_url, name="test-engine", pool_size=4, after_commit=lambda rings: rung.extend(rings.due),
            own_rings=lambda: 1_000_000,
        )  # fmt: skip
        workshop = cls(
            database, tenant_id, folder, provider, Registry([provider]), principal, rung, url=database_url, fate=fate
        )
        for _ in range(2):
            await workshop.hire()
        return workshop

    @property
    def real(self) -> MortalNotes:
        """The notes, with the record of all that was done to them."""
        assert isinstance(self.provider.notes, MortalNotes)
        return self.provider.notes

    async def hire(self) -> Runner:
        worker = Worker(self.database, 30, f"worker-{self.buried + len(self.workers) + 1}", "0")
        await worker.register()

        def rung(rings: Rings) -> None:
            self.rung.extend(rings.due)

        mortal, claimer, executor, recorder = mortal_hands(
            self.url,
            self.fate,
            rung,
            Claimer(worker.id, self.registry, SEALER),
            Executor(self.registry),
            Recorder(self.registry, SEALER, lambda: 0.5),
        )
        connections = Connections(self.database, SEALER, Sessions(self.registry), {"core": {}})
        runner = Runner(mortal, claimer, executor, recorder, connections, self.folder)
        self._databases.append(mortal)
        self.workers.append(worker)
        self.runners.append(runner)
        return runner

    async def answer(self) -> None:
        while self.rung:
            rings, self.rung[:] = list(self.rung), []
            runners = list(self.runners)
            await asyncio.gather(*(self._serve(runners[n % len(runners)], ring) for n, ring in enumerate(rings)))

    async def _serve(self, runner: Runner, ring: StepDue) -> None:
        try:
            await runner.run(ring)
        except Killed:
            if runner in self.runners:
                place = self.runners.index(runner)
                del self.runners[place]
                self.buried += 1
                await self.lose(self.workers.pop(place))
                await self.hire()

    async def close(self) -> None:
        for database in self._databases:
            await database.close()
        await super().close()
        # Requests that never arrived hold on to what their senders were at.
        self.real.forget()
        # What dead workers were in the middle of ends here, and not within whatever collects garbage next: CPython 3.11
        # takes it ill when that is its parser. What has been there since before the test is not looked through.
        gc.collect()

    async def history(self, job_id: int) -> History:
        """All that happened, once the job has ended."""
        return await History.read(self.url, self.folder, {job_id: Wanted(NOTES)})


async def suffer(workshop: MortalWorkshop, case: Case, *, seconds: float = 20) -> tuple[OrchestrationJob, list[str]]:
    """Run the case's job to its end; the job, and everything that is wrong."""
    template = await workshop.template({"resources": DIAMOND})
    job_id = await workshop.submit(template, await workshop.workflow(*STEPS) if case.fails else None)
    job = await workshop.settle(job_id, seconds=seconds)
    faults = violations(await workshop.history(job_id))
    expected = JobStatus.ROLLED_BACK if case.fails else JobStatus.SUCCEEDED
    if job.status is not expected:
        faults.append(f"result: the job is {job.status} instead of {expected}")
    if not workshop.fate.fulfilled:
        faults.append(f"test: nobody came by {[death for death in workshop.fate.deaths if not death.struck]}")
    faults += _misdeeds(workshop.real, case)
    return job, faults


def _misdeeds(real: MortalNotes, case: Case) -> list[str]:
    """What the world's own record holds against the engine."""
    made, removed = real.deeds.names("create"), real.deeds.names("delete")
    faults = []
    if sorted(made) != sorted(NOTES):
        faults.append(f"world: created {made}")
    if sorted(removed) != (sorted(NOTES) if case.fails else []):
        faults.append(f"world: deleted {removed}")
    elif case.lasting and [name for name in real.asked if name in case.lasting] != list(case.lasting):
        # Somebody begins an undoing that is under way anew.
        faults.append(f"world: asked to delete {real.asked}")
    elif removed and (removed[0], removed[-1]) != ("d", "a"):
        faults.append(f"world: deleted in the order {removed}")
    return faults
