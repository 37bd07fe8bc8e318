"""Roles that a tenant names itself: defining them, and giving roles, built-in ones too, to somebody.

Nobody defines or gives a role that allows what they may not do themselves.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func, select

from app import clock
from app.auth.principal import Principal
from app.db.models import ApiToken, CustomRole, User
from app.db.uow import Transaction
from app.domain.enums import Permission, Role, UserKind
from app.domain.errors import Conflict, DomainError, Forbidden, Invalid, NotFound, QuotaExceeded, Required
from app.domain.permissions import ROLE_PERMISSIONS, granted, named, of_service_account
from app.services.authorizing import authorize
from app.services.faults import name_fault, refuse
from app.services.records import locked, one_at_a_time, same_version, store

MOST_ROLES = 50
NAME_LIMIT = 120
DESCRIPTION_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class CreateRole:
    """A role to be."""

    name: str
    permissions: Collection[Permission]
    description: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateRole:
    """Changes to a role; None leaves a field as it is, an empty text takes the description away."""

    id: int
    expected_version: int | None = None
    name: str | None = None
    permissions: Collection[Permission] | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class GivenRole:
    """What somebody's columns say of their role."""

    role: Role
    custom_role_id: int | None = None


async def create(transaction: Transaction, principal: Principal, command: CreateRole) -> CustomRole:
    """Add a role. Raises Forbidden for permissions that the principal lacks; Conflict, QuotaExceeded, Invalid."""
    authorize(transaction, principal, Permission.ADMIN)
    role = CustomRole(
        tenant_id=transaction.tenant_id,
        name=command.name.strip(),
        description=(command.description or "").strip() or None,
        permissions=_listed(command.permissions),
        created_by=transaction.actor,
        updated_by=transaction.actor,
    )
    refuse(_faults(role))
    within_own(principal, named(role.permissions), "permissions")
    await one_at_a_time(transaction)
    used = await transaction.session.scalar(
        select(func.count()).where(CustomRole.tenant_id == transaction.tenant_id, ~CustomRole.is_deleted)
    )
    if (used or 0) >= MOST_ROLES:
        message = f"a tenant has at most {MOST_ROLES} roles of its own"
        raise QuotaExceeded(message, key="roles", limit=MOST_ROLES, used=used or 0)
    await _store(transaction, role)
    return role


async def update(transaction: Transaction, principal: Principal, command: UpdateRole) -> CustomRole:
    """Change a role, at once for everybody who has it. Raises Forbidden for permissions that the principal would add
    without having them; NotFound, StaleVersion, Conflict, Invalid.
    """
    authorize(transaction, principal, Permission.ADMIN, f"role:{command.id}")
    role = await _find(transaction, command.id, command.expected_version)
    if command.name is not None:
        role.name = command.name.strip()
    if command.description is not None:
        role.description = command.description.strip() or None
    if command.permissions is not None:
        before = named(role.permissions)
        role.permissions = _listed(command.permissions)
        within_own(principal, named(role.permissions) - before, "permissions")
    refuse(_faults(role))
    role.updated_by = transaction.actor
    await _store(transaction, role)
    return role


async def delete(
    transaction: Transaction, principal: Principal, role_id: int, expected_version: int | None
) -> CustomRole:
    """Remove a role that nobody has. Raises Conflict while a user, or a token that is still good, has it."""
    authorize(transaction, principal, Permission.ADMIN, f"role:{role_id}")
    role = await _find(transaction, role_id, expected_version)
    users = await transaction.session.scalar(
        select(func.count()).where(
            User.tenant_id == transaction.tenant_id, User.custom_role_id == role.id, ~User.is_deleted
        )
    )
    tokens = await transaction.session.scalar(
        select(func.count()).where(
            ApiToken.tenant_id == transaction.tenant_id,
            ApiToken.custom_role_id == role.id,
            ApiToken.revoked_at.is_(None),
            ApiToken.expires_at > clock.utc_now(),
        )
    )
    if users or tokens:
        message = f"somebody has this role: {users} users and {tokens} tokens"
        raise Conflict(message, path=("id",))
    role.is_deleted = True
    role.updated_by = transaction.actor
    await store(transaction, role)
    return role


async def given(
    transaction: Transaction, principal: Principal, role: Role | None, custom_role_id: int | None
) -> GivenRole:
    """What somebody is to have: a built-in role, or a custom one. Raises Required, Invalid, NotFound, Forbidden."""
    if role is not None and custom_role_id is not None:
        message = "either a built-in role or a custom one, not both"
        raise Invalid(message, path=("customRoleId",))
    if custom_role_id is not None:
        within_own(principal, named((await held(transaction, custom_role_id)).permissions), "customRoleId")
        return GivenRole(Role.VIEWER, custom_role_id)
    if role is None:
        message = "a role is missing"
        raise Required(message, path=("role",))
    within_own(principal, ROLE_PERMISSIONS[role], "role")
    return GivenRole(role)


async def held(transaction: Transaction, custom_role_id: int) -> CustomRole:
    """The custom role, which stays until the transaction ends. Raises NotFound."""
    role: CustomRole | None = await transaction.session.scalar(
        select(CustomRole)
        .where(CustomRole.tenant_id == transaction.tenant_id, CustomRole.id == custom_role_id, ~CustomRole.is_deleted)
        .with_for_update(read=True)
    )
    if role is None:
        message = "there is no such role"
        raise NotFound(message, path=("customRoleId",))
    return role


async def permissions_of(transaction: Transaction, user: User) -> frozenset[Permission]:
    """What a user, or a service account, may do."""
    custom = None if user.custom_role_id is None else (await held(transaction, user.custom_role_id)).permissions
    if user.kind is UserKind.SERVICE_ACCOUNT:
        return of_service_account(user.role, custom, may_approve=user.may_approve)
    return granted(user.role, custom)


def within_own(principal: Principal, wanted: Collection[Permission], field: str) -> None:
    """Raises Forbidden where `wanted` has what the principal may not do; `field` is where it was asked for."""
    for permission in Permission:
        if permission in wanted and not principal.may(permission):
            message = f"nobody can pass on {permission} who does not have it"
            raise Forbidden(message, required=permission.value, path=(field,))


def _listed(permissions: Collection[Permission]) -> list[str]:
    return [permission.value for permission in Permission if permission in permissions]


def _faults(role: CustomRole) -> list[DomainError | None]:
    faults: list[DomainError | None] = [name_fault(role.name, NAME_LIMIT, "the name of the role", "name")]
    if role.name.upper() in Role.__members__:
        faults.append(Conflict("this is the name of a built-in role", path=("name",)))
    if len(role.description or "") > DESCRIPTION_LIMIT:
        faults.append(Invalid(f"a description has at most {DESCRIPTION_LIMIT} characters", path=("description",)))
    if not role.permissions:
        faults.append(Required("a role without permissions would be of no use", path=("permissions",)))
    return faults


async def _find(transaction: Transaction, role_id: int, expected_version: int | None) -> CustomRole:
    query = select(CustomRole).where(
        CustomRole.tenant_id == transaction.tenant_id, CustomRole.id == role_id, ~CustomRole.is_deleted
    )
    role = await locked(transaction, query, "role")
    same_version(role.version, expected_version, "role")
    return role


async def _store(transaction: Transaction, role: CustomRole) -> None:
    taken = Conflict("a role of this name is already there", path=("name",))
    await store(transaction, role, {"uq_custom_role_name": taken})
