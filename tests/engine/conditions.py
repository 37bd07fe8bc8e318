"""Plans with conditions, and a clock that is moved by moving what it is compared with."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import text

from app.domain.enums import PlanType
from app.engine.ticking import tick
from app.services import plans
from app.services.plans import CreatePlan, PlanAction, SignalPlan
from app.services.plans.watching import DueWatch, look, notice
from tests.engine.harness import Workshop, note

GO = "${signals.go.received}"
ACTIVE = '${resources["b"].status == "ACTIVE"}'


async def noted(workshop: Workshop, *names: str) -> int:
    return await workshop.template({"resources": {name: note(name) for name in names}}, "-".join(names))


async def conditional(
    workshop: Workshop,
    when: str = GO,
    *,
    name: str = "waiting",
    template: int | None = None,
    workflow: int | None = None,
    approvals: dict[str, Any] | None = None,
    stack: str = "stack",
    hold: str = "PT0S",
    **condition: str,
) -> int:
    """A plan that waits for its condition, which is true for `hold` before it runs; its id."""
    async with workshop.database.write(
        workshop.tenant_id, actor=workshop.principal.actor, correlation_id="test"
    ) as transaction:
        plan = await plans.create(
            transaction,
            workshop.principal,
            CreatePlan(
                name=name,
                type=PlanType.CONDITIONAL,
                condition={"when": when, "for": hold, **condition},
                template_revision_id=template,
                workflow_id=workflow,
                stack=stack,
                configuration=None if approvals is None else {"approvals": approvals},
            ),
            workshop.dependencies,
        )
        return plan.id


async def signal(workshop: Workshop, plan_id: int, name: str = "go", payload: dict[str, Any] | None = None) -> None:
    async with workshop.database.write(
        workshop.tenant_id, actor=workshop.principal.actor, correlation_id="test"
    ) as transaction:
        command = SignalPlan(plan_id, name, payload)
        await plans.signal(transaction, workshop.principal, command, workshop.dependencies)


async def act(workshop: Workshop, verb: Any, plan_id: int) -> None:
    """Pause, resume, cancel or submit the plan."""
    async with workshop.database.write(
        workshop.tenant_id, actor=workshop.principal.actor, correlation_id="test"
    ) as transaction:
        await verb(transaction, workshop.principal, PlanAction(plan_id), workshop.dependencies)


async def tick_and_look(workshop: Workshop) -> int:
    """What a scheduler process does in two rounds, so that what it notices is looked at; how many were looked at."""
    looked = []
    for _ in range(2):
        ticked = await tick(workshop.database, ring_again_seconds=0)
        for tenant_id in ticked.stirred:
            await notice(workshop.database, tenant_id)
        looked += [
            await look(workshop.database, DueWatch(tenant_id, plan_id), workshop.dependencies)
            for tenant_id, plan_id in ticked.due_watches
        ]
    return sum(looked)


async def let_pass(workshop: Workshop, plan_id: int, time: timedelta) -> None:
    """Let what the plan remembers be older by so much, and its timer be nearer."""
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        earlier = ", ".join(
            f"{column} = {column} - CAST(:time AS interval)"
            for column in ("true_since", "seen_at", "fired_at", "look_at")
        )
        await transaction.session.execute(
            text(f"UPDATE plan_watch SET {earlier} WHERE plan_id = :id"),
            {"time": time, "id": plan_id},
        )


async def evaluations(workshop: Workshop, plan_id: int) -> list[Any]:
    """Oldest first."""
    return await workshop.rows(
        "SELECT result, trigger, inputs, skip_reason, message, spawned_plan_id, times FROM condition_evaluation"
        " WHERE plan_id = :id ORDER BY at, id",
        id=plan_id,
    )


async def watched(workshop: Workshop, plan_id: int) -> list[Any]:
    return await workshop.rows("SELECT * FROM plan_watch WHERE plan_id = :id", id=plan_id)


async def set_resource(workshop: Workshop, status: str) -> None:
    """Without telling anybody, as if it had been missed."""
    await write(workshop, f"UPDATE cloud_resource SET status = '{status}' WHERE resource_key = 'b'")


async def write(workshop: Workshop, statement: str) -> None:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        await transaction.session.execute(text(statement))
