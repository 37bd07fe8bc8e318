"""Plans with schedules, and a clock that is moved by moving what it is compared with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import text

from app.auth.principal import Principal
from app.db.models import DeploymentPlan
from app.domain.enums import PlanType, ReviewDecision
from app.domain.scheduling import Schedule
from app.domain.statuses import PLAN
from app.engine.ticking import tick
from app.services import plans
from app.services.plans import CreatePlan, ReviewPlan
from app.services.plans.firing import DuePlan, fire
from tests.engine.harness import Workshop

WAIT: dict[str, Any] = {
    "key": "wait",
    "type": "CUSTOM",
    "configuration": {"task": "core.wait"},
    "inputs": {"seconds": 0},
}
HALF_AN_HOUR = timedelta(minutes=30)
DAY = timedelta(days=1)


@cache
def half_an_hour_ago() -> datetime:
    """The same minute for all that is asked while the tests run, or they would differ by the minute that passes."""
    return datetime.now(UTC).replace(second=0, microsecond=0) - HALF_AN_HOUR


def daily(**more: Any) -> Schedule:
    """Every day at the time that it was half an hour ago."""
    time = half_an_hour_ago()
    return Schedule("UTC", recurrence=f"{time.minute} {time.hour} * * *", **more)


def once(**more: Any) -> Schedule:
    return Schedule("UTC", at=datetime.now(UTC) + DAY, **more)


async def scheduled(
    workshop: Workshop,
    schedule: Schedule,
    *,
    template: int | None = None,
    workflow: int | None = None,
    approvals: dict[str, Any] | None = None,
    stack: str = "stack",
) -> int:
    """A plan that waits for its time; its id."""
    async with workshop.database.write(
        workshop.tenant_id, actor=workshop.principal.actor, correlation_id="test"
    ) as transaction:
        plan = await plans.create(
            transaction,
            workshop.principal,
            CreatePlan(
                name="plan",
                type=PlanType.SCHEDULED,
                schedule=schedule,
                template_revision_id=template,
                workflow_id=workflow,
                stack=stack,
                configuration=None if approvals is None else {"approvals": approvals},
            ),
            workshop.dependencies,
        )
        return plan.id


async def set_time(workshop: Workshop, plan_id: int, time: datetime) -> None:
    """Let the plan's next run have been due at `time`."""
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        await transaction.session.execute(
            text("UPDATE deployment_plan SET scheduled_at = :time, fire_at = :time WHERE id = :id"),
            {"time": time, "id": plan_id},
        )


async def tick_and_fire(workshop: Workshop) -> int:
    """What a scheduler process does in one round; how many plans there was something to do for."""
    ticked = await tick(workshop.database, ring_again_seconds=0)
    fired = [
        await fire(workshop.database, DuePlan(tenant_id, plan_id), workshop.dependencies)
        for tenant_id, plan_id in ticked.due_plans
    ]
    return sum(fired)


async def found(workshop: Workshop, plan_id: int) -> DeploymentPlan:
    async with workshop.database.read(workshop.tenant_id) as session:
        return await session.get_one(DeploymentPlan, plan_id)


async def children(workshop: Workshop, plan_id: int) -> list[DeploymentPlan]:
    rows = await workshop.rows("SELECT id FROM deployment_plan WHERE parent_plan_id = :id ORDER BY id", id=plan_id)
    return [await found(workshop, row.id) for row in rows]


async def firings(workshop: Workshop, plan_id: int) -> list[tuple[datetime, str]]:
    rows = await workshop.rows("SELECT fire_at, outcome FROM plan_firing WHERE plan_id = :id ORDER BY 1", id=plan_id)
    return [tuple(row) for row in rows]


async def finish(workshop: Workshop, plan: DeploymentPlan) -> DeploymentPlan:
    """Carry the plan's job to its end."""
    assert plan.last_job_id is not None, (plan.status, plan.status_message, plan.diagnostics)
    await workshop.settle(plan.last_job_id)
    ended = await found(workshop, plan.id)
    assert ended.status in PLAN.closed | PLAN.settled
    return ended


async def somebody_else(workshop: Workshop) -> Principal:
    """One more person of the tenant."""
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        number = await transaction.session.scalar(
            text(
                "INSERT INTO app_user (tenant_id, email, display_name, role)"
                " VALUES (:tenant, 'b@acme.test', 'B', 'ADMIN') RETURNING id"
            ),
            {"tenant": workshop.tenant_id},
        )
    assert number is not None
    return replace(workshop.principal, user_id=number)


async def approve(workshop: Workshop, principal: Principal, plan_id: int) -> DeploymentPlan:
    """Let them approve what the plan would do now."""
    seen = (await found(workshop, plan_id)).preview_hash or ""
    async with workshop.database.write(workshop.tenant_id, actor=principal.actor, correlation_id="test") as transaction:
        command = ReviewPlan(plan_id, seen, ReviewDecision.APPROVE)
        await plans.review(transaction, principal, command, workshop.dependencies)
    return await found(workshop, plan_id)
