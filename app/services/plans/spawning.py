"""Makes the child plan of one time of a recurring plan: a copy that is worked out now and keeps what it then was."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from app.db import journal
from app.db.following import plan_event
from app.db.models import Approval, DeploymentPlan
from app.db.uow import Transaction
from app.domain.enums import PlanType, StatusReason
from app.domain.errors import DomainError
from app.domain.events import Stream
from app.domain.statuses import PlanStatus
from app.services import launching, upstream
from app.services.dependencies import Dependencies
from app.services.plans import passage
from app.services.plans.changed import Agreement


@dataclass(frozen=True, slots=True)
class Clockwork:
    """Who asks when nobody does."""

    tenant_slug: str


async def spawn(
    transaction: Transaction,
    clockwork: Clockwork,
    plan: DeploymentPlan,
    time: datetime | None,
    dependencies: Dependencies,
    **changes: Any,
) -> DeploymentPlan:
    """The child of `plan` for `time`, led as far as it goes: to its job, to its own approval, or to INVALID.

    `changes` are columns in which it differs from the plan.
    """
    child = DeploymentPlan(
        tenant_id=transaction.tenant_id,
        user_id=plan.user_id,
        submitted_by_id=plan.submitted_by_id,
        workflow_id=plan.workflow_id,
        template_tenant_id=plan.template_tenant_id,
        template_id=plan.template_id,
        template_revision_id=plan.template_revision_id,
        # Expressions may name the plan, so a child of another name would do something else.
        plan_name=plan.plan_name,
        description=plan.description,
        plan_type=PlanType.IMMEDIATE,
        stack=plan.stack,
        configuration=plan.configuration,
        parameters=plan.parameters,
        target=plan.target,
        only_keys=plan.only_keys,
        constraints=plan.constraints,
        metadata_=plan.metadata_,
        failure_strategy=plan.failure_strategy,
        rollback_scope=plan.rollback_scope,
        valid_until=plan.valid_until,
        parent_plan_id=plan.id,
        scheduled_at=time,
        created_by=transaction.actor,
        updated_by=transaction.actor,
    )
    for column, value in changes.items():
        setattr(child, column, value)
    transaction.session.add(child)
    await transaction.session.flush()
    first = plan_event(child.id, PlanStatus.DRAFT, PlanStatus.DRAFT, StatusReason.NONE)
    first.data["previous"] = None
    await journal.append(transaction, Stream.PLAN, child.id, [first])
    await _inherit_reviews(transaction, plan, child)
    await upstream.inherit(transaction, plan, child)
    await launching.move_plan(transaction, child, "submit")
    message = None if plan.review_round == 0 else "what it would do is not what was approved of its plan"
    agreement = Agreement.of(plan)
    await passage.pass_on(
        transaction, clockwork, child, dependencies, kept=(DomainError,), message=message, agreement=agreement
    )
    return child


async def _inherit_reviews(transaction: Transaction, plan: DeploymentPlan, child: DeploymentPlan) -> None:
    """What was said of the plan was said of every run of it that does the same; the hash tells whether it does."""
    found = await transaction.session.execute(
        select(Approval)
        .where(
            Approval.tenant_id == transaction.tenant_id,
            Approval.plan_id == plan.id,
            Approval.round == plan.review_round,
        )
        .order_by(Approval.id)
    )
    child.review_round = plan.review_round
    transaction.session.add_all(
        Approval(
            tenant_id=row.tenant_id,
            plan_id=child.id,
            user_id=row.user_id,
            approved=row.approved,
            preview_hash=row.preview_hash,
            round=row.round,
            comment=row.comment,
            created_at=row.created_at,
            created_by=row.created_by,
            updated_by=transaction.actor,
        )
        for row in found.scalars()
    )
