"""Standing plans, and what they hear."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any

from sqlalchemy import select, text

from app.db import journal
from app.db.models import DeploymentPlan, ResourceTemplate
from app.domain.enums import PlanType
from app.domain.events import Event, EventKind, Stream
from app.domain.statuses import PlanStatus
from app.engine.ticking import tick
from app.services import plans, templates
from app.services.plans import CreatePlan, PlanAction, triggering
from app.services.plans.firing import DuePlan
from tests.engine.harness import Workshop
from tests.engine.schedules import WAIT, children, finish, found

HOOK = {"on": "WEBHOOK"}
AFTER_UPSTREAM = {"on": "PLAN_SUCCEEDED", "plan": "upstream"}
# Fails or not, as the call says.
CHECK = {
    "key": "check",
    "type": "CUSTOM",
    "configuration": {"task": "core.assert"},
    "inputs": {"that": "${parameters.good}"},
}
_numbers = itertools.count(1)


async def standing(
    workshop: Workshop,
    *triggers: dict[str, Any],
    name: str = "standing",
    workflow: int | None = None,
    template: int | None = None,
    parameters: dict[str, Any] | None = None,
    given: dict[str, Any] | None = None,
    approvals: dict[str, Any] | None = None,
    **more: Any,
) -> int:
    """A plan that waits for its triggers; its id. Its runs wait a moment, each on the stack of its name.

    `given` are the parameters that triggers give its runs.
    """
    if workflow is None and template is None:
        workflow = await workshop.workflow(WAIT, name=f"flow of {name}")
    said = more if given is None else {**more, "parameters": given}
    configuration: dict[str, Any] = {"automation": {"triggers": list(triggers), **said} if triggers else said}
    if approvals is not None:
        configuration["approvals"] = approvals
    async with workshop.database.write(
        workshop.tenant_id, actor=workshop.principal.actor, correlation_id="test"
    ) as transaction:
        command = CreatePlan(
            name=name,
            type=PlanType.AUTOMATED,
            workflow_id=workflow,
            template_revision_id=template,
            parameters=parameters,
            stack=name,
            configuration=configuration,
        )
        return (await plans.create(transaction, workshop.principal, command, workshop.dependencies)).id


async def hear(workshop: Workshop) -> int:
    """What a scheduler process does until nothing is left to hear; how many plans had to be looked at."""
    looked = 0
    while True:
        ticked = await tick(workshop.database, ring_again_seconds=0)
        for tenant_id, plan_id in ticked.heard_plans:
            looked += await triggering.fire(workshop.database, DuePlan(tenant_id, plan_id), workshop.dependencies)
        again = await tick(workshop.database, ring_again_seconds=0)
        if not again.heard_plans:
            return looked


async def triggers(workshop: Workshop, plan_id: int) -> list[tuple[str, str, str]]:
    """(kind, outcome, reason) of everything the plan has heard, the oldest first."""
    rows = await workshop.rows(
        "SELECT kind, outcome, reason FROM plan_trigger WHERE plan_id = :id ORDER BY id", id=plan_id
    )
    return [tuple(row) for row in rows]


async def drift(workshop: Workshop, stack: str, *, status: str = "MODIFIED", stream: Stream = Stream.PLAN) -> None:
    """Somebody changed a resource of the stack behind our back, and it was found out."""
    (row,) = await workshop.rows(
        "SELECT r.id, r.owner_plan_id, p.last_job_id FROM cloud_resource r JOIN deployment_plan p"
        " ON p.id = r.owner_plan_id WHERE r.stack = :stack LIMIT 1",
        stack=stack,
    )
    event = Event(
        EventKind.RESOURCE_CHANGED,
        {
            "resourceId": row.id,
            "key": "a",
            "previous": "ACTIVE",
            "status": "ACTIVE",
            "drift": status,
        },
    )
    owner = row.owner_plan_id if stream is Stream.PLAN else row.last_job_id
    async with workshop.database.write(workshop.tenant_id, actor="system:drift", correlation_id="test") as transaction:
        transaction.authorize("test")
        await journal.append(transaction, stream, owner, [event])


async def call(workshop: Workshop, plan_id: int, key: str, payload: Any = None) -> None:
    """What the address of the plan's hook leaves when it is called."""
    async with workshop.database.write(workshop.tenant_id, actor="system:hook", correlation_id="test") as transaction:
        transaction.authorize("test")
        await transaction.session.execute(
            text(
                "INSERT INTO plan_trigger (tenant_id, plan_id, kind, key, cause, payload)"
                " VALUES (:tenant, :plan, 'WEBHOOK', CAST(:key AS text), jsonb_build_object('id', CAST(:key AS text)),"
                " CAST(:payload AS jsonb)) ON CONFLICT DO NOTHING"
            ),
            {"tenant": workshop.tenant_id, "plan": plan_id, "key": key, "payload": payload},
        )


