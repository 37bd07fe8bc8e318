"""A job under its lock, and all that this transaction will write about it and its plan.

Every transition of a job goes through here: the job's row is locked first, then its steps are read, then the pure
decision is asked what follows, and at the end everything is written in a few statements together with its events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.db import journal, pausing, transitions
from app.db.statements import Row
from app.db.step_rows import StepRow, step_row
from app.db.uow import Transaction
from app.domain.decisions import JobMove, JobView, StepMove, decide, in_dependency_order
from app.domain.enums import CancelMode, CancelOutcome, FailureStrategy, StatusReason
from app.domain.events import Event, EventKind, Stream
from app.domain.operations import Phase
from app.domain.statuses import JOB, PLAN, STEP, JobStatus, PlanStatus, StepStatus
from app.messages import StepDue

# What a job's event means to its plan, where the names differ or the plan does not care.
_PLAN_EVENTS: dict[str, str | None] = {
    "granted": None,
    "claimed_forward": "job_started",
    "claimed_rollback": "rollback_job_started",
    "force": "quiesced_keep",
    "pause": None,
    "quiesced": "pause_or_gate",
    "gate_only": "pause_or_gate",
    "resume": "resume_run",
    "pause_timeout_halt": "pause_timeout",
}
_RESTING = frozenset({JobStatus.PAUSING, JobStatus.PAUSED})
_DUE = frozenset({StepStatus.READY, StepStatus.COMPENSATING})
_ENDED = STEP.closed | STEP.settled


@dataclass(slots=True)
class Ledger:
    """The locked job. Moves are collected by `apply`, `step_event` and `advance`, and written by `write`."""

    transaction: Transaction
    row: Row
    status: JobStatus
    plan_id: int
    steps: dict[str, StepRow] = field(default_factory=dict)
    due: list[StepDue] = field(default_factory=list)
    # Set by whoever gives up a pause: what becomes of the job instead.
    fallback: FailureStrategy | None = None
    _entries: list[journal.Entry] = field(default_factory=list)
    _moved: dict[int, StepMove] = field(default_factory=dict)
    _job_moves: list[JobMove] = field(default_factory=list)
    _closes: bool = False

    @classmethod
    async def open(cls, transaction: Transaction, job_id: int) -> Ledger | None:
        """Lock the job; None when the tenant has no such job."""
        row = await transaction.fetch_one(transitions.LOCK_JOB, {"tenant": transaction.tenant_id, "id": job_id})
        if row is None:
            return None
        return cls(transaction, row, JobStatus(row["status"]), row["plan_id"])

    @property
    def job_id(self) -> int:
        return int(self.row["id"])

    async def read_steps(self) -> None:
        """Read all steps; needed before `advance`. What was collected is written first, so that it is seen."""
        if self._moved or self._job_moves:
            await self._flush()
        rows = await self.transaction.fetch(
            transitions.STEPS, {"tenant": self.transaction.tenant_id, "job": self.job_id}
        )
        self.know(rows)

    def know(self, rows: Sequence[Row]) -> None:
        """Take the steps from rows of `transitions.STEP_COLUMNS`, read under this lock."""
        self.steps = {row["step_key"]: step_row(row) for row in rows}

    def view(self) -> JobView:
        row = self.row
        return JobView(
            status=self.status,
            strategy=FailureStrategy(row["failure_strategy"]),
            steps=in_dependency_order(step.view() for step in self.steps.values()),
            cancel_outcome=CancelOutcome(row["cancel_outcome"]) if row["cancel_outcome"] else None,
            forced=row["cancel_mode"] == CancelMode.FORCE,
            fallback=self.fallback,
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
        step.status = move.status
        self._moved[step.id] = move
        self.due = [ring for ring in self.due if ring.step_run_id != step.id]
        if move.status in _DUE:
            self.due.append(StepDue(self.transaction.tenant_id, self.job_id, step.id))

    def undecided(self) -> list[str]:
        """The failed steps whose failure pauses the job until somebody decides about them."""
        strategy = FailureStrategy(self.row["failure_strategy"])
        return [
            step.key
            for step in self.steps.values()
            if step.status is StepStatus.FAILED
            and not step.ignore
            and step.phase is Phase.APPLY
            and (step.strategy or strategy) is FailureStrategy.PAUSE
        ]

    def status_of(self, step_id: int) -> StepStatus | None:
        """The status of a step as collected so far; None where the steps were not read."""
        return next((step.status for step in self.steps.values() if step.id == step_id), None)

    def ended(self, key: str, status: StepStatus, attempt: int | None = None) -> None:
        """The caller has written the step's row itself, and nobody holds the step any more."""
        step = self.steps.get(key)
        if step is not None:
            step.status, step.worker_id = status, None
            step.attempt = step.attempt if attempt is None else attempt

    def overtake(self, step_id: int) -> None:
        """The caller writes the step's row itself: a move that was collected for it is only told of."""
        self._moved.pop(step_id, None)
        self.due = [ring for ring in self.due if ring.step_run_id != step_id]

    def move_job(self, move: JobMove) -> None:
        """Collect a move of the job, which its plan follows."""
        data: dict[str, Any] = {
            "jobId": self.job_id,
            "planId": self.plan_id,
            "previous": self.status.value,
            "status": move.status.value,
            "reason": move.reason.value,
        }
        if move.because:
            data["message"] = f"because of step {move.because}"
        self.event(Event(EventKind.JOB_STATUS_CHANGED, data))
        self.status = move.status
        self._job_moves.append(move)

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
        data: dict[str, Any] = {
            "jobId": self.job_id,
            "stepRunId": step_id,
            "stepKey": key,
            "previous": previous.value,
            "status": status.value,
            "reason": reason.value,
            "attempt": attempt,
        }
        if because:
            data["message"] = f"because of step {because}"
        if error:
            data["error"] = error
        self.event(Event(EventKind.STEP_STATUS_CHANGED, data))

    def event(self, entry: journal.Entry) -> None:
        """Collect an event, or a batch of lines, for the job's journal."""
        self._entries.append(entry)

    @property
    def inputs(self) -> Any:
        """The parameters of the job, sealed."""
        return self.row["inputs"] or {}

    @property
    def configuration(self) -> Any:
        """What the job took from its plan, tenant and template."""
        return self.row["configuration"] or {}

    async def take(self, claim: Mapping[str, Any]) -> int:
        """Take a step for a worker, and write what was collected so far; returns the fence. `write` has to follow."""
        return await self._flush(claim)

    async def write(self) -> None:
        """Write every collected move and event; steps that became due are rung for after the commit."""
        await self._flush()
        if self._closes:
            self._closes = False
            closing = {**self._key, "plan": self.plan_id, "failed": self.status is not JobStatus.SUCCEEDED}
            await self.transaction.fetch(transitions.CLOSE_JOB, closing)
        self.transaction.rings.due.extend(self.due)
        self.due = []

    @property
    def _key(self) -> dict[str, Any]:
        return {"tenant": self.transaction.tenant_id, "id": self.job_id}

    async def _flush(self, take: Mapping[str, Any] | None = None) -> int:
        """Everything collected so far, in one statement; then the plan follows."""
        entries, self._entries = self._entries, []
        moved, self._moved = self._moved, {}
        job_moves, self._job_moves = self._job_moves, []
        if not (entries or moved or job_moves or take):
            return 0
        statement = transitions.write_job(steps=bool(moved), job=bool(job_moves), take=take is not None)
        values = journal.parameters(self.transaction, self.job_id, entries)
        values |= self._step_values(moved) | self._job_values(job_moves) | dict(take or {})
        row = await self.transaction.fetch_one(statement, values)
        if row is None or (take is not None and row["fence"] is None):
            message = f"the job {self.job_id}, or the step that was to be taken, has no row"
            raise LookupError(message)
        if entries:
            self.transaction.rings.streams.add((self.transaction.tenant_id, Stream.JOB, self.job_id))
        if job_moves:
            if self.status in _RESTING:
                await pausing.park(self.transaction, self.job_id)
            culprit = next((move.because for move in job_moves if move.because), None)
            if culprit is not None:
                await self.transaction.fetch(transitions.BLAME, {**self._key, "because": culprit})
            self._closes = self._closes or self.status in JOB.closed
            await follow(self.transaction, self.plan_id, self.job_id, job_moves)
        return row["fence"] if take is not None else 0

    def _step_values(self, moved: Mapping[int, StepMove]) -> dict[str, Any]:
        moves = moved.values()
        return {
            "rings": self.transaction.rings_workers,
            "moved_ids": list(moved),
            "moved_statuses": [move.status.value for move in moves],
            "moved_reasons": [move.reason.value for move in moves],
            "moved_because": [move.because for move in moves],
            "moved_due": [move.status in _DUE for move in moves],
            "moved_ended": [move.status in _ENDED for move in moves],
        }

    def _job_values(self, moves: Sequence[JobMove]) -> dict[str, Any]:
        if not moves:
            return {}
        last = moves[-1]
        entered = {move.status for move in moves}
        return {
            "status": last.status.value,
            "reason": last.reason.value,
            "message": f"because of step {last.because}" if last.because else None,
            "granted": JobStatus.DISPATCHED in entered,
            "started": bool(entered & {JobStatus.RUNNING, JobStatus.ROLLING_BACK}),
            "closed": last.status in JOB.closed,
            "pauses": last.status is JobStatus.PAUSED and last.reason is not StatusReason.GATE,
            "patience": pausing.PATIENCE_SECONDS,
            "resumes": any(move.event == "resume" for move in moves),
        }


