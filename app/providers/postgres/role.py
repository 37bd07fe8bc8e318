"""`postgres.role`: an account, or a group of accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from app.domain.diffing import Difference
from app.domain.enums import ChangeAction, LogLevel, TemplateType
from app.domain.errors import Diagnostic
from app.providers.base import Context, Idempotency, JsonObject, ResourceState, ResourceType, Schema
from app.providers.postgres.marks import Mark, is_ours, require_free, require_own, vanished
from app.providers.postgres.ordering import in_order
from app.providers.postgres.passwords import fingerprint, verifier
from app.providers.postgres.server import Server, identifier, literal

# pg_ is PostgreSQL's own; windlass_ is for what we keep beside a resource for a while.
NAME: Schema = {"type": "string", "pattern": "^(?!pg_|windlass_)[A-Za-z_][A-Za-z0-9_.-]{0,62}$"}
# Membership in a role of the server or of Windlass itself would be a way to everything that role may do.
GROUP: Schema = {"type": "string", "minLength": 1, "pattern": "^(?!pg_|windlass(?:_|$))"}
FLAGS = {"login": "LOGIN", "createdb": "CREATEDB", "inherit": "INHERIT"}

_FIND = """
SELECT r.oid::bigint AS oid, r.rolname, r.rolcanlogin, r.rolcreatedb, r.rolinherit, r.rolconnlimit,
       isfinite(r.rolvaliduntil) AS expires, CASE WHEN isfinite(r.rolvaliduntil) THEN r.rolvaliduntil END AS expiry,
       shobj_description(r.oid, 'pg_authid') AS comment,
       ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
             WHERE m.member = r.oid ORDER BY 1) AS groups
