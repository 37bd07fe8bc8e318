"""Platform administration: whoever runs the installation gets into a tenant for a while, for a reason, and is seen.

A platform administrator is a person of no tenant with a key of their own. They open an access, which names a tenant,
a reason and an end; what it gives them is a token, and everything done with that is in the tenant's audit log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

from sqlalchemy import select

from app import clock
from app.auth import tokens
from app.auth.authenticator import Unauthenticated
from app.db.changes import collect
from app.db.models import ApiToken, PlatformAccess, PlatformAdministrator, Tenant, User
from app.db.uow import Database, Origin, Transaction
from app.domain.enums import Role, TokenKind, UserKind
from app.domain.errors import Conflict, DomainError, Invalid, NotFound
from app.domain.permissions import ROLE_PERMISSIONS
from app.services import accesses, auditing
from app.services.faults import refuse, text_fault
from app.services.records import store
from app.services.seeding import as_platform
from app.services.users import email_fault

REASON_LIMIT = 500
SHORTEST_REASON = 5
MOST_LISTED = 200


@dataclass(frozen=True, slots=True)
class OpenAccess:
    """A time in the tenant of this slug, in which one may what `role` may; `most` minutes is the limit."""

    tenant: str
    reason: str
    minutes: int
    role: Role = Role.VIEWER
    most: int = 240


@dataclass(frozen=True, slots=True)
class OpenedAccess:
    """An access that was opened. `text` is the token, shown once."""

    row: PlatformAccess
    text: str = field(repr=False)


async def admit(database: Database, email: str) -> str:
    """Make somebody a platform administrator, or give one another key; the text of the key, shown once.

    What was opened with an earlier key ends.
    """
    refuse([email_fault(email)])
    minted = tokens.mint()
    address = email.strip().lower()
    async with as_platform(database) as transaction:
        known = await transaction.session.scalar(
            select(PlatformAdministrator).where(PlatformAdministrator.email == address).with_for_update()
        )
        row = known or PlatformAdministrator(email=address)
        row.public_id, row.key_hash, row.dismissed_at = minted.public_id, minted.secret_hash, None
        taken = Conflict("somebody has just been admitted under this address", path=("email",))
        await store(transaction, row, {"uq_platform_administrator_email": taken})
        await _end_all(transaction, address)
    return minted.text


async def dismiss(database: Database, email: str) -> None:
    """Somebody is a platform administrator no more; what they have open ends within a second. Raises NotFound."""
    async with as_platform(database) as transaction:
        row = await transaction.session.scalar(
            select(PlatformAdministrator)
            .where(PlatformAdministrator.email == email.strip().lower(), PlatformAdministrator.dismissed_at.is_(None))
            .with_for_update()
        )
        if row is None:
            message = f"no platform administrator has the address {email}"
            raise NotFound(message, path=("email",))
        row.dismissed_at = clock.utc_now()
        await transaction.session.flush()
        await _end_all(transaction, row.email)


async def open_access(database: Database, key: str, command: OpenAccess) -> OpenedAccess:
    """Let the administrator with this key into a tenant. Raises Unauthenticated, NotFound, Invalid and its kin."""
    refuse([_reason_fault(command.reason), _minutes_fault(command)])
    async with _administrating(database, key) as (transaction, administrator):
        transaction.tenant_id = (await _tenant(transaction, command.tenant)).id
        user = await _user(transaction, administrator)
        access = PlatformAccess(
            tenant_id=transaction.tenant_id,
            administrator=administrator.email,
            user_id=user.id,
            role=command.role,
            reason=command.reason.strip(),
            expires_at=clock.utc_now() + timedelta(minutes=command.minutes),
            created_by=transaction.actor,
            updated_by=transaction.actor,
        )
        await store(transaction, access)
        minted = tokens.mint()
        token = ApiToken(
            tenant_id=transaction.tenant_id,
            user_id=user.id,
            kind=TokenKind.PLATFORM,
            name=f"platform access {access.id}",
            public_id=minted.public_id,
            secret_hash=minted.secret_hash,
            scopes=sorted(permission.value for permission in ROLE_PERMISSIONS[command.role]),
            expires_at=access.expires_at,
            platform_access_id=access.id,
            created_by=transaction.actor,
            updated_by=transaction.actor,
        )
        await store(transaction, token)
        await _record(transaction, access, "openPlatformAccess")
    return OpenedAccess(access, minted.text)


async def list_accesses(database: Database, key: str, slug: str | None) -> list[tuple[PlatformAccess, str]]:
    """The newest accesses, of one tenant or of all, each with the tenant's slug. Raises Unauthenticated, NotFound."""
    query = (
        select(PlatformAccess, Tenant.slug)
        .join(Tenant, Tenant.id == PlatformAccess.tenant_id)
        .order_by(PlatformAccess.id.desc())
        .limit(MOST_LISTED)
    )
    async with _administrating(database, key) as (transaction, _):
        if slug is not None:
            query = query.where(Tenant.id == (await _tenant(transaction, slug)).id)
        found = await transaction.session.execute(query)
        return [(row[0], row[1]) for row in found]


