"""A step of a locked job, as decisions about it need it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from app.db.statements import Row
from app.domain.decisions import StepView
from app.domain.enums import FailureStrategy, RollbackCompleteness
from app.domain.operations import Phase
from app.domain.statuses import JobStatus, StepStatus


@dataclass(slots=True, kw_only=True)
class StepRow(StepView):
    """One step of the locked job: what a decision needs, and what the ledger does."""

    id: int
    worker_id: int | None
    fence: int
    attempt: int
    has_resource: bool = False

    def view(self) -> StepView:
        """The step as it stands, for a decision that is taken at once."""
        return self

    def take(self, status: StepStatus, fence: int, worker_id: int) -> None:
        """A worker holds it from now on."""
        self.status, self.fence, self.worker_id, self.claimed = status, fence, worker_id, True

    def let_go(self, status: StepStatus) -> None:
        """Nobody holds it any more."""
        self.status, self.worker_id, self.claimed = status, None, False

    def end(self, status: StepStatus) -> None:
        """It has an outcome that is about to be written."""
        self.let_go(status)
        self.ended_at, self.abandoned = None, False


def completeness_of(status: JobStatus, steps: Iterable[StepRow]) -> RollbackCompleteness | None:
    """Whether a rollback that has come to `status` took back all that it was to take back; None while it is not over.

    What was skipped, because it could not be undone or because somebody said so, was not taken back.
    """
    if status is JobStatus.ROLLBACK_FAILED:
        return RollbackCompleteness.PARTIAL
    if status is not JobStatus.ROLLED_BACK:
        return None
    skipped = any(step.status is StepStatus.COMPENSATION_SKIPPED for step in steps)
    return RollbackCompleteness.PARTIAL if skipped else RollbackCompleteness.FULL


def undecided_of(steps: Iterable[StepRow], strategy: FailureStrategy) -> list[str]:
    """The failed steps whose failure pauses a job of that strategy until somebody decides about them."""
    return [
        step.key
        for step in steps
        if step.status is StepStatus.FAILED
        and not step.ignore
        and step.phase is Phase.APPLY
        and (step.strategy or strategy) is FailureStrategy.PAUSE
    ]


def step_row(row: Row) -> StepRow:
    """From what the ledger reads of a step run."""
    return StepRow(
        id=row["id"],
        key=row["step_key"],
        status=StepStatus(row["status"]),
        needs=tuple(row["needs"]),
        phase=Phase(row["phase"]),
        worker_id=row["worker_id"],
        claimed=row["worker_id"] is not None,
        fence=row["fence"],
        touched=row["touched"],
        attempt=row["attempt"],
        strategy=FailureStrategy(row["strategy"]) if row["strategy"] else None,
        ignore=bool(row["ignore"]),
        gate=row["gate"],
        checkpoint=row["checkpoint"],
        verifies=row["verifies"],
        abandoned=row["abandoned"],
        ended_at=row["completed_at"],
        has_resource=row["has_resource"],
        lost=row["lost"],
        retains=row["retains"],
    )
