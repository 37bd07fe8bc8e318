"""Starts jobs that wait and rings for steps that are due: what somebody waits for, and nothing else.

Any number of processes may do it, at any time. The advisory lock and the work are the same transaction, and whatever is
rung is rung after the commit: a second one finds the steps already rung for.
"""

from __future__ import annotations

from typing import NamedTuple

from app.db.statements import Statement
from app.db.uow import Database, SystemRole, Transaction
from app.engine import admission
from app.messages import StepDue

_MINE = Statement("SELECT pg_try_advisory_xact_lock(77077, 3) AS mine")
# Round robin over tenants, the longest waiting first within each; a step that was rung for in vain is rung for again.
# Tenants are found by leaps in the index and each is asked for its share, so that neither the number of steps that wait
# nor a flood of one tenant's makes this slower or hides another's. An index can be asked for what was before the
# statement began, but not for what is before a clock that goes on.
_DUE = Statement(
    "WITH RECURSIVE tenants AS ("
    "  (SELECT tenant_id FROM step_run WHERE due_at IS NOT NULL AND worker_id IS NULL ORDER BY tenant_id LIMIT 1)"
    "  UNION ALL SELECT (SELECT s.tenant_id FROM step_run s WHERE s.due_at IS NOT NULL AND s.worker_id IS NULL"
    "    AND s.tenant_id > t.tenant_id ORDER BY s.tenant_id LIMIT 1) FROM tenants t WHERE t.tenant_id IS NOT NULL),"
    # Whoever only waits for a time to come takes no part in the sharing.
    " ready AS (SELECT t.tenant_id FROM tenants t CROSS JOIN LATERAL (SELECT 1 FROM step_run s"
    "   WHERE s.tenant_id = t.tenant_id AND s.due_at <= statement_timestamp() AND s.worker_id IS NULL"
    "   ORDER BY s.due_at LIMIT 1) d),"
    " share AS (SELECT greatest(:limit::bigint / greatest(count(*), 1), :least) AS size FROM ready),"
    " ranked AS (SELECT d.tenant_id, d.id, d.due_at,"
    "   row_number() OVER (PARTITION BY d.tenant_id ORDER BY d.due_at, d.id) AS turn"
    "   FROM ready t CROSS JOIN LATERAL (SELECT s.tenant_id, s.id, s.due_at FROM step_run s"
    "     WHERE s.tenant_id = t.tenant_id AND s.due_at <= statement_timestamp() AND s.worker_id IS NULL"
    "     AND (s.dispatched_at IS NULL OR s.dispatched_at < clock_timestamp()"
    "       - make_interval(secs => :again * power(2, least(greatest(s.dispatches - 1, 0), 2))))"
    "     ORDER BY s.due_at, s.id LIMIT (SELECT size FROM share)) d),"
    # As an array: a join with what was ranked may be planned as a walk over all steps.
    " chosen AS (SELECT r.id FROM ranked r ORDER BY r.turn, r.due_at LIMIT :limit),"
    " picked AS (SELECT s.id FROM step_run s WHERE s.id = ANY(ARRAY(SELECT id FROM chosen)) FOR UPDATE SKIP LOCKED)"
    " UPDATE step_run s SET dispatched_at = clock_timestamp(), dispatches = s.dispatches + 1 FROM picked"
    " WHERE s.id = picked.id RETURNING s.tenant_id, s.job_id, s.id"
)
# However many tenants wait, each has so many steps rung for in one go.
_LEAST_SHARE = 4


class Dispatched(NamedTuple):
    """How many jobs were looked at that wait, and how many steps rung for. `ran`: False when another was at it."""

    ran: bool
    admitted: int = 0
    rung: int = 0


async def dispatch(database: Database, *, ring_again_seconds: float, limit: int = 256) -> Dispatched:
    """Start what may start, and ring for at most `limit` due steps."""
    async with database.system(SystemRole.TICK) as transaction:
        mine = await transaction.fetch_one(_MINE, {})
        if mine is None or not mine["mine"]:
            return Dispatched(ran=False)
        admitted = await admission.admit(transaction)
        return Dispatched(True, admitted, await pick(transaction, ring_again_seconds, limit))


async def pick(transaction: Transaction, ring_again_seconds: float, limit: int) -> int:
    """Mark due steps as rung for, which the end of the transaction does; how many there are."""
    rows = await transaction.fetch(_DUE, {"again": ring_again_seconds, "limit": limit, "least": _LEAST_SHARE})
    # Steps that became due in this very transaction were rung for by it; picking them up again is not a second ring.
    due = [StepDue(row["tenant_id"], row["job_id"], row["id"]) for row in rows]
    transaction.rings.due[:] = list(dict.fromkeys([*transaction.rings.due, *due]))
    return len(transaction.rings.due)
