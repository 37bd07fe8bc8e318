"""A step that cannot even be looked at: whatever raises before it is claimed raises again at every ring.

What a worker's death is counted with counts this too: after a few times the step has failed, and the job goes on with
that as its strategy says. The reason is in the server's log; nobody outside is shown what a bug of ours had to say.
"""

from __future__ import annotations

import structlog

from app.db.ledger import Ledger
from app.db.statements import Statement, dumps
from app.db.uow import Transaction
from app.domain.decisions import StepMove
from app.domain.enums import ErrorClass, StatusReason
from app.domain.retrying import MAX_CRASHES
from app.domain.statuses import STEP, StepStatus
from app.engine.work import Failed

_logger = structlog.get_logger(__name__)

# How a step ends from where it was due.
_ENDS = {
    StepStatus.READY: "abandoned",
    StepStatus.RETRY_WAIT: "abandoned",
    StepStatus.WAITING: "rejected",
    StepStatus.UNKNOWN: "indeterminate",
    StepStatus.COMPENSATING: "exhausted",
}
_COUNT = Statement(
    "UPDATE step_run SET crashes = crashes + 1 WHERE tenant_id = :tenant AND id = :id AND worker_id IS NULL"
    " AND due_at IS NOT NULL RETURNING crashes, step_key"
)
_ERROR = Statement("UPDATE step_run SET error = :error::jsonb WHERE tenant_id = :tenant AND id = :id")


async def count(transaction: Transaction, job_id: int, step_id: int) -> None:
    """The step could not be looked at; let it fail if that was once too often."""
    ledger = await Ledger.open(transaction, job_id)
    key = {"tenant": transaction.tenant_id, "id": step_id}
    row = await transaction.fetch_one(_COUNT, key) if ledger is not None else None
    if ledger is None or row is None or row["crashes"] < MAX_CRASHES:
        return
    await ledger.read_steps()
    step = ledger.steps[row["step_key"]]
    event = _ENDS.get(step.status)
    if event is None:
        return
    _logger.error("a step that cannot be looked at has failed", step_run_id=step_id, job_id=job_id)
    message = f"something unforeseen kept this step from being looked at {row['crashes']} times; the log says what"
    error = Failed(ErrorClass.PERMANENT, "INTERNAL", message).document(retryable=False)
    await transaction.fetch(_ERROR, {**key, "error": dumps(error)})
    ledger.move_step(StepMove(step.key, event, STEP.after(step.status, event), StatusReason.STEP_FAILED))
    ledger.advance()
    await ledger.write()
