"""Tenants are made by the platform and not by a tenant, so these acts have a database role of their own."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import select, text

from app import clock
from app.auth import tokens
from app.auth.authenticator import Authenticator, Unauthenticated
from app.db.models import ApiToken, Tenant, User
from app.db.uow import Database, SystemRole, Transaction
from app.domain.enums import Permission, Role
from app.domain.errors import Conflict, DomainError, Invalid, Required
from app.services.faults import name_fault, refuse
from app.services.records import store
from app.services.tenants import NAME_LIMIT
from app.services.tokens import DEFAULT_LIFETIME
from app.services.users import email_fault

if TYPE_CHECKING:
    from app.settings import Settings

DEMO_SLUG = "demo"
DEMO_EMAIL = "admin@demo.example"
_ACTOR = "system:platform"
_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class SeedResult:
    """A tenant to try things in, and a token of its administrator."""

    tenant_slug: str
    token: str = field(repr=False)


async def seed_demo(settings: Settings, existing_token: str | None = None) -> SeedResult:
    """Make sure of a demo tenant, its administrator and a token; what is there is kept.

    `existing_token` is kept when it still lets its owner into the demo tenant. Raises Required without a database URL.
    """
    if settings.database_url is None:
        message = "WINDLASS_DATABASE_URL is not set"
        raise Required(message, path=("WINDLASS_DATABASE_URL",))
    database = Database.connect(settings.database_url, name="windlass-seed", pool_size=2)
    try:
        if existing_token is not None and await _is_of_demo(database, existing_token):
            return SeedResult(DEMO_SLUG, existing_token)
        async with as_platform(database) as transaction:
            tenant = await _demo_tenant(transaction)
            user = await _administrator(transaction, tenant, DEMO_EMAIL)
            return SeedResult(DEMO_SLUG, await _token(transaction, user))
    finally:
        await database.close()


async def create_tenant(database: Database, name: str, slug: str, admin_email: str) -> tuple[int, str]:
    """A new tenant with an administrator; its id, and the text of a token of theirs, valid for 90 days.

    Raises Conflict when the slug is taken, Invalid and its kin for names.
    """
    refuse(
        [name_fault(name, NAME_LIMIT, "the name of the tenant", "name"), _slug_fault(slug), email_fault(admin_email)]
    )
    async with as_platform(database) as transaction:
        tenant = Tenant(name=name.strip(), slug=slug, created_by=_ACTOR, updated_by=_ACTOR)
        taken = Conflict(f"there already is a tenant '{slug}'", path=("slug",))
        await store(transaction, tenant, {"uq_tenant_slug": taken})
        user = await _administrator(transaction, tenant, admin_email)
        return tenant.id, await _token(transaction, user)


@asynccontextmanager
async def as_platform(database: Database) -> AsyncIterator[Transaction]:
    """A transaction of the platform: nobody else may make tenants."""
    async with database.system(SystemRole.AUTH) as transaction:
        await transaction.session.execute(text("SELECT set_config('role', 'windlass_platform', true)"))
        yield transaction


async def _is_of_demo(database: Database, token: str) -> bool:
    try:
        principal = await Authenticator(database).authenticate(token)
    except Unauthenticated:
        return False
    return principal.tenant_slug == DEMO_SLUG


async def _demo_tenant(transaction: Transaction) -> Tenant:
    # Two processes may seed at the same time; the second waits here and then finds what the first made.
    await transaction.session.execute(text("SELECT pg_advisory_xact_lock(77077, 2)"))
    found = await transaction.session.scalar(select(Tenant).where(Tenant.slug == DEMO_SLUG))
    if found is not None:
        return found
    tenant = Tenant(name="Demo", slug=DEMO_SLUG, created_by=_ACTOR, updated_by=_ACTOR)
    await store(transaction, tenant)
    return tenant


async def _administrator(transaction: Transaction, tenant: Tenant, email: str) -> User:
    """The person of this address, who becomes an administrator when they are new."""
    address = email.strip().lower()
    query = select(User).where(User.tenant_id == tenant.id, User.email == address, ~User.is_deleted)
    found = await transaction.session.scalar(query)
    if found is not None:
        return found
    user = User(
        tenant_id=tenant.id,
        email=address,
        display_name="Administrator",
        role=Role.ADMIN,
        created_by=_ACTOR,
        updated_by=_ACTOR,
    )
    await store(transaction, user)
    return user


async def _token(transaction: Transaction, user: User) -> str:
    minted = tokens.mint()
    row = ApiToken(
        tenant_id=user.tenant_id,
        user_id=user.id,
        name="First token",
        public_id=minted.public_id,
        secret_hash=minted.secret_hash,
        scopes=[permission.value for permission in Permission],
        expires_at=clock.utc_now() + DEFAULT_LIFETIME,
        created_by=_ACTOR,
        updated_by=_ACTOR,
    )
    await store(transaction, row)
    return minted.text


def _slug_fault(slug: str) -> DomainError | None:
    if not _SLUG.fullmatch(slug):
        return Invalid("a slug has 1 to 63 lower-case letters, digits and inner dashes", path=("slug",))
    return None
