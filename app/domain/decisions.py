"""The brain of the engine: a job as it stands, and what follows from it.

`decide` is pure and total. It looks at one snapshot, taken under the job's lock, and answers with every move that the
snapshot calls for, in an order in which they can be carried out; asked again after them, it has nothing to add. Moves
name events of the machines in `statuses`, so that an illegal one cannot be expressed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from app.domain import scopes
from app.domain.enums import CancelOutcome, FailureStrategy, RollbackScope, StatusReason
from app.domain.operations import Phase
from app.domain.statuses import JOB, STEP, JobStatus, StepStatus

_SATISFIED = frozenset({StepStatus.SUCCEEDED, StepStatus.NO_CHANGE, StepStatus.SKIPPED})
_OPEN = frozenset(
    {
        StepStatus.PENDING,
        StepStatus.READY,
        StepStatus.RUNNING,
        StepStatus.WAITING,
        StepStatus.RETRY_WAIT,
        StepStatus.UNKNOWN,
    }
)
_CALM = _OPEN | _SATISFIED
_NEVER = datetime.max.replace(tzinfo=UTC)
_UNDOABLE = frozenset({StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.UNKNOWN, StepStatus.SKIPPED})


# Not frozen, which would make it three times as slow to make, and one is made for each step and decision.
@dataclass(slots=True)
class StepView:
    """What a decision needs to know of one step. It is only read.

    `touched`: it may have acted on the world. `gate`: WAITING, it waits for an answer and for nothing else.
    `checkpoint`: the workflow step that is a checkpoint and that this step is of. `verifies`: it changes nothing, and
    looks whether what was changed holds. `abandoned`: FAILED only because another step has failed while it waited to be
    tried again. `ended_at`: when, if it has ended; of those without, nothing has been written yet. `lost`: it has cost
    so many workers that nobody tries it again. `retains`: what it has made stays, whatever is undone.
    """

    key: str
    status: StepStatus
    needs: tuple[str, ...] = ()
    phase: Phase = Phase.APPLY
    claimed: bool = False
    touched: bool = False
    strategy: FailureStrategy | None = None
    ignore: bool = False
    gate: bool = False
    checkpoint: str | None = None
    verifies: bool = False
    abandoned: bool = False
    ended_at: datetime | None = None
    lost: bool = False
    retains: bool = False


# Not frozen, as its steps are not. It is only read.
@dataclass(slots=True)
class JobView:
    """What a decision needs to know of a job. `steps` in an order in which needs come first.

    `fallback`: a pause is given up, by a person or by its deadline; ROLLBACK undoes the job, HALT ends it as it is.
    `scope`: how far a rollback goes, to a `checkpoint` where one is named.
    """

    status: JobStatus
    strategy: FailureStrategy
    steps: tuple[StepView, ...]
    cancel_outcome: CancelOutcome | None = None
    forced: bool = False
    fallback: FailureStrategy | None = None
    scope: RollbackScope = RollbackScope.JOB
    checkpoint: str | None = None
    # How many steps may be under way at the same time; None is no limit.
    width: int | None = None


@dataclass(frozen=True, slots=True)
class StepMove:
    """A step takes `event` and is then in `status`. `because` names the step that is to blame, if one is."""

    key: str
    event: str
    status: StepStatus
    reason: StatusReason = StatusReason.NONE
    because: str | None = None


@dataclass(frozen=True, slots=True)
class JobMove:
    """The job takes `event` and is then in `status`."""

    event: str
    status: JobStatus
    reason: StatusReason = StatusReason.NONE
    because: str | None = None


Move = StepMove | JobMove


def decide(job: JobView) -> tuple[Move, ...]:
    """Every move that `job` calls for now."""
    return _Decision(job).moves()


class _Decision:
    """One run of `decide`: the snapshot, changed by the moves already made."""

    def __init__(self, job: JobView) -> None:
        self.job = job
        self.status = job.status
        self.steps = {step.key: step for step in job.steps}
        self.now = {step.key: step.status for step in job.steps}
        self.made: list[Move] = []
        self.kept: frozenset[str] = frozenset()

    def moves(self) -> tuple[Move, ...]:
        if self.status in (JobStatus.DISPATCHED, JobStatus.RUNNING):
            self._go_forward()
        elif self.status in (JobStatus.CANCELLING, JobStatus.CANCELLED):
            # A job that nobody had begun is CANCELLED at once, and its steps must not stay due.
            self._wind_down(StatusReason.USER, None)
            if self.status is JobStatus.CANCELLING:
                self._end_cancellation()
        elif self.status is JobStatus.PAUSING:
            self._end_pausing()
        elif self.status is JobStatus.PAUSED and self.job.fallback is not None:
            self._give_up_pause(undo=self.job.fallback is FailureStrategy.ROLLBACK)
        if self.status is JobStatus.ROLLING_BACK:
            self._go_back()
        return tuple(self.made)

    # ── forward ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _go_forward(self) -> None:
        failed = self._failures()
        # What was abandoned for another's sake has no say in what becomes of the job while that one stands.
        strategies = {self._strategy(step) for step in [step for step in failed if not step.abandoned] or failed}
        if FailureStrategy.ROLLBACK in strategies or FailureStrategy.HALT in strategies:
            self._stop(failed[0], undo=FailureStrategy.ROLLBACK in strategies)
            return
        self._unblock({step.key for step in failed})
        undecided = next((step.key for step in failed if self._strategy(step) is FailureStrategy.PAUSE), None)
        if undecided is not None:
            self._block({step.key for step in failed})
            self._move_job("pause", StatusReason.STEP_FAILED, undecided)
            self._end_pausing(StatusReason.STEP_FAILED, undecided)
            return
        self._advance({step.key for step in failed})
        if not any(status in _OPEN for status in self.now.values()):
            if failed:
                self._move_job("failed_continue", StatusReason.STEP_FAILED, failed[0].key)
            else:
                self._move_job("all_ok")
        else:
            self._rest_at_gates()

    def _failures(self) -> list[StepView]:
        """What has failed, the first in time first: the others may have failed in its wake."""
        failed = [step for step in self.job.steps if self.now[step.key] is StepStatus.FAILED and not step.ignore]
        return sorted(failed, key=lambda step: (step.abandoned, step.ended_at is None, step.ended_at or _NEVER))

    def _strategy(self, step: StepView) -> FailureStrategy:
        # Once COMMIT has begun there is no way back: what can still be removed is removed.
        if step.phase is Phase.COMMIT:
            return FailureStrategy.CONTINUE
        return step.strategy or self.job.strategy

    def _stop(self, culprit: StepView, *, undo: bool) -> None:
        self._wind_down(StatusReason.DEPENDENCY_FAILED, culprit.key)
        if not self._is_quiet():
            return
        if undo and culprit.verifies:
            self._move_job("verification_failed", StatusReason.VERIFICATION_FAILED, culprit.key)
        elif culprit.lost:
            event = "recoveries_exhausted_rollback" if undo else "recoveries_exhausted_halt"
            self._move_job(event, StatusReason.WORKER_LOST, culprit.key)
        else:
            self._move_job("failed_rollback" if undo else "failed_halt", StatusReason.STEP_FAILED, culprit.key)

    def _advance(self, failed: set[str]) -> None:
        """Start what may start; block what never will."""
        self._block(failed)
        committing = self._may_commit(failed)
        room = len(self.job.steps) if self.job.width is None else self.job.width - self._under_way()
        for step in self.job.steps:
            if room <= 0:
                return
            if self.now[step.key] is not StepStatus.PENDING:
                continue
            if all(self._satisfied(need) for need in step.needs) and (step.phase is Phase.APPLY or committing):
                self._move(step, "deps_ok")
                room -= 1

    def _under_way(self) -> int:
        """The steps that have begun and are not over. One that waits for people keeps nobody else from going on."""
        return sum(
            step.claimed
            or (
                self.now[step.key] in _OPEN and self.now[step.key] is not StepStatus.PENDING and not self._at_gate(step)
            )
            for step in self.job.steps
        )

    def _block(self, failed: set[str]) -> None:
        """What waits for a failed step will not run, unless somebody decides otherwise about that one."""
        if not failed and self._is_calm():
            return
        for step in self.job.steps:
            if self.now[step.key] is StepStatus.PENDING:
                culprit = self._obstacle(step, failed)
                if culprit is not None:
                    self._move(step, "upstream_failed", StatusReason.DEPENDENCY_FAILED, culprit)

    def _unblock(self, failed: set[str]) -> None:
        """What was blocked by a step that is tried again, or was skipped, may hope again."""
        if self._is_calm():
            return
        for step in self.job.steps:
            if self.now[step.key] is StepStatus.BLOCKED and self._obstacle(step, failed) is None:
                self._move(step, "upstream_recovered")

    def _is_calm(self) -> bool:
        """Whether every step is open or has what was wanted of it, as mostly: then none stands in another's way."""
        return _CALM.issuperset(self.now.values())

    def _obstacle(self, step: StepView, failed: set[str]) -> str | None:
        """The step whose failure keeps this one from running: something it needs, or for COMMIT anything in APPLY."""
        culprit = self._culprit(step)
        if culprit is None and step.phase is Phase.COMMIT:
            culprit = next((key for key in failed if self.steps[key].phase is Phase.APPLY), None)
        return culprit

    def _rest_at_gates(self) -> None:
        """Pause when nothing can happen before somebody answers: what else is open waits behind a gate."""
        gates = [step.key for step in self.job.steps if self._at_gate(step)]
        if gates and not self._under_way():
            self._move_job("gate_only", StatusReason.GATE, gates[0])

    def _at_gate(self, step: StepView) -> bool:
        return step.gate and self.now[step.key] is StepStatus.WAITING

    def _may_commit(self, failed: set[str]) -> bool:
        """COMMIT begins when all of APPLY is over and none of it failed."""
        return not any(
            self.now[step.key] in _OPEN or step.key in failed for step in self.job.steps if step.phase is Phase.APPLY
        )

    def _satisfied(self, key: str) -> bool:
        step = self.steps.get(key)
        if step is None:
            return True
        return self.now[key] in _SATISFIED or (self.now[key] is StepStatus.FAILED and step.ignore)

    def _culprit(self, step: StepView) -> str | None:
        """The need that keeps `step` from ever running, if one does."""
        for need in step.needs:
            status = self.now.get(need)
            if status is None or status in _OPEN or self._satisfied(need):
                continue
            if status is StepStatus.BLOCKED:
                return next((move.because for move in self.made if _blocks(move, need)), None) or need
            return need
        return None

    # ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _wind_down(self, reason: StatusReason, culprit: str | None) -> None:
        """Nothing new starts. What is in a worker's hands is waited for; what acted stays open to compensation."""
        for step in self.job.steps:
            status = self.now[step.key]
            if step.claimed:
                continue
            if status is StepStatus.PENDING:
                blamed = self._culprit(step)
                if culprit and blamed and self.now[blamed] is not StepStatus.CANCELLED:
                    self._move(step, "upstream_failed", reason, blamed)
                else:
                    self._move(step, "cancel", reason, culprit)
            elif status in (StepStatus.READY, StepStatus.RETRY_WAIT):
                self._move(step, "abandoned" if step.touched else "cancel", reason, culprit)
            elif status is StepStatus.WAITING:
                self._move(step, "rejected" if step.touched else "cancel", reason, culprit)

    def _is_quiet(self) -> bool:
        """No worker holds a step, and none has an outcome that somebody is about to look up."""
        if any(step.claimed for step in self.job.steps):
            return False
        return self.job.forced or StepStatus.UNKNOWN not in self.now.values()

    def _end_cancellation(self) -> None:
        if not self._is_quiet():
            return
        if self.job.cancel_outcome is CancelOutcome.ROLLBACK:
            self._move_job("quiesced_rollback", StatusReason.USER)
        elif self.job.forced:
            self._move_job("force", StatusReason.FORCED)
        else:
            self._move_job("quiesced_keep", StatusReason.USER)

    # ── pausing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _end_pausing(self, reason: StatusReason = StatusReason.USER, culprit: str | None = None) -> None:
        """Paused when what runs has finished, here and at providers. Retries and gates can wait for the resumption."""
        waited_for = any(self.now[step.key] is StepStatus.WAITING and not step.gate for step in self.job.steps)
        if self._is_quiet() and not waited_for:
            failed = next(
                (step.key for step in self._failures() if self._strategy(step) is FailureStrategy.PAUSE), None
            )
            if culprit is None and failed is not None:
                self._block({step.key for step in self._failures()})
                reason, culprit = StatusReason.STEP_FAILED, failed
            self._move_job("quiesced", reason, culprit)

    def _give_up_pause(self, *, undo: bool) -> None:
        culprit = next((step.key for step in self._failures()), None)
        self._wind_down(StatusReason.USER if culprit is None else StatusReason.DEPENDENCY_FAILED, culprit)
        reason = StatusReason.USER if culprit is None else StatusReason.STEP_FAILED
        self._move_job("rollback" if undo else "pause_timeout_halt", reason, culprit)

    # ── back ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _go_back(self) -> None:
        """Undo every effect whose dependents are undone. A failed undo holds back its own dependencies only."""
        # Somebody who cancels has not seen anything fail: there is no branch to take back.
        scope = RollbackScope.JOB if self.job.cancel_outcome is CancelOutcome.ROLLBACK else self.job.scope
        self.kept = scopes.kept(self.job.steps, self.now, scope, self.job.checkpoint)
        dependents: dict[str, list[str]] = {step.key: [] for step in self.job.steps}
        for step in self.job.steps:
            for need in step.needs:
                if need in dependents:
                    dependents[need].append(step.key)
        # A step is clear when neither it nor anything that depends on it has an effect left.
        clear: dict[str, bool] = {}
        for step in reversed(self.job.steps):
            free = all(clear[key] for key in dependents[step.key])
            due = self.now[step.key] in _UNDOABLE and step.key not in self.kept
            if free and due and step.touched and not step.claimed:
                retained = step.retains and self.now[step.key] is StepStatus.SUCCEEDED
                self._move(step, "rollback_retained" if retained else "rollback", StatusReason.STEP_FAILED)
            clear[step.key] = free and not self._has_effect(step)
        if any(self.now[step.key] is StepStatus.COMPENSATING or step.claimed for step in self.job.steps):
            return
        if any(self._has_effect(step) for step in self.job.steps):
            self._move_job("compensation_failed", StatusReason.STEP_FAILED)
        else:
            self._move_job("all_compensated", StatusReason.STEP_FAILED)

    def _has_effect(self, step: StepView) -> bool:
        status = self.now[step.key]
        if status in (StepStatus.COMPENSATING, StepStatus.COMPENSATION_FAILED) or step.claimed:
            return True
        return step.touched and status in _UNDOABLE and step.key not in self.kept

    # ── moves ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _move(
        self,
        step: StepView,
        event: str,
        reason: StatusReason = StatusReason.NONE,
        because: str | None = None,
    ) -> None:
        status = STEP.after(self.now[step.key], event)
        self.now[step.key] = status
        self.made.append(StepMove(step.key, event, status, reason, because))

    def _move_job(self, event: str, reason: StatusReason = StatusReason.NONE, because: str | None = None) -> None:
        # A job none of whose steps needs a worker passes through RUNNING on its way.
        if self.status is JobStatus.DISPATCHED:
            self.status = JOB.after(self.status, "claimed_forward")
            self.made.append(JobMove("claimed_forward", self.status))
        self.status = JOB.after(self.status, event)
        self.made.append(JobMove(event, self.status, reason, because))


def _blocks(move: Move, key: str) -> bool:
    return isinstance(move, StepMove) and move.key == key and move.status is StepStatus.BLOCKED
