"""What an administrator may do with the policies of the tenant. Judging by them is app.services.judging's."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from app.auth.principal import Principal
from app.db.models import Policy
from app.db.uow import Transaction
from app.domain.enums import Permission, PolicyLevel, PolicySubject
from app.domain.errors import Conflict, DomainError, Invalid, QuotaExceeded
from app.domain.policies import MOST_POLICIES, read
from app.domain.time_zones import NO_ZONE, is_time_zone
from app.services.authorizing import authorize
from app.services.faults import name_fault, refuse
from app.services.records import locked, one_at_a_time, same_version, store

NAME_LIMIT = 120
DESCRIPTION_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class CreatePolicy:
    """A policy to be. No `when`: it holds always."""

    name: str
    level: PolicyLevel
    subject: PolicySubject
    require: str
    when: str | None = None
    message: str | None = None
    description: str | None = None
    time_zone: str = "UTC"
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class UpdatePolicy:
    """Changes to a policy; None leaves a field as it is, an empty text takes it away where it may be left out."""

    id: int
    expected_version: int | None = None
    name: str | None = None
    level: PolicyLevel | None = None
    require: str | None = None
    when: str | None = None
    message: str | None = None
    description: str | None = None
    time_zone: str | None = None
    enabled: bool | None = None


async def create(transaction: Transaction, principal: Principal, command: CreatePolicy) -> Policy:
    """Add a policy: every plan that is worked out from now on is judged by it. Raises Conflict, QuotaExceeded, Invalid.

    Plans that wait are judged when they are about to run.
    """
    authorize(transaction, principal, Permission.ADMIN)
    policy = Policy(
        tenant_id=transaction.tenant_id,
        name=command.name.strip(),
        description=_given(command.description),
        level=command.level,
        subject=command.subject,
        condition=_given(command.when),
        requirement=command.require.strip(),
        message=_given(command.message),
        time_zone=command.time_zone,
        is_enabled=command.enabled,
        created_by=transaction.actor,
        updated_by=transaction.actor,
    )
    refuse(_faults(policy))
    await one_at_a_time(transaction)
    used = await transaction.session.scalar(
        select(func.count()).where(Policy.tenant_id == transaction.tenant_id, ~Policy.is_deleted)
    )
    if (used or 0) >= MOST_POLICIES:
        message = f"a tenant has at most {MOST_POLICIES} policies"
        raise QuotaExceeded(message, key="policies", limit=MOST_POLICIES, used=used or 0)
    await _store(transaction, policy)
    return policy


async def update(transaction: Transaction, principal: Principal, command: UpdatePolicy) -> Policy:
    """Change a policy, or set it aside. Raises NotFound, StaleVersion, Conflict, Invalid and its kin."""
    authorize(transaction, principal, Permission.ADMIN, f"policy:{command.id}")
    policy = await _find(transaction, command.id, command.expected_version)
    if command.name is not None:
        policy.name = command.name.strip()
    if command.level is not None:
        policy.level = command.level
    if command.require is not None:
        policy.requirement = command.require.strip()
    if command.when is not None:
        policy.condition = _given(command.when)
    if command.message is not None:
        policy.message = _given(command.message)
    if command.description is not None:
        policy.description = _given(command.description)
    if command.time_zone is not None:
        policy.time_zone = command.time_zone
    if command.enabled is not None:
        policy.is_enabled = command.enabled
    refuse(_faults(policy))
    policy.updated_by = transaction.actor
    await _store(transaction, policy)
    return policy


async def delete(
    transaction: Transaction, principal: Principal, policy_id: int, expected_version: int | None
) -> Policy:
    """Remove a policy. What it said of plans stays with them."""
    authorize(transaction, principal, Permission.ADMIN, f"policy:{policy_id}")
    policy = await _find(transaction, policy_id, expected_version)
    policy.is_deleted = True
    policy.updated_by = transaction.actor
    await _store(transaction, policy)
    return policy


def _faults(policy: Policy) -> list[DomainError | None]:
    faults: list[DomainError | None] = [name_fault(policy.name, NAME_LIMIT, "the name of the policy", "name")]
    if policy.description is not None and len(policy.description) > DESCRIPTION_LIMIT:
        faults.append(Invalid(f"a description has at most {DESCRIPTION_LIMIT} characters", path=("description",)))
    if not is_time_zone(policy.time_zone):
        faults.append(Invalid(NO_ZONE, path=("timeZone",)))
    _, found = read(
        policy.name,
        policy.level,
        policy.subject,
        when=policy.condition,
        require=policy.requirement,
        message=policy.message,
    )
    return [*faults, *found]


def _given(text: str | None) -> str | None:
    return (text or "").strip() or None


async def _find(transaction: Transaction, policy_id: int, expected_version: int | None) -> Policy:
    query = select(Policy).where(Policy.tenant_id == transaction.tenant_id, Policy.id == policy_id, ~Policy.is_deleted)
    policy = await locked(transaction, query, "policy")
    same_version(policy.version, expected_version, "policy")
    return policy


async def _store(transaction: Transaction, policy: Policy) -> None:
    taken = Conflict("a policy of this name is already there", path=("name",))
    await store(transaction, policy, {"uq_policy_name": taken})
