"""A job under its lock, and all that this transaction will write about it and its plan.

Every transition of a job goes through here: the job's row is locked first, then its steps are read, then the pure
decision is asked what follows, and at the end everything is written in a few statements together with its events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app import clock
from app.db import closing, following, journal, moves, pausing, tails, transitions, turns
from app.db.collected import Collected
from app.db.statements import Row, dumps
from app.db.step_rows import StepRow, completeness_of, step_row, undecided_of
from app.db.uow import Transaction
from app.domain.decisions import JobMove, JobView, StepMove, decide
from app.domain.enums import CancelMode, CancelOutcome, FailureStrategy, RollbackScope, StatusReason
from app.domain.events import Stream
from app.domain.graph import in_dependency_order
from app.domain.statuses import JOB, JobStatus, PlanStatus, StepStatus
from app.domain.values import Value
from app.messages import StepDue

_RESTING = frozenset({JobStatus.PAUSING, JobStatus.PAUSED})

# In these, whatever is done to a job is an event as well, so that the number of events tells whether anything was.
_REMEMBERABLE = frozenset({JobStatus.RUNNING, JobStatus.ROLLING_BACK})


class Overtaken(Exception):
    """Nothing was written: somebody has written about the job in between, or the worker has lost its lease."""


@dataclass(slots=True)
class Ledger:
    """The locked job. Moves are collected by `apply`, `step_event` and `advance`, and written by `write`.

    What is known of the job outlives the transaction: `recall` goes on with it in another one, without lock or reading.
    """

    transaction: Transaction
    row: Row
    status: JobStatus
    plan_id: int
    steps: dict[str, StepRow] = field(default_factory=dict)
    due: list[StepDue] = field(default_factory=list)
    # By id: what a claim has to know of steps that nobody has tried yet, as long as that is so.
    untried: dict[int, Row] = field(default_factory=dict)
    # What steps of this job have given while it was remembered, by key.
    outputs: dict[str, Mapping[str, Value]] = field(default_factory=dict)
    # Set by whoever gives up a pause: what becomes of the job instead.
    fallback: FailureStrategy | None = None
    _new: Collected = field(default_factory=Collected)
    _closes: bool = False
    # The number of the job's last event, where this is all that stands for its lock.
    _expected: int | None = None
    _last: int = 0
    _plan_status: PlanStatus = PlanStatus.QUEUED
    # The end of the log, where all of it was written from here.
    _heard: tails.Heard | None = None

    @classmethod
    async def open(cls, transaction: Transaction, job_id: int) -> Ledger | None:
        """Lock the job; None when the tenant has no such job."""
        row = await transaction.fetch_one(transitions.LOCK_JOB, {"tenant": transaction.tenant_id, "id": job_id})
        return None if row is None else cls._of(transaction, row)

    @classmethod
    async def look(cls, transaction: Transaction, job_id: int) -> Ledger | None:
        """The job without its lock, together with its steps unless there are too many; None when there is none.

        What is written about it raises Overtaken where somebody has written about it in between.
        """
        found = await transaction.together(turns.LOOKS, job_id, ends=False)
        if found is None:
            return None
        ledger = cls._of(transaction, found.job)
        ledger.recall(transaction)
        ledger.know_untried(found.steps)
        return ledger

    @classmethod
    def _of(cls, transaction: Transaction, row: Row) -> Ledger:
        ledger = cls(transaction, row, JobStatus(row["status"]), row["plan_id"])
        ledger._last, ledger._plan_status = row["event_seq"], PlanStatus(row["plan_status"])
        ledger._heard = tails.Heard() if row["log_lines"] == 0 else None
        return ledger

    @property
    def is_memorable(self) -> bool:
        """Whether `recall` makes sense once this transaction is over."""
        return bool(self.steps) and len(self.steps) <= transitions.REMEMBERED and self.status in _REMEMBERABLE

    @property
    def is_unlocked(self) -> bool:
        """Whether only the number of the job's events stands for its lock, and nothing was written or read since."""
        return self._expected is not None and self.transaction.is_untouched

    def recall(self, transaction: Transaction) -> None:
        """Go on in another transaction with what is known, as if nobody had touched the job since.

        The first thing that is written finds out: it raises Overtaken where somebody has.
        """
        self.transaction = transaction
        self._expected = self._last

    @property
    def job_id(self) -> int:
        return int(self.row["id"])

    @property
    def simulated(self) -> bool:
        """Whether the job only shows what would happen: neither its plan nor anything else is to follow."""
        return bool(self.row["simulated"])

    async def read_steps(self) -> None:
        """Read all steps; needed before `advance`. What was collected is written first, so that it is seen."""
        if self._new.changes_rows:
            await self._flush()
        rows = await self.transaction.fetch(
            transitions.STEPS, {"tenant": self.transaction.tenant_id, "job": self.job_id}
        )
        self._know(rows)

    async def read_untried(self) -> None:
        """Read all steps, and what a claim has to know of the untried ones; neither where there are too many."""
        rows = await self.transaction.fetch(
            transitions.STEPS_TO_CLAIM,
            {"tenant": self.transaction.tenant_id, "job": self.job_id},
        )
        self.know_untried(rows)

    def know_untried(self, rows: Sequence[Row]) -> None:
        """Take in what was read of all steps; nothing where there are too many."""
        if len(rows) <= transitions.REMEMBERED:
            self._know(rows)
            self.untried = {row["id"]: row for row in rows if row["untried"]}

    def _know(self, rows: Sequence[Row]) -> None:
        # Needs come first, as decisions want them.
        self.steps = {step.key: step for step in in_dependency_order(map(step_row, rows))}

    def view(self) -> JobView:
        row = self.row
        return JobView(
            status=self.status,
            strategy=FailureStrategy(row["failure_strategy"]),
            steps=tuple(step.view() for step in self.steps.values()),
            cancel_outcome=CancelOutcome(row["cancel_outcome"]) if row["cancel_outcome"] else None,
            forced=row["cancel_mode"] == CancelMode.FORCE,
            fallback=self.fallback,
            scope=RollbackScope(row["rollback_scope"]),
            checkpoint=self.configuration.get("checkpoint"),
            width=self.configuration.get("width"),
        )

    def advance(self) -> None:
        """Ask what follows, and collect it."""
        for move in decide(self.view()):
            if isinstance(move, JobMove):
                self.move_job(move)
            else:
                self.move_step(move)

    def move_step(self, move: StepMove) -> None:
        """Collect a step's move that `write` will carry out."""
        step = self.steps[move.key]
        self.step_event(step.id, step.key, step.status, move.status, step.attempt, move.reason, because=move.because)
        step.status, step.ended_at = move.status, None
        step.abandoned = move.reason is StatusReason.DEPENDENCY_FAILED
        self._new.moved[step.id] = move
        self.due = [ring for ring in self.due if ring.step_run_id != step.id]
        if move.status in moves.DUE:
            self.due.append(StepDue(self.transaction.tenant_id, self.job_id, step.id))

    async def limit_rollback(self, scope: RollbackScope, checkpoint: str | None) -> None:
        """Let a rollback of this job go as far as `scope`, to `checkpoint` where one is named."""
        self.row = {
            **self.row,
            "rollback_scope": scope.value,
            "configuration": {**self.configuration, "checkpoint": checkpoint},
        }
        limits = {"scope": scope.value, "checkpoint": dumps({"checkpoint": checkpoint})}
        await self.transaction.fetch(transitions.LIMIT_ROLLBACK, {**self._key, **limits})

    def undecided(self) -> list[str]:
        """The failed steps whose failure pauses the job until somebody decides about them."""
        return undecided_of(self.steps.values(), FailureStrategy(self.row["failure_strategy"]))

    def status_of(self, step_id: int) -> StepStatus | None:
        """The status of a step as collected so far; None where the steps were not read."""
        return next((step.status for step in self.steps.values() if step.id == step_id), None)

    def is_held(self, key: str, fence: int, worker_id: int) -> bool:
        """Whether the step is still that worker's, by that fence; the steps were read before."""
        step = self.steps.get(key)
        return step is not None and step.fence == fence and step.worker_id == worker_id

    def finish(self, key: str, outcome: Mapping[str, Any], attempt: int | None = None) -> None:
        """Collect the outcome of a step (`transitions._FINISH` names the values); nobody holds the step any more."""
        self._new.end(outcome)
        self.ended(key, StepStatus(outcome["f_status"]), attempt)

    def ended(self, key: str, status: StepStatus, attempt: int | None = None) -> None:
        """The step's row is written apart, and nobody holds the step any more."""
        step = self.steps.get(key)
        if step is not None:
            step.end(status)
            step.attempt = step.attempt if attempt is None else attempt

    def overtake(self, step_id: int) -> None:
        """The caller writes the step's row itself: a move that was collected for it is only told of."""
        self._new.moved.pop(step_id, None)
        self.due = [ring for ring in self.due if ring.step_run_id != step_id]

    def move_job(self, move: JobMove) -> None:
        """Collect a move of the job, which its plan follows."""
        completeness = completeness_of(move.status, self.steps.values())
        self.event(moves.told_of_job(self.job_id, self.plan_id, self.status, move, completeness))
        self.status = move.status
        self._new.job_moves.append(move)

    def apply(self, event: str, reason: StatusReason = StatusReason.NONE) -> None:
        """Let the job take `event`. Raises IllegalState when its status does not."""
        self.move_job(JobMove(event, JOB.after(self.status, event), reason))

    def step_event(
        self,
        step_id: int,
        key: str,
        previous: StepStatus,
        status: StepStatus,
        attempt: int,
        reason: StatusReason = StatusReason.NONE,
        *,
        because: str | None = None,
        error: dict[str, Any] | None = None,
    ) -> None:
        """Collect the event of a step's move that the caller writes itself."""
        self.event(
            moves.told_of_step(
                {"jobId": self.job_id, "stepRunId": step_id, "stepKey": key},
                {"previous": previous.value, "status": status.value, "reason": reason.value, "attempt": attempt},
                because,
                error,
            )
        )

    def event(self, entry: journal.Entry) -> None:
        """Collect an event, or a batch of lines, for the job's journal."""
        self._new.entries.append(entry)

    def begin(self, key: str, claim: Mapping[str, Any], began: float) -> int:
        """Take a step that touches nothing and ends before it is written: `finish` has to follow. Returns the fence."""
        self._new.begin(claim, began)
        fence = self.steps[key].fence + 1
        self._taken(key, claim, fence)
        return fence

    @property
    def inputs(self) -> Any:
        """The parameters of the job, sealed."""
        return self.row["inputs"] or {}

    @property
    def configuration(self) -> Any:
        """What the job took from its plan, tenant and template."""
        return self.row["configuration"] or {}

    async def take(self, key: str, claim: Mapping[str, Any], *, last: bool) -> int:
        """Take a step for a worker, and write what was collected so far; returns the fence. `write` has to follow.

        `last`: nothing more will be written in this transaction.
        """
        if self._new.writes(claim["step"]):
            await self._flush()
        fence = await self._flush(claim, last=last)
        self._taken(key, claim, fence)
        return fence

    def _taken(self, key: str, claim: Mapping[str, Any], fence: int) -> None:
        self.untried.pop(claim["step"], None)
        step = self.steps.get(key)
        if step is not None:
            step.take(StepStatus(claim["held"]), fence, claim["worker"])
            step.attempt, step.touched = claim["attempt"], step.touched or claim["acts"]

    async def flush(self) -> None:
        """Write what was collected so far, so that it can be read; `write` has to follow. Raises Overtaken."""
        await self._flush()

    async def write(self) -> None:
        """Write every collected move and event; steps that became due are rung for after the commit.

        Raises Overtaken.
        """
        await self._flush(last=True)
        if self._closes:
            self._closes = False
            if self.simulated:
                await closing.close_simulation(self.transaction, self.job_id)
            else:
                failed = self.status is not JobStatus.SUCCEEDED
                await closing.close(self.transaction, self.job_id, self.plan_id, self.row["stack"], failed=failed)
        own = self.transaction.own_rings
        self.transaction.rings.due.extend(self.due[: own or 0])
        self.transaction.rings.freed |= own is not None and len(self.due) > own
        self.due = []

    @property
    def _key(self) -> dict[str, Any]:
        return {"tenant": self.transaction.tenant_id, "id": self.job_id}

    async def _flush(self, take: Mapping[str, Any] | None = None, *, last: bool = False) -> int:
        """Everything collected so far, in one statement; then the plan follows. The fence of what was taken, or 0."""
        if (halves := self._new.split()) is not None:
            self._new, rest = halves
            await self._flush()
            self._new = rest
        new, self._new = self._new, Collected()
        if new.is_empty and take is None:
            return 0
        follow = self._plan_move(new.job_moves)
        values = self._values(new) | follow | dict(take or {})
        parts = {
            "job": bool(new.job_moves), "plan": bool(follow), "take": take is not None,
            "finish": new.finish is not None,
        }  # fmt: skip
        together = last and self._goes_together(new.job_moves, follow)
        if together:
            turn = turns.Turn(values, **parts, logs=self._tail_with(values))
            row = await self.transaction.together(turns.TURNS, turn, ends=True)
        else:
            statement = transitions.write_job(
                lines=any(isinstance(entry, journal.Lines) for entry in new.entries),
                steps=bool(new.moved), passes=bool(new.passed), expects=self._expected is not None, **parts,
            )  # fmt: skip
            fetch = self.transaction.fetch_last if last and not new.job_moves else self.transaction.fetch_one
            row = await fetch(statement, values)
        if row is None:
            raise Overtaken
        if self._heard is not None and not together:
            self._heard = None if row.get("full") else self._heard.hear(row["last"] - values["total"], values)
        self._expected, self._last = None, row["last"]
        if new.entries:
            self.transaction.rings.streams.add((self.transaction.tenant_id, Stream.JOB, self.job_id))
        if together:
            self._plan_followed(follow)
            self.transaction.rings.freed |= row["awaited"]
        elif new.job_moves:
            await self._follow(new.job_moves, follow, told=bool(follow) and row["followed"])
        return row["fence"] if take is not None else 0

    def _values(self, new: Collected) -> dict[str, Any]:
        values = journal.parameters(self.transaction, self.job_id, new.entries) | {"expected": self._expected}
        values |= moves.of_steps(new.moved, {ring.step_run_id for ring in self.due[: self.transaction.own_rings or 0]})
        values |= moves.of_job(new.job_moves, completeness_of(self.status, self.steps.values()))
        return values | dict(new.finish or {}) | moves.of_passed(new.passed, clock.monotonic())

    def _goes_together(self, job_moves: Sequence[JobMove], follow: Mapping[str, Any]) -> bool:
        """Whether what is to be written can go out beside the turns of other jobs (`app.db.turns`)."""
        if not self.is_unlocked:
            return False
        if self.status is JobStatus.SUCCEEDED:
            # What the closing job leaves behind, where that is no more than its lock, its log and a count.
            return bool(follow) and self._heard is not None and not any(s.has_resource for s in self.steps.values())
        return not job_moves or (bool(follow) and self.status is JobStatus.RUNNING)

    def _tail_with(self, values: Mapping[str, Any]) -> str | None:
        """Hear what is about to be written; the customer's column of logs where the job closes with it."""
        if self._heard is None:
            return None
        self._heard.hear(self._last, values)
        return dumps(self._heard.tail()) if self.status in JOB.closed else None

    def _plan_move(self, job_moves: Sequence[JobMove]) -> dict[str, Any]:
        return {} if self.simulated else following.values(self.transaction, self.plan_id, self._plan_status, job_moves)

    def _plan_followed(self, follow: Mapping[str, Any]) -> None:
        if follow:
            self._plan_status = PlanStatus(follow["p_status"])
            self.transaction.rings.streams.add((self.transaction.tenant_id, Stream.PLAN, self.plan_id))

    async def _follow(self, moves: Sequence[JobMove], follow: Mapping[str, Any], *, told: bool) -> None:
        """What else a move of the job brings with it."""
        if self.status in _RESTING:
            await pausing.park(self.transaction, self.job_id)
        culprit = next((move.because for move in moves if move.because), None)
        if culprit is not None:
            await self.transaction.fetch(transitions.BLAME, {**self._key, "because": culprit})
        self._closes = self._closes or self.status in JOB.closed
        if self.simulated:
            return
        if told:
            self._plan_followed(follow)
        else:
            self._plan_status = await following.follow(self.transaction, self.plan_id, self.job_id, moves)
