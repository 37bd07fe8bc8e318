"""From a token to a principal."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from app import clock
from app.auth.principal import Principal
from app.auth.tokens import ParsedToken, parse
from app.db.statements import Row, Statement
from app.db.uow import Database, SystemRole, Transaction
from app.domain.enums import Role
from app.domain.permissions import effective

# A revoked token works for at most this long in a process that has just seen it.
CACHE_SECONDS: Final = 1.0
_CACHE_ENTRIES: Final = 10_000
_TOUCH_AFTER: Final = timedelta(minutes=1)

_COLUMNS: Final = (
    "SELECT t.id, t.tenant_id, t.secret_hash, t.scopes, t.expires_at, t.revoked_at, t.last_used_at,"
    " u.id AS user_id, u.role, n.slug, u.is_deleted OR n.is_deleted AS gone"
    " FROM api_token t JOIN app_user u ON u.tenant_id = t.tenant_id AND u.id = t.user_id"
    " JOIN tenant n ON n.id = t.tenant_id"
)
_BY_PUBLIC_ID: Final = Statement(f"{_COLUMNS} WHERE t.public_id = :public")
_BY_IDS: Final = Statement(f"{_COLUMNS} WHERE t.id = ANY(:ids)")
_TOUCH: Final = Statement("UPDATE api_token SET last_used_at = :now WHERE id = :id")


class Unauthenticated(Exception):
    """Nobody we know. The message is always the same; `reason` is for our log and is never sent."""

    def __init__(self, reason: str) -> None:
        super().__init__("The credentials are missing, wrong, or no longer valid.")
        self.reason = reason


class Authenticator:
    """Reads credentials under the database role that may see nothing else."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: OrderedDict[tuple[str, bytes], tuple[float, Principal]] = OrderedDict()

    async def authenticate(self, token_text: str) -> Principal:
        """The principal of a token. Raises Unauthenticated."""
        token = parse(token_text)
        if token is None:
            reason = "malformed token"
            raise Unauthenticated(reason)
        known = self._remembered(token)
        if known is not None:
            return known
        async with self._database.system(SystemRole.AUTH) as transaction:
            row = await transaction.fetch_one(_BY_PUBLIC_ID, {"public": token.public_id})
            if row is None or not token.proves(row["secret_hash"]):
                reason = "unknown token"
                raise Unauthenticated(reason)
            principal = _principal(row)
            await _touch(transaction, row)
        self._remember(token, principal)
        return principal

    async def still_good(self, principals: Collection[Principal]) -> set[Principal]:
        """Those whose token still gives exactly what it gave, by one query for all."""
        async with self._database.system(SystemRole.AUTH) as transaction:
            rows = await transaction.fetch(_BY_IDS, {"ids": [principal.token_id for principal in principals]})
        now = set()
        for row in rows:
            with suppress(Unauthenticated):
                now.add(_principal(row))
        return now.intersection(principals)

    def _remembered(self, token: ParsedToken) -> Principal | None:
        entry = self._seen.get((token.public_id, token.secret_hash))
        if entry is None or entry[0] < clock.monotonic() or entry[1].expires_at <= clock.utc_now():
            return None
        return entry[1]

    def _remember(self, token: ParsedToken, principal: Principal) -> None:
        key = (token.public_id, token.secret_hash)
        self._seen[key] = (clock.monotonic() + CACHE_SECONDS, principal)
        self._seen.move_to_end(key)
        if len(self._seen) > _CACHE_ENTRIES:
            self._seen.popitem(last=False)


def _principal(row: Row) -> Principal:
    expires_at: datetime = row["expires_at"]
    reason = None
    if row["revoked_at"] is not None:
        reason = "revoked token"
    elif expires_at <= clock.utc_now():
        reason = "expired token"
    elif row["gone"]:
        reason = "token of a deleted user or tenant"
    if reason is not None:
        raise Unauthenticated(reason)
    role = Role(row["role"])
    return Principal(
        tenant_id=row["tenant_id"],
        tenant_slug=row["slug"],
        user_id=row["user_id"],
        role=role,
        permissions=effective(role, row["scopes"]),
        token_id=row["id"],
        expires_at=expires_at,
    )


async def _touch(transaction: Transaction, row: Row) -> None:
    """Note the use, at most once a minute: a busy token must not become a busy row."""
    now = clock.utc_now()
    if row["last_used_at"] is None or row["last_used_at"] < now - _TOUCH_AFTER:
        await transaction.fetch(_TOUCH, {"id": row["id"], "now": now})
