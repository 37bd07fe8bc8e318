"""Starts jobs: the lock of their stack is taken, and what can run becomes due."""

from __future__ import annotations

from app.db.ledger import Ledger
from app.db.statements import Statement
from app.domain.enums import JobDirection
from app.domain.statuses import JobStatus

_LOCK = Statement(
    "INSERT INTO resource_lock (tenant_id, lock_key, job_id) VALUES (:tenant, 'stack/' || :stack, :job)"
    " ON CONFLICT DO NOTHING RETURNING job_id"
)


async def start(ledger: Ledger) -> bool:
    """Start a queued job if its stack is free. A job that is not queued is left alone."""
    if ledger.status is not JobStatus.QUEUED:
        return False
    taken = await ledger.transaction.fetch_one(
        _LOCK,
        {"tenant": ledger.transaction.tenant_id, "stack": ledger.row["stack"], "job": ledger.job_id},
    )
    if taken is None:
        return False
    ledger.apply("granted")
    if ledger.row["direction"] == JobDirection.ROLLBACK:
        ledger.apply("claimed_rollback")
    await ledger.read_steps()
    ledger.advance()
    await ledger.write()
    return True
