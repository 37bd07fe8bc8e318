"""Approving and rejecting plans, and sending those back that are no longer what was approved."""

from __future__ import annotations

from dataclasses import dataclass

from app import clock
from app.auth.principal import Principal
from app.db import journal
from app.db.models import Approval, DeploymentPlan
from app.db.uow import Transaction
from app.domain.enums import Permission, ReviewDecision, StatusReason
from app.domain.errors import Conflict, IllegalState, Invalid, PolicyDenied, Required, StalePreview
from app.domain.events import Event, EventKind, Stream
from app.domain.policies import overridable
from app.domain.statuses import PLAN, PlanStatus
from app.services import launching
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies
from app.services.plans import councils, passage
from app.services.plans.authoring import find
from app.services.records import store

_COMMENT_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class ReviewPlan:
    """What somebody says of the preview with this hash."""

    plan_id: int
    preview_hash: str
    decision: ReviewDecision
    comment: str | None = None


async def review(
    transaction: Transaction, principal: Principal, command: ReviewPlan, dependencies: Dependencies
) -> DeploymentPlan:
    """Record a review. One rejection is enough to reject; with the last approval needed the plan goes on at once.

    Raises StalePreview when the hash is not that of the plan's preview, PolicyDenied for an author who may not approve,
    Required where the plan fails a policy and nobody says why that is all right.
    """
    authorize(transaction, principal, Permission.APPROVE)
    plan = await find(transaction, command.plan_id, None)
    if plan.status is not PlanStatus.PENDING_APPROVAL:
        message = f"a plan that is {plan.status} is not waiting for approval"
        raise IllegalState(message, status=plan.status, path=("planId",))
    _in_time(plan)
    if command.comment is not None and len(command.comment) > _COMMENT_LIMIT:
        message = f"a comment has at most {_COMMENT_LIMIT} characters"
        raise Invalid(message, path=("comment",))
    if command.preview_hash != plan.preview_hash:
        message = "this is not what the plan would do now"
        raise StalePreview(message, current=plan.preview, path=("previewHash",))
    policy = councils.quorum_of(plan)
    approves = command.decision is ReviewDecision.APPROVE
    if approves and councils.bars(await councils.convene(transaction, plan, policy), principal):
        message = "whoever made or submitted a plan does not approve it"
        raise PolicyDenied(message, path=("planId",))
    if approves and overridable(councils.findings_of(plan)) and not (command.comment or "").strip():
        message = "the plan fails a policy: whoever approves it says why"
        raise Required(message, path=("comment",))
    await _record(transaction, principal, plan, command)
    if not approves:
        plan.completed_at = clock.utc_now()
        await launching.move_plan(transaction, plan, "reject", StatusReason.USER, command.comment)
    elif (await councils.convene(transaction, plan, policy)).agreed:
        await launching.move_plan(transaction, plan, "quorum_reached")
        await passage.go_on(transaction, principal, plan, dependencies)
    return plan


async def send_back(
    transaction: Transaction, principal: Principal, plan_id: int, dependencies: Dependencies
) -> DeploymentPlan:
    """After a refusal with StalePreview: work the plan out anew if what it would do has really changed.

    The refusal wrote nothing, so this is a transaction of its own; whoever is refused next does it where it was lost.
    """
    authorize(transaction, principal, Permission.EXECUTE)
    plan = await find(transaction, plan_id, None)
    if PLAN.permits(plan.status, "preview_stale") and (
        await passage.unchanged(transaction, principal, plan, dependencies) is None
    ):
        await passage.revalidate(transaction, principal, plan, dependencies)
    return plan


def _in_time(plan: DeploymentPlan) -> None:
    now = clock.utc_now()
    for moment in (plan.valid_until, plan.approval_deadline):
        if moment is not None and moment <= now:
            message = f"there was time for it until {moment:%Y-%m-%d %H:%M} UTC"
            raise IllegalState(message, status=plan.status, path=("planId",))


async def _record(transaction: Transaction, principal: Principal, plan: DeploymentPlan, command: ReviewPlan) -> None:
    row = Approval(
        tenant_id=transaction.tenant_id,
        plan_id=plan.id,
        user_id=principal.user_id,
        approved=command.decision is ReviewDecision.APPROVE,
        preview_hash=command.preview_hash,
        round=plan.review_round,
        comment=command.comment,
        created_by=transaction.actor,
        updated_by=transaction.actor,
    )
    again = Conflict("you have approved this already", path=("planId",))
    await store(transaction, row, {"uq_approval_tenant_id_plan_id_round_user_id_approved": again})
    data = {"planId": plan.id, "userId": row.user_id, "decision": command.decision.value, "hash": row.preview_hash}
    if command.comment is not None:
        data["comment"] = command.comment
    await journal.append(transaction, Stream.PLAN, plan.id, [Event(EventKind.REVIEW_SUBMITTED, data)])
