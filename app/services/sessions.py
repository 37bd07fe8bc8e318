"""Logging in: a password is exchanged for a session, which is a token that the browser keeps in a cookie.

Whoever is new gets an invitation from an administrator, which lets them set a password once; so does whoever has
forgotten theirs.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select

from app import clock
from app.auth.authenticator import Authenticator, Unauthenticated
from app.auth.passwords import LONGEST, SHORTEST, Passwords
from app.auth.principal import Principal
from app.auth.rates import Meter, Rate
from app.characters import spelled
from app.db.models import ApiToken, User
from app.db.statements import Statement
from app.db.uow import Database, Origin, Transaction
from app.domain.enums import Permission, TokenKind, UserKind
from app.domain.errors import DomainError, Invalid, NotFound
from app.services import auditing, roles, tokens
from app.services.authorizing import authorize
from app.services.revoking import revoke_where
from app.services.tokens import IssuedToken

SESSION_LIFETIME: Final = timedelta(hours=12)
# Renewed or not, one has to log in again after this.
LONGEST_SESSION: Final = timedelta(days=7)
INVITATION_LIFETIME: Final = timedelta(days=3)
_SESSIONS: Final = 20
_NAME_LIMIT: Final = 200
# Of one account: five tries at once, and one every twelve seconds. Of one address: people may share it.
_ACCOUNT: Final = Rate(1 / 12, 5)
_ADDRESS: Final = Rate(1 / 3, 30)
_KEEP = Statement(
    "INSERT INTO user_password (tenant_id, user_id, hash) VALUES (:tenant, :user, :hash)"
    " ON CONFLICT (tenant_id, user_id) DO UPDATE SET hash = :hash, changed_at = now()"
)


class TooOften(Exception):
    """Somebody tries too often; they may again after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Credentials:
    """What somebody says who they are; `address` is where they say it from, `agent` what with."""

    tenant: str
    email: str
    password: str = field(repr=False)
    address: str = ""
    agent: str = ""


class Sessions:
    """The verbs of logging in; one for a process, because it remembers who tried."""

    def __init__(self, database: Database, authenticator: Authenticator) -> None:
        self._database = database
        self._authenticator = authenticator
        self._passwords = Passwords()
        self._accounts, self._addresses = Meter(_ACCOUNT), Meter(_ADDRESS)

    async def log_in(self, given: Credentials, correlation_id: str) -> IssuedToken:
        """A session. Raises Unauthenticated, whatever is wrong, and TooOften before anything is compared."""
        email = given.email.strip().lower()
        self._slow_down(self._addresses, given.address)
        self._slow_down(self._accounts, (given.tenant, email))
        found = await self._authenticator.password_of(given.tenant, email)
        if len(given.password) > LONGEST:
            reason = "a password longer than any"
            raise Unauthenticated(reason)
        if not await self._passwords.proves(given.password, None if found is None else found[2]) or found is None:
            reason = "wrong password"
            raise Unauthenticated(reason)
        tenant_id, user_id, stored = found
        renewed = await self._passwords.hash(given.password) if self._passwords.is_outdated(stored) else None
        origin = Origin(address=given.address)
        async with self._database.write(
            tenant_id, actor=f"user:{user_id}", correlation_id=correlation_id, origin=origin
        ) as opened:
            opened.authorize(f"user:{user_id} logs in")
            if renewed is not None:
                await opened.fetch(_KEEP, {"tenant": tenant_id, "user": user_id, "hash": renewed})
            issued = await _open(opened, user_id, given.agent or "browser", clock.utc_now())
            await auditing.record(opened, "login", {"user": user_id})
            return issued

    async def renew(self, principal: Principal, correlation_id: str) -> IssuedToken:
        """Another session in place of this one, which ends. Raises Unauthenticated for one that has lasted too long."""
        async with self._write(principal, correlation_id) as transaction:
            row = await _session_of(transaction, principal)
            since = row.session_since or row.created_at
            if since + LONGEST_SESSION <= clock.utc_now():
                reason = "a session that has lasted long enough"
                raise Unauthenticated(reason)
            transaction.authorize(f"{principal.actor} renews a session")
            row.revoked_at = clock.utc_now()
            return await _open(transaction, principal.user_id, row.name, since)

    async def log_out(self, principal: Principal, correlation_id: str) -> None:
        """End the session; other sessions of the same person go on."""
        async with self._write(principal, correlation_id) as transaction:
            row = await _session_of(transaction, principal)
            transaction.authorize(f"{principal.actor} logs out")
            row.revoked_at = clock.utc_now()
            await auditing.record(transaction, "logout", {"user": principal.user_id})

    async def change_password(self, principal: Principal, current: str, new: str, correlation_id: str) -> None:
        """Another password; every other session of the same person ends. Raises Invalid, Unauthenticated, TooOften."""
        self._slow_down(self._accounts, principal.user_id)
        stored = await self._authenticator.hash_of(principal)
        if len(current) > LONGEST or not await self._passwords.proves(current, stored):
            reason = "wrong password"
            raise Unauthenticated(reason)
        await self._set(principal, new, correlation_id, except_token=principal.token_id)

    async def accept(self, invitation: str, new: str, correlation_id: str) -> Principal:
        """Set the password of whoever was invited; the invitation is of no use any more, and every session ends."""
        principal = await self._authenticator.invited(invitation)
        await self._set(principal, new, correlation_id, except_token=0)
        return principal

    async def _set(self, principal: Principal, new: str, correlation_id: str, *, except_token: int) -> None:
        fault = password_fault(new)
        if fault is not None:
            raise fault
        hashed = await self._passwords.hash(new)
        async with self._write(principal, correlation_id) as transaction:
            transaction.authorize(f"{principal.actor} sets a password")
            await transaction.fetch(_KEEP, {"tenant": principal.tenant_id, "user": principal.user_id, "hash": hashed})
            ended = await revoke_where(
                transaction,
                ApiToken.user_id == principal.user_id,
                ApiToken.kind != TokenKind.API,
                ApiToken.id != except_token,
            )
            if not except_token and principal.token_id not in {token.id for token in ended}:
                reason = "an invitation that was used meanwhile"
                raise Unauthenticated(reason)
            await auditing.record(transaction, "setPassword", {"user": principal.user_id})

    def _write(self, principal: Principal, correlation_id: str) -> AbstractAsyncContextManager[Transaction]:
        return self._database.write(
            principal.tenant_id,
            actor=principal.actor,
            correlation_id=correlation_id,
            origin=Origin(principal.token_id),
        )

    @staticmethod
    def _slow_down(meter: Meter, key: Hashable) -> None:
        wait = meter.take(key)
        if wait:
            raise TooOften(wait)


