"""What a condition reads: the tenant's resources, plans, jobs and signals that it names, and the time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, String, column, func, literal, select, true, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.db.models import CloudResource, DeploymentPlan, OrchestrationJob, PlanSignal
from app.db.sealing import masked
from app.domain.conditions import Condition, Root, resource_name, time_scope
from app.domain.statuses import RESOURCE, stage_of


async def scope(
    session: AsyncSession, tenant_id: int, plan: DeploymentPlan, condition: Condition, now: datetime
) -> dict[str, Any]:
    """What the expression of `condition` sees. What does not exist is not in it; secrets are {"$sensitive": true}.

    A statement for each of resources, plans with their last jobs, and signals, however many are named.
    """
    newest = await _newest_plans(
        session, tenant_id, (*condition.names(Root.PLANS), *condition.names(Root.JOBS)), plan.id
    )
    return {
        Root.RESOURCES.value: await _resources(session, tenant_id, plan, condition.names(Root.RESOURCES)),
        Root.PLANS.value: {name: _plan(found) for name, (found, _) in newest.items()},
        Root.JOBS.value: {name: _job(job) for name, (_, job) in newest.items() if job is not None},
        Root.SIGNALS.value: await _signals(session, tenant_id, plan, condition.names(Root.SIGNALS)),
        Root.TIME.value: time_scope(now, condition.time_zone),
    }


async def _resources(
    session: AsyncSession, tenant_id: int, plan: DeploymentPlan, names: tuple[str, ...]
) -> dict[str, Any]:
    """Those that exist; what was deleted or given away does not."""
    if not names:
        return {}
    asked = {name: resource_name(name, plan.stack) for name in names}
    query = select(CloudResource).where(
        CloudResource.tenant_id == tenant_id,
        tuple_(CloudResource.stack, CloudResource.resource_key).in_(list(asked.values())),
        CloudResource.status.not_in(RESOURCE.closed),
    )
    rows = {(row.stack, row.resource_key): row for row in await session.scalars(query)}
    return {name: _resource(rows[place]) for name, place in asked.items() if place in rows}


async def _newest_plans(
    session: AsyncSession, tenant_id: int, names: tuple[str, ...], own: int
) -> dict[str, tuple[DeploymentPlan, OrchestrationJob | None]]:
    """By name: the newest plan that has it, and its last job. Runs of a recurring plan have its name, too."""
    if not names:
        return {}
    given = literal(list(dict.fromkeys(names)), ARRAY(String))
    asked = func.unnest(given).table_valued(column("name", String), name="asked")
    newest = (
        select(DeploymentPlan)
        .where(
            DeploymentPlan.tenant_id == tenant_id,
            DeploymentPlan.plan_name == asked.c.name,
            DeploymentPlan.id != own,
            ~DeploymentPlan.is_deleted,
        )
        .order_by(DeploymentPlan.id.desc())
        .limit(1)
        .lateral("newest")
    )
    plan = aliased(DeploymentPlan, newest)
    query = (
        select(asked.c.name, plan, OrchestrationJob)
        .select_from(asked)
        .join(plan, true())
        .outerjoin(
            OrchestrationJob,
            (OrchestrationJob.tenant_id == plan.tenant_id) & (OrchestrationJob.id == plan.last_job_id),
        )
        .execution_options(populate_existing=True)
    )
    return {name: (found, job) for name, found, job in await session.execute(query)}


async def _signals(
    session: AsyncSession, tenant_id: int, plan: DeploymentPlan, names: tuple[str, ...]
) -> dict[str, Any]:
    if not names:
        return {}
    query = select(PlanSignal).where(
        PlanSignal.tenant_id == tenant_id, PlanSignal.plan_id == plan.id, PlanSignal.name.in_(names)
    )
    none = {"received": False, "payload": None, "at": None, "count": 0}
    found: dict[str, Any] = dict.fromkeys(names, none)
    for row in await session.scalars(query.execution_options(populate_existing=True)):
        found[row.name] = {
            "received": True,
            "payload": row.payload,
            "at": _instant(row.received_at),
            "count": row.count,
        }
    return found


def _resource(row: CloudResource) -> dict[str, Any]:
    return {
        "status": row.status.value,
        "drift": row.drift_status.value,
        "type": row.type,
        "provider": row.provider,
        "stack": row.stack,
        "key": row.resource_key,
        "outputs": masked(row.outputs or {}),
    }


def _plan(row: DeploymentPlan) -> dict[str, Any]:
    return {
        "status": row.status.value,
        "stage": stage_of(row.status).value,
        "type": row.plan_type.value,
        "startedAt": _instant(row.started_at),
        "completedAt": _instant(row.completed_at),
    }


def _job(row: OrchestrationJob) -> dict[str, Any]:
    return {
        "status": row.status.value,
        "direction": row.direction.value,
        "type": row.job_type.value,
        "startedAt": _instant(row.started_at),
        "completedAt": _instant(row.completed_at),
        "outputs": masked(row.outputs or {}),
    }


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
