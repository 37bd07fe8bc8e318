"""What someone may do about how resources really are: look again, say what does not count, accept, take over.

Nothing here asks a provider: that takes its time, and is done by workers once the resource says that it is due.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from app import clock
from app.auth.principal import Principal
from app.db import drift
from app.db.models import CloudResource, PlanResource, ResourceLock
from app.db.uow import Transaction
from app.domain.drifting import MAX_RULES, Deviation, IgnoreRule, as_found
from app.domain.enums import DriftStatus, Permission
from app.domain.errors import Conflict, DomainError, IllegalState, Invalid, LimitExceeded, Locked, NotFound
from app.domain.statuses import RESOURCE, ResourceStatus
from app.services import limits
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies
from app.services.faults import name_fault, refuse, text_fault
from app.services.plans.authoring import find as find_plan
from app.services.reaching import require_named
from app.services.records import locked, same_version, store

_NAME_LIMIT = 250
_REASON_LIMIT = 1000
_PATH_LIMIT = 20
# As the keys of a template, so that a plan may go on with what was imported.
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}(\[[^\[\]]{1,150}\])?")
_DRIFTED = (DriftStatus.MODIFIED, DriftStatus.MISSING)


@dataclass(frozen=True, slots=True)
class OfResource:
    """Something that is done to one resource."""

    id: int
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class IgnoreDrift(OfResource):
    """Differences at `path` and below it shall not count until `expires_at` (None: for good)."""

    path: tuple[str, ...] = ()
    reason: str = ""
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class HeedDrift(OfResource):
    """Differences at `path` shall count again."""

    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportResource:
    """A thing that exists already and shall be managed. Without a stack it is the plan's, or that of its name."""

    type: str
    provider: str
    external_id: str
    name: str
    plan_id: int | None = None
    stack: str | None = None
    connection: str | None = None


async def refresh(transaction: Transaction, principal: Principal, command: OfResource) -> CloudResource:
    """Have the resource looked at as soon as a worker can and no job works on its stack.

    One that is UNKNOWN is settled by what is found.
    """
    authorize(transaction, principal, Permission.EXECUTE)
    resource = await find(transaction, command)
    if resource.status is not ResourceStatus.UNKNOWN:
        _require_active(resource, "looked at")
    look_again(resource)
    await store(transaction, resource)
    return resource


async def ignore(transaction: Transaction, principal: Principal, command: IgnoreDrift) -> CloudResource:
    """Say that a difference does not count, or for another reason or time than before."""
    authorize(transaction, principal, Permission.WRITE)
    resource = await find(transaction, command)
    refuse(
        [
            _path_fault(command.path),
            text_fault(command.reason, _REASON_LIMIT, "the reason", "reason"),
            _expiry_fault(command.expires_at),
        ]
    )
    _require_active(resource, "told what to ignore")
    now = clock.utc_now()
    rules = [rule for rule in rules_of(resource) if rule.path != command.path and rule.holds(now)]
    if len(rules) >= MAX_RULES:
        message = f"a resource has at most {MAX_RULES} such rules"
        raise LimitExceeded(message, path=("path",))
    rules.append(IgnoreRule(command.path, command.reason.strip(), command.expires_at))
    resource.drift_ignores = [rule.document() for rule in rules]
    look_again(resource)
    resource.updated_by = transaction.actor
    await store(transaction, resource)
    return resource


async def heed(transaction: Transaction, principal: Principal, command: HeedDrift) -> CloudResource:
    """Take a rule back. Raises NotFound when there is none for exactly that path."""
    authorize(transaction, principal, Permission.WRITE)
    resource = await find(transaction, command)
    rules = rules_of(resource)
    kept = [rule for rule in rules if rule.path != command.path]
    if len(kept) == len(rules):
        message = "nothing is ignored at this path"
        raise NotFound(message, path=("path",))
    resource.drift_ignores = [rule.document() for rule in kept] or None
    if resource.status is ResourceStatus.ACTIVE:
        look_again(resource)
    resource.updated_by = transaction.actor
    await store(transaction, resource)
    return resource


