"""What a tenant does about platform administrators who were let in: it sees them, and can end it."""

from __future__ import annotations

from sqlalchemy import select

from app import clock
from app.auth.principal import Principal
from app.db.models import ApiToken, PlatformAccess
from app.db.uow import Transaction
from app.domain.enums import Permission
from app.services.authorizing import authorize
from app.services.records import locked, store
from app.services.revoking import revoke_where


async def end(transaction: Transaction, principal: Principal, access_id: int) -> PlatformAccess:
    """End an access, within a second everywhere. One that is over already stays as it is. Raises NotFound."""
    authorize(transaction, principal, Permission.ADMIN, f"platform-access:{access_id}")
    return await close(transaction, access_id)


async def close(transaction: Transaction, access_id: int) -> PlatformAccess:
    """End an access for whoever may; that was asked before. Raises NotFound."""
    access = await end_of_token(transaction, access_id)
    await revoke_where(transaction, ApiToken.platform_access_id == access.id)
    return access


async def end_of_token(transaction: Transaction, access_id: int) -> PlatformAccess:
    """The access whose token is or will be of no use: it is over. Raises NotFound."""
    query = select(PlatformAccess).where(
        PlatformAccess.tenant_id == transaction.tenant_id, PlatformAccess.id == access_id
    )
    access = await locked(transaction, query, "access")
    now = clock.utc_now()
    if access.ended_at is None and access.expires_at > now:
        access.ended_at, access.ended_by = now, transaction.actor
        access.updated_by = transaction.actor
        await store(transaction, access)
    return access
