"""What someone may do with recorded resources themselves; what exists is changed by plans only."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from app.auth.principal import Principal
from app.db import drift, effects
from app.db.models import CloudResource, ResourceLock
from app.db.uow import Transaction
from app.domain.enums import DriftStatus, Permission
from app.domain.errors import IllegalState, Locked
from app.domain.statuses import RESOURCE
from app.services.authorizing import authorize
from app.services.faults import name_fault, refuse
from app.services.records import locked, same_version, store

NAME_LIMIT = 250


@dataclass(frozen=True, slots=True)
class UpdateResource:
    """Changes to what is noted about a resource; None leaves a field as it is."""

    id: int
    expected_version: int
    name: str | None = None
    retain: bool | None = None
    prevent_destroy: bool | None = None


@dataclass(frozen=True, slots=True)
class DetachResource:
    """A resource that shall no longer be ours; it goes on existing."""

    id: int
    expected_version: int | None = None


async def update(transaction: Transaction, principal: Principal, command: UpdateResource) -> CloudResource:
    """Change the name it is shown by, and how it is protected."""
    authorize(transaction, principal, Permission.WRITE)
    resource = await _find(transaction, command.id, command.expected_version)
    if command.name is not None:
        refuse([name_fault(command.name, NAME_LIMIT, "the name of the resource", "name")])
        resource.name = command.name.strip()
    if command.retain is not None:
        resource.retain = command.retain
    if command.prevent_destroy is not None:
        resource.prevent_destroy = command.prevent_destroy
    resource.updated_by = transaction.actor
    await store(transaction, resource)
    return resource


async def detach(transaction: Transaction, principal: Principal, command: DetachResource) -> CloudResource:
    """Forget a resource without touching it. Raises Locked while a job works on its stack."""
    authorize(transaction, principal, Permission.DELETE)
    resource = await _find(transaction, command.id, command.expected_version)
    held = await transaction.session.scalar(
        select(ResourceLock.job_id).where(
            ResourceLock.tenant_id == transaction.tenant_id, ResourceLock.lock_key == f"stack/{resource.stack}"
        )
    )
    if held is not None:
        message = f"a job is working on the stack '{resource.stack}'"
        raise Locked(message, job_id=held, path=("id",))
    if not RESOURCE.permits(resource.status, "detach"):
        message = f"a resource that is {resource.status} cannot be detached"
        raise IllegalState(message, status=resource.status, path=("id",))
    before = {
        "id": resource.id,
        "resource_key": resource.resource_key,
        "status": resource.status,
        "owner_plan_id": resource.owner_plan_id,
    }
    resource.status = RESOURCE.after(resource.status, "detach")
    if resource.in_doubt_step_id is not None:
        # What is let go of is not taken back by a job that comes later.
        await effects.close(transaction, resource.in_doubt_step_id)
        resource.in_doubt_step_id = resource.adopt_id = None
    # Nobody looks at it any more, nor puts it back.
    resource.drift_status = DriftStatus.NOT_CHECKED
    resource.drift = resource.observe_at = resource.revert_at = None
    resource.updated_by = transaction.actor
    await store(transaction, resource)
    await drift.tell(transaction, before, resource.status, resource.drift_status)
    return resource


async def _find(transaction: Transaction, resource_id: int, expected_version: int | None) -> CloudResource:
    query = select(CloudResource).where(
        CloudResource.tenant_id == transaction.tenant_id,
        CloudResource.id == resource_id,
        ~CloudResource.is_deleted,
    )
    resource = await locked(transaction, query, "resource")
    same_version(resource.version, expected_version, "resource")
    return resource
