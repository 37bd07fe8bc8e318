"""Timers of plans that have not begun: what nobody acted on in time is over.

A timer is a column and not a message: whoever ticks after its time does what is due. Plans that somebody holds are left
for the next tick, and what is found is decided anew under the plan's lock, so that many ticks never do it twice.
"""

from __future__ import annotations

from dataclasses import replace

from app.db import journal
from app.db.following import plan_event
from app.db.statements import Row, Statement
from app.db.uow import Transaction
from app.domain.enums import StatusReason
from app.domain.events import Stream
from app.domain.statuses import PLAN, PlanStatus

# Two statements instead of one with OR: each has an index of exactly the plans that it is about. An index can be asked
# for what was before the statement began, but not for what is before a clock that goes on.
_OUTLIVED = Statement(
    "SELECT tenant_id, id, status, valid_until AS until FROM deployment_plan WHERE NOT is_deleted"
    " AND valid_until IS NOT NULL AND status IN ('PENDING_APPROVAL', 'READY', 'SCHEDULED', 'WAITING')"
    " AND valid_until <= statement_timestamp() ORDER BY valid_until LIMIT :limit FOR UPDATE SKIP LOCKED"
)
_UNANSWERED = Statement(
    "SELECT tenant_id, id, status, approval_deadline AS until FROM deployment_plan WHERE NOT is_deleted"
    " AND approval_deadline IS NOT NULL AND status = 'PENDING_APPROVAL' AND approval_deadline <= statement_timestamp()"
    " ORDER BY approval_deadline LIMIT :limit FOR UPDATE SKIP LOCKED"
)
_EXPIRE = Statement(
    "UPDATE deployment_plan SET status = :status, status_reason = :reason, status_message = :message,"
    " completed_at = clock_timestamp(), version = version + 1, updated_at = now(), updated_by = :actor"
    " WHERE tenant_id = :tenant AND id = :id"
)
# A recurring plan that waits no more, because somebody cancelled or edited it, has nothing waiting either.
_FORGET = Statement(
    "UPDATE plan_firing f SET outcome = 'MISSED' FROM deployment_plan p WHERE f.outcome = 'QUEUED'"
    " AND p.tenant_id = f.tenant_id AND p.id = f.plan_id AND (p.status <> 'SCHEDULED' OR p.is_deleted)"
)
# Round robin over tenants, so that nobody's thousand plans of midnight keep the others from theirs.
_DUE = Statement(
    "SELECT tenant_id, id FROM (SELECT tenant_id, id, fire_at,"
    "  row_number() OVER (PARTITION BY tenant_id ORDER BY fire_at, id) AS turn"
    "  FROM (SELECT tenant_id, id, fire_at FROM deployment_plan WHERE NOT is_deleted AND fire_at IS NOT NULL"
    "    AND status = 'SCHEDULED' AND fire_at <= statement_timestamp() ORDER BY fire_at, id LIMIT 2000) due) ranked"
    " ORDER BY turn, fire_at LIMIT :limit"
)
# Recurring plans with a time that waited for an earlier run, which is over now.
_UNBLOCKED = Statement(
    "SELECT DISTINCT f.tenant_id, f.plan_id AS id FROM plan_firing f WHERE f.outcome = 'QUEUED'"
    " AND (f.retry_at IS NULL OR f.retry_at <= statement_timestamp()) AND NOT EXISTS (SELECT 1 FROM deployment_plan c"
    "  WHERE c.tenant_id = f.tenant_id AND c.parent_plan_id = f.plan_id AND NOT c.is_deleted"
    "  AND c.status <> ALL(:over::text[])) LIMIT :limit"
)
# What asks an index for what is due.
TIMERS = (_OUTLIVED, _UNANSWERED, _DUE)
_OVER = sorted(PLAN.closed | PLAN.settled)
# What the end of a plan's time is called where it is.
_EVENTS = {
    PlanStatus.READY: "valid_until_passed",
    PlanStatus.SCHEDULED: "missed_window",
    PlanStatus.WAITING: "expired",
    PlanStatus.PENDING_APPROVAL: "approval_timeout",
}


async def expire(transaction: Transaction, limit: int = 100) -> int:
    """End plans whose validity or time for approval is over. Returns how many that were."""
    outlived = await transaction.fetch(_OUTLIVED, {"limit": limit})
    for plan in outlived:
        await _expire(transaction, plan, f"it was valid until {plan['until']:%Y-%m-%d %H:%M} UTC")
    # Asked for only now: a plan that was both is over already.
    unanswered = await transaction.fetch(_UNANSWERED, {"limit": limit})
    for plan in unanswered:
        await _expire(transaction, plan, f"it was not approved until {plan['until']:%Y-%m-%d %H:%M} UTC")
    return len(outlived) + len(unanswered)


async def due(transaction: Transaction, limit: int = 16) -> list[tuple[int, int]]:
    """The (tenant, plan) of schedules whose time has come. Finding them takes nothing from anybody.

    Who fires them does so in a transaction of its own for each, because working a plan out reads what the role of the
    tick may not, and takes its time.
    """
    await transaction.fetch(_FORGET, {})
    found = [
        *await transaction.fetch(_DUE, {"limit": limit}),
        *await transaction.fetch(_UNBLOCKED, {"limit": limit, "over": _OVER}),
    ]
    return list(dict.fromkeys((row["tenant_id"], row["id"]) for row in found))


async def _expire(transaction: Transaction, plan: Row, message: str) -> None:
    previous = PlanStatus(plan["status"])
    status = PLAN.after(previous, _EVENTS[previous])
    pending = previous is PlanStatus.PENDING_APPROVAL
    reason = StatusReason.APPROVAL_TIMEOUT if pending else StatusReason.NONE
    of_tenant = replace(transaction, tenant_id=plan["tenant_id"])
    await of_tenant.fetch(
        _EXPIRE,
        {
            "tenant": of_tenant.tenant_id,
            "id": plan["id"],
            "status": status.value,
            "reason": reason.value,
            "message": message,
            "actor": of_tenant.actor,
        },
    )
    await journal.append(of_tenant, Stream.PLAN, plan["id"], [plan_event(plan["id"], previous, status, reason)])
