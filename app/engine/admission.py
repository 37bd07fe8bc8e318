"""Lets queued jobs start as soon as nobody else works on their stack."""

from __future__ import annotations

from dataclasses import replace

from app.db import jobs
from app.db.ledger import Ledger
from app.db.statements import Statement
from app.db.uow import Transaction
from app.db.upstream import UNMET
from app.domain.limits import DEFAULT, UNDER_WAY

# The first waiting job of each stack whose lock is free; the tenants in turn, so that nobody's many stacks come before
# another's one. Tenants are found by leaps in the index of what is queued.
_WAITING = Statement(
    "WITH RECURSIVE tenants AS ("  # noqa: S608  all of it is ours
    "  (SELECT tenant_id FROM orchestration_job WHERE status = 'QUEUED' ORDER BY tenant_id LIMIT 1)"
    "  UNION ALL SELECT (SELECT j.tenant_id FROM orchestration_job j WHERE j.status = 'QUEUED'"
    "    AND j.tenant_id > t.tenant_id ORDER BY j.tenant_id LIMIT 1) FROM tenants t WHERE t.tenant_id IS NOT NULL)"
    " SELECT s.tenant_id, s.id FROM tenants t"
    # Who has no room is not asked what it would start.
    " CROSS JOIN LATERAL (SELECT coalesce("
    "   (SELECT max_running_jobs FROM tenant_limit l WHERE l.tenant_id = t.tenant_id), :most::bigint)"
    "   - (SELECT count(*) FROM orchestration_job u WHERE u.tenant_id = t.tenant_id"
    "     AND u.status = ANY(:under_way::text[]) AND NOT u.simulated) AS room) r"
    " CROSS JOIN LATERAL (SELECT f.*,"
    "   row_number() OVER (ORDER BY f.priority DESC, f.id) AS turn FROM ("
    "   SELECT DISTINCT ON (j.stack) j.tenant_id, j.id, j.priority FROM orchestration_job j"
    "   WHERE j.tenant_id = t.tenant_id AND j.status = 'QUEUED' AND NOT EXISTS (SELECT 1 FROM resource_lock l"
    "     WHERE l.tenant_id = j.tenant_id AND l.lock_key = 'stack/' || j.stack AND l.job_id <> j.id)"
    # Who was found to wait for another plan is looked at again when that has succeeded.
    "     AND NOT (j.status_reason = 'DEPENDENCY_PENDING'"
    f"      AND EXISTS ({UNMET.format(tenant='j.tenant_id', plan='j.plan_id')}))"
    "   ORDER BY j.stack, j.priority DESC, j.id) f ORDER BY turn LIMIT greatest(least(:limit::bigint, r.room), 0)) s"
    " WHERE t.tenant_id IS NOT NULL ORDER BY s.turn, s.id LIMIT :limit"
)


async def admit(transaction: Transaction, limit: int = 50) -> int:
    """Start what may start, at most `limit` jobs; returns how many were looked at."""
    waiting = await transaction.fetch(
        _WAITING, {"limit": limit, "most": DEFAULT.max_running_jobs, "under_way": list(UNDER_WAY)}
    )
    for job in waiting:
        ledger = await Ledger.open(replace(transaction, tenant_id=job["tenant_id"]), job["id"])
        if ledger is not None and await jobs.start(ledger) and not ledger.simulated:
            await jobs.tell_behind(ledger)
    return len(waiting)
