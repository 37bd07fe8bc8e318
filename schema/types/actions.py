"""What can be done with a plan or a job, and what keeps it from going on."""

from __future__ import annotations

from datetime import datetime

import strawberry

from app.db import models
from app.domain.enums import StatusReason
from app.services import availability
from schema.context import Info
from schema.enums import PlanAction

_HELD_UP = (
    StatusReason.APPROVAL_PENDING,
    StatusReason.LOCK_HELD,
    StatusReason.CONCURRENCY_LIMIT,
    StatusReason.QUOTA,
    StatusReason.NO_WORKER,
    StatusReason.GATE,
    StatusReason.CIRCUIT_OPEN,
)


@strawberry.type(description="Something to be done with a plan or a job, and if not now, why.")
class AvailableAction:
    action: PlanAction
    allowed: bool
    reason: StatusReason
    message: str | None


@strawberry.type(description="Why something does not go on.")
class Blocker:
    reason: StatusReason
    message: str
    since: datetime


async def actions_of(info: Info, row: models.DeploymentPlan | models.OrchestrationJob) -> list[AvailableAction]:
    """What the viewer can do with a plan or a job now."""
    principal = info.context.principal
    found = (
        availability.plan_actions(row, principal, await info.context.loaders.plan_reviews.load(row.id))
        if isinstance(row, models.DeploymentPlan)
        else availability.job_actions(row, principal)
    )
    return [
        AvailableAction(action=PlanAction(item.action), allowed=item.allowed, reason=item.reason, message=item.message)
        for item in found
    ]


def blockers_of(row: models.OrchestrationJob | models.DeploymentPlan) -> list[Blocker]:
    """Why a job or plan does not go on, when it is held up by something else than itself."""
    if row.status_reason not in _HELD_UP:
        return []
    message = row.status_message or row.status_reason.value
    return [Blocker(reason=row.status_reason, message=message, since=row.updated_at)]
