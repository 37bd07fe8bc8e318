"""Steps of a job that pauses: set aside, so that nobody is rung for them, and taken up again when it goes on.

A paused job keeps the lock of its stack: what it has half done is nobody else's to build on.
"""

from __future__ import annotations

from app.db.statements import Statement
from app.db.uow import Transaction

# Unless the plan's configuration says otherwise.
PATIENCE_SECONDS = 24 * 3600.0

_PARK = Statement(
    # The time that it has in all begins anew when it goes on: people have theirs.
    "UPDATE step_run SET due_at = NULL, dispatched_at = NULL, dispatches = 0, expires_at = NULL"
    " WHERE tenant_id = :tenant AND job_id = :job AND worker_id IS NULL AND due_at IS NOT NULL"
    " AND status IN ('READY', 'RETRY_WAIT')"
)
_UNPARK = Statement(
    "UPDATE step_run SET due_at = clock_timestamp(), dispatches = 0, dispatched_at = NULL"
    " WHERE tenant_id = :tenant AND job_id = :job"
    " AND worker_id IS NULL AND due_at IS NULL AND status IN ('READY', 'RETRY_WAIT')"
    # What was resumed may have come to rest again at once, at another gate or undecided step.
    " AND EXISTS (SELECT 1 FROM orchestration_job j WHERE j.tenant_id = :tenant AND j.id = :job"
    "   AND j.status IN ('DISPATCHED', 'RUNNING')) RETURNING id"
)


async def park(transaction: Transaction, job_id: int) -> None:
    """Set aside what would start or be tried again."""
    await transaction.fetch(_PARK, {"tenant": transaction.tenant_id, "job": job_id})


async def unpark(transaction: Transaction, job_id: int) -> None:
    """What was set aside is due now; a retry does not wait for the rest of its time."""
    rows = await transaction.fetch(_UNPARK, {"tenant": transaction.tenant_id, "job": job_id})
    transaction.rings.freed |= bool(rows) and transaction.own_rings is not None
