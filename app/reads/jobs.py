"""Questions about orchestration jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from app.db.models import OrchestrationJob, ResourceLock, StepRun, Worker
from app.db.pages import Order
from app.domain.enums import StatusReason
from app.domain.statuses import JOB_STAGES, JobStatus
from app.reads import rows
from app.reads.filters import JobFilter

_COLUMNS: dict[str, InstrumentedAttribute[Any]] = {
    "CREATED_AT": OrchestrationJob.created_at,
    "STARTED_AT": OrchestrationJob.started_order,
    "COMPLETED_AT": OrchestrationJob.completed_order,
    "DURATION": OrchestrationJob.duration_order,
}


def order(by: str = "CREATED_AT", *, descending: bool = True) -> Order:
    """By CREATED_AT, STARTED_AT, COMPLETED_AT or DURATION; what has not happened yet comes after all that has."""
    return Order(f"job:{by}:{descending}", (_COLUMNS[by],), OrchestrationJob.id, descending)


def listed(tenant_id: int, wanted: JobFilter) -> Select[OrchestrationJob]:
    """The tenant's jobs that `wanted` describes."""
    staged = None if wanted.stage is None else [status for stage in wanted.stage for status in JOB_STAGES[stage]]
    query = rows.of_tenant(OrchestrationJob, tenant_id).where(
        *rows.one_of(OrchestrationJob.status, wanted.status),
        *rows.one_of(OrchestrationJob.status, staged),
        *rows.one_of(OrchestrationJob.job_type, wanted.type),
        *rows.exactly(OrchestrationJob.plan_id, wanted.plan_id),
        *rows.exactly(OrchestrationJob.direction, wanted.direction),
        *rows.exactly(OrchestrationJob.simulated, wanted.simulated),
        *rows.range_conditions(OrchestrationJob.started_at, wanted.started),
    )
    if wanted.resource_id is None:
        return query
    return query.where(
        exists().where(
            StepRun.tenant_id == tenant_id,
            StepRun.job_id == OrchestrationJob.id,
            StepRun.resource_id == wanted.resource_id,
        )
    )


async def by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, OrchestrationJob]:
    return await rows.by_ids(session, rows.of_tenant(OrchestrationJob, tenant_id), ids)


def of_plan(tenant_id: int, wanted: JobFilter) -> rows.Relation[OrchestrationJob]:
    """The executions of a plan, newest first."""
    key = ("jobs", "plan", wanted)
    return rows.Relation(key, listed(tenant_id, wanted), OrchestrationJob.plan_id, order())


def of_parent(tenant_id: int, wanted: JobFilter) -> rows.Relation[OrchestrationJob]:
    """The jobs that retried or rolled back a job, newest first."""
    key = ("jobs", "parent", wanted)
    return rows.Relation(key, listed(tenant_id, wanted), OrchestrationJob.parent_job_id, order())


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a queued job, from 1, among those that wait for its stack, and the job that holds that."""

    number: int
    holder_id: int


async def queue_places(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, Place]:
    """By queued job whose stack another one holds."""
    job, other = aliased(OrchestrationJob), aliased(OrchestrationJob)
    held = and_(
        ResourceLock.tenant_id == tenant_id,
        ResourceLock.lock_key == func.concat("stack/", job.stack),
        ResourceLock.job_id != job.id,
    )
    before = and_(other.priority == job.priority, other.id <= job.id)
    query = (
        select(job.id, func.count(other.id), ResourceLock.job_id)
        .join(other, and_(other.tenant_id == job.tenant_id, other.stack == job.stack))
        .join(ResourceLock, held)
        .where(job.tenant_id == tenant_id, job.id.in_(ids), job.status == JobStatus.QUEUED)
        .where(other.status == JobStatus.QUEUED, or_(other.priority > job.priority, before))
        .group_by(job.id, ResourceLock.job_id)
    )
    return {row[0]: Place(row[1], row[2]) for row in await session.execute(query)}


async def turns(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, int]:
    """By job that waits for room: its place, from 1, among all of the tenant that do."""
    job, other = aliased(OrchestrationJob), aliased(OrchestrationJob)
    before = and_(other.priority == job.priority, other.id <= job.id)
    waits = [
        condition
        for one in (job, other)
        for condition in (one.status == JobStatus.QUEUED, one.status_reason == StatusReason.CONCURRENCY_LIMIT)
    ]
    query = (
        select(job.id, func.count(other.id))
        .join(other, and_(other.tenant_id == job.tenant_id, or_(other.priority > job.priority, before)))
        .where(job.tenant_id == tenant_id, job.id.in_(ids), *waits)
        .group_by(job.id)
    )
    return {row[0]: row[1] for row in await session.execute(query)}


async def unattended(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, bool]:
    """By job that could begin, where there is no worker who would: True."""
    lives = exists().where(Worker.dead_at.is_(None), ~Worker.draining, Worker.lease_until > func.clock_timestamp())
    query = select(OrchestrationJob.id).where(
        OrchestrationJob.tenant_id == tenant_id,
        OrchestrationJob.id.in_(ids),
        OrchestrationJob.status == JobStatus.DISPATCHED,
        ~lives,
    )
    return dict.fromkeys((await session.execute(query)).scalars(), True)
