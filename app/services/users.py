"""What an administrator may do with the people of the tenant."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import func, select

from app.auth.principal import Principal
from app.db.models import ApiToken, User
from app.db.uow import Transaction
from app.domain.enums import Permission, Role, UserKind
from app.domain.errors import Conflict, DomainError, Invalid
from app.services import roles
from app.services.authorizing import authorize
from app.services.faults import name_fault, refuse
from app.services.records import locked, one_at_a_time, same_version, store
from app.services.revoking import revoke_where

NAME_LIMIT = 200
EMAIL_LIMIT = 320
# Whether an address exists, only a message to it can tell; this finds what cannot be one.
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")


@dataclass(frozen=True, slots=True)
class CreateUser:
    """A person to be. The e-mail address identifies them within the tenant, whatever the case of its letters.

    They have either a built-in role or a custom one.
    """

    email: str
    display_name: str
    role: Role | None = None
    custom_role_id: int | None = None


@dataclass(frozen=True, slots=True)
class UpdateUser:
    """Changes to a person; None leaves a field as it is. A role of either kind takes the place of what they had."""

    id: int
    expected_version: int | None = None
    display_name: str | None = None
    role: Role | None = None
    custom_role_id: int | None = None


@dataclass(frozen=True, slots=True)
class DeleteUser:
    """A person to be removed."""

    id: int
    expected_version: int | None = None


async def create(transaction: Transaction, principal: Principal, command: CreateUser) -> User:
    """Add a person. They have no token yet. Raises Conflict when the address is taken, Forbidden for a role that allows
    more than the principal may.
    """
    authorize(transaction, principal, Permission.ADMIN)
    refuse([email_fault(command.email), _name_fault(command.display_name)])
    given = await roles.given(transaction, principal, command.role, command.custom_role_id)
    user = User(
        tenant_id=transaction.tenant_id,
        email=command.email.strip().lower(),
        display_name=command.display_name.strip(),
        role=given.role,
        custom_role_id=given.custom_role_id,
        created_by=transaction.actor,
        updated_by=transaction.actor,
    )
    taken = Conflict("somebody with this e-mail address is already there", path=("email",))
    await store(transaction, user, {"uq_app_user_tenant_id_email": taken})
    return user


async def update(transaction: Transaction, principal: Principal, command: UpdateUser) -> User:
    """Change a person's name or role. Raises Conflict for the role of the last administrator, Forbidden for a role that
    allows more than the principal may.
    """
    authorize(transaction, principal, Permission.ADMIN, f"user:{command.id}")
    await one_at_a_time(transaction)
    user = await _find(transaction, command.id, command.expected_version)
    if command.display_name is not None:
        refuse([_name_fault(command.display_name)])
        user.display_name = command.display_name.strip()
    if command.role is not None or command.custom_role_id is not None:
        given = await roles.given(transaction, principal, command.role, command.custom_role_id)
        if given.role is not Role.ADMIN:
            await _keep_an_administrator(transaction, user, "role" if command.role is not None else "customRoleId")
        user.role, user.custom_role_id = given.role, given.custom_role_id
    user.updated_by = transaction.actor
    await store(transaction, user)
    return user


async def delete(transaction: Transaction, principal: Principal, command: DeleteUser) -> User:
    """Remove a person and revoke their tokens. Raises Conflict for the last administrator."""
    authorize(transaction, principal, Permission.ADMIN, f"user:{command.id}")
    await one_at_a_time(transaction)
    user = await _find(transaction, command.id, command.expected_version)
    await _keep_an_administrator(transaction, user, "id")
    user.is_deleted = True
    user.updated_by = transaction.actor
    await store(transaction, user)
    await revoke_where(transaction, ApiToken.user_id == user.id)
    return user


def email_fault(email: str) -> DomainError | None:
    """What is wrong with an e-mail address."""
    fault = name_fault(email, EMAIL_LIMIT, "the e-mail address", "email")
    if fault is None and not _EMAIL.fullmatch(email.strip()):
        return Invalid("this is not an e-mail address", path=("email",))
    return fault


def _name_fault(name: str) -> DomainError | None:
    return name_fault(name, NAME_LIMIT, "the display name", "displayName")


async def _find(transaction: Transaction, user_id: int, expected_version: int | None) -> User:
    query = select(User).where(
        User.tenant_id == transaction.tenant_id,
        User.id == user_id,
        User.kind == UserKind.PERSON,
        ~User.is_deleted,
    )
    user = await locked(transaction, query, "user")
    same_version(user.version, expected_version, "user")
    return user


async def _keep_an_administrator(transaction: Transaction, leaving: User, field: str) -> None:
    if leaving.role is not Role.ADMIN:
        return
    others = await transaction.session.scalar(
        select(func.count()).where(
            User.tenant_id == transaction.tenant_id,
            User.role == Role.ADMIN,
            User.kind == UserKind.PERSON,
            User.id != leaving.id,
            ~User.is_deleted,
        )
    )
    if not others:
        message = "the tenant would be left without an administrator"
        raise Conflict(message, path=(field,))
