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

_MINE = Statement(
    "SELECT pg_try_advisory_xact_lock(77077, 3) AS mine, (SELECT sum(hands) FROM worker"
    " WHERE dead_at IS NULL AND NOT draining) AS hands"
)
# Round robin over tenants, the longest waiting first within each; a step that was rung for in vain is rung for again.
# Tenants are found by leaps in the index, each with what waits longest there, and is asked for its share: neither the
# number of steps that wait nor a flood of one tenant's makes this slower or hides another's. An index can be asked for
# what was before the statement began, but not for what is before a clock that goes on.
_DUE = Statement(
    "WITH RECURSIVE tenants AS ("
    "  (SELECT tenant_id, due_at FROM step_run WHERE due_at IS NOT NULL AND worker_id IS NULL"
    "   ORDER BY tenant_id, due_at LIMIT 1)"
    "  UNION ALL SELECT n.tenant_id, n.due_at FROM tenants t CROSS JOIN LATERAL (SELECT s.tenant_id, s.due_at"
    "   FROM step_run s WHERE s.due_at IS NOT NULL AND s.worker_id IS NULL AND s.tenant_id > t.tenant_id"
    "   ORDER BY s.tenant_id, s.due_at LIMIT 1) n),"
    # Whoever only waits for a time to come takes no part in the sharing.
    " ready AS (SELECT tenant_id FROM tenants WHERE due_at <= statement_timestamp()),"
    " share AS (SELECT greatest(:limit::bigint / greatest(count(*), 1), :least) AS size FROM ready),"
    " ranked AS (SELECT d.place, d.due_at,"
    "   row_number() OVER (PARTITION BY d.tenant_id ORDER BY d.due_at, d.id) AS turn"
    "   FROM ready t CROSS JOIN LATERAL (SELECT s.tenant_id, s.id, s.due_at, s.ctid AS place FROM step_run s"
    "     WHERE s.tenant_id = t.tenant_id AND s.due_at <= statement_timestamp() AND s.worker_id IS NULL"
    "     AND (s.dispatched_at IS NULL OR s.dispatched_at < clock_timestamp()"
    "       - make_interval(secs => :again * power(2, least(greatest(s.dispatches - 1, 0), 2))))"
    "     ORDER BY s.due_at, s.id LIMIT (SELECT size FROM share)) d),"
    # By their places, which are good for one statement: what somebody has changed meanwhile has another one, and is
    # not rung for now.
    " chosen AS (SELECT r.place FROM ranked r ORDER BY r.turn, r.due_at LIMIT :limit),"
    " picked AS MATERIALIZED (SELECT s.ctid AS place FROM step_run s"
    "   WHERE s.ctid = ANY(ARRAY(SELECT place FROM chosen)) FOR UPDATE SKIP LOCKED)"
    " UPDATE step_run s SET dispatched_at = clock_timestamp(), dispatches = s.dispatches + 1"
    " WHERE s.ctid = ANY(ARRAY(SELECT place FROM picked)) RETURNING s.tenant_id, s.job_id, s.id"
)
# However many tenants wait, each has so many steps rung for in one go.
_LEAST_SHARE = 4


class Dispatched(NamedTuple):
    """How many jobs were looked at that wait, and how many steps rung for.

    `ran`: False when another was at it. `is_full`: more may be due, and was left for when there is room. `hands`: of
    all workers.
    """

    ran: bool
    admitted: int = 0
    rung: int = 0
    is_full: bool = False
    hands: int = 0


async def dispatch(
    database: Database, *, ring_again_seconds: float, limit: int = 256, queued: int | None = None
) -> Dispatched:
    """Start what may start, and ring for at most `limit` due steps.

    `queued` is how many rings have not been heard yet: with them there are no more than workers have hands, so that
    what comes to be due next is not behind all that was due before. None: as many as there may be.
    """
    async with database.system(SystemRole.TICK) as transaction:
        mine = await transaction.fetch_one(_MINE, {})
        if mine is None or not mine["mine"]:
            return Dispatched(ran=False)
        admitted, hands = await admission.admit(transaction), int(mine["hands"] or 0)
        room = limit if queued is None else max(0, min(limit, hands - queued))
        rung = await pick(transaction, ring_again_seconds, room) if room else 0
        return Dispatched(True, admitted, rung, rung >= room, hands)


async def pick(transaction: Transaction, ring_again_seconds: float, limit: int) -> int:
    """Mark at most `limit` due steps as rung for, which the end of the transaction does; how many it rings for."""
    rows = await transaction.fetch(_DUE, {"again": ring_again_seconds, "limit": limit, "least": _LEAST_SHARE})
    # What became due in this very transaction is among them: whoever has `own_rings` of None rings for nothing else.
    transaction.rings.due.extend(StepDue(row["tenant_id"], row["job_id"], row["id"]) for row in rows)
    return len(rows)