async def invite(transaction: Transaction, principal: Principal, user_id: int) -> IssuedToken:
    """An invitation for somebody, to be handed to them; those that they had are of no use any more.

    Raises Forbidden for somebody who may more than the principal: whoever has the invitation can become them.
    """
    authorize(transaction, principal, Permission.ADMIN, f"user:{user_id}")
    found = await transaction.session.scalar(
        select(User).where(
            User.tenant_id == transaction.tenant_id,
            User.id == user_id,
            User.kind == UserKind.PERSON,
            ~User.is_deleted,
        )
    )
    if found is None:
        message = "there is no such user"
        raise NotFound(message, path=("userId",))
    roles.within_own(principal, await roles.permissions_of(transaction, found), "userId")
    await revoke_where(transaction, ApiToken.user_id == user_id, ApiToken.kind == TokenKind.INVITATION)
    expires_at = clock.utc_now() + INVITATION_LIFETIME
    return await tokens.mint(transaction, user_id, "invitation", (), expires_at, kind=TokenKind.INVITATION)


def password_fault(password: str) -> DomainError | None:
    """What is wrong with a password to be: length is what makes one hard to guess, and nothing else is asked."""
    if not SHORTEST <= len(password) <= LONGEST:
        return Invalid(f"a password has {SHORTEST} to {LONGEST} characters", path=("password",))
    if len(set(password)) < SHORTEST // 3:
        return Invalid("a password has more than a few different characters", path=("password",))
    return None


async def _open(transaction: Transaction, user_id: int, name: str, since: datetime) -> IssuedToken:
    """A new session; the oldest ends where there are too many."""
    oldest = (
        select(ApiToken.id)
        .where(
            ApiToken.tenant_id == transaction.tenant_id,
            ApiToken.user_id == user_id,
            ApiToken.kind == TokenKind.SESSION,
            ApiToken.revoked_at.is_(None),
        )
        .order_by(ApiToken.id.desc())
        .offset(_SESSIONS - 1)
    )
    await revoke_where(transaction, ApiToken.id.in_(oldest))
    until = min(clock.utc_now() + SESSION_LIFETIME, since + LONGEST_SESSION)
    name = spelled(name.strip())[:_NAME_LIMIT] or "browser"
    return await tokens.mint(
        transaction, user_id, name, list(Permission), until, kind=TokenKind.SESSION, session_since=since
    )


async def _session_of(transaction: Transaction, principal: Principal) -> ApiToken:
    """The session that somebody comes with, locked. Raises Unauthenticated where it is none, or none any more."""
    row = await transaction.session.scalar(
        select(ApiToken)
        .where(
            ApiToken.tenant_id == transaction.tenant_id,
            ApiToken.id == principal.token_id,
            ApiToken.kind == TokenKind.SESSION,
            ApiToken.revoked_at.is_(None),
        )
        .with_for_update()
    )
    if row is None:
        reason = "no session"
        raise Unauthenticated(reason)
    return row
