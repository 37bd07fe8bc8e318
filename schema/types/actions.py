"""What can be done with a plan or a job, and what keeps it from going on."""

from __future__ import annotations

from datetime import datetime

import strawberry

from app.db import models
from app.domain.enums import ActionReason, JobDirection, StatusReason
from app.domain.firing import TriggerOutcome
from app.domain.statuses import PLAN, JobStatus, PlanStatus
from app.services import availability
from schema.context import Info
from schema.enums import PlanAction
from schema.fields import described
from schema.nodes import Node, load

_HELD_UP = (
    StatusReason.APPROVAL_PENDING,
    StatusReason.LOCK_HELD,
    StatusReason.CONCURRENCY_LIMIT,
    StatusReason.QUOTA,
    StatusReason.NO_WORKER,
    StatusReason.GATE,
    StatusReason.CIRCUIT_OPEN,
)

# What may keep the next trigger from making a run, too; that a plan was paused is over when it waits again.
_UNFIRED = (
    StatusReason.CONCURRENCY_LIMIT,
    StatusReason.QUOTA,
    StatusReason.POLICY,
    StatusReason.CONDITION_FALSE,
    StatusReason.DEPENDENCY_FAILED,
)
_OVER = PLAN.closed | PLAN.settled
_WAITS_FOR = {
    StatusReason.USER: "paused until somebody resumes it",
    StatusReason.STEP_FAILED: "paused until somebody decides about its failed steps",
    StatusReason.GATE: "waits for an answer",
}


@strawberry.type(description="Something to be done with a plan or a job, and if not now, why.")
class AvailableAction:
    action: PlanAction
    allowed: bool
    reason: ActionReason
    message: str | None


@strawberry.type(description="Why something does not go on.")
class Blocker:
    reason: StatusReason
    message: str
    since: datetime
    queue_position: int | None = strawberry.field(
        default=None, description="From 1, among the jobs that wait for the same stack, or for room as well."
    )
    # The job that has what is waited for, and the plan that is waited for itself.
    holder_id: strawberry.Private[int | None] = None
    upstream_id: strawberry.Private[int | None] = None

    @described("The job that has to end, or the plan that has to succeed first, where it is one.")
    async def node(self, info: Info) -> Node | None:
        loaders = info.context.loaders
        found: Node | None = (
            await load(loaders.job, self.holder_id, "OrchestrationJob")
            if self.upstream_id is None
            else await load(loaders.plan, self.upstream_id, "DeploymentPlan")
        )
        return found

    @described("When what is waited for may be free, for the first who wait. Null where nobody can tell.")
    async def estimated_start(self, info: Info) -> datetime | None:
        if self.holder_id is None or (self.queue_position or 1) > 1:
            return None
        return await info.context.loaders.completion.load(self.holder_id)


async def actions_of(info: Info, row: models.DeploymentPlan | models.OrchestrationJob) -> list[AvailableAction]:
    """What the viewer can do with a plan or a job now."""
    principal = info.context.principal
    active = row.active_job_id if isinstance(row, models.DeploymentPlan) else None
    job = None if active is None else await info.context.loaders.job.load(active)
    found = (
        availability.plan_actions(row, principal, await info.context.loaders.plan_reviews.load(row.id), job)
        if isinstance(row, models.DeploymentPlan)
        else availability.job_actions(row, principal)
    )
    return [
        AvailableAction(action=PlanAction(item.action), allowed=item.allowed, reason=item.reason, message=item.message)
        for item in found
    ]


async def blockers_of(info: Info, row: models.OrchestrationJob | models.DeploymentPlan) -> list[Blocker]:
    """Why a job or plan does not go on, when it is held up by something else than itself."""
    job_id = row.id if isinstance(row, models.OrchestrationJob) else row.active_job_id
    if row.status == JobStatus.QUEUED and job_id is not None:
        awaited = await _awaited(info, job_id)
        if awaited:
            return awaited
        place = await info.context.loaders.queue_place.load(job_id)
        if place is not None:
            return [
                Blocker(
                    reason=StatusReason.LOCK_HELD,
                    message="another job holds the stack",
                    since=row.updated_at,
                    queue_position=place.number,
                    holder_id=place.holder_id,
                )
            ]
        job = await info.context.loaders.job.load(job_id)
        if job is not None and job.status_reason is StatusReason.CONCURRENCY_LIMIT:
            message = job.status_message or job.status_reason.value
            turn = await info.context.loaders.queue_turn.load(job_id)
            return [Blocker(reason=job.status_reason, message=message, since=job.updated_at, queue_position=turn)]
    if job_id is not None and await info.context.loaders.unattended.load(job_id):
        message = "there is no worker that could begin with it"
        return [Blocker(reason=StatusReason.NO_WORKER, message=message, since=row.updated_at)]
    if isinstance(row, models.DeploymentPlan) and row.status is PlanStatus.WAITING:
        return await _unfired(info, row)
    if row.status_reason not in _HELD_UP and row.status != JobStatus.PAUSED:
        return []
    message = row.status_message or _WAITS_FOR.get(row.status_reason, row.status_reason.value)
    return [Blocker(reason=row.status_reason, message=message, since=row.updated_at)]


async def _awaited(info: Info, job_id: int) -> list[Blocker]:
    """The plans that have to succeed before the job begins. None does where it takes something back."""
    job = await info.context.loaders.job.load(job_id)
    if job is None or job.direction is JobDirection.ROLLBACK:
        return []
    return [
        Blocker(
            reason=StatusReason.DEPENDENCY_FAILED if plan.status in _OVER else StatusReason.DEPENDENCY_PENDING,
            message=f"it depends on the plan '{plan.plan_name}', which is {plan.status}",
            since=job.created_at,
            holder_id=plan.active_job_id,
            upstream_id=plan.id,
        )
        for plan in await info.context.loaders.plan_unmet.load(job.plan_id)
    ]


async def _unfired(info: Info, row: models.DeploymentPlan) -> list[Blocker]:
    """Why the last thing that a standing plan has heard has made no run."""
    trigger = await info.context.loaders.last_trigger.load(row.id)
    if trigger is None or trigger.outcome is TriggerOutcome.SPAWNED or trigger.reason not in _UNFIRED:
        return []
    message = trigger.message or trigger.reason.value
    return [Blocker(reason=trigger.reason, message=message, since=trigger.decided_at or trigger.created_at)]
