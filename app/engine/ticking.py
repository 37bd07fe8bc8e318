"""The tick: what must happen by itself, done by whoever comes first.

Any number of processes may tick. The advisory lock and the work are the same transaction, so there is no leader that
could fall silent, and whatever is rung is rung after the commit: a second tick finds the steps already rung for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.db.statements import Statement
from app.db.uow import Database, SystemRole, Transaction
from app.engine import admission, automation, plan_timers, recovery, timers, watches
from app.messages import StepDue

_MINE = Statement("SELECT pg_try_advisory_xact_lock(77077, 1) AS mine")
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


@dataclass(frozen=True, slots=True)
class Ticked:
    """What one tick did. `ran` is False when another process was at it."""

    ran: bool
    reaped: int = 0
    admitted: int = 0
    expired: int = 0
    rung: int = 0
    # (tenant, plan) of schedules to be fired, each in a transaction of its own.
    due_plans: Sequence[tuple[int, int]] = ()
    # Tenants with news for conditions, and (tenant, plan) of conditions to be looked at.
    stirred: Sequence[int] = ()
    due_watches: Sequence[tuple[int, int]] = ()
    # (tenant, plan) of standing plans that have heard something, likewise.
    heard_plans: Sequence[tuple[int, int]] = ()


async def tick(database: Database, *, ring_again_seconds: float, limit: int = 256) -> Ticked:
    """One round: lost workers, waiting jobs, plans whose time is over, due steps, passed deadlines.

    Lost workers come first and apart: all else may have to wait for what one of them holds.
    """
    reaped = (await recovery.reap(database)).steps
    async with database.system(SystemRole.TICK) as transaction:
        mine = await transaction.fetch_one(_MINE, {})
        if mine is None or not mine["mine"]:
            return Ticked(ran=False, reaped=reaped)
        admitted = await admission.admit(transaction)
        expired = await plan_timers.expire(transaction)
        due_plans = await plan_timers.due(transaction)
        stirred, due_watches = await watches.stirred(transaction), await watches.due(transaction)
        heard_plans = await automation.due(transaction)
        unheard = await automation.unheard(transaction)
        rung = await _dispatch(transaction, ring_again_seconds, limit)
        overdue = await timers.overdue(transaction)
    # After the commit: each is acted on in its own tenant, and must not wait for a lock of this transaction.
    for timer in overdue:
        await timers.fire(database, timer)
    for tenant_id in unheard:
        await automation.listen(database, tenant_id)
    return Ticked(True, reaped, admitted, expired, rung, due_plans, stirred, due_watches, heard_plans)


async def _dispatch(transaction: Transaction, ring_again_seconds: float, limit: int) -> int:
    rows = await transaction.fetch(_DUE, {"again": ring_again_seconds, "limit": limit, "least": _LEAST_SHARE})
    # Steps that became due in this very transaction were rung for by it; picking them up again is not a second ring.
    due = [StepDue(row["tenant_id"], row["job_id"], row["id"]) for row in rows]
    transaction.rings.due[:] = list(dict.fromkeys([*transaction.rings.due, *due]))
    return len(transaction.rings.due)