async def change(workshop: Workshop, statement: str, **values: Any) -> None:
    """Let something have been otherwise."""
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        await transaction.session.execute(text(statement), values)


async def set_times(workshop: Workshop, time: datetime) -> None:
    """Let the next time of every recurrence have been at `time`."""
    await change(workshop, "UPDATE plan_automation SET fire_at = :time", time=time)


async def publish(workshop: Workshop, content: dict[str, Any], name: str = "template") -> int:
    """The next revision of a template; its id."""
    async with workshop.database.write(
        workshop.tenant_id, actor=workshop.principal.actor, correlation_id="test"
    ) as transaction:
        transaction.authorize("test")
        template = await transaction.session.scalar(
            select(ResourceTemplate).where(ResourceTemplate.template_name == name)
        )
        assert template is not None
        template.template_content = content
        await transaction.session.flush()
        command = templates.TemplateAction(template.id)
        _, revision = await templates.publish(transaction, workshop.principal, command, workshop.dependencies)
        return revision.id


async def act(workshop: Workshop, verb: Any, plan_id: int) -> DeploymentPlan:
    """One of the verbs of `plans` that need no more than the plan."""
    async with workshop.database.write(
        workshop.tenant_id, actor=workshop.principal.actor, correlation_id="test"
    ) as transaction:
        await verb(transaction, workshop.principal, PlanAction(plan_id), workshop.dependencies)
    return await found(workshop, plan_id)


async def newest(workshop: Workshop, plan_id: int) -> DeploymentPlan:
    return (await children(workshop, plan_id))[-1]


async def upstream(workshop: Workshop, name: str = "upstream") -> DeploymentPlan:
    """A plan of this name that has its job, and is not over."""
    flow = await workshop.workflow(WAIT, name=f"flow {next(_numbers)}")
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = CreatePlan(name=name, type=PlanType.IMMEDIATE, workflow_id=flow, stack=f"stack of {name}")
        return await plans.create(transaction, workshop.principal, command, workshop.dependencies)


async def checked(workshop: Workshop, **more: Any) -> int:
    """A plan whose runs fail when they are told to."""
    flow = await workshop.workflow(CHECK)
    declared = '{"type": "object", "properties": {"good": {"type": "boolean"}}}'
    await change(
        workshop,
        "UPDATE workflow SET definition = definition || jsonb_build_object('parameters', CAST(:declared AS jsonb))",
        declared=declared,
    )
    return await standing(
        workshop,
        HOOK,
        workflow=flow,
        parameters={"good": True},
        given={"good": "${trigger.payload.good}"},
        **more,
    )


async def run(workshop: Workshop, plan_id: int, *, good: bool) -> DeploymentPlan:
    """One call and the end of the run it makes."""
    key = f"call {len(await triggers(workshop, plan_id))}"
    await call(workshop, plan_id, key, f'{{"good": {str(good).lower()}}}')
    await hear(workshop)
    ended = await finish(workshop, await newest(workshop, plan_id))
    assert ended.status is (PlanStatus.SUCCEEDED if good else PlanStatus.ROLLED_BACK)
    await hear(workshop)
    return ended
