"""Notices workers that are gone and takes their steps from them.

A step that was in a lost worker's hands has an unknown outcome: nobody repeats it blindly. It becomes UNKNOWN and due,
and whoever claims it next asks the provider first. A compensation is safe to repeat and is simply due again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import structlog

from app.db.ledger import Ledger
from app.db.statements import Statement
from app.db.uow import Database, SystemRole, Transaction
from app.domain.enums import StatusReason
from app.domain.statuses import STEP, StepStatus
from app.engine.liveness import LOCK_CLASS
from app.messages import StepDue

_logger = structlog.get_logger(__name__)

# One at a time, apart from the tick and in one statement: the tick may have to wait for a job or a plan that somebody
# holds, and be ended for it; that somebody is gone is noticed meanwhile. The session lock may be gone for a moment
# while a worker reconnects, so it has to be missed for 1.5 seconds.
_NOTICE = Statement(
    "WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(77077, 2) AS mine),"
    " held AS MATERIALIZED (SELECT objid::bigint AS objid FROM pg_locks WHERE locktype = 'advisory'"
    "   AND classid = :class AND granted AND database = (SELECT oid FROM pg_database"
    "   WHERE datname = current_database())),"
    " seen AS MATERIALIZED (SELECT x.id, held.objid IS NULL AS missing, x.lease_until < clock_timestamp()"
    "   OR held.objid IS NULL AND coalesce(x.missing_since < clock_timestamp() - interval '1.5 seconds', false)"
    "   AND x.started_at < clock_timestamp() - interval '5 seconds' AS dead"
    "   FROM worker x LEFT JOIN held ON held.objid = x.id, mine WHERE mine.mine AND x.dead_at IS NULL)"
    " UPDATE worker w SET missing_since = CASE WHEN seen.missing THEN coalesce(w.missing_since, clock_timestamp()) END,"
    # Whoever renewed the lease at the same moment lives.
    " dead_at = CASE WHEN seen.dead AND (seen.missing OR w.lease_until < clock_timestamp()) THEN clock_timestamp() END"
    " FROM seen WHERE w.id = seen.id AND w.dead_at IS NULL"
    " AND (seen.dead OR seen.missing OR w.missing_since IS NOT NULL) RETURNING w.id, w.name, w.dead_at"
)
# What was rung for lately and not taken: perhaps who is gone had heard the bell. A ring too many does no harm.
_FORGET_RINGS = Statement(
    "UPDATE step_run SET dispatched_at = NULL WHERE id = ANY(ARRAY(SELECT id FROM step_run WHERE worker_id IS NULL"
    " AND due_at <= statement_timestamp() AND dispatched_at > statement_timestamp() - interval '1 minute'"
    " ORDER BY due_at LIMIT 256 FOR UPDATE SKIP LOCKED))"
)
# A process that is held still in the middle of a transaction keeps its job's lock: all others are not kept waiting. A
# worker that still has a step 30 seconds after its deadline, or after it should have said something, is stuck, whatever
# its lease says.
_ORPHANS = Statement(
    "SELECT s.tenant_id, s.job_id, s.id FROM step_run s JOIN orchestration_job j ON j.tenant_id = s.tenant_id"
    " AND j.id = s.job_id LEFT JOIN worker w ON w.id = s.worker_id"
    " WHERE s.worker_id IS NOT NULL AND (w.id IS NULL OR w.dead_at IS NOT NULL"
    " OR least(s.deadline_at, s.silent_at) < clock_timestamp() - interval '30 seconds')"
    " ORDER BY s.job_id, s.id LIMIT 200 FOR NO KEY UPDATE OF j SKIP LOCKED"
)
_TAKE_AWAY = Statement(
    "UPDATE step_run SET worker_id = NULL, fence = fence + 1, crashes = crashes + 1, status = :status,"
    " status_reason = 'WORKER_LOST', due_at = clock_timestamp(), dispatched_at = clock_timestamp(), dispatches = 1,"
    " deadline_at = NULL WHERE tenant_id = :tenant AND id = :id AND worker_id IS NOT NULL"
    " RETURNING status, step_key, attempt"
)
_HELD = Statement(
    "SELECT s.status, s.step_key, s.attempt FROM step_run s LEFT JOIN worker w ON w.id = s.worker_id"
    " WHERE s.tenant_id = :tenant AND s.id = :id AND s.worker_id IS NOT NULL AND (w.id IS NULL OR w.dead_at IS NOT NULL"
    " OR least(s.deadline_at, s.silent_at) < clock_timestamp() - interval '30 seconds') FOR UPDATE OF s"
)
_ATTEMPT = Statement(
    "UPDATE step_attempt SET ended_at = clock_timestamp(), counts = false, error = jsonb_build_object('class',"
    " 'WORKER_LOST', 'code', 'WORKER_LOST', 'message', 'the worker was lost', 'retryable', true)"
    " WHERE tenant_id = :tenant AND step_run_id = :id AND ended_at IS NULL"
)
# The bell of a step that was taken from a lost worker has not been answered for a while. The longest waiting first,
# each to one who asks; whoever dies with it in mind leaves it to the next.
_UNHEARD = Statement(
    "UPDATE step_run SET dispatched_at = clock_timestamp() WHERE id = ANY(ARRAY(SELECT id FROM step_run"
    " WHERE worker_id IS NULL AND status_reason = 'WORKER_LOST' AND due_at <= statement_timestamp()"
    " AND coalesce(dispatched_at < statement_timestamp() - make_interval(secs => :patience), true)"
    " ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED)) RETURNING tenant_id, job_id, id"
)
_COUNT = Statement("UPDATE orchestration_job SET recoveries = recoveries + 1 WHERE tenant_id = :tenant AND id = :id")


class Reaped(NamedTuple):
    """How many steps were given back, and whether somebody was found missing who may be lost a moment later."""

    steps: int
    is_anyone_missing: bool


async def reap(database: Database) -> Reaped:
    """Declare dead who is gone, and give back what they held.

    Transactions of its own: anybody may do it at any time, as often as it is likely that there is something to find.
    """
    async with database.system(SystemRole.TICK) as transaction:
        seen = await transaction.fetch(_NOTICE, {"class": LOCK_CLASS})
        dead = [worker for worker in seen if worker["dead_at"] is not None]
        for worker in dead:
            _logger.warning("a worker is lost", worker_id=worker["id"], worker=worker["name"])
        if dead:
            await transaction.fetch(_FORGET_RINGS, {})
    async with database.system(SystemRole.TICK) as transaction:
        orphans = await transaction.fetch(_ORPHANS, {})
        for orphan in orphans:
            await _give_back(replace(transaction, tenant_id=orphan["tenant_id"]), orphan["job_id"], orphan["id"])
    return Reaped(len(orphans), is_anyone_missing=len(dead) < len(seen))


async def unheard(transaction: Transaction, limit: int, patience_seconds: float) -> list[StepDue]:
    """Steps that were taken from lost workers, and whose bell nobody has answered for so long; at most `limit`.

    Whoever gets them works on them now, without a bell: it may lie behind those of all other steps, or be lost.
    """
    rows = await transaction.fetch(_UNHEARD, {"limit": limit, "patience": patience_seconds})
    return [StepDue(row["tenant_id"], row["job_id"], row["id"]) for row in rows]


async def _give_back(transaction: Transaction, job_id: int, step_id: int) -> None:
    ledger = await Ledger.open(transaction, job_id)
    key = {"tenant": transaction.tenant_id, "id": step_id}
    held = await transaction.fetch_one(_HELD, key)
    if ledger is None or held is None:
        return
    status = StepStatus(held["status"])
    lost = STEP.after(status, "lease_lost") if status is StepStatus.RUNNING else status
    await transaction.fetch(_TAKE_AWAY, {**key, "status": lost.value})
    await transaction.fetch(_ATTEMPT, key)
    await transaction.fetch(_COUNT, {"tenant": transaction.tenant_id, "id": job_id})
    ledger.step_event(step_id, held["step_key"], status, lost, held["attempt"], StatusReason.WORKER_LOST)
    await ledger.write()
    # Written down as rung for, and however many others wait: it has waited already.
    transaction.rings.due.append(StepDue(transaction.tenant_id, job_id, step_id))
