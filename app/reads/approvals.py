"""Questions about reviews: what was said of a plan, and which plans wait for somebody's word."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, exists, false, func, not_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Approval, DeploymentPlan, Gate, StepRun
from app.domain.enums import GateKind
from app.domain.statuses import PlanStatus, StepStatus
from app.reads.filters import Reviewer

_MOST = 100


async def of_plans(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, list[Approval]]:
    """The newest reviews of each plan, the newest last; at most a hundred of each."""
    numbered = (
        select(
            Approval.id,
            func.row_number().over(partition_by=Approval.plan_id, order_by=Approval.id.desc()).label("place"),
        )
        .where(Approval.tenant_id == tenant_id, Approval.plan_id.in_(ids))
        .subquery()
    )
    query = (
        select(Approval)
        .join(numbered, numbered.c.id == Approval.id)
        .where(Approval.tenant_id == tenant_id, numbered.c.place <= _MOST)
        .order_by(Approval.id)
    )
    found: dict[int, list[Approval]] = {plan_id: [] for plan_id in ids}
    for row in await session.scalars(query):
        found[row.plan_id].append(row)
    return found


def conditions(reviewer: Reviewer | None) -> list[ColumnElement[bool]]:
    """What it means for a plan to wait for the reviewer's approval, or not to; nothing for None."""
    if reviewer is None:
        return []
    waits = or_(_waits_for(reviewer) if reviewer.may_approve else false(), _asks(reviewer))
    return [waits if reviewer.waited_for else not_(waits)]


def _asks(reviewer: Reviewer) -> ColumnElement[bool]:
    """Whether a step of the plan's job asks something that the reviewer may answer."""
    actor = f"user:{reviewer.user_id}"
    named = [Gate.approvers.any_() == actor, func.coalesce(Gate.delegations.contains([{"to": actor}]), false())]
    if reviewer.may_approve:
        named.append(func.cardinality(Gate.approvers) == 0)
    return exists().where(
        StepRun.tenant_id == DeploymentPlan.tenant_id,
        StepRun.job_id == DeploymentPlan.active_job_id,
        StepRun.status == StepStatus.WAITING,
        Gate.tenant_id == StepRun.tenant_id,
        Gate.step_run_id == StepRun.id,
        Gate.closed_at.is_(None),
        Gate.kind.in_((GateKind.APPROVAL, GateKind.INPUT)),
        or_(*named),
    )


def _waits_for(reviewer: Reviewer) -> ColumnElement[bool]:
    """The same as `Council` says of one plan, of all plans at once."""
    authors_count = DeploymentPlan.configuration["approvals"]["authorMayApprove"].as_boolean()
    is_author = or_(
        func.coalesce(DeploymentPlan.user_id == reviewer.user_id, false()),
        func.coalesce(DeploymentPlan.submitted_by_id == reviewer.user_id, false()),
    )
    has_spoken = exists().where(
        Approval.tenant_id == DeploymentPlan.tenant_id,
        Approval.plan_id == DeploymentPlan.id,
        Approval.round == DeploymentPlan.review_round,
        Approval.preview_hash == DeploymentPlan.preview_hash,
        Approval.user_id == reviewer.user_id,
    )
    return and_(
        DeploymentPlan.status == PlanStatus.PENDING_APPROVAL,
        or_(not_(is_author), func.coalesce(authors_count, false())),
        not_(has_spoken),
    )
