"""What a plan's rollback would do if it failed: asked before anybody executes it."""

from __future__ import annotations

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.principal import Principal
from app.domain.enums import JobDirection, Permission
from app.domain.errors import Forbidden
from app.domain.estimating import in_rounds, seconds_of
from app.domain.planning.forecast import Forecast, forecast
from app.reads.estimates import usual_seconds
from app.services.dependencies import Dependencies
from app.services.planning import deployment_of, intention_of, plan_of


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
    plan = await plan_of(session, principal.tenant_id, plan_id, "planId")
    deployment = await deployment_of(session, intention_of(plan, principal.tenant_slug, dependencies), dependencies)
    found_out = await asyncio.to_thread(forecast, deployment, plan.failure_strategy, plan.rollback_scope, fail_at)
    steps = {change.key: change for change in deployment.changes}
    usual = await usual_seconds(session, principal.tenant_id, JobDirection.ROLLBACK)
    seconds = (
        (one.order, seconds_of(steps[one.key].type, steps[one.key].action, usual)) for one in found_out.compensations
    )
    return found_out, in_rounds(seconds)
