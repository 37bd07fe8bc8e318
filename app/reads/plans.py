"""Questions about deployment plans."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.db.models import CloudResource, DeploymentPlan, PlanResource
from app.db.pages import Order
from app.domain.statuses import PLAN_STAGES
from app.reads import approvals, rows
from app.reads.filters import PlanFilter

_COLUMNS: dict[str, InstrumentedAttribute[Any]] = {
    "CREATED_AT": DeploymentPlan.created_at,
    "UPDATED_AT": DeploymentPlan.updated_at,
    "SCHEDULED_AT": DeploymentPlan.scheduled_order,
    "STARTED_AT": DeploymentPlan.started_order,
    "NAME": DeploymentPlan.plan_name,
}


def order(by: str = "CREATED_AT", *, descending: bool = True) -> Order:
    """By CREATED_AT, UPDATED_AT, SCHEDULED_AT, STARTED_AT or NAME."""
    return Order(f"plan:{by}:{descending}", (_COLUMNS[by],), DeploymentPlan.id, descending)


def listed(tenant_id: int, wanted: PlanFilter) -> Select[DeploymentPlan]:
    """The tenant's plans that `wanted` describes."""
    staged = None if wanted.stage is None else [status for stage in wanted.stage for status in PLAN_STAGES[stage]]
    return rows.of_tenant(DeploymentPlan, tenant_id).where(
        *rows.one_of(DeploymentPlan.status, wanted.status),
        *rows.one_of(DeploymentPlan.status, staged),
        *rows.one_of(DeploymentPlan.plan_type, wanted.type),
        *rows.text_conditions(DeploymentPlan.plan_name, wanted.name),
        *rows.text_conditions(DeploymentPlan.stack, wanted.stack),
        *rows.tag_conditions(DeploymentPlan.metadata_, wanted.tags),
        *rows.exactly(DeploymentPlan.workflow_id, wanted.workflow_id),
        *rows.exactly(DeploymentPlan.template_id, wanted.template_id),
        *rows.exactly(DeploymentPlan.user_id, wanted.user_id),
        *rows.range_conditions(DeploymentPlan.created_at, wanted.created),
        *rows.range_conditions(DeploymentPlan.scheduled_at, wanted.scheduled),
        *approvals.conditions(wanted.reviewer),
    )


async def by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, DeploymentPlan]:
    return await rows.by_ids(session, rows.of_tenant(DeploymentPlan, tenant_id), ids)


async def resources_of(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, list[CloudResource]]:
    """The resources that each plan works on, by key."""
    query = (
        rows.of_tenant(CloudResource, tenant_id)
        .add_columns(PlanResource.plan_id)
        .join(
            PlanResource,
            (PlanResource.tenant_id == CloudResource.tenant_id) & (PlanResource.resource_id == CloudResource.id),
        )
        .where(PlanResource.tenant_id == tenant_id, PlanResource.plan_id.in_(ids))
        .order_by(CloudResource.resource_key, CloudResource.id)
    )
    found: dict[int, list[CloudResource]] = {plan_id: [] for plan_id in ids}
    for resource, plan_id in await session.execute(query):
        found[plan_id].append(resource)
    return found


async def stacks_changed_at(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, datetime | None]:
    """When a resource of each plan's stack was last written; None where there is none."""
    query = (
        select(DeploymentPlan.id, func.max(CloudResource.updated_at))
        .join(
            CloudResource,
            (CloudResource.tenant_id == DeploymentPlan.tenant_id) & (CloudResource.stack == DeploymentPlan.stack),
        )
        .where(DeploymentPlan.tenant_id == tenant_id, DeploymentPlan.id.in_(ids))
        .group_by(DeploymentPlan.id)
    )
    return {row[0]: row[1] for row in await session.execute(query)}


def of_workflow(tenant_id: int, wanted: PlanFilter) -> rows.Relation[DeploymentPlan]:
    """The plans that execute a workflow, newest first."""
    return _children(tenant_id, DeploymentPlan.workflow_id, wanted)


def of_template(tenant_id: int, wanted: PlanFilter) -> rows.Relation[DeploymentPlan]:
    """The tenant's plans made from any revision of a template, newest first."""
    return _children(tenant_id, DeploymentPlan.template_id, wanted)


def of_revision(tenant_id: int, wanted: PlanFilter) -> rows.Relation[DeploymentPlan]:
    """The tenant's plans made from one revision, newest first."""
    return _children(tenant_id, DeploymentPlan.template_revision_id, wanted)


def of_user(tenant_id: int, wanted: PlanFilter) -> rows.Relation[DeploymentPlan]:
    """The plans that a user made, newest first."""
    return _children(tenant_id, DeploymentPlan.user_id, wanted)


def of_parent(tenant_id: int) -> rows.Relation[DeploymentPlan]:
    """The runs that a recurring plan has spawned, newest first."""
    return _children(tenant_id, DeploymentPlan.parent_plan_id, PlanFilter())


def of_resource(tenant_id: int, wanted: PlanFilter) -> rows.Relation[DeploymentPlan]:
    """The plans that work on a resource, newest first."""
    query = listed(tenant_id, wanted).join(
        PlanResource,
        (PlanResource.tenant_id == DeploymentPlan.tenant_id) & (PlanResource.plan_id == DeploymentPlan.id),
    )
    return rows.Relation(("plans", "resource_id", wanted), query, PlanResource.resource_id, order())


def _children(tenant_id: int, parent: InstrumentedAttribute[Any], wanted: PlanFilter) -> rows.Relation[DeploymentPlan]:
    return rows.Relation(("plans", parent.key, wanted), listed(tenant_id, wanted), parent, order())
