"""Effects in doubt: what is in the journal of them, and what somebody or something has found out."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select

from app.db.models import StepEffect, StepRun
from app.db.statements import Row, Statement
from app.db.uow import Transaction
from app.domain.enums import JobDirection
from app.domain.operations import EffectState, OperationKind

OPEN = frozenset({EffectState.INTENT, EffectState.UNKNOWN})
_FIND = Statement(
    "SELECT action, state, operation_id, before, intended FROM step_effect WHERE tenant_id = :tenant"
    " AND step_run_id = :step AND direction = 'FORWARD' AND state IN ('INTENT', 'UNKNOWN', 'FAILED')"
)
_CLOSE = Statement(
    "UPDATE step_effect SET state = :state, completed_at = clock_timestamp() WHERE tenant_id = :tenant"
    " AND step_run_id = :step AND direction = 'FORWARD' AND state IN ('INTENT', 'UNKNOWN', 'FAILED') RETURNING id"
)


async def find(transaction: Transaction, step_id: int) -> Row | None:
    """The effect of a step run, where it is not known to be done or undone."""
    return await transaction.fetch_one(_FIND, {"tenant": transaction.tenant_id, "step": step_id})


async def close(transaction: Transaction, step_id: int, state: EffectState = EffectState.UNDONE) -> bool:
    """Say what became of the effect of a step run; false where that is known already."""
    key = {"tenant": transaction.tenant_id, "step": step_id}
    return bool(await transaction.fetch(_CLOSE, {**key, "state": state.value}))


async def left_open(
    transaction: Transaction, job_id: int, operations: Iterable[OperationKind]
) -> dict[str, StepEffect]:
    """By step key the effects of a job's steps of which nobody knows whether they were carried out."""
    found = await transaction.session.execute(
        select(StepRun.step_key, StepEffect)
        .join(StepEffect, (StepEffect.tenant_id == StepRun.tenant_id) & (StepEffect.step_run_id == StepRun.id))
        .where(
            StepRun.tenant_id == transaction.tenant_id,
            StepRun.job_id == job_id,
            StepRun.operation.in_(list(operations)),
            StepEffect.direction == JobDirection.FORWARD,
            StepEffect.state.in_(OPEN),
        )
    )
    return {row.step_key: row.StepEffect for row in found}


def moved(effect: StepEffect, job_id: int, step_id: int) -> StepEffect:
    """The same effect as that of a later job's step, which goes on with it."""
    return StepEffect(
        tenant_id=effect.tenant_id,
        job_id=job_id,
        step_run_id=step_id,
        direction=effect.direction,
        resource_id=effect.resource_id,
        action=effect.action,
        state=EffectState.UNKNOWN,
        operation_id=effect.operation_id,
        before=effect.before,
        intended=effect.intended,
    )
