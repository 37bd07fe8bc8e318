"""The engine as a game: every claim, provider call and recorded outcome is a move of its own, in any order.

Attempts are values in this process; the SQL, the decisions and the notes are the real ones. Two profiles: in RANDOM a
lost worker's call has happened or never will; in LATE it may still reach the provider, and its outcome the database,
at any later time.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import asyncpg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from app.domain.enums import CancelMode, CancelOutcome
from app.domain.errors import IllegalState
from app.domain.retrying import MAX_CRASHES
from app.domain.statuses import JOB
from app.engine.log import StepLog
from app.engine.runner import Hand, Runner
from app.engine.ticking import tick
from app.engine.work import Outcome, Work
from app.messages import StepDue
from app.providers.base import ErrorKind
from app.providers.faults import Fault, FaultKind
from app.services import jobs
from tests.engine.crashes import STEPS, Case, MortalWorkshop
from tests.engine.harness import note
from tests.engine.history import History, Wanted
from tests.engine.invariants import violations

Answer = TypeVar("Answer")

SHAPES: dict[str, dict[str, list[str]]] = {
    "one": {"a": []},
    "chain": {"a": [], "b": ["a"], "c": ["b"]},
    "fork": {"a": [], "b": ["a"], "c": ["a"]},
    "join": {"a": [], "b": [], "c": ["a", "b"]},
    "diamond": {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]},
}
_ANY = st.integers(min_value=0, max_value=7)


@dataclass
class Attempt:
    """A claimed step in somebody's hands; `outcome` once the provider was called."""

    runner: Runner
    hand: Hand
    log: StepLog
    outcome: Outcome | None = None

    @property
    def work(self) -> Work:
        return self.hand.work


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job of the game: its stack's notes would all have `text`."""

    id: int
    stack: str
    names: tuple[str, ...]
    text: str
    fails: bool


