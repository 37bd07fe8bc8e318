"""API tokens: everyone may make and revoke their own, an administrator everybody's."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from app import clock
from app.auth import tokens
from app.auth.principal import Principal
from app.db.models import ApiToken, User
from app.db.uow import Transaction
from app.domain.enums import Permission, TokenKind, UserKind
from app.domain.errors import DomainError, Invalid, NotFound, Required
from app.domain.permissions import named
from app.services import accesses, roles
from app.services.authorizing import authorize
from app.services.faults import name_fault, refuse
from app.services.records import locked, store

NAME_LIMIT = 200
DEFAULT_LIFETIME = timedelta(days=90)
LONGEST_LIFETIME = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class IssueToken:
    """A token to be made, for oneself unless `user_id` names another.

    `scopes` None means everything that both the maker and the user may do; `expires_at` None means in 90 days. A custom
    role narrows it further, to what the role says at the time it is used.
    """

    name: str
    user_id: int | None = None
    scopes: Collection[Permission] | None = None
    expires_at: datetime | None = None
    custom_role_id: int | None = None


@dataclass(frozen=True, slots=True)
class RevokeToken:
    """A token to be made useless."""

    id: int


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token. `text` is what its owner has to keep: nobody can ever show it again."""

    row: ApiToken
    text: str = field(repr=False)


async def issue(transaction: Transaction, principal: Principal, command: IssueToken) -> IssuedToken:
    """Make a token. It reaches no further than the one it is made with, and lasts no longer, unless an administrator
    makes it, or somebody who has logged in. Raises Forbidden, NotFound, Invalid.
    """
    user_id = principal.user_id if command.user_id is None else command.user_id
    # A service account has the tokens that somebody made for it; it can replace them, and have no more.
    own = user_id == principal.user_id and principal.kind is not UserKind.SERVICE_ACCOUNT
    _authorize(transaction, principal, user_id, own=own)
    last = _last_end(principal)
    expires_at = min(clock.utc_now() + DEFAULT_LIFETIME, last) if command.expires_at is None else command.expires_at
    faults = [name_fault(command.name, NAME_LIMIT, "the name of the token", "name"), _expiry_fault(expires_at, last)]
    if command.scopes is not None and not command.scopes:
        faults.append(Required("a token without scopes would be of no use", path=("scopes",)))
    refuse(faults)
    user = await transaction.session.scalar(
        # Whoever was let in for a while gets nothing that lasts longer.
        select(User).where(
            User.tenant_id == transaction.tenant_id,
            User.id == user_id,
            User.kind != UserKind.PLATFORM,
            ~User.is_deleted,
        )
    )
    if user is None:
        message = "there is no such user"
        raise NotFound(message, path=("userId",))
    if command.custom_role_id is not None:
        allowed = named((await roles.held(transaction, command.custom_role_id)).permissions)
        roles.within_own(principal, allowed, "customRoleId")
    scopes = _scopes(principal, await roles.permissions_of(transaction, user), command.scopes)
    return await mint(transaction, user.id, command.name, scopes, expires_at, custom_role_id=command.custom_role_id)


async def mint(
    transaction: Transaction,
    user_id: int,
    name: str,
    scopes: Collection[Permission],
    expires_at: datetime,
    *,
    kind: TokenKind = TokenKind.API,
    session_since: datetime | None = None,
    custom_role_id: int | None = None,
) -> IssuedToken:
    """A new token of a user. Whether they may have it was asked before."""
    minted = tokens.mint()
    row = ApiToken(
        tenant_id=transaction.tenant_id,
        user_id=user_id,
        kind=kind,
        name=name.strip(),
        public_id=minted.public_id,
        secret_hash=minted.secret_hash,
        scopes=[scope.value for scope in Permission if scope in scopes],
        custom_role_id=custom_role_id,
        expires_at=expires_at,
        session_since=session_since,
        created_by=transaction.actor,
        updated_by=transaction.actor,
    )
    await store(transaction, row)
    return IssuedToken(row, minted.text)


async def revoke(transaction: Transaction, principal: Principal, command: RevokeToken) -> ApiToken:
    """Make a token useless, within a second everywhere. One that is revoked already stays as it is."""
    query = select(ApiToken).where(ApiToken.tenant_id == transaction.tenant_id, ApiToken.id == command.id)
    if not principal.may(Permission.ADMIN):
        # Others' tokens are not shown either, so they are not there.
        query = query.where(ApiToken.user_id == principal.user_id)
    token = await locked(transaction, query, "token")
    _authorize(transaction, principal, token.user_id, own=token.user_id == principal.user_id)
    if token.revoked_at is None:
        token.revoked_at = clock.utc_now()
        token.updated_by = transaction.actor
        await store(transaction, token)
        if token.platform_access_id is not None:
            await accesses.end_of_token(transaction, token.platform_access_id)
    return token


def _authorize(transaction: Transaction, principal: Principal, user_id: int, *, own: bool) -> None:
    authorize(transaction, principal, Permission.READ if own else Permission.ADMIN, f"tokens of user:{user_id}")


def _last_end(principal: Principal) -> datetime:
    """When a token must have ended that the principal makes."""
    if principal.is_session or not principal.token_id or principal.may(Permission.ADMIN):
        return datetime.max.replace(tzinfo=UTC)
    return principal.expires_at


def _expiry_fault(expires_at: datetime, last: datetime) -> DomainError | None:
    path = ("expiresAt",)
    if expires_at.tzinfo is None:
        return Invalid("expiresAt needs an offset from UTC", path=path)
    now = clock.utc_now()
    if expires_at <= now:
        return Invalid("expiresAt lies in the past", path=path)
    if expires_at > now + LONGEST_LIFETIME:
        return Invalid(f"a token is valid for at most {LONGEST_LIFETIME.days} days", path=path)
    if expires_at > last:
        return Invalid(f"a token ends no later than the one it is made with: {last:%Y-%m-%d %H:%M} UTC", path=path)
    return None


def _scopes(
    principal: Principal, allowed: frozenset[Permission], asked: Collection[Permission] | None
) -> frozenset[Permission]:
    within = allowed & principal.permissions
    if asked is None:
        return within
    roles.within_own(principal, asked, "scopes")
    for scope in Permission:
        if scope in asked and scope not in within:
            message = f"their role does not include {scope}"
            raise Invalid(message, path=("scopes",))
    return frozenset(asked)
