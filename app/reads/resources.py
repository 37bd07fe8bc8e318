"""Questions about cloud resources, their history, and what depends on what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, any_, exists, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from app.db.models import CloudResource, PlanResource, ResourceLock, ResourceRevision
from app.db.pages import Order
from app.domain.statuses import ResourceStatus
from app.reads import rows
from app.reads.filters import ResourceFilter

_COLUMNS: dict[str, InstrumentedAttribute[Any]] = {
    "CREATED_AT": CloudResource.created_at,
    "UPDATED_AT": CloudResource.updated_at,
    "NAME": CloudResource.name,
}
_GONE = (ResourceStatus.DELETED, ResourceStatus.DETACHED)


def order(by: str = "CREATED_AT", *, descending: bool = True) -> Order:
    """By CREATED_AT, UPDATED_AT or NAME."""
    return Order(f"resource:{by}:{descending}", (_COLUMNS[by],), CloudResource.id, descending)


def listed(tenant_id: int, wanted: ResourceFilter) -> Select[CloudResource]:
    """The tenant's resources that `wanted` describes."""
    query = rows.of_tenant(CloudResource, tenant_id).where(
        *rows.one_of(CloudResource.status, wanted.status),
        *rows.one_of(CloudResource.drift_status, wanted.drift),
        *rows.text_conditions(CloudResource.type, wanted.type),
        *rows.text_conditions(CloudResource.stack, wanted.stack),
    )
    if wanted.plan_id is None:
        return query
    return query.where(
        exists().where(
            PlanResource.tenant_id == tenant_id,
            PlanResource.resource_id == CloudResource.id,
            PlanResource.plan_id == wanted.plan_id,
        )
    )


async def by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, CloudResource]:
    return await rows.by_ids(session, rows.of_tenant(CloudResource, tenant_id), ids)


async def depended_on_by(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, list[CloudResource]]:
    """What each resource was last applied against: living resources of its own stack."""
    asking, needed = aliased(CloudResource), aliased(CloudResource)
    return await _edges(session, tenant_id, ids, asking=asking, answer=needed, source=asking, target=needed)


async def depending_on(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, list[CloudResource]]:
    """The living resources that were last applied against each resource."""
    asking, depending = aliased(CloudResource), aliased(CloudResource)
    return await _edges(session, tenant_id, ids, asking=asking, answer=depending, source=depending, target=asking)


async def lock_holders(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, int]:
    """The job that holds the stack of each resource now, where there is one."""
    query = (
        select(CloudResource.id, ResourceLock.job_id)
        .join(
            ResourceLock,
            (ResourceLock.tenant_id == CloudResource.tenant_id)
            & (ResourceLock.lock_key == literal("stack/") + CloudResource.stack),
        )
        .where(CloudResource.tenant_id == tenant_id, CloudResource.id.in_(ids))
    )
    return {row[0]: row[1] for row in await session.execute(query)}


def owned_by_plan(tenant_id: int) -> rows.Relation[CloudResource]:
    """The resources that a plan was the last to change, newest first."""
    query = listed(tenant_id, ResourceFilter())
    return rows.Relation("plan.owned", query, CloudResource.owner_plan_id, order())


def history(tenant_id: int) -> rows.Relation[ResourceRevision]:
    """What a resource was after each change, newest first."""
    newest = Order("history", (ResourceRevision.number,), ResourceRevision.id, descending=True)
    query = rows.of_tenant(ResourceRevision, tenant_id)
    return rows.Relation("history", query, ResourceRevision.resource_id, newest)


async def _edges(
    session: AsyncSession, tenant_id: int, ids: Sequence[int], *, asking: Any, answer: Any, source: Any, target: Any
) -> dict[int, list[CloudResource]]:
    """`answer` of every edge source -> target in one stack, by the id of `asking`."""
    query = (
        select(asking.id, answer)
        .join(
            answer,
            (answer.tenant_id == asking.tenant_id)
            & (answer.stack == asking.stack)
            & (target.resource_key == any_(source.depends_on)),
        )
        .where(
            asking.tenant_id == tenant_id,
            asking.id.in_(ids),
            answer.status.not_in(_GONE),
            ~answer.is_deleted,
        )
        .order_by(answer.resource_key)
    )
    found: dict[int, list[CloudResource]] = defaultdict(list)
    for resource_id, row in await session.execute(query):
        found[resource_id].append(row)
    return found
