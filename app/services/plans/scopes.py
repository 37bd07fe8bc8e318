"""How much of its work a plan's rollback takes back, where that is not all of it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from app.db.models import StepRun
from app.db.uow import Transaction
from app.domain.enums import RollbackScope
from app.domain.errors import Conflict, Invalid
from app.domain.naming import hint, nearest
from app.domain.operations import OperationKind


@dataclass(frozen=True, slots=True)
class RollbackPlan:
    """Undo the last job of a plan that failed. `checkpoint`: the one to go back to, with the scope TO_CHECKPOINT."""

    plan_id: int
    scope: RollbackScope = RollbackScope.JOB
    checkpoint: str | None = None


async def require_scope(transaction: Transaction, job_id: int, command: RollbackPlan) -> None:
    """Raises Invalid or Conflict where the job's work cannot be taken back as far as the command says."""
    if command.checkpoint is not None and command.scope is not RollbackScope.TO_CHECKPOINT:
        message = "a checkpoint can be named with the scope TO_CHECKPOINT only"
        raise Invalid(message, path=("toCheckpoint",))
    if command.scope is RollbackScope.JOB:
        return
    found = await transaction.session.execute(
        select(StepRun.step_key, StepRun.operation, StepRun.spec["checkpoint"].astext).where(
            StepRun.tenant_id == transaction.tenant_id, StepRun.job_id == job_id
        )
    )
    steps = found.all()
    kept_for = [key.removeprefix("retire:") for key, operation, _ in steps if operation is OperationKind.RETIRE]
    if kept_for:
        message = f"what {', '.join(kept_for)} replaced is still kept: only the whole job can be taken back, scope JOB"
        raise Conflict(message, path=("scope",))
    checkpoints = sorted({checkpoint for _, _, checkpoint in steps if checkpoint})
    if command.checkpoint is not None and command.checkpoint not in checkpoints:
        message = f"the job has no checkpoint '{command.checkpoint}'{hint(nearest(command.checkpoint, checkpoints))}"
        raise Invalid(message, path=("toCheckpoint",))