async def accept(
    transaction: Transaction, principal: Principal, command: OfResource, dependencies: Dependencies
) -> CloudResource:
    """Let what was found be what was applied, as a new revision; one that is MISSING is DELETED.

    Raises IllegalState where nothing is known to differ, Locked while a job works on the stack.
    """
    authorize(transaction, principal, Permission.WRITE)
    resource = await find(transaction, command)
    _require_active(resource, "accepted as it is")
    await require_free(transaction, resource.stack)
    if resource.drift_status not in _DRIFTED:
        message = f"nothing differs as far as anybody knows: its drift is {resource.drift_status}"
        raise IllegalState(message, status=resource.drift_status, path=("id",))
    told = {
        "id": resource.id,
        "resource_key": resource.resource_key,
        "status": resource.status,
        "owner_plan_id": resource.owner_plan_id,
    }
    before, after = resource.drift_status, DriftStatus.IN_SYNC
    status = resource.status
    # An observation that is under way compares with what is no longer applied.
    resource.observe_fence += 1
    resource.observe_until = None
    resource.updated_by = transaction.actor
    resource.updated_at = func.now()
    await transaction.session.flush()
    if before is DriftStatus.MISSING:
        status, after = await drift.accept_absence(transaction, resource.id, status), DriftStatus.NOT_CHECKED
    else:
        seal = dependencies.sealer
        found = [Deviation.from_document(seal.open(stored, resource.tenant_id)) for stored in resource.drift or ()]
        applied = as_found(seal.open(resource.applied or {}, resource.tenant_id), found)
        await drift.accept_properties(transaction, resource.id, seal.seal(applied, resource.tenant_id))
    await drift.tell(transaction, told, status, after)
    await transaction.session.refresh(resource)
    return resource


async def import_resource(
    transaction: Transaction, principal: Principal, command: ImportResource, dependencies: Dependencies
) -> CloudResource:
    """Begin to manage a thing that exists. A worker reads it: then it is ACTIVE, or DETACHED with the reason why not.

    Raises what is wrong with the input, NotFound for a connection that there is not, and Conflict where the thing or
    the name is managed already, and QuotaExceeded where the tenant has as many resources as it may.
    """
    authorize(transaction, principal, Permission.WRITE)
    plan = None if command.plan_id is None else await find_plan(transaction, command.plan_id, None, lock=False)
    refuse(_import_faults(command, dependencies))
    stack = (command.stack or (plan.stack if plan else command.name)).strip()
    if command.connection is not None:
        await require_named(transaction.session, transaction.tenant_id, command.provider, command.connection)
    await refuse_managed(transaction, command.type, command.external_id, command.connection)
    await limits.refuse_more_resources(transaction, 1)
    resource = CloudResource(
        tenant_id=transaction.tenant_id,
        stack=stack,
        resource_key=command.name.strip(),
        name=command.name.strip(),
        type=command.type,
        provider=command.provider,
        connection=command.connection,
        external_id=command.external_id,
        status=RESOURCE.after(ResourceStatus.PLANNED, "import"),
        depends_on=[],
        owner_plan_id=plan.id if plan else None,
        observe_at=func.clock_timestamp(),
        created_by=transaction.actor,
        updated_by=transaction.actor,
    )
    taken = Conflict(f"the stack '{stack}' has a resource '{command.name}' already", path=("name",))
    await store(transaction, resource, {"uq_cloud_resource_key": taken})
    if plan is not None:
        transaction.session.add(PlanResource(tenant_id=transaction.tenant_id, plan_id=plan.id, resource_id=resource.id))
        await transaction.session.flush()
        told = {
            "id": resource.id,
            "resource_key": resource.resource_key,
            "status": ResourceStatus.PLANNED,
            "owner_plan_id": plan.id,
        }
        await drift.tell(transaction, told, resource.status, DriftStatus.NOT_CHECKED)
    return resource