FROM pg_roles r"""
_MAY_SEE = "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')"
_VERIFIER = "SELECT rolpassword FROM pg_catalog.pg_authid WHERE oid = $1::bigint::oid"


class RoleType(ResourceType):
    """A role of a PostgreSQL server. Made in one transaction together with its mark."""

    name = "postgres.role"
    title = "PostgreSQL role"
    description = "An account or a group of accounts of a PostgreSQL server."
    template_type = TemplateType.DATABASE
    idempotency = Idempotency.TAG
    create_only = frozenset({"/name"})
    secret = frozenset({"/password"})
    scalable = frozenset({"/connectionLimit"})
    schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": NAME,
            "login": {"type": "boolean", "default": True},
            "password": {"type": "string", "minLength": 1, "writeOnly": True, "x-sensitive": True},
            "connectionLimit": {"type": "integer", "minimum": -1, "maximum": 2147483647, "default": -1},
            "createdb": {"type": "boolean", "default": False},
            "inherit": {"type": "boolean", "default": True},
            "validUntil": {"type": "string", "format": "date-time", "description": "when the password expires"},
            "memberOf": {"type": "array", "items": GROUP, "uniqueItems": True, "default": []},
        },
    }
    outputs_schema: ClassVar[Schema] = {
        "type": "object",
        "required": ["name", "oid"],
        "properties": {"name": {"type": "string"}, "oid": {"type": "integer"}},
    }

    def check(self, properties: Mapping[str, Any]) -> tuple[JsonObject, list[Diagnostic]]:
        value, diagnostics = super().check(properties)
        return in_order(value, "memberOf"), diagnostics

    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:
        async with _server(context).reading() as connection:
            row = await _find(connection, state.id)
            if row is None or not is_ours(context, row["comment"], row["oid"], state):
                return None
            return await _state(connection, row, state)

    async def create(self, context: Context, properties: JsonObject) -> ResourceState:
        name = properties["name"]
        async with _server(context).writing() as connection, connection.transaction():
            row = await _find(connection, name)
            if row is None:
                await connection.execute(f"CREATE ROLE {identifier(name)} {_options(properties, password=True)}")
                await connection.execute(f"COMMENT ON ROLE {identifier(name)} IS {literal(str(Mark.of(context)))}")
                await _join(connection, name, set(), set(properties.get("memberOf", [])))
            else:
                require_own(context, row["comment"], f"the role {name}")
            state = await _made(connection, properties)
        context.log(f"role {name} is there", oid=state.private["oid"])
        return state

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | None:
        async with _server(context).reading() as connection:
            row = await _find(connection, properties["name"])
            if row is None:
                return None
            require_own(context, row["comment"], f"the role {properties['name']}")
            return await _made(connection, properties)

    async def update(
        self, context: Context, prior: ResourceState, properties: JsonObject, difference: Difference
    ) -> ResourceState:
        name = prior.id
        async with _server(context).writing() as connection, connection.transaction():
            row = await _find(connection, name)
            if row is None or not is_ours(context, row["comment"], row["oid"], prior):
                raise vanished(name, "role")
            options = _options(properties, password=difference.touches("password"))
            await connection.execute(f"ALTER ROLE {identifier(name)} {options}")
            await _join(connection, name, set(row["groups"]), set(properties.get("memberOf", [])))
            return await _made(connection, properties)

    async def delete(self, context: Context, prior: ResourceState) -> None:
        async with _server(context).writing() as connection, connection.transaction():
            row = await _find(connection, prior.id)
            if row is None:
                return
            if not is_ours(context, row["comment"], row["oid"], prior):
                context.log(f"the role {prior.id} is another one by now, and stays", LogLevel.WARN)
                return
            await connection.execute(f"DROP ROLE {identifier(prior.id)}")

    async def import_(self, context: Context, identity: str) -> ResourceState:
        async with _server(context).reading() as connection:
            row = await _find(connection, identity)
            if row is None:
                raise vanished(identity, "role")
            require_free(context, row["comment"], f"the role {identity}")
            return await _state(connection, row, None)

    async def discover(self, context: Context) -> AsyncIterator[ResourceState]:
        async with _server(context).reading() as connection:
            rows = await connection.fetch(f"{_FIND} WHERE r.rolname !~ '^pg_' ORDER BY r.rolname")
            states = [await _state(connection, row, None) for row in rows]
        for state in states:
            yield state

    def compare(
        self, prior: Mapping[str, Any] | None, desired: Mapping[str, Any], *, unknown_forces: bool = False
    ) -> Difference:
        difference = super().compare(prior, desired, unknown_forces=unknown_forces)
        left, right = (prior or {}).get("validUntil"), desired.get("validUntil")
        if not (isinstance(left, str) and isinstance(right, str) and _instant(left) == _instant(right)):
            return difference
        # Another way to write the same moment is no change.
        changes = tuple(change for change in difference.changes if change.path != ("validUntil",))
        emptied = difference.action is ChangeAction.UPDATE and not changes
        return Difference(ChangeAction.NO_CHANGE if emptied else difference.action, changes)


def _server(context: Context) -> Server:
    server: Server = context.connection
    return server


async def _find(connection: Any, name: str) -> Any:
    return await connection.fetchrow(f"{_FIND} WHERE r.rolname = $1", name)


async def _stored(connection: Any, oid: int) -> str | None:
    """The stored verifier of the password; None where there is none, or only a superuser may see it."""
    if not await connection.fetchval(_MAY_SEE):
        return None
    stored: str | None = await connection.fetchval(_VERIFIER, oid)
    return stored


async def _made(connection: Any, properties: JsonObject) -> ResourceState:
    """The state after our own change: the stored password is the declared one, whatever it was before."""
    row = await _find(connection, properties["name"])
    stored = await _stored(connection, row["oid"])
    return _described(row, properties.get("password"), stored)


async def _state(connection: Any, row: Any, known: ResourceState | None) -> ResourceState:
    """The state as found. A password that is no longer the recorded one is left out, so that it shows as a change."""
    stored = await _stored(connection, row["oid"])
    password = known.properties.get("password") if known else None
    recorded = known.private.get("fingerprint") if known else None
    if recorded is not None and (stored is None or fingerprint(stored) != recorded):
        password = None
    return _described(row, password, stored)


def _described(row: Any, password: str | None, stored: str | None) -> ResourceState:
    properties: JsonObject = {
        "name": row["rolname"],
        "login": row["rolcanlogin"],
        "connectionLimit": row["rolconnlimit"],
        "createdb": row["rolcreatedb"],
        "inherit": row["rolinherit"],
        "memberOf": sorted(row["groups"]),
    }
    if row["expires"]:
        properties["validUntil"] = row["expiry"].isoformat()
    if password is not None:
        properties["password"] = password
    private: JsonObject = {"oid": row["oid"]}
    if stored is not None:
        private["fingerprint"] = fingerprint(stored)
    return ResourceState(row["rolname"], properties, {"name": row["rolname"], "oid": row["oid"]}, private)


def _options(properties: JsonObject, *, password: bool) -> str:
    words = [word if properties.get(flag, flag != "createdb") else f"NO{word}" for flag, word in FLAGS.items()]
    words.append(f"CONNECTION LIMIT {int(properties.get('connectionLimit', -1))}")
    words.append(f"VALID UNTIL {literal(properties.get('validUntil') or 'infinity')}")
    if password:
        text = properties.get("password")
        words.append("PASSWORD NULL" if text is None else f"PASSWORD {literal(verifier(text))}")
    return " ".join(words)


async def _join(connection: Any, name: str, present: set[str], wanted: set[str]) -> None:
    for group in sorted(wanted - present):
        await connection.execute(f"GRANT {identifier(group)} TO {identifier(name)}")
    for group in sorted(present - wanted):
        await connection.execute(f"REVOKE {identifier(group)} FROM {identifier(name)}")


def _instant(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None
