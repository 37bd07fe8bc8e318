"""What an administrator may do with service accounts: principals of the tenant that are no people.

They have API tokens and nothing else: no password, no session, no OpenID. What they may is a role's, as of people; they
approve nothing unless it is said that they may, and never what they asked for themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from app.auth.principal import Principal
from app.db.models import ApiToken, User
from app.db.uow import Transaction
from app.domain.enums import Permission, Role, UserKind
from app.domain.errors import Conflict, QuotaExceeded
from app.services import roles
from app.services.authorizing import authorize
from app.services.faults import name_fault, refuse
from app.services.records import locked, one_at_a_time, same_version, store
from app.services.revoking import revoke_where

MOST_ACCOUNTS = 200
NAME_LIMIT = 200
# They have no address; nobody can log in with this one.
_NO_ADDRESS = ""


@dataclass(frozen=True, slots=True)
class CreateServiceAccount:
    """A service account to be, with a built-in role or a custom one."""

    name: str
    role: Role | None = None
    custom_role_id: int | None = None
    may_approve: bool = False


@dataclass(frozen=True, slots=True)
class UpdateServiceAccount:
    """Changes to a service account; None leaves a field as it is."""

    id: int
    expected_version: int | None = None
    name: str | None = None
    role: Role | None = None
    custom_role_id: int | None = None
    may_approve: bool | None = None


async def create(transaction: Transaction, principal: Principal, command: CreateServiceAccount) -> User:
    """Add a service account. It has no token yet. Raises Forbidden for what the principal may not do themselves;
    Conflict, QuotaExceeded, Invalid.
    """
    authorize(transaction, principal, Permission.ADMIN)
    refuse([name_fault(command.name, NAME_LIMIT, "the name of the service account", "name")])
    _may_let_approve(principal, command.may_approve)
    await one_at_a_time(transaction)
    given = await roles.given(transaction, principal, command.role, command.custom_role_id)
    used = await transaction.session.scalar(
        select(func.count()).where(
            User.tenant_id == transaction.tenant_id, User.kind == UserKind.SERVICE_ACCOUNT, ~User.is_deleted
        )
    )
    if (used or 0) >= MOST_ACCOUNTS:
        message = f"a tenant has at most {MOST_ACCOUNTS} service accounts"
        raise QuotaExceeded(message, key="serviceAccounts", limit=MOST_ACCOUNTS, used=used or 0)
    account = User(
        tenant_id=transaction.tenant_id,
        kind=UserKind.SERVICE_ACCOUNT,
        email=_NO_ADDRESS,
        display_name=command.name.strip(),
        role=given.role,
        custom_role_id=given.custom_role_id,
        may_approve=command.may_approve,
        created_by=transaction.actor,
        updated_by=transaction.actor,
    )
    await _store(transaction, account)
    return account


async def update(transaction: Transaction, principal: Principal, command: UpdateServiceAccount) -> User:
    """Change a service account, at once for all its tokens. Raises as `create` does, NotFound and StaleVersion."""
    authorize(transaction, principal, Permission.ADMIN, f"service-account:{command.id}")
    account = await _find(transaction, command.id, command.expected_version)
    # Before the name: what is asked of the database would write that, and `_store` knows what to say if it is taken.
    if command.role is not None or command.custom_role_id is not None:
        given = await roles.given(transaction, principal, command.role, command.custom_role_id)
        account.role, account.custom_role_id = given.role, given.custom_role_id
    if command.may_approve is not None:
        _may_let_approve(principal, command.may_approve and not account.may_approve)
        account.may_approve = command.may_approve
    if command.name is not None:
        refuse([name_fault(command.name, NAME_LIMIT, "the name of the service account", "name")])
        account.display_name = command.name.strip()
    account.updated_by = transaction.actor
    await _store(transaction, account)
    return account


async def delete(transaction: Transaction, principal: Principal, account_id: int, expected_version: int | None) -> User:
    """Remove a service account and revoke its tokens. What it did stays its own."""
    authorize(transaction, principal, Permission.ADMIN, f"service-account:{account_id}")
    account = await _find(transaction, account_id, expected_version)
    account.is_deleted = True
    account.updated_by = transaction.actor
    await store(transaction, account)
    await revoke_where(transaction, ApiToken.user_id == account.id)
    return account


def _may_let_approve(principal: Principal, lets: bool) -> None:
    if lets:
        roles.within_own(principal, {Permission.APPROVE}, "mayApprove")


async def _find(transaction: Transaction, account_id: int, expected_version: int | None) -> User:
    query = select(User).where(
        User.tenant_id == transaction.tenant_id,
        User.id == account_id,
        User.kind == UserKind.SERVICE_ACCOUNT,
        ~User.is_deleted,
    )
    account = await locked(transaction, query, "service account")
    same_version(account.version, expected_version, "service account")
    return account


async def _store(transaction: Transaction, account: User) -> None:
    taken = Conflict("a service account of this name is already there", path=("name",))
    await store(transaction, account, {"uq_app_user_service_account": taken})
