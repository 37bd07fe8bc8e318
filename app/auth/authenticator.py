"""From a token to a principal."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from app import clock
from app.auth.oidc import Issuer, NotOurs
from app.auth.principal import Principal
from app.auth.tokens import ParsedToken, parse
from app.db.statements import Row, Statement
from app.db.uow import Database, SystemRole, Transaction
from app.domain.enums import Role, TokenKind, UserKind
from app.domain.permissions import effective, granted, of_service_account

# A revoked token works for at most this long in a process that has just seen it.
CACHE_SECONDS: Final = 1.0
# Whoever comes with one that was looked at so long ago has it looked at again.
_LOOK_AGAIN_SECONDS: Final = 0.5
_CACHE_ENTRIES: Final = 10_000
_TOUCH_AFTER: Final = timedelta(minutes=1)
_SOME_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


# What the custom role of a row allows: null where it has none, nothing where the role is no more.
_ROLE: Final = (
    " CASE WHEN {0}.custom_role_id IS NOT NULL THEN coalesce((SELECT r.permissions FROM custom_role r"
    " WHERE r.tenant_id = {0}.tenant_id AND r.id = {0}.custom_role_id AND NOT r.is_deleted), '{{}}') END AS {1},"
)
_CUSTOM: Final = _ROLE.format("u", "custom")
_NARROWED: Final = _ROLE.format("t", "narrowed")
_COLUMNS: Final = (
    "SELECT t.id, t.tenant_id, t.kind, t.secret_hash, t.scopes, t.expires_at, t.revoked_at, t.last_used_at,"  # noqa: S608  all of it is ours
    f" u.id AS user_id, u.kind AS user_kind, u.may_approve, coalesce(a.role, u.role) AS role,"
    f"{_CUSTOM}{_NARROWED} n.slug,"
    " a.id AS access_id, a.reason, u.is_deleted OR n.is_deleted OR (u.kind = 'PLATFORM' AND (a.id IS NULL"
    " OR a.ended_at IS NOT NULL OR NOT EXISTS (SELECT FROM platform_administrator p"
    " WHERE p.email = a.administrator AND p.dismissed_at IS NULL))) AS gone"
    " FROM api_token t JOIN app_user u ON u.tenant_id = t.tenant_id AND u.id = t.user_id"
    " JOIN tenant n ON n.id = t.tenant_id"
    " LEFT JOIN platform_access a ON a.tenant_id = t.tenant_id AND a.id = t.platform_access_id"
)
_BY_PUBLIC_ID: Final = Statement(f"{_COLUMNS} WHERE t.public_id = :public")
_BY_IDS: Final = Statement(f"{_COLUMNS} WHERE t.id = ANY(:ids)")
_BY_ADDRESS: Final = Statement(
    "SELECT u.tenant_id, u.id, p.hash FROM tenant n JOIN app_user u ON u.tenant_id = n.id"
    " JOIN user_password p ON p.tenant_id = u.tenant_id AND p.user_id = u.id"
    " WHERE n.slug = :slug AND u.email = :email AND u.kind = 'PERSON' AND NOT n.is_deleted AND NOT u.is_deleted"
)
_MEMBERS: Final = (
    f"SELECT u.tenant_id, u.id AS user_id, u.role,{_CUSTOM} n.slug"  # noqa: S608  all of it is ours
    " FROM app_user u JOIN tenant n ON n.id = u.tenant_id"
    " WHERE u.kind = 'PERSON' AND NOT u.is_deleted AND NOT n.is_deleted"
)
_BY_CLAIMS: Final = Statement(f"{_MEMBERS} AND n.slug = :slug AND u.email = :email")
_BY_USERS: Final = Statement(f"{_MEMBERS} AND u.id = ANY(:ids)")
_HASH: Final = Statement("SELECT hash FROM user_password WHERE tenant_id = :tenant AND user_id = :user")
_TOUCH: Final = Statement("UPDATE api_token SET last_used_at = :now WHERE id = :id")


class Unauthenticated(Exception):
    """Nobody we know. The message is always the same; `reason` is for our log and is never sent."""

    def __init__(self, reason: str) -> None:
        super().__init__("The credentials are missing, wrong, or no longer valid.")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Seen:
    """Whom a token stood for, and until when (of the monotonic clock) that is good enough."""

    until: float
    principal: Principal


class Authenticator:
    """Reads credentials under the database role that may see nothing else."""

    def __init__(self, database: Database, issuer: Issuer | None = None) -> None:
        self._database = database
        self._issuer = issuer
        # By the digest of the whole token: what is kept for a moment lets nobody in.
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()
        self._looking: dict[bytes, asyncio.Task[Principal]] = {}

    async def authenticate(self, token_text: str, *, in_cookie: bool = False) -> Principal:
        """The principal of a token of ours, or of the OpenID provider; in a cookie only that of a session is good.

        Raises Unauthenticated, IssuerAway.
        """
        principal = self.known(token_text)
        if principal is None:
            # All who come with the same wait for one look.
            key = _key_of(token_text)
            principal = await asyncio.shield(self._looking.get(key) or self._look(key, token_text))
        if in_cookie and not principal.is_session:
            # A page that could set a cookie would have a browser act with a token that its user never logged in with.
            reason = "a cookie that holds no session"
            raise Unauthenticated(reason)
        return principal

    def known(self, token_text: str) -> Principal | None:
        """Whom a token stood for a moment ago; None where somebody has to be asked."""
        key = _key_of(token_text)
        seen = self._seen.get(key)
        if seen is not None and seen.until > (now := clock.monotonic()) and seen.principal.expires_at > clock.utc_now():
            if seen.until - now < CACHE_SECONDS - _LOOK_AGAIN_SECONDS and key not in self._looking:
                # Before it is too old: so that nobody who asks often waits for it.
                self._look(key, token_text)
            return seen.principal
        return None

    def _look(self, key: bytes, token_text: str) -> asyncio.Task[Principal]:
        async def look() -> Principal:
            try:
                # As old as the question, not as the answer.
                asked_at = clock.monotonic()
                principal = await self._asked(token_text)
                self._remember(key, _Seen(asked_at + CACHE_SECONDS, principal))
            except Unauthenticated:
                self._seen.pop(key, None)
                raise
            finally:
                del self._looking[key]
            return principal

        task = self._looking[key] = asyncio.get_running_loop().create_task(look())
        # Whoever waits for it is told; where nobody does, the next one asks again.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _asked(self, token_text: str) -> Principal:
        """Of the database or of the OpenID provider."""
        token = parse(token_text)
        if token is None and self._issuer is not None and token_text.count(".") == 2:
            return await self._believed(self._issuer, token_text)
        if token is None:
            reason = "malformed token"
            raise Unauthenticated(reason)
        async with self._database.system(SystemRole.AUTH) as transaction:
            row = await _row_of(transaction, token)
            if row["kind"] == TokenKind.INVITATION:
                reason = "an invitation"
                raise Unauthenticated(reason)
            principal = _principal(row)
            await _touch(transaction, row)
        return principal

    async def _believed(self, issuer: Issuer, text: str) -> Principal:
        """The person that the OpenID provider says it is, if an administrator has made them a user of the tenant."""
        try:
            claims = await issuer.claims(text)
        except NotOurs as error:
            reason = f"OpenID: {error}"
            raise Unauthenticated(reason) from error
        async with self._database.system(SystemRole.AUTH) as transaction:
            row = await transaction.fetch_one(_BY_CLAIMS, {"slug": claims.tenant, "email": claims.email})
        if row is None:
            reason = "OpenID: nobody of the tenant"
            raise Unauthenticated(reason)
        return _member(row, claims.expires_at)

    async def close(self) -> None:
        """Wait for looks under way, and give up what is open towards the OpenID provider."""
        if self._looking:
            await asyncio.wait(list(self._looking.values()))
        if self._issuer is not None:
            await self._issuer.close()

    async def invited(self, token_text: str) -> Principal:
        """Whose invitation it is; it lets them do nothing but set a password. Raises Unauthenticated."""
        token = parse(token_text)
        if token is None:
            reason = "malformed token"
            raise Unauthenticated(reason)
        async with self._database.system(SystemRole.AUTH) as transaction:
            row = await _row_of(transaction, token)
        if row["kind"] != TokenKind.INVITATION:
            reason = "no invitation"
            raise Unauthenticated(reason)
        return _principal(row)

    async def password_of(self, slug: str, email: str) -> tuple[int, int, str] | None:
        """Tenant, user and the hash of the password of whoever has this address there; None for nobody."""
        async with self._database.system(SystemRole.AUTH) as transaction:
            row = await transaction.fetch_one(_BY_ADDRESS, {"slug": slug, "email": email})
        return None if row is None else (row["tenant_id"], row["id"], row["hash"])

    async def hash_of(self, principal: Principal) -> str | None:
        """The hash of their password; None for whoever has none."""
        async with self._database.system(SystemRole.AUTH) as transaction:
            row = await transaction.fetch_one(_HASH, {"tenant": principal.tenant_id, "user": principal.user_id})
        return None if row is None else str(row["hash"])

    async def still_good(self, principals: Collection[Principal]) -> set[Principal]:
        """Those whose token still gives exactly what it gave, by one query for all."""
        # Whoever comes from the OpenID provider has no token of ours.
        theirs = [principal for principal in principals if not principal.token_id]
        asked = {"ids": [principal.token_id for principal in principals if principal.token_id]}
        async with self._database.system(SystemRole.AUTH) as transaction:
            rows = await transaction.fetch(_BY_IDS, asked) if asked["ids"] else []
            users = {"ids": [principal.user_id for principal in theirs]}
            members = await transaction.fetch(_BY_USERS, users) if theirs else []
        now = set()
        for row in rows:
            with suppress(Unauthenticated):
                now.add(_principal(row))
        by_user = {row["user_id"]: row for row in members}
        for principal in theirs:
            if principal.expires_at > clock.utc_now() and principal.user_id in by_user:
                now.add(_member(by_user[principal.user_id], principal.expires_at))
        # A token whose end was moved is the same until then.
        good = {_timeless(principal) for principal in now}
        return {principal for principal in principals if _timeless(principal) in good}

    def _remember(self, key: bytes, seen: _Seen) -> None:
        self._seen[key] = seen
        self._seen.move_to_end(key)
        if len(self._seen) > _CACHE_ENTRIES:
            self._seen.popitem(last=False)


def _key_of(token_text: str) -> bytes:
    return hashlib.sha256(token_text.encode(errors="replace")).digest()


async def _row_of(transaction: Transaction, token: ParsedToken) -> Row:
    row = await transaction.fetch_one(_BY_PUBLIC_ID, {"public": token.public_id})
    if row is None or not token.proves(row["secret_hash"]):
        reason = "unknown token"
        raise Unauthenticated(reason)
    return row


def _timeless(principal: Principal) -> Principal:
    return replace(principal, expires_at=_SOME_TIME)


def _member(row: Row, expires_at: datetime) -> Principal:
    """Somebody without a token of ours, who may what their role may."""
    role = Role(row["role"])
    return Principal(
        tenant_id=row["tenant_id"],
        tenant_slug=row["slug"],
        user_id=row["user_id"],
        role=role,
        permissions=granted(role, row["custom"]),
        token_id=0,
        expires_at=expires_at,
    )


def _principal(row: Row) -> Principal:
    expires_at: datetime = row["expires_at"]
    reason = None
    if row["revoked_at"] is not None:
        reason = "revoked token"
    elif expires_at <= clock.utc_now():
        reason = "expired token"
    elif row["gone"]:
        reason = "token of a deleted user or tenant, or of an access that has ended"
    if reason is not None:
        raise Unauthenticated(reason)
    role = Role(row["role"])
    kind = UserKind(row["user_kind"])
    may = granted(role, row["custom"])
    if kind is UserKind.SERVICE_ACCOUNT:
        may = of_service_account(role, row["custom"], may_approve=row["may_approve"])
    return Principal(
        tenant_id=row["tenant_id"],
        tenant_slug=row["slug"],
        user_id=row["user_id"],
        role=role,
        permissions=effective(may, row["scopes"], row["narrowed"]),
        token_id=row["id"],
        expires_at=expires_at,
        kind=kind,
        access_id=row["access_id"] or 0,
        reason=row["reason"] or "",
        is_session=row["kind"] == TokenKind.SESSION,
    )


async def _touch(transaction: Transaction, row: Row) -> None:
    """Note the use, at most once a minute: a busy token must not become a busy row."""
    now = clock.utc_now()
    if row["last_used_at"] is None or row["last_used_at"] < now - _TOUCH_AFTER:
        await transaction.fetch(_TOUCH, {"id": row["id"], "now": now})
