"""Starts jobs: the lock of their stack is taken, and what can run becomes due."""

from __future__ import annotations

from app.db import pausing
from app.db.ledger import Ledger
from app.db.statements import Row, Statement
from app.db.upstream import UNMET
from app.domain.enums import JobDirection, StatusReason
from app.domain.limits import DEFAULT, UNDER_WAY
from app.domain.statuses import JobStatus

# A limit that was set is kept to the job, so only one transaction of the tenant may count at a time. Nobody waits for
# that, because whoever counts holds other locks. The default is a safety net that jobs which start at the same moment
# may overstep.
_ALONE = Statement(
    "SELECT max_running_jobs AS most, pg_try_advisory_xact_lock(77079, hashint8(tenant_id)) AS alone"
    " FROM tenant_limit WHERE tenant_id = :tenant"
)
_LOCK = Statement(
    "WITH room AS (SELECT count(*) < :most::bigint AS free,"  # noqa: S608  all of it is ours
    # What was done can always be taken back, whatever has become of the plans that it was done after.
    f"   :back OR NOT EXISTS ({UNMET.format(tenant=':tenant', plan=':plan')}) AS met"
    "   FROM orchestration_job WHERE tenant_id = :tenant AND status = ANY(:under_way::text[]) AND NOT simulated),"
    " taken AS (INSERT INTO resource_lock (tenant_id, lock_key, job_id)"
    " SELECT :tenant, 'stack/' || :stack, :job FROM room WHERE free AND met"
    " ON CONFLICT DO NOTHING RETURNING job_id)"
    # A job that was paused has kept it.
    " SELECT free, met, EXISTS (SELECT FROM taken) OR free AND EXISTS (SELECT FROM resource_lock"
    " WHERE tenant_id = :tenant AND lock_key = 'stack/' || :stack AND job_id = :job) AS taken FROM room"
)
_HOLD_BACK = Statement(
    "UPDATE orchestration_job SET status_reason = :reason, updated_at = now(), status_message = :message"
    " WHERE tenant_id = :tenant AND id = :id AND status = 'QUEUED' AND status_reason <> :reason"
)


# Who waited for room and now waits for this stack says so. Who is at one of them says something about it anyway.
_BEHIND = Statement(
    "UPDATE orchestration_job SET status_reason = :reason, updated_at = now(), status_message = :message"
    " WHERE tenant_id = :tenant AND id = ANY(ARRAY(SELECT id FROM orchestration_job WHERE tenant_id = :tenant"
    "   AND status = 'QUEUED' AND stack = :stack AND status_reason = 'CONCURRENCY_LIMIT' AND id <> :id"
    "   FOR UPDATE SKIP LOCKED))"
)

_HELD_BACK = {
    StatusReason.LOCK_HELD: "another job holds the stack",
    StatusReason.CONCURRENCY_LIMIT: "the tenant has as many jobs under way as it may",
    StatusReason.DEPENDENCY_PENDING: "a plan that it depends on has not succeeded",
}


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
        await pausing.unpark(ledger.transaction, ledger.job_id)
    return True


async def _may_begin(ledger: Ledger) -> bool:
    """Whether the stack is the job's, and the tenant has room for it.

    A simulated job touches nothing of the stack, and neither waits nor is waited for.
    """
    if ledger.simulated:
        return True
    tenant_id = ledger.transaction.tenant_id
    limited = await ledger.transaction.fetch_one(_ALONE, {"tenant": tenant_id})
    if limited is not None and not limited["alone"]:
        # The tick tries again.
        ledger.transaction.rings.freed = True
        return False
    found = await ledger.transaction.fetch_one(
        _LOCK,
        {
            "tenant": tenant_id,
            "stack": ledger.row["stack"],
            "job": ledger.job_id,
            "most": DEFAULT.max_running_jobs if limited is None else limited["most"],
            "under_way": list(UNDER_WAY),
            "plan": ledger.plan_id,
            "back": ledger.row["direction"] == JobDirection.ROLLBACK,
        },
    )
    if found is not None and found["taken"]:
        return True
    if found is not None:
        await ledger.transaction.fetch(_HOLD_BACK, {"tenant": tenant_id, "id": ledger.job_id, **_why(_obstacle(found))})
    return False


def _obstacle(found: Row) -> StatusReason:
    """What a job waits for that did not get its stack."""
    if not found["met"]:
        return StatusReason.DEPENDENCY_PENDING
    return StatusReason.LOCK_HELD if found["free"] else StatusReason.CONCURRENCY_LIMIT


def _why(reason: StatusReason) -> dict[str, str]:
    return {"reason": reason.value, "message": _HELD_BACK[reason]}


async def tell_behind(ledger: Ledger) -> None:
    """The job has its stack: others that waited for room wait for that from now on."""
    key = {"tenant": ledger.transaction.tenant_id, "id": ledger.job_id, "stack": ledger.row["stack"]}
    await ledger.transaction.fetch(_BEHIND, {**key, **_why(StatusReason.LOCK_HELD)})


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
