"""What tenants may have under way, and what they have."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import CloudResource, DeploymentPlan, OrchestrationJob, TenantLimit
from app.domain.limits import DEFAULT, PLANS, QUEUED, RESOURCES, RUNNING, UNDER_WAY, Limits, Usage
from app.domain.statuses import PLAN, RESOURCE, JobStatus


async def usages(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, list[Usage]]:
    """What the tenant uses of its limits; nobody sees another's."""
    if tenant_id not in ids:
        return {}
    limits = await limits_of(session, tenant_id)
    found = [
        Usage(RUNNING, limits.max_running_jobs, await _count(session, tenant_id, UNDER_WAY)),
        Usage(QUEUED, limits.max_queued_jobs, await queued(session, tenant_id)),
    ]
    if limits.max_resources is not None:
        found.append(Usage(RESOURCES, limits.max_resources, await resources(session, tenant_id)))
    if limits.max_plans is not None:
        found.append(Usage(PLANS, limits.max_plans, await open_plans(session, tenant_id)))
    return {tenant_id: found}


async def limits_of(session: AsyncSession, tenant_id: int) -> Limits:
    """The tenant's own limits, or the defaults."""
    row = await session.get(TenantLimit, tenant_id)
    if row is None:
        return DEFAULT
    return Limits(row.max_running_jobs, row.max_queued_jobs, row.max_resources, row.max_plans)


async def resources(session: AsyncSession, tenant_id: int) -> int:
    """How many resources are there, those that are about to be included."""
    query = select(func.count()).where(
        CloudResource.tenant_id == tenant_id, CloudResource.status.not_in(RESOURCE.closed), ~CloudResource.is_deleted
    )
    return await session.scalar(query) or 0


async def open_plans(session: AsyncSession, tenant_id: int) -> int:
    """How many plans are not over."""
    query = select(func.count()).where(
        DeploymentPlan.tenant_id == tenant_id,
        DeploymentPlan.status.not_in(PLAN.closed | PLAN.settled),
        ~DeploymentPlan.is_deleted,
    )
    return await session.scalar(query) or 0


async def queued(session: AsyncSession, tenant_id: int) -> int:
    """How many jobs wait to start."""
    return await _count(session, tenant_id, (JobStatus.QUEUED,))


async def simulated(session: AsyncSession, tenant_id: int) -> int:
    """How many simulated jobs are under way."""
    return await _count(session, tenant_id, UNDER_WAY, simulated=True)


async def _count(
    session: AsyncSession, tenant_id: int, statuses: Sequence[JobStatus], *, simulated: bool = False
) -> int:
    query = select(func.count()).where(
        OrchestrationJob.tenant_id == tenant_id,
        OrchestrationJob.status.in_(statuses),
        OrchestrationJob.simulated == simulated,
    )
    return await session.scalar(query) or 0
