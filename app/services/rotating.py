"""Another API token in place of one that is in use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select

from app import clock
from app.auth.principal import Principal
from app.db.models import ApiToken, User
from app.db.uow import Transaction
from app.domain.enums import Permission, TokenKind
from app.domain.errors import IllegalState, Invalid, NotFound
from app.domain.permissions import effective, named
from app.services import roles
from app.services.authorizing import authorize
from app.services.records import locked, store
from app.services.tokens import LONGEST_LIFETIME, IssuedToken, mint

LONGEST_GRACE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class RotateToken:
    """A token to be replaced by one that is the same but for its text; it works on for `grace`."""

    id: int
    grace: timedelta = timedelta()


async def rotate(transaction: Transaction, principal: Principal, command: RotateToken) -> IssuedToken:
    """Make a token that lasts as long as the old one was made for. Whoever owns it may, and administrators.

    Raises NotFound, Invalid, IllegalState for one that is of no use any more, Forbidden where the token does more than
    the one that asks: its text would be the way to all that.
    """
    if not timedelta() <= command.grace <= LONGEST_GRACE:
        message = f"the old token works on for at most {LONGEST_GRACE.days} days"
        raise Invalid(message, path=("graceSeconds",))
    query = select(ApiToken).where(
        ApiToken.tenant_id == transaction.tenant_id, ApiToken.id == command.id, ApiToken.kind == TokenKind.API
    )
    if not principal.may(Permission.ADMIN):
        # Others' tokens are not shown either, so they are not there.
        query = query.where(ApiToken.user_id == principal.user_id)
    old = await locked(transaction, query, "token")
    own = old.user_id == principal.user_id
    authorize(transaction, principal, Permission.READ if own else Permission.ADMIN, f"token:{old.id}")
    now = clock.utc_now()
    if old.revoked_at is not None or old.expires_at <= now:
        status = "REVOKED" if old.revoked_at is not None else "EXPIRED"
        message = f"a token that is {status} is not replaced: make another one"
        raise IllegalState(message, status=status, path=("id",))
    user = await transaction.session.scalar(
        select(User).where(User.tenant_id == transaction.tenant_id, User.id == old.user_id, ~User.is_deleted)
    )
    if user is None:
        message = "there is no such token"
        raise NotFound(message, path=("id",))
    custom = None if old.custom_role_id is None else (await roles.held(transaction, old.custom_role_id)).permissions
    roles.within_own(principal, effective(await roles.permissions_of(transaction, user), old.scopes, custom), "id")
    lifetime = min(old.expires_at - old.created_at, LONGEST_LIFETIME)
    issued = await mint(
        transaction,
        old.user_id,
        old.name,
        # No more than the token that asks has, whatever its owner may come to do.
        named(old.scopes) & principal.permissions,
        now + lifetime,
        custom_role_id=old.custom_role_id,
    )
    old.expires_at = min(old.expires_at, now + command.grace)
    if not command.grace:
        old.revoked_at = now
    old.updated_by = transaction.actor
    await store(transaction, old)
    return issued
