"""Questions about step runs and their attempts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Gate, OrchestrationJob, StepAttempt, StepRun
from app.domain.statuses import StepStatus
from app.reads import rows


async def by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, StepRun]:
    """Step runs of jobs that are not deleted."""
    job = (OrchestrationJob.tenant_id == StepRun.tenant_id) & (OrchestrationJob.id == StepRun.job_id)
    query = rows.of_tenant(StepRun, tenant_id).join(OrchestrationJob, job).where(~OrchestrationJob.is_deleted)
    return await rows.by_ids(session, query, ids)


async def of_jobs(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, list[StepRun]]:
    """The steps of each job, in the order in which they may run."""
    query = rows.of_tenant(StepRun, tenant_id).order_by(StepRun.wave, StepRun.id)
    return await rows.grouped(session, query, StepRun.job_id, ids)


async def attempts_of(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, list[StepAttempt]]:
    """The attempts of each step run, oldest first."""
    query = rows.of_tenant(StepAttempt, tenant_id).order_by(StepAttempt.id)
    return await rows.grouped(session, query, StepAttempt.step_run_id, ids)


def counted(tenant_id: int, job_id: Any, groups: Mapping[str, Collection[StepStatus]]) -> Select[Any]:
    """One row: how many steps of a job there are, as `total`, and how many have one of the statuses of each group."""
    numbers: list[Any] = [
        func.count().filter(StepRun.status.in_(statuses)).label(name) for name, statuses in groups.items()
    ]
    found = select(func.count().label("total"), *numbers)
    return found.where(StepRun.tenant_id == tenant_id, StepRun.job_id == job_id)


async def statuses_of(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, Counter[StepStatus]]:
    """How many steps of each job are in each status."""
    query = (
        select(StepRun.job_id, StepRun.status, func.count())
        .where(StepRun.tenant_id == tenant_id, StepRun.job_id.in_(ids))
        .group_by(StepRun.job_id, StepRun.status)
    )
    found: dict[int, Counter[StepStatus]] = {job_id: Counter() for job_id in ids}
    for job_id, status, number in await session.execute(query):
        found[job_id][status] = number
    return found


async def gates_of(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, Gate]:
    """The gates of step runs, by step run."""
    found = await session.execute(rows.of_tenant(Gate, tenant_id).where(Gate.step_run_id.in_(ids)))
    return {gate.step_run_id: gate for gate in found.scalars()}