class Simulation(RuleBasedStateMachine):
    """One game. `url`, `loop` and `late` are set by whoever plays."""

    url: ClassVar[str]
    loop: ClassVar[asyncio.Runner]
    late: ClassVar[bool] = False
    _numbers: ClassVar[itertools.count[int]] = itertools.count(1)

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="windlass-simulation-"))
        self.hands: list[Attempt] = []
        # Attempts of workers that are lost and do not know it.
        self.zombies: list[Attempt] = []
        self.submitted: list[Submitted] = []
        self.faults = 0
        self.workshop = self.run(self._open())

    def run(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        return self.loop.run(coroutine)

    async def _open(self) -> MortalWorkshop:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute("TRUNCATE tenant, worker, event_log, job_log CASCADE")
            tenant = await connection.fetchval("INSERT INTO tenant (name, slug) VALUES ('A', 'acme') RETURNING id")
            user = await connection.fetchval(
                "INSERT INTO app_user (tenant_id, email, display_name, role) VALUES ($1, 'a@acme.test', 'A', 'ADMIN')"
                " RETURNING id",
                tenant,
            )
        finally:
            await connection.close()
        return await MortalWorkshop.open_mortal(self.url, tenant, user, self.folder, Case("game", ()))

    # ── what people do ───────────────────────────────────────────────────────────────────────────────────────────

    @initialize(shape=st.sampled_from(sorted(SHAPES)), fails=st.booleans())
    def begin(self, shape: str, fails: bool) -> None:
        self._submit(shape, fails, "s0")

    @precondition(lambda self: len(self.submitted) < 3)
    @rule(shape=st.sampled_from(sorted(SHAPES)), fails=st.booleans(), again=st.booleans())
    def submit(self, shape: str, fails: bool, again: bool) -> None:
        # A change in place that arrives late cannot be told from a rightful one, so late games have one job a stack.
        if again and self.submitted and not self.late:
            stack = self.submitted[-1].stack
            names = self.submitted[-1].names
            shape = next(name for name, needs in SHAPES.items() if tuple(needs) == tuple(n[-1] for n in names))
        else:
            stack = f"s{len(self.submitted)}"
        self._submit(shape, fails, stack)

    def _submit(self, shape: str, fails: bool, stack: str) -> None:
        number = next(self._numbers)
        text = f"text {number}"
        needs = SHAPES[shape]
        resources = {key: note(f"{stack}-{key}", text, needs=of) for key, of in needs.items()}

        async def hand_in() -> int:
            template = await self.workshop.template({"resources": resources}, f"template {number}")
            workflow = await self.workshop.workflow(*STEPS, name=f"workflow {number}") if fails else None
            return await self.workshop.submit(template, workflow, stack=stack)

        names = tuple(f"{stack}-{key}" for key in needs)
        self.submitted.append(Submitted(self.run(hand_in()), stack, names, text, fails))

    @rule(which=_ANY, mode=st.sampled_from(list(CancelMode)), outcome=st.sampled_from(list(CancelOutcome)))
    def cancel(self, which: int, mode: CancelMode, outcome: CancelOutcome) -> None:
        job_id = self.submitted[which % len(self.submitted)].id

        async def ask() -> None:
            workshop = self.workshop
            async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as write:
                await jobs.cancel(
                    write, workshop.principal, jobs.CancelJob(job_id, mode, outcome), workshop.dependencies
                )

        try:
            self.run(ask())
        except IllegalState:
            return

    # ── what workers do ──────────────────────────────────────────────────────────────────────────────────────────

    @rule(which=_ANY, who=_ANY, keep=st.booleans())
    def claim(self, which: int, who: int, keep: bool) -> None:
        """A worker answers a doorbell; it may ring once more."""
        rung = self.workshop.rung
        if not rung:
            return
        place = which % len(rung)
        ring = rung[place] if keep else rung.pop(place)
        runner = self.workshop.runners[who % len(self.workshop.runners)]
        self._take(runner, self.run(runner._claim(ring)))

    def _take(self, runner: Runner, hand: Hand | None, after: Work | None = None) -> None:
        if hand is None:
            return
        work = hand.work
        rivals = [held for held in self.hands if held.work.step_id == work.step_id and held.work.fence >= work.fence]
        # Clearing up after a refused outcome goes on under the fence that was refused.
        clearing = after is not None and (after.step_id, after.fence) == (work.step_id, work.fence)
        assert clearing or not rivals, f"I4: {work.key} is claimed under fence {work.fence}, which somebody has"
        self.hands.append(Attempt(runner, hand, runner._log(work)))

    @rule(which=_ANY)
    def act(self, which: int) -> None:
        """The provider is called for one claimed step."""
        waiting = [held for held in self.hands if held.outcome is None]
        if waiting:
            self._act(waiting[which % len(waiting)])

    def _act(self, attempt: Attempt) -> None:
        attempt.outcome = self.run(attempt.runner._act(attempt.work, attempt.log))

    @rule(which=_ANY, twice=st.booleans())
    def finish(self, which: int, twice: bool) -> None:
        """One outcome is written; where the answer to the commit is lost, it is written again."""
        done = [held for held in self.hands if held.outcome is not None]
        if not done:
            return
        attempt = done[which % len(done)]
        self.hands.remove(attempt)
        following = self._record(attempt, attempt.hand)
        if twice:
            again = self._record(attempt, Hand(attempt.work))
            assert again is None, "I2: an outcome is written twice"
        self._take(attempt.runner, following, attempt.work)

    def _record(self, attempt: Attempt, hand: Hand) -> Hand | None:
        assert attempt.outcome is not None
        return self.run(attempt.runner._record(hand, attempt.outcome, attempt.log, stay=True))

    @rule(several=st.integers(min_value=1, max_value=3))
    def go_on(self, several: int) -> None:
        """Everything comes a step further, so that games get somewhere."""
        for _ in range(several):
            for attempt in [held for held in self.hands if held.outcome is None]:
                self._act(attempt)
            for attempt in [held for held in self.hands if held.outcome is not None]:
                self.hands.remove(attempt)
                self._take(attempt.runner, self._record(attempt, attempt.hand), attempt.work)
            for who in range(len(self.workshop.rung)):
                self.claim(which=0, who=who, keep=False)

    # ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────────

    @rule(who=_ANY, reached=st.booleans())
    def lose_worker(self, who: int, reached: bool) -> None:
        """A worker is gone; `reached`: its calls under way have their effect all the same."""
        workshop = self.workshop
        place = who % len(workshop.runners)
        runner, worker = workshop.runners.pop(place), workshop.workers.pop(place)
        gone = [held for held in self.hands if held.runner is runner]
        self.hands = [held for held in self.hands if held.runner is not runner]
        if self.late:
            self.zombies += gone
        elif reached:
            for attempt in gone:
                if attempt.outcome is None:
                    self._act(attempt)
        self.run(workshop.lose(worker))
        workshop.buried += 1
        self.run(workshop.hire())

    @rule(which=_ANY)
    def wake_zombie(self, which: int) -> None:
        """An attempt whose worker was declared dead comes a step further."""
        if not self.zombies:
            return
        attempt = self.zombies[which % len(self.zombies)]
        if attempt.outcome is None:
            self._act(attempt)
            return
        self.zombies.remove(attempt)
        following = self._record(attempt, attempt.hand)
        if following is not None:
            step_id = following.work.step_id
            assert step_id == attempt.work.step_id, "I4: an outcome without the fence goes on with the job"
            self.zombies.append(Attempt(attempt.runner, following, attempt.runner._log(following.work)))

    @precondition(lambda self: self.faults < 2)
    @rule(
        method=st.sampled_from(["create", "update", "recover", "delete"]),
        kind=st.sampled_from([FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER, FaultKind.THROTTLE]),
    )
    def plan_fault(self, method: str, kind: FaultKind) -> None:
        self.faults += 1
        self.workshop.real._plan.setdefault(method, deque()).append(Fault(kind))

    @precondition(lambda self: self.faults < 2)
    @rule()
    def plan_failure(self) -> None:
        """The next note cannot be made, whatever runs beside it."""
        self.faults += 1
        refusal = Fault(FaultKind.ERROR, error=ErrorKind.ACCESS_DENIED)
        self.workshop.real._plan.setdefault("create", deque()).append(refusal)

    @rule()
    def lose_doorbells(self) -> None:
        self.workshop.rung.clear()

    @rule()
    def ring_nonsense(self) -> None:
        """Rings for steps that do not exist, or belong to nobody here."""
        workshop = self.workshop
        job_id = self.submitted[-1].id
        workshop.rung += [StepDue(workshop.tenant_id, job_id, 999_999), StepDue(999_999, job_id, 1)]

    @rule()
    def tick(self) -> None:
        self.run(tick(self.workshop.database, ring_again_seconds=0))

    @rule()
    def skip_time(self) -> None:
        self.run(self.workshop.skip_time())

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

    def teardown(self) -> None:
        try:
            self._drain()
            while self.zombies:
                self.wake_zombie(which=0)
            self._drain()
            history = self.run(self._history())
            faults = violations(history) + self._wrong_results(history)
            assert not faults, "\n".join(faults)
        finally:
            self.run(self.workshop.close())
            shutil.rmtree(self.folder, ignore_errors=True)

    def _drain(self) -> None:
        for _ in range(200):
            for attempt in list(self.hands):
                if attempt.outcome is None:
                    self._act(attempt)
                self.hands.remove(attempt)
                self._take(attempt.runner, self._record(attempt, attempt.hand), attempt.work)
            while self.workshop.rung:
                self.claim(which=0, who=0, keep=False)
            if not self.hands and self.run(self._is_over()):
                return
            self.skip_time()
            self.tick()
        message = f"I1: the jobs do not end: {self.run(self._standing())}"
        raise AssertionError(message)

    async def _is_over(self) -> bool:
        standing = [await self.workshop.job(job.id) for job in self.submitted]
        return all(job.status in JOB.closed for job in standing)

    async def _standing(self) -> list[Any]:
        return await self.workshop.rows("SELECT job_id, step_key, status, worker_id, due_at FROM step_run")

    async def _history(self) -> History:
        history = await History.read(self.url, self.folder, {})
        return History(**{**history.__dict__, "wanted": self._wanted(history)})

    def _wrong_results(self, history: History) -> list[str]:
        """Jobs that ended otherwise than they had to: where nothing but workers was lost, that is certain."""
        worn = {step["job_id"] for step in history.steps if step["crashes"] >= MAX_CRASHES}
        faults = []
        for row in history.jobs:
            job = next(job for job in self.submitted if job.id == row["id"])
            allowed = {"ROLLED_BACK"} if job.fails else {"SUCCEEDED"}
            if self.faults or row["id"] in worn:
                allowed |= {"ROLLED_BACK"}
            if row["cancel_requested_at"] is not None:
                allowed |= {"CANCELLED", "ROLLED_BACK"}
            if row["status"] not in allowed:
                faults.append(f"result: job {row['id']} is {row['status']} instead of {sorted(allowed)}")
        return faults

    def _wanted(self, history: History) -> dict[int, Wanted]:
        """What each job should have left, from what the jobs before it on its stack have left."""
        rows = {row["id"]: row for row in history.jobs}
        standing: dict[str, dict[str, str] | None] = {}
        wanted: dict[int, Wanted] = {}
        for job in self.submitted:
            before = standing.get(job.stack, {})
            success = dict.fromkeys(job.names, job.text)
            if before is not None:
                wanted[job.id] = Wanted(success, before)
            if rows[job.id]["status"] == "SUCCEEDED":
                standing[job.stack] = success
            elif rows[job.id]["status"] == "CANCELLED" and rows[job.id]["dispatched_at"] is not None:
                # Kept as it is, in the middle: the record says what there is.
                standing[job.stack] = None
        return wanted
