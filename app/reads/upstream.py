"""Questions about plans that depend on plans."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import DeploymentPlan, PlanDependency
from app.domain.statuses import PlanStatus
from app.reads import plans, rows
from app.reads.filters import PlanFilter


async def of_plans(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, list[DeploymentPlan]]:
    """What each plan depends on, the oldest first."""
    query = (
        rows.of_tenant(DeploymentPlan, tenant_id)
        .add_columns(PlanDependency.plan_id)
        .join(
            PlanDependency,
            (PlanDependency.tenant_id == DeploymentPlan.tenant_id) & (PlanDependency.upstream_id == DeploymentPlan.id),
        )
        .where(PlanDependency.tenant_id == tenant_id, PlanDependency.plan_id.in_(ids))
        .order_by(DeploymentPlan.id)
    )
    found: dict[int, list[DeploymentPlan]] = {plan_id: [] for plan_id in ids}
    for upstream, plan_id in await session.execute(query):
        found[plan_id].append(upstream)
    return found


async def unmet(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, list[DeploymentPlan]]:
    """Those of them that each plan still waits for."""
    found = await of_plans(session, tenant_id, ids)
    return {
        plan_id: [upstream for upstream in upstreams if upstream.status is not PlanStatus.SUCCEEDED]
        for plan_id, upstreams in found.items()
    }


def dependents(tenant_id: int) -> rows.Relation[DeploymentPlan]:
    """The plans that depend on a plan, newest first."""
    query = plans.listed(tenant_id, PlanFilter()).join(
        PlanDependency,
        (PlanDependency.tenant_id == DeploymentPlan.tenant_id) & (PlanDependency.plan_id == DeploymentPlan.id),
    )
    return rows.Relation("plan.dependents", query, PlanDependency.upstream_id, plans.order())
