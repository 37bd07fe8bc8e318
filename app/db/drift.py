"""Accepting drift: what was found becomes what is recorded as applied, as a new revision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.db import journal
from app.db.statements import Row, Statement, dumps
from app.db.uow import Transaction
from app.domain.enums import DriftStatus
from app.domain.events import Event, EventKind, Stream
from app.domain.statuses import RESOURCE, ResourceStatus

_ACCEPT = Statement(
    "WITH taken AS (UPDATE cloud_resource SET desired = :properties::jsonb, applied = :properties::jsonb, drift = NULL,"
    " revision = revision + 1, revert_at = NULL, drift_status = 'IN_SYNC' WHERE tenant_id = :tenant AND id = :id"
    " RETURNING revision, outputs)"
    " INSERT INTO resource_revision (tenant_id, resource_id, number, properties, outputs)"
    " SELECT :tenant, :id, revision, :properties::jsonb, outputs FROM taken"
)
_VANISH = Statement(
    "UPDATE cloud_resource SET status = :status, is_deleted = :gone, drift_status = 'NOT_CHECKED', drift = NULL,"
    " observed = NULL, revert_at = NULL, observe_at = NULL WHERE tenant_id = :tenant AND id = :id"
)


async def accept_properties(transaction: Transaction, resource_id: int, properties: Any) -> None:
    """Record sealed `properties` as those that were applied. The caller has the row's lock."""
    key = {"tenant": transaction.tenant_id, "id": resource_id}
    await transaction.fetch(_ACCEPT, {**key, "properties": dumps(properties)})


async def accept_absence(transaction: Transaction, resource_id: int, status: ResourceStatus) -> ResourceStatus:
    """Record that a resource is gone for good; returns its new status. The caller has the row's lock."""
    target = RESOURCE.after(status, "vanished")
    key = {"tenant": transaction.tenant_id, "id": resource_id}
    await transaction.fetch(_VANISH, {**key, "status": target.value, "gone": True})
    return target


async def tell(
    transaction: Transaction, resource: Row | Mapping[str, Any], status: ResourceStatus, drift: DriftStatus
) -> None:
    """Tell the plan that owns the resource (its "id", "resource_key", "status", "owner_plan_id") what it is now.

    A resource that no plan has changed has nobody to be told. Takes the plan's lock, after that of the resource.
    """
    if resource["owner_plan_id"] is not None:
        event = changed(resource["id"], resource["resource_key"], ResourceStatus(resource["status"]), status, drift)
        await journal.append(transaction, Stream.PLAN, resource["owner_plan_id"], [event])


async def tell_all(transaction: Transaction, moved: Sequence[Mapping[str, Any]]) -> None:
    """Tell the owning plans of resources that were moved ("id", "resource_key", "owner_plan_id", "previous", "status",
    "drift_status"): one entry for each, plans in the order of their ids.
    """
    by_plan: dict[int, list[Event]] = {}
    for row in moved:
        if row["owner_plan_id"] is not None:
            before, after = ResourceStatus(row["previous"]), ResourceStatus(row["status"])
            drifted = DriftStatus.NOT_CHECKED if after in RESOURCE.closed else DriftStatus(row["drift_status"])
            event = changed(row["id"], row["resource_key"], before, after, drifted)
            by_plan.setdefault(row["owner_plan_id"], []).append(event)
    for plan_id, events in sorted(by_plan.items()):
        await journal.append(transaction, Stream.PLAN, plan_id, events)


def changed(resource_id: int, key: str, before: ResourceStatus, after: ResourceStatus, drift: DriftStatus) -> Event:
    """The event of a resource that is something else now."""
    data = {"resourceId": resource_id, "key": key, "previous": before.value, "status": after.value}
    return Event(EventKind.RESOURCE_CHANGED, {**data, "drift": drift.value})