def rules_of(resource: CloudResource) -> list[IgnoreRule]:
    """What does not count of a resource, expired rules included."""
    return [IgnoreRule.from_document(stored) for stored in resource.drift_ignores or ()]


def look_again(resource: CloudResource) -> None:
    """What somebody is looking at right now was asked for before: it is thrown away."""
    resource.observe_at = func.clock_timestamp()
    resource.observe_until = None
    resource.observe_fence += 1
    resource.observe_failures = 0


def _require_active(resource: CloudResource, what: str) -> None:
    if resource.status is not ResourceStatus.ACTIVE:
        message = f"a resource that is {resource.status} cannot be {what}"
        raise IllegalState(message, status=resource.status, path=("id",))


async def require_free(transaction: Transaction, stack: str) -> None:
    """Raises Locked while a job works on the stack."""
    held = await transaction.session.scalar(
        select(ResourceLock.job_id).where(
            ResourceLock.tenant_id == transaction.tenant_id, ResourceLock.lock_key == f"stack/{stack}"
        )
    )
    if held is not None:
        message = f"a job is working on the stack '{stack}'"
        raise Locked(message, job_id=held, path=("id",))


def _path_fault(path: tuple[str, ...]) -> DomainError | None:
    if not 0 < len(path) <= _PATH_LIMIT or any(not 0 < len(part) <= _NAME_LIMIT for part in path):
        return Invalid(f"a path has 1 to {_PATH_LIMIT} names", path=("path",))
    return None


def _expiry_fault(expires_at: datetime | None) -> DomainError | None:
    if expires_at is not None and expires_at <= clock.utc_now():
        return Invalid("expiresAt lies in the past", path=("expiresAt",))
    return None


def _import_faults(command: ImportResource, dependencies: Dependencies) -> list[DomainError | None]:
    catalogue = dependencies.catalogue
    faults: list[DomainError | None] = [
        name_fault(command.external_id, _NAME_LIMIT, "the provider's identity of it", "externalId"),
        name_fault(command.name, _NAME_LIMIT, "the name of the resource", "name"),
    ]
    if command.name.strip() and not _KEY.fullmatch(command.name.strip()):
        message = "the name becomes the key: a letter, then up to 62 letters, digits, '_' and '-'"
        faults.append(Invalid(message, path=("name",)))
    if command.stack is not None:
        faults.append(name_fault(command.stack, 200, "the name of the stack", "stack"))
    if not catalogue.has_type(command.type):
        faults.append(Invalid(f"there is no resource type '{command.type}'", path=("type",)))
    elif catalogue.provider_name(command.type) != command.provider:
        message = f"{command.type} belongs to the provider {catalogue.provider_name(command.type)}"
        faults.append(Invalid(message, path=("provider",)))
    elif not catalogue.can_import(command.type):
        faults.append(Invalid(f"{command.type} cannot be imported", path=("type",)))
    return faults


async def refuse_managed(transaction: Transaction, type_name: str, external_id: str, connection: str | None) -> None:
    """Raises Conflict where something is managed already, as whatever resource."""
    managed = await transaction.session.scalar(
        select(CloudResource.resource_key)
        .where(
            CloudResource.tenant_id == transaction.tenant_id,
            CloudResource.type == type_name,
            CloudResource.external_id == external_id,
            CloudResource.connection.is_not_distinct_from(connection),
            CloudResource.status.not_in(RESOURCE.closed),
        )
        .limit(1)
    )
    if managed is not None:
        message = f"it is managed already, as '{managed}'"
        raise Conflict(message, path=("externalId",))


async def find(transaction: Transaction, command: OfResource) -> CloudResource:
    """The resource, locked. Raises NotFound, StaleVersion."""
    query = select(CloudResource).where(
        CloudResource.tenant_id == transaction.tenant_id,
        CloudResource.id == command.id,
        ~CloudResource.is_deleted,
    )
    resource = await locked(transaction, query, "resource")
    same_version(resource.version, command.expected_version, "resource")
    return resource
