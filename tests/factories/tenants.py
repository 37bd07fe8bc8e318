"""Tenants and people, made by the verbs that the product makes them with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.auth.authenticator import Authenticator
from app.auth.principal import Principal
from app.db.models import User
from app.db.uow import Database, Transaction
from app.domain.enums import Permission, Role
from app.services import tokens, users
from app.services.seeding import create_tenant


@dataclass(frozen=True, slots=True)
class Access:
    """Somebody in a tenant, and their way in."""

    database: Database
    principal: Principal
    token: str

    @property
    def tenant_id(self) -> int:
        return self.principal.tenant_id

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        """A transaction as a mutation of theirs would have it."""
        async with self.database.write(
            self.tenant_id, actor=self.principal.actor, correlation_id="test"
        ) as transaction:
            yield transaction


async def tenant(database: Database, slug: str = "acme") -> Access:
    """A tenant, seen by its administrator."""
    _, token = await create_tenant(database, slug.title(), slug, f"admin@{slug}.example")
    return await access(database, token)


async def user(admin: Access, role: Role, email: str | None = None) -> User:
    """One more person of the administrator's tenant."""
    address = email or f"new-{role.lower()}@{admin.principal.tenant_slug}.example"
    async with admin.write() as transaction:
        return await users.create(transaction, admin.principal, users.CreateUser(address, role.title(), role))


async def member(
    admin: Access, role: Role, email: str | None = None, scopes: Collection[Permission] | None = None
) -> Access:
    """One more person of the administrator's tenant, with a token."""
    person = await user(admin, role, email)
    async with admin.write() as transaction:
        issued = await tokens.issue(
            transaction, admin.principal, tokens.IssueToken("test", user_id=person.id, scopes=scopes)
        )
    return await access(admin.database, issued.text)


async def access(database: Database, token: str) -> Access:
    """The way in that a token is."""
    return Access(database, await Authenticator(database).authenticate(token), token)
