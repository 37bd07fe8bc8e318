"""Standing plans: whatever they hear becomes a plan of its own, once, or a reason why not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.db.models import DeploymentPlan
from app.domain.enums import PlanType, StatusReason
from app.domain.errors import DomainError, Invalid
from app.domain.events import Stream
from app.domain.identity import global_id
from app.domain.statuses import PlanStatus
from app.engine import automation
from app.engine.ticking import tick
from app.services import plans
from app.services.plans import UpdatePlan, spawning, triggering
from app.services.plans.firing import DuePlan
from tests.engine.harness import Workshop, note
from tests.engine.schedules import DAY, WAIT, approve, children, finish, found, half_an_hour_ago, somebody_else
from tests.engine.standing import act, call, drift, hear, newest, standing, triggers

HOOK = {"on": "WEBHOOK"}
BROKEN = {**WAIT, "configuration": {"task": "core.fail"}, "inputs": {}}


async def succeed(workshop: Workshop, name: str = "upstream") -> int:
    """A plan of this name that has succeeded; its id."""
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = plans.CreatePlan(
            name=name, type=PlanType.IMMEDIATE, workflow_id=await workshop.workflow(WAIT, name=f"{name}'s flow")
        )
        plan = await plans.create(transaction, workshop.principal, command, workshop.dependencies)
        job_id, plan_id = plan.last_job_id, plan.id
    assert job_id is not None
    await workshop.settle(job_id)
    return plan_id


async def test_the_success_of_another_plan_is_heard_once(workshop: Workshop) -> None:
    earlier = await succeed(workshop)
    plan_id = await standing(workshop, {"on": "PLAN_SUCCEEDED", "plan": "upstream"})
    assert (await found(workshop, plan_id)).status is PlanStatus.WAITING
    await hear(workshop)
    assert await triggers(workshop, plan_id) == [], earlier
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = plans.CreatePlan(
            name="upstream", type=PlanType.IMMEDIATE, stack="u", workflow_id=await workshop.workflow(WAIT, name="u")
        )
        job_id = (await plans.create(transaction, workshop.principal, command, workshop.dependencies)).last_job_id
    assert job_id is not None
    await hear(workshop)
    assert await children(workshop, plan_id) == []
    await workshop.settle(job_id)
    await hear(workshop)
    plan, (child,) = await found(workshop, plan_id), await children(workshop, plan_id)
    assert (plan.status, plan.last_job_id) == (PlanStatus.WAITING, None)
    assert (child.plan_type, child.created_by, child.configuration) == (PlanType.IMMEDIATE, "system:scheduler", None)
    assert await triggers(workshop, plan_id) == [("PLAN_SUCCEEDED", "SPAWNED", "NONE")]
    assert (await finish(workshop, child)).status is PlanStatus.SUCCEEDED
    await hear(workshop)
    assert len(await children(workshop, plan_id)) == 1
