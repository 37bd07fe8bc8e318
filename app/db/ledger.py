"""A job under its lock, and all that this transaction will write about it and its plan.

Every transition of a job goes through here: the job's row is locked first, then its steps are read, then the pure
decision is asked what follows, and at the end everything is written in a few statements together with its events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.db import journal, pausing
from app.db.statements import Row, Statement
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

_LOCK = Statement(
    "SELECT id, plan_id, status, status_reason, failure_strategy, cancel_mode, cancel_outcome, stack, inputs,"
    " configuration, direction, event_seq, started_at,"
    " coalesce(pause_until <= clock_timestamp(), false) AS overdue"
    " FROM orchestration_job WHERE tenant_id = :tenant AND id = :id FOR UPDATE"
)
_STEPS = Statement(
    "SELECT id, step_key, status, needs, phase, worker_id, touched, attempt,"
    " coalesce(CASE WHEN status_reason = 'APPROVAL_TIMEOUT' THEN spec->'gate'->>'onTimeout' END, spec->>'strategy')"
    " AS strategy, (spec->>'ignore')::boolean AS ignore, operation = 'GATE' AS gate"
    " FROM step_run WHERE tenant_id = :tenant AND job_id = :job ORDER BY wave, id"
)
_MOVE_STEPS = Statement(
    "UPDATE step_run s SET status = m.status, status_reason = m.reason, not_run_because = m.because,"
    " due_at = CASE WHEN m.due THEN clock_timestamp() END,"
    " dispatched_at = CASE WHEN m.due AND :rings THEN clock_timestamp() END,"
    " dispatches = CASE WHEN m.due AND :rings THEN 1 ELSE 0 END,"
    " undo_attempt = CASE WHEN m.status = 'COMPENSATING' THEN 0 ELSE s.undo_attempt END,"
    " completed_at = CASE WHEN m.ended THEN clock_timestamp() WHEN m.status NOT IN ('PENDING', 'READY')"
    "   THEN s.completed_at END"
    " FROM unnest(:ids::bigint[], :statuses::text[], :reasons::text[],"
    " :because::text[], :due::boolean[], :ended::boolean[])"
    " AS m(id, status, reason, because, due, ended)"
    " WHERE s.tenant_id = :tenant AND s.id = m.id"
)
_MOVE_JOB = Statement(
    "UPDATE orchestration_job SET status = :status, status_reason = :reason, status_message = :message,"
    " dispatched_at = CASE WHEN :granted THEN clock_timestamp() ELSE dispatched_at END,"
    " started_at = CASE WHEN :started THEN coalesce(started_at, clock_timestamp()) ELSE started_at END,"
    " completed_at = CASE WHEN :closed THEN clock_timestamp() END,"
    " duration_seconds = CASE WHEN :closed THEN"
    "   extract(epoch FROM clock_timestamp() - coalesce(started_at, clock_timestamp()))::int END,"
    " pause_until = CASE WHEN :pauses THEN clock_timestamp() + make_interval(secs =>"
    "   coalesce((configuration->'pause'->>'seconds')::float8, :patience)) END,"
    " error = CASE WHEN :resumes THEN NULL ELSE error END,"
    " error_message = CASE WHEN :resumes THEN NULL ELSE error_message END,"
    " version = version + 1, updated_at = now(), updated_by = :actor"
    " WHERE tenant_id = :tenant AND id = :id"
)
# What the first failed step says is what the job says.
_BLAME = Statement(
    "UPDATE orchestration_job j SET error = s.error || jsonb_build_object('stepKey', s.step_key),"
    " error_message = s.step_key || ': ' || (s.error->>'message') FROM step_run s"
    " WHERE j.tenant_id = :tenant AND j.id = :id AND j.error IS NULL AND s.tenant_id = j.tenant_id AND s.job_id = j.id"
    " AND s.step_key = :because AND s.error IS NOT NULL"
)
_CLOSE_JOB = (
    Statement("DELETE FROM resource_lock WHERE tenant_id = :tenant AND job_id = :id"),
    Statement(
        "UPDATE cloud_resource SET status = 'DELETED', is_deleted = true, updated_at = now(), version = version + 1"
        " WHERE tenant_id = :tenant AND status = 'PLANNED' AND id IN"
        " (SELECT resource_id FROM step_run WHERE tenant_id = :tenant AND job_id = :id)"
    ),
    # The customer's column keeps the tail; the whole log is in job_log.
    Statement(
        "UPDATE orchestration_job SET logs = (SELECT jsonb_build_object('v', 1, 'lastSeq', max(t.last_seq),"
        " 'entries', jsonb_agg(t.entry ORDER BY t.seq)) FROM (SELECT l.last_seq, l.first_seq + e.n - 1 AS seq,"
        " e.line || jsonb_build_object('seq', l.first_seq + e.n - 1, 'step', l.step_key) AS entry"
        " FROM job_log l, jsonb_array_elements(l.lines) WITH ORDINALITY AS e(line, n)"
        " WHERE l.tenant_id = :tenant AND l.job_id = :id ORDER BY seq DESC LIMIT 100) t)"
        " WHERE tenant_id = :tenant AND id = :id"
    ),
    Statement(
        "UPDATE workflow w SET execution_count = execution_count + 1, last_executed = clock_timestamp(),"
        " success_count = success_count + CASE WHEN :failed THEN 0 ELSE 1 END,"
        " failure_count = failure_count + CASE WHEN :failed THEN 1 ELSE 0 END"
        " FROM orchestration_job j JOIN deployment_plan p ON p.tenant_id = j.tenant_id AND p.id = j.plan_id"
        " WHERE j.tenant_id = :tenant AND j.id = :id AND w.tenant_id = p.tenant_id AND w.id = p.workflow_id"
    ),
)
_PLAN = Statement("SELECT status FROM deployment_plan WHERE tenant_id = :tenant AND id = :id FOR UPDATE")
_MOVE_PLAN = Statement(
    "UPDATE deployment_plan p SET status = :status, status_reason = :reason, status_message = :message,"
    " started_at = CASE WHEN :started THEN coalesce(started_at, clock_timestamp()) ELSE started_at END,"
    " completed_at = CASE WHEN :closed THEN clock_timestamp() END,"
    " duration_seconds = CASE WHEN :closed THEN"
    "   extract(epoch FROM clock_timestamp() - coalesce(started_at, clock_timestamp()))::int END,"
    " active_job_id = CASE WHEN :closed THEN NULL ELSE active_job_id END,"
    " error_message = CASE WHEN :closed THEN (SELECT error_message FROM orchestration_job"
    "   WHERE tenant_id = :tenant AND id = :job) END,"
    " version = version + 1, updated_at = now(), updated_by = :actor"
    " WHERE tenant_id = :tenant AND id = :id"
)


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

    @classmethod
    async def open(cls, transaction: Transaction, job_id: int) -> Ledger | None:
        """Lock the job; None when the tenant has no such job."""
        row = await transaction.fetch_one(_LOCK, {"tenant": transaction.tenant_id, "id": job_id})
        if row is None:
            return None
        return cls(transaction, row, JobStatus(row["status"]), row["plan_id"])

    @property
    def job_id(self) -> int:
        return int(self.row["id"])

    async def read_steps(self) -> None:
        """Read all steps; needed before `advance`."""
        rows = await self.transaction.fetch(_STEPS, {"tenant": self.transaction.tenant_id, "job": self.job_id})
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

    async def write(self) -> None:
        """Write every collected move and event. Steps that became due are rung for after the commit."""
        await self.write_moves()
        entries, self._entries = self._entries, []
        await journal.append(self.transaction, Stream.JOB, self.job_id, entries)
        self.transaction.rings.due.extend(self.due)
        self.due = []

    async def write_moves(self) -> None:
        """Write the moves only: for a transaction that goes on with the job before it ends with `write`."""
        await self._write_steps()
        await self._write_job()

    async def _write_steps(self) -> None:
        moves = list(self._moved.items())
        self._moved = {}
        if not moves:
            return
        await self.transaction.fetch(
            _MOVE_STEPS,
            {
                "tenant": self.transaction.tenant_id,
                "rings": self.transaction.rings_workers,
                "ids": [step_id for step_id, _ in moves],
                "statuses": [move.status.value for _, move in moves],
                "reasons": [move.reason.value for _, move in moves],
                "because": [move.because for _, move in moves],
                "due": [move.status in _DUE for _, move in moves],
                "ended": [move.status in _ENDED for _, move in moves],
            },
        )

    async def _write_job(self) -> None:
        moves, self._job_moves = self._job_moves, []
        if not moves:
            return
        last = moves[-1]
        entered = {move.status for move in moves}
        common = {"tenant": self.transaction.tenant_id, "id": self.job_id}
        await self.transaction.fetch(
            _MOVE_JOB,
            {
                **common,
                "status": last.status.value,
                "reason": last.reason.value,
                "message": f"because of step {last.because}" if last.because else None,
                "granted": JobStatus.DISPATCHED in entered,
                "started": bool(entered & {JobStatus.RUNNING, JobStatus.ROLLING_BACK}),
                "closed": last.status in JOB.closed,
                "pauses": last.status is JobStatus.PAUSED and last.reason is not StatusReason.GATE,
                "patience": pausing.PATIENCE_SECONDS,
                "resumes": any(move.event == "resume" for move in moves),
                "actor": self.transaction.actor,
            },
        )
        if last.status in _RESTING:
            await pausing.park(self.transaction, self.job_id)
        culprit = next((move.because for move in moves if move.because), None)
        if culprit is not None:
            await self.transaction.fetch(_BLAME, {**common, "because": culprit})
        if last.status in JOB.closed:
            bound = {**common, "failed": last.status is not JobStatus.SUCCEEDED}
            for statement in _CLOSE_JOB:
                await self.transaction.fetch(statement, bound)
        await follow(self.transaction, self.plan_id, self.job_id, moves)


async def follow(transaction: Transaction, plan_id: int, job_id: int, moves: Sequence[JobMove]) -> None:
    """Let the plan take what its job went through."""
    key = {"tenant": transaction.tenant_id, "id": plan_id}
    status = PlanStatus((await transaction.fetch(_PLAN, key))[0]["status"])
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
    await transaction.fetch(
        _MOVE_PLAN,
        {
            **key,
            "job": job_id,
            "status": status.value,
            "reason": moves[-1].reason.value,
            "message": f"because of step {moves[-1].because}" if moves[-1].because else None,
            "started": bool(entered & {PlanStatus.RUNNING, PlanStatus.ROLLING_BACK}),
            "closed": status in PLAN.closed | PLAN.settled,
            "actor": transaction.actor,
        },
    )
    await journal.append(transaction, Stream.PLAN, plan_id, events)


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
