"""Questions about what standing plans have heard: what made a run, and what came of the last trigger."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from app.db.models import DeploymentPlan, PlanTrigger


async def of_runs(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, PlanTrigger]:
    """By run: the trigger that made it, the first of several that say the same."""
    return await _one(session, tenant_id, ids, PlanTrigger.child_plan_id, PlanTrigger.id.asc())


async def latest(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, PlanTrigger]:
    """By standing plan: the trigger that it heard last."""
    return await _one(session, tenant_id, ids, PlanTrigger.plan_id, PlanTrigger.id.desc())


async def _one(
    session: AsyncSession,
    tenant_id: int,
    ids: Sequence[int],
    column: InstrumentedAttribute[int] | InstrumentedAttribute[int | None],
    order: ColumnElement[int],
) -> dict[int, PlanTrigger]:
    """The first in `order` of each plan: one step into an index for each, however much they have heard."""
    wanted = select(DeploymentPlan.id).where(DeploymentPlan.tenant_id == tenant_id, DeploymentPlan.id.in_(ids))
    plans = wanted.subquery()
    first = (
        select(PlanTrigger)
        .where(PlanTrigger.tenant_id == tenant_id, column == plans.c.id)
        .order_by(order)
        .limit(1)
        .lateral()
    )
    trigger = aliased(PlanTrigger, first)
    rows = await session.execute(select(plans.c.id, trigger).select_from(plans.join(first, true())))
    return {row[0]: row[1] for row in rows}
