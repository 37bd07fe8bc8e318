"""What a plan's rollback would do if it failed: asked before anybody executes it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.principal import Principal
from app.db.models import DeploymentPlan, OrchestrationJob, StepAttempt, StepRun
from app.domain.enums import JobDirection, Permission
from app.domain.errors import Forbidden, NotFound
from app.domain.planning.forecast import Forecast, forecast
from app.services.dependencies import Dependencies
from app.services.planning import deployment_of
from app.services.plans.passage import intention_of

_LATEST = 500


async def rollback_preview(
    session: AsyncSession, principal: Principal, plan_id: int, fail_at: str | None, dependencies: Dependencies
) -> tuple[Forecast, float | None]:
    """Work the plan out as it would run now, and let it fail at `fail_at`; nothing is stored. The second is how many
    seconds its undoing would take, going by the tenant's latest ones; None where some of it was never undone.

    Raises Forbidden, NotFound, and Invalid for a step that there is not or a plan that cannot be worked out.
    """
    if not principal.may(Permission.READ):
        message = "previewing needs READ"
        raise Forbidden(message, required=Permission.READ)
    found = await session.execute(
        select(DeploymentPlan).where(
            DeploymentPlan.tenant_id == principal.tenant_id,
            DeploymentPlan.id == plan_id,
            ~DeploymentPlan.is_deleted,
        )
    )
    plan = found.scalar_one_or_none()
    if plan is None:
        message = "there is no such plan"
        raise NotFound(message, path=("planId",))
    deployment = await deployment_of(session, intention_of(plan, principal.tenant_slug, dependencies), dependencies)
    found_out = await asyncio.to_thread(forecast, deployment, plan.failure_strategy, plan.rollback_scope, fail_at)
    types = {change.key: change.type for change in deployment.changes}
    return found_out, _duration(found_out, types, await _durations(session, principal.tenant_id))


async def _durations(session: AsyncSession, tenant_id: int) -> dict[str, float]:
    """The median of the seconds that the latest undoings took, by resource type or task."""
    latest = (
        select(StepAttempt.step_run_id, StepAttempt.started_at, StepAttempt.ended_at)
        .where(
            StepAttempt.tenant_id == tenant_id,
            StepAttempt.direction == JobDirection.ROLLBACK,
            StepAttempt.ended_at.is_not(None),
            StepAttempt.error.is_(None),
        )
        .order_by(StepAttempt.id.desc())
        .limit(_LATEST)
        .subquery()
    )
    kind = func.coalesce(StepRun.spec["type"].astext, StepRun.spec["task"].astext)
    taken = func.extract("epoch", latest.c.ended_at - latest.c.started_at)
    rows = await session.execute(
        select(kind, func.percentile_cont(0.5).within_group(taken))
        .join(latest, (StepRun.tenant_id == tenant_id) & (StepRun.id == latest.c.step_run_id))
        .join(
            OrchestrationJob,
            (OrchestrationJob.tenant_id == StepRun.tenant_id)
            & (OrchestrationJob.id == StepRun.job_id)
            & ~OrchestrationJob.simulated,
        )
        .group_by(kind)
    )
    return {name: float(seconds) for name, seconds in rows}


def _duration(found: Forecast, types: Mapping[str, str], known: Mapping[str, float]) -> float | None:
    rounds: dict[int, float] = {}
    for one in found.compensations:
        seconds = known.get(types[one.key])
        if seconds is None:
            return None
        rounds[one.order] = max(rounds.get(one.order, 0.0), seconds)
    return sum(rounds.values())
