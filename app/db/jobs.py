"""Starts jobs: the lock of their stack is taken, and what can run becomes due."""

from __future__ import annotations

from app.db import pausing
from app.db.ledger import Ledger
from app.db.statements import Statement
from app.domain.enums import JobDirection, StatusReason
from app.domain.statuses import JobStatus

_LOCK = Statement(
    "WITH taken AS (INSERT INTO resource_lock (tenant_id, lock_key, job_id) VALUES (:tenant, 'stack/' || :stack, :job)"
    " ON CONFLICT DO NOTHING RETURNING job_id)"
    # A job that was paused has kept it.
    " SELECT job_id FROM taken UNION ALL SELECT job_id FROM resource_lock WHERE tenant_id = :tenant"
    " AND lock_key = 'stack/' || :stack AND job_id = :job"
)


async def start(ledger: Ledger) -> bool:
    """Start a queued job if its stack is free. A job that is not queued is left alone."""
    if ledger.status is not JobStatus.QUEUED or not await _may_begin(ledger):
        return False
    ledger.apply("granted")
    if ledger.row["direction"] == JobDirection.ROLLBACK:
        ledger.apply("claimed_rollback")
    await ledger.read_steps()
    ledger.advance()
    await ledger.write()
    if ledger.row["started_at"] is not None:
        ledger.transaction.rings.due.extend(await pausing.unpark(ledger.transaction, ledger.job_id))
    return True


async def _may_begin(ledger: Ledger) -> bool:
    """Whether the stack is the job's. A simulated one touches nothing of it, and neither waits nor is waited for."""
    if ledger.simulated:
        return True
    lock = {"tenant": ledger.transaction.tenant_id, "stack": ledger.row["stack"], "job": ledger.job_id}
    return await ledger.transaction.fetch_one(_LOCK, lock) is not None


async def resume(ledger: Ledger, reason: StatusReason = StatusReason.USER) -> None:
    """Let a paused job go on, with all that was collected about it. Raises IllegalState when it is not paused."""
    ledger.apply("resume", reason)
    await ledger.write()
    await start(ledger)


async def go_on(ledger: Ledger) -> None:
    """Write what was collected about a step that somebody decided about, and what follows for the job.

    A job that rested for that step's sake is resumed; one that somebody paused stays paused.
    """
    reason = StatusReason(ledger.row["status_reason"])
    if ledger.status is JobStatus.PAUSED:
        decided = reason is StatusReason.STEP_FAILED and not ledger.undecided()
        if reason is StatusReason.GATE or decided:
            await resume(ledger)
            return
    ledger.advance()
    await ledger.write()
    if ledger.status in (JobStatus.PAUSED, JobStatus.PAUSING):
        await pausing.park(ledger.transaction, ledger.job_id)
