"""Lets queued jobs start as soon as nobody else works on their stack."""

from __future__ import annotations

from dataclasses import replace

from app.db import jobs
from app.db.ledger import Ledger
from app.db.statements import Statement
from app.db.uow import Transaction

# The oldest waiting job of each stack whose lock is free.
_WAITING = Statement(
    "SELECT DISTINCT ON (j.tenant_id, j.stack) j.tenant_id, j.id FROM orchestration_job j"
    " WHERE j.status = 'QUEUED' AND NOT EXISTS (SELECT 1 FROM resource_lock l WHERE l.tenant_id = j.tenant_id"
    "   AND l.lock_key = 'stack/' || j.stack AND l.job_id <> j.id)"
    " ORDER BY j.tenant_id, j.stack, j.priority DESC, j.id LIMIT 50"
)


async def admit(transaction: Transaction) -> int:
    """Start what may start; returns how many jobs that were."""
    waiting = await transaction.fetch(_WAITING, {})
    for job in waiting:
        ledger = await Ledger.open(replace(transaction, tenant_id=job["tenant_id"]), job["id"])
        if ledger is not None:
            await jobs.start(ledger)
    return len(waiting)