async def follow(transaction: Transaction, plan_id: int, job_id: int, moves: Sequence[JobMove]) -> None:
    """Let the plan take what its job went through."""
    key = {"tenant": transaction.tenant_id, "id": plan_id}
    status = PlanStatus((await transaction.fetch(transitions.LOCK_PLAN, key))[0]["status"])
    events: list[Event] = []
    entered: set[PlanStatus] = set()
    for move in moves:
        event = _PLAN_EVENTS.get(move.event, move.event)
        if event is None or not PLAN.permits(status, event):
            continue
        previous, status = status, PLAN.after(status, event)
        entered.add(status)
        events.append(plan_event(plan_id, previous, status, move.reason, move.because))
    if not events:
        return
    values = journal.parameters(transaction, plan_id, events)
    values |= {
        "job": job_id,
        "status": status.value,
        "reason": moves[-1].reason.value,
        "message": f"because of step {moves[-1].because}" if moves[-1].because else None,
        "started": bool(entered & {PlanStatus.RUNNING, PlanStatus.ROLLING_BACK}),
        "closed": status in PLAN.closed | PLAN.settled,
        "succeeded": status is PlanStatus.SUCCEEDED,
    }
    await transaction.fetch(transitions.WRITE_PLAN, values)
    transaction.rings.streams.add((transaction.tenant_id, Stream.PLAN, plan_id))


def plan_event(
    plan_id: int, previous: PlanStatus, status: PlanStatus, reason: StatusReason, because: str | None = None
) -> Event:
    """The event of a plan's move."""
    data: dict[str, Any] = {
        "planId": plan_id,
        "previous": previous.value,
        "status": status.value,
        "reason": reason.value,
    }
    if because:
        data["message"] = f"because of step {because}"
    return Event(EventKind.PLAN_STATUS_CHANGED, data)
