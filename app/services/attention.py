"""What people decide where no provider can tell: about resources of which nobody knows what became of them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func

from app.auth.principal import Principal
from app.db import drift as drift_rows
from app.db import effects
from app.db.models import CloudResource
from app.db.uow import Transaction
from app.domain.enums import DriftStatus, Permission, ResourceDecision
from app.domain.errors import IllegalState, Invalid
from app.domain.statuses import RESOURCE, ResourceStatus
from app.services import drift
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies
from app.services.faults import name_fault, refuse
from app.services.records import store

_ID_LIMIT = 250


@dataclass(frozen=True, slots=True)
class ResolveResource(drift.OfResource):
    """What is to become of a resource in doubt. `external_id` is for ADOPT only: what it is outside.

    ADOPT takes what is there, by that identity or by what the operation in doubt has made, once a worker has read it.
    ABANDON gives it up: it may exist, and is no longer ours. RETRY says that whatever may be there does not matter: the
    next plan brings it about anew.
    """

    action: ResourceDecision = ResourceDecision.ADOPT
    external_id: str | None = None


def is_in_doubt(resource: CloudResource) -> bool:
    """Whether nobody knows what became of it, or whether the creation that failed has made something."""
    # Compared, and not looked at for identity: a row that is not there refuses to be compared (schema.symbols).
    if resource.status == ResourceStatus.UNKNOWN:
        return True
    unmade = resource.external_id is None and resource.in_doubt_step_id is not None
    return resource.status == ResourceStatus.FAILED and unmade


async def resolve(
    transaction: Transaction, principal: Principal, command: ResolveResource, dependencies: Dependencies
) -> CloudResource:
    """Decide. Raises IllegalState for a resource that is not in doubt, Locked while a job works on its stack,
    Invalid and Conflict for an identity that cannot be taken, StaleVersion and NotFound.
    """
    authorize(transaction, principal, Permission.EXECUTE)
    if command.action is ResourceDecision.ABANDON:
        authorize(transaction, principal, Permission.DELETE)
    if command.external_id is not None and command.action is not ResourceDecision.ADOPT:
        message = f"{command.action} has no use for an identity"
        raise Invalid(message, path=("externalId",))
    resource = await drift.find(transaction, command)
    if not is_in_doubt(resource):
        message = f"nothing is in doubt about a resource that is {resource.status}"
        raise IllegalState(message, status=resource.status, path=("id",))
    await drift.require_free(transaction, resource.stack)
    before = {
        "id": resource.id,
        "resource_key": resource.resource_key,
        "status": resource.status,
        "owner_plan_id": resource.owner_plan_id,
    }
    if command.action is ResourceDecision.ADOPT:
        await _adopt(transaction, resource, command.external_id, dependencies)
    else:
        await _give_up(transaction, resource, command.action)
    resource.updated_by = transaction.actor
    await store(transaction, resource)
    if resource.status is not before["status"]:
        await drift_rows.tell(transaction, before, resource.status, resource.drift_status)
    return resource


async def _adopt(
    transaction: Transaction, resource: CloudResource, external_id: str | None, dependencies: Dependencies
) -> None:
    """Have a worker read it; what it finds is what counts."""
    if external_id is not None and external_id != resource.external_id:
        refuse([name_fault(external_id, _ID_LIMIT, "the provider's identity of it", "externalId")])
        if not dependencies.catalogue.can_import(resource.type):
            message = f"{resource.type} cannot be taken over by its identity"
            raise Invalid(message, path=("externalId",))
        await drift.refuse_managed(transaction, resource.type, external_id, resource.connection)
    if resource.status is not ResourceStatus.UNKNOWN:
        resource.status = RESOURCE.after(resource.status, "doubt")
    resource.adopt_id = external_id or resource.external_id
    drift.look_again(resource)
    resource.updated_at = func.now()


async def _give_up(transaction: Transaction, resource: CloudResource, action: ResourceDecision) -> None:
    """The effect in doubt counts for nothing any more: no later job goes on with it, and none takes it back."""
    if resource.in_doubt_step_id is not None:
        await effects.close(transaction, resource.in_doubt_step_id)
    resource.in_doubt_step_id = resource.adopt_id = resource.observe_at = None
    resource.observe_fence += 1
    if action is ResourceDecision.ABANDON:
        resource.status = RESOURCE.after(resource.status, "detach")
        resource.drift_status = DriftStatus.NOT_CHECKED
        resource.drift = resource.revert_at = None
    elif resource.status is ResourceStatus.UNKNOWN:
        resource.status = RESOURCE.after(resource.status, "observed_broken")