async def close_access(database: Database, key: str, access_id: int) -> PlatformAccess:
    """End an access, whosever it is. Raises Unauthenticated, NotFound."""
    async with _administrating(database, key) as (transaction, _):
        query = select(PlatformAccess).where(PlatformAccess.id == access_id)
        access = await transaction.session.scalar(query)
        if access is None:
            message = "there is no such access"
            raise NotFound(message, path=("id",))
        transaction.tenant_id = access.tenant_id
        closed = await accesses.close(transaction, access.id)
        await _record(transaction, closed, "closePlatformAccess")
        return closed


@asynccontextmanager
async def _administrating(database: Database, key: str) -> AsyncIterator[tuple[Transaction, PlatformAdministrator]]:
    """A transaction of the platform for whoever has this key. Raises Unauthenticated."""
    parsed = tokens.parse(key)
    async with as_platform(database) as transaction:
        row = None
        if parsed is not None:
            row = await transaction.session.scalar(
                select(PlatformAdministrator).where(
                    PlatformAdministrator.public_id == parsed.public_id, PlatformAdministrator.dismissed_at.is_(None)
                )
            )
        if row is None or parsed is None or not parsed.proves(row.key_hash):
            reason = "no key of a platform administrator"
            raise Unauthenticated(reason)
        transaction.actor = f"platform:{row.email}"[:120]
        transaction.correlation_id = uuid4().hex
        transaction.changes = collect(transaction.session)
        yield transaction, row


async def _end_all(transaction: Transaction, administrator: str) -> None:
    """End what the administrator has open, in each tenant's own log."""
    transaction.actor, transaction.correlation_id = "system:platform", uuid4().hex
    transaction.changes = collect(transaction.session)
    found = await transaction.session.scalars(
        select(PlatformAccess).where(
            PlatformAccess.administrator == administrator,
            PlatformAccess.ended_at.is_(None),
            PlatformAccess.expires_at > clock.utc_now(),
        )
    )
    for access in found.all():
        transaction.tenant_id = access.tenant_id
        await _record(transaction, await accesses.close(transaction, access.id), "closePlatformAccess")


async def _record(transaction: Transaction, access: PlatformAccess, action: str) -> None:
    transaction.origin = Origin(reason=access.reason)
    await auditing.record(transaction, action, {"platform_access": access.id})
    # The next entry may be another tenant's.
    transaction.changes = collect(transaction.session)


async def _tenant(transaction: Transaction, slug: str) -> Tenant:
    found = await transaction.session.scalar(select(Tenant).where(Tenant.slug == slug, ~Tenant.is_deleted))
    if found is None:
        message = f"there is no tenant '{slug}'"
        raise NotFound(message, path=("tenant",))
    return found


async def _user(transaction: Transaction, administrator: PlatformAdministrator) -> User:
    """Who the administrator is among the tenant's users; what they may is each access's own."""
    query = select(User).where(
        User.tenant_id == transaction.tenant_id,
        User.email == administrator.email,
        User.kind == UserKind.PLATFORM,
    )
    found: User | None = await transaction.session.scalar(query)
    if found is not None:
        return found
    user = User(
        tenant_id=transaction.tenant_id,
        email=administrator.email,
        display_name=administrator.email[:200],
        kind=UserKind.PLATFORM,
        role=Role.ADMIN,
        created_by=transaction.actor,
        updated_by=transaction.actor,
    )
    again = Conflict("another access of yours is just being opened: try again", path=("tenant",))
    await store(transaction, user, {"uq_app_user_platform": again})
    return user


def _reason_fault(reason: str) -> DomainError | None:
    if 0 < len(reason.strip()) < SHORTEST_REASON:
        return Invalid("a reason says what for: a few words, or the number of a ticket", path=("reason",))
    return text_fault(reason, REASON_LIMIT, "the reason", "reason")


def _minutes_fault(command: OpenAccess) -> DomainError | None:
    if not 1 <= command.minutes <= command.most:
        return Invalid(f"an access lasts from 1 to {command.most} minutes", path=("minutes",))
    return None
