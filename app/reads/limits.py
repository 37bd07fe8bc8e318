"""What tenants may have under way, and what they have."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import OrchestrationJob, TenantLimit
from app.domain.limits import DEFAULT, QUEUED, RUNNING, UNDER_WAY, Limits, Usage
from app.domain.statuses import JobStatus


async def usages(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, list[Usage]]:
    """What the tenant uses of its limits; nobody sees another's."""
    if tenant_id not in ids:
        return {}
    limits = await limits_of(session, tenant_id)
    return {
        tenant_id: [
            Usage(RUNNING, limits.max_running_jobs, await _count(session, tenant_id, UNDER_WAY)),
            Usage(QUEUED, limits.max_queued_jobs, await queued(session, tenant_id)),
        ]
    }


async def limits_of(session: AsyncSession, tenant_id: int) -> Limits:
    """The tenant's own limits, or the defaults."""
    row = await session.get(TenantLimit, tenant_id)
    return DEFAULT if row is None else Limits(row.max_running_jobs, row.max_queued_jobs)


async def queued(session: AsyncSession, tenant_id: int) -> int:
    """How many jobs wait to start."""
    return await _count(session, tenant_id, (JobStatus.QUEUED,))


async def _count(session: AsyncSession, tenant_id: int, statuses: Sequence[JobStatus]) -> int:
    query = select(func.count()).where(
        OrchestrationJob.tenant_id == tenant_id,
        OrchestrationJob.status.in_(statuses),
        ~OrchestrationJob.simulated,
    )
    return await session.scalar(query) or 0
