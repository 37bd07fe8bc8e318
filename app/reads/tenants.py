"""Questions about the tenant, its people, their tokens, and its provider connections."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import ApiToken, ProviderConnection, Tenant, User
from app.db.pages import Order
from app.domain.enums import UserKind
from app.reads import rows


async def by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, Tenant]:
    """The tenant itself: nobody sees another one."""
    query = select(Tenant).where(Tenant.id == tenant_id, ~Tenant.is_deleted)
    return await rows.by_ids(session, query, ids)


async def users_by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, User]:
    return await rows.by_ids(session, rows.of_tenant(User, tenant_id), ids)


async def actors_by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, User]:
    """Users as authors of what happened: also those who are gone."""
    return await rows.by_ids(session, rows.of_tenant(User, tenant_id, deleted=True), ids)


async def tokens_by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, ApiToken]:
    return await rows.by_ids(session, rows.of_tenant(ApiToken, tenant_id), ids)


async def connections_by_ids(
    session: AsyncSession, tenant_id: int, ids: Sequence[int]
) -> dict[int, ProviderConnection]:
    return await rows.by_ids(session, rows.of_tenant(ProviderConnection, tenant_id), ids)


def users(tenant_id: int) -> tuple[Select[User], Order]:
    """The tenant's people, by e-mail address."""
    return _people(tenant_id), Order("users", (User.email,), User.id)


async def service_accounts_by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, User]:
    return await rows.by_ids(session, service_accounts(tenant_id)[0], ids)


async def service_actors_by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, User]:
    """Service accounts as authors of what happened: also those that are gone."""
    query = rows.of_tenant(User, tenant_id, deleted=True).where(User.kind == UserKind.SERVICE_ACCOUNT)
    return await rows.by_ids(session, query, ids)


def service_accounts(tenant_id: int) -> tuple[Select[User], Order]:
    """The tenant's service accounts, by name."""
    query = rows.of_tenant(User, tenant_id).where(User.kind == UserKind.SERVICE_ACCOUNT)
    return query, Order("service_accounts", (User.display_name,), User.id)


def _people(tenant_id: int) -> Select[User]:
    return rows.of_tenant(User, tenant_id).where(User.kind == UserKind.PERSON)


def tokens(tenant_id: int) -> tuple[Select[ApiToken], Order]:
    """The tenant's tokens, newest first, also those revoked."""
    return rows.of_tenant(ApiToken, tenant_id), Order("tokens", (ApiToken.created_at,), ApiToken.id, descending=True)


def connections(tenant_id: int) -> tuple[Select[ProviderConnection], Order]:
    """The tenant's provider connections, by name."""
    query = rows.of_tenant(ProviderConnection, tenant_id)
    return query, Order("connections", (ProviderConnection.name,), ProviderConnection.id)


def tokens_of_user(tenant_id: int) -> rows.Relation[ApiToken]:
    """The tokens of a user, newest first, also those revoked."""
    query, order = tokens(tenant_id)
    return rows.Relation("user.tokens", query, ApiToken.user_id, order)
