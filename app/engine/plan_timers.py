"""Timers of plans that have not begun: what nobody acted on in time is over.

A timer is a column and not a message: whoever ticks after its time does what is due. Plans that somebody holds are left
for the next tick, and what is found is decided anew under the plan's lock, so that many ticks never do it twice.
"""

from __future__ import annotations

from dataclasses import replace

from app.db import journal
from app.db.ledger import plan_event
from app.db.statements import Row, Statement
from app.db.uow import Transaction
from app.domain.enums import StatusReason
from app.domain.events import Stream
from app.domain.statuses import PLAN, PlanStatus

# Two statements instead of one with OR: each has an index of exactly the plans that it is about.
_OUTLIVED = Statement(
    "SELECT tenant_id, id, status, valid_until AS until FROM deployment_plan WHERE NOT is_deleted"
    " AND valid_until IS NOT NULL AND status IN ('PENDING_APPROVAL', 'READY', 'SCHEDULED', 'WAITING')"
    " AND valid_until <= clock_timestamp() ORDER BY valid_until LIMIT :limit FOR UPDATE SKIP LOCKED"
)
_UNANSWERED = Statement(
    "SELECT tenant_id, id, status, approval_deadline AS until FROM deployment_plan WHERE NOT is_deleted"
    " AND approval_deadline IS NOT NULL AND status = 'PENDING_APPROVAL' AND approval_deadline <= clock_timestamp()"
    " ORDER BY approval_deadline LIMIT :limit FOR UPDATE SKIP LOCKED"
)
_EXPIRE = Statement(
    "UPDATE deployment_plan SET status = :status, status_reason = :reason, status_message = :message,"
    " completed_at = clock_timestamp(), version = version + 1, updated_at = now(), updated_by = :actor"
    " WHERE tenant_id = :tenant AND id = :id"
)
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
