"""A step of a locked job, as decisions about it need it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from app.db.statements import Row
from app.domain.decisions import StepView
from app.domain.enums import FailureStrategy, RollbackCompleteness
from app.domain.operations import Phase
from app.domain.statuses import JobStatus, StepStatus


@dataclass(slots=True)
class StepRow:
    """One step of the locked job, as the decision sees it."""

    id: int
    key: str
    status: StepStatus
    needs: tuple[str, ...]
    phase: Phase
    worker_id: int | None
    fence: int
    touched: bool
    attempt: int
    strategy: FailureStrategy | None
    ignore: bool
    gate: bool = False
    checkpoint: str | None = None
    verifies: bool = False
    abandoned: bool = False
    ended_at: datetime | None = None
    has_resource: bool = False
    lost: bool = False
    retains: bool = False

    def view(self) -> StepView:
        return StepView(
            key=self.key,
            status=self.status,
            needs=self.needs,
            phase=self.phase,
            claimed=self.worker_id is not None,
            touched=self.touched,
            strategy=self.strategy,
            ignore=self.ignore,
            gate=self.gate,
            checkpoint=self.checkpoint,
            verifies=self.verifies,
            abandoned=self.abandoned,
            ended_at=self.ended_at,
            lost=self.lost,
            retains=self.retains,
        )


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
