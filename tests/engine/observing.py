"""Looking at resources in tests: an observer of the workshop, its rounds, and notes that somebody else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app.db.models import CloudResource, DeploymentPlan
from app.domain.enums import PlanType
from app.engine.connections import Connections
from app.engine.observations import Archivist
from app.engine.observing import Observer
from app.providers.sessions import Sessions
from app.services import drift, plans
from app.services.drift import OfResource
from app.services.plans import CreatePlan
from tests.engine.harness import SEALER, Workshop
from workers.observing import observe_once


def observer(workshop: Workshop) -> Observer:
    """Another worker's."""
    registry = workshop.registry
    connections = Connections(workshop.database, SEALER, Sessions(registry), {"core": {}})
    return Observer(workshop.database, Archivist(registry, SEALER), connections, workshop.folder)


async def go_round(workshop: Workshop) -> int:
    """What a worker does in one round; how many resources it looked at."""
    return await observe_once(workshop.database, observer(workshop), workshop.dependencies, 8)


async def deployed(
    workshop: Workshop, template: int, configuration: dict[str, Any] | None = None, **more: Any
) -> DeploymentPlan:
    """A plan that has succeeded."""
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = CreatePlan(
            name="plan",
            type=PlanType.IMMEDIATE,
            template_revision_id=template,
            stack="stack",
            configuration=configuration,
            **more,
        )
        plan = await plans.create(transaction, workshop.principal, command, workshop.dependencies)
        job_id = plan.last_job_id
    assert job_id is not None
    await workshop.settle(job_id)
    plan = await workshop.plan_of(job_id)
    assert plan.status == "SUCCEEDED", plan.status_message
    return plan


async def resource(workshop: Workshop, key: str = "a") -> CloudResource:
    """The newest row of the key."""
    (row,) = await workshop.rows(
        "SELECT id FROM cloud_resource WHERE resource_key = :key ORDER BY id DESC LIMIT 1", key=key
    )
    async with workshop.database.read(workshop.tenant_id) as session:
        return await session.get_one(CloudResource, row.id)


async def refresh(workshop: Workshop, key: str = "a") -> None:
    """Somebody asks for it."""
    found = await resource(workshop, key)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        await drift.refresh(transaction, workshop.principal, OfResource(found.id))


async def change(workshop: Workshop, statement: str, **values: Any) -> None:
    """Let the rows be otherwise: time is moved by moving what it is compared with."""
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        await transaction.session.execute(text(statement), values)


def path_of(workshop: Workshop, name: str) -> Path:
    (found,) = workshop.folder.rglob(f"notes/**/{name}.json")
    return found


def tamper(workshop: Workshop, name: str, **other: Any) -> None:
    """Somebody changes a note behind our back."""
    path = path_of(workshop, name)
    path.write_text(json.dumps({**json.loads(path.read_text()), **other}))


async def told(workshop: Workshop, plan_id: int) -> list[tuple[str, str]]:
    """The status and drift of resources that the plan's journal tells of."""
    rows = await workshop.rows(
        "SELECT data->>'status' AS status, data->>'drift' AS drift FROM event_log WHERE stream = 'PLAN'"
        " AND stream_id = :id AND kind = 'ResourceChanged' ORDER BY seq",
        id=plan_id,
    )
    return [tuple(row) for row in rows]
