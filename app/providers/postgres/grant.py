"""`postgres.grant`: exactly these privileges of one role on a database, on a schema, or on tables of a schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from app.domain.diffing import Difference
from app.domain.enums import TemplateType
from app.domain.errors import Diagnostic, Severity
from app.providers.base import (
    Context,
    ErrorKind,
    Idempotency,
    JsonObject,
    ProviderError,
    ResourceState,
    ResourceType,
    Schema,
)
from app.providers.postgres.marks import vanished
from app.providers.postgres.ordering import in_order
from app.providers.postgres.server import Server, digest, identifier, literal

DATABASE_PRIVILEGES = ("CONNECT", "CREATE", "TEMPORARY")
SCHEMA_PRIVILEGES = ("CREATE", "USAGE")
TABLE_PRIVILEGES = ("DELETE", "INSERT", "MAINTAIN", "REFERENCES", "SELECT", "TRIGGER", "TRUNCATE", "UPDATE")
ALL_PRIVILEGES = sorted({*DATABASE_PRIVILEGES, *SCHEMA_PRIVILEGES, *TABLE_PRIVILEGES})

_SETTING = """
SELECT item FROM pg_db_role_setting s
JOIN pg_roles r ON r.oid = s.setrole JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) item
WHERE r.rolname = $1 AND d.datname = $2 AND item LIKE $3 || '=%'"""
_HELD_ON_DATABASE = """
SELECT datname::text AS object, a.privilege_type FROM pg_database d, aclexplode(d.datacl) a
WHERE d.datname = current_database() AND a.grantee = (SELECT oid FROM pg_roles WHERE rolname = $1)"""
_HELD_ON_SCHEMA = """
SELECT nspname::text AS object, a.privilege_type FROM pg_namespace n, aclexplode(n.nspacl) a
WHERE n.nspname = $2 AND a.grantee = (SELECT oid FROM pg_roles WHERE rolname = $1)"""
_HELD_ON_TABLES = """
SELECT c.relname::text AS object, a.privilege_type
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
WHERE n.nspname = $2 AND c.relname = ANY($3) AND a.grantee = (SELECT oid FROM pg_roles WHERE rolname = $1)"""

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """On what the privileges are: the database, one of its schemas, or tables of one of its schemas."""

    role: str
    database: str
    schema: str | None
    tables: tuple[str, ...]

    @classmethod
    def of(cls, properties: JsonObject) -> Target:
        """The target that properties describe."""
        tables = tuple(sorted(properties.get("tables") or ()))
        return cls(properties["role"], properties["database"], properties.get("schema"), tables)

    @property
    def objects(self) -> tuple[str, ...]:
        """The names of the objects, without the schema."""
        return self.tables or ((self.database,) if self.schema is None else (self.schema,))

    def pairs(self, properties: JsonObject) -> set[Pair]:
        """Every object with every privilege."""
        return {(item, privilege) for item in self.objects for privilege in properties["privileges"]}

    def clause(self, item: str) -> str:
        """An object as GRANT names it."""
        if self.schema is None:
            return f"DATABASE {identifier(item)}"
        return f"TABLE {identifier(self.schema)}.{identifier(item)}" if self.tables else f"SCHEMA {identifier(item)}"


class GrantType(ResourceType):
    """Privileges have no comment to mark. A setting of the role in that database says who granted them, and which.

    It is written in the transaction of the GRANT, goes with the role and with the database, and needs a superuser.
    Privileges that the role had before are never taken over: they would be taken away in the end.
    """

    name = "postgres.grant"
    title = "PostgreSQL grant"
    description = "Privileges of a role on a database, a schema or tables. The connection's account is a superuser."
    template_type = TemplateType.DATABASE
    idempotency = Idempotency.TAG
    create_only = frozenset({"/role", "/database", "/schema"})
    schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["role", "database", "privileges"],
        "properties": {
            "role": {"type": "string", "minLength": 1},
            "database": {"type": "string", "minLength": 1},
            "schema": {"type": "string", "minLength": 1},
            "tables": {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            "privileges": {"type": "array", "items": {"enum": ALL_PRIVILEGES}, "minItems": 1},
        },
        "dependentRequired": {"tables": ["schema"]},
    }
    outputs_schema: ClassVar[Schema] = {
        "type": "object",
        "required": ["role", "database"],
        "properties": {"role": {"type": "string"}, "database": {"type": "string"}},
    }

    def check(self, properties: Mapping[str, Any]) -> tuple[JsonObject, list[Diagnostic]]:
        value, diagnostics = super().check(properties)
        allowed: tuple[str, ...]
        if "tables" in value:
            allowed, kind = TABLE_PRIVILEGES, "a table"
        elif "schema" in value:
            allowed, kind = SCHEMA_PRIVILEGES, "a schema"
        else:
            allowed, kind = DATABASE_PRIVILEGES, "a database"
        given = value.get("privileges")
        for position, privilege in enumerate(given if isinstance(given, list) else ()):
            if privilege in ALL_PRIVILEGES and privilege not in allowed:
                message = f"{privilege} is no privilege on {kind}; there are {', '.join(allowed)}"
                diagnostics.append(Diagnostic(Severity.ERROR, "INVALID", message, ("privileges", str(position))))
        return in_order(value, "privileges", "tables"), diagnostics

    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:
        target, server = Target.of(state.properties), _server(context)
        recorded = await _recorded(server, target, state.private["setting"])
        if recorded is None or recorded.owner != digest(context.owner):
            return None
        # What was granted is what the setting says, whatever became of the state that the caller kept.
        target = Target.of({**state.properties, "tables": recorded.tables})
        async with server.reading(target.database) as connection:
            held = await _held(connection, target)
        tables = [table for table in target.tables if any(item == table for item, _ in held)]
        present = tables or list(target.objects)
        kept = [right for right in recorded.privileges if all((item, right) in held for item in present)]
        return _state(target, state.private["setting"], tables, kept)

    async def create(self, context: Context, properties: JsonObject) -> ResourceState:
        if (found := await self.recover(context, properties)) is not None:
            return found
        target, setting = Target.of(properties), _setting(context)
        async with _server(context).writing(target.database) as connection, connection.transaction():
            await _refuse_held(connection, target, target.pairs(properties))
            await _change(connection, target, set(), target.pairs(properties))
            await _record(connection, context, target, setting, properties)
        return _state(target, setting, list(target.tables), properties["privileges"])

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | None:
        target, setting, server = Target.of(properties), _setting(context), _server(context)
        if await _recorded(server, target, setting) is not None:
            return _state(target, setting, list(target.tables), properties["privileges"])
        try:
            async with server.reading(target.database) as connection:
                await _refuse_held(connection, target, target.pairs(properties))
        except ProviderError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise
        return None

    async def update(
        self,
        context: Context,
        prior: ResourceState,
        properties: JsonObject,
        difference: Difference,  # noqa: ARG002  the recorded pairs say more
    ) -> ResourceState:
        server, setting = _server(context), prior.private["setting"]
        target = Target.of(properties)
        recorded = await _recorded(server, target, setting)
        if recorded is None or recorded.owner != digest(context.owner):
            raise vanished(prior.id, "grant")
        before = Target.of({**properties, "tables": recorded.tables})
        old, new = before.pairs({"privileges": recorded.privileges}), target.pairs(properties)
        async with server.writing(target.database) as connection, connection.transaction():
            await _refuse_held(connection, target, new - old)
            await _change(connection, before, old - new, set())
            await _change(connection, target, set(), new)
            await _record(connection, context, target, setting, properties)
        return _state(target, setting, list(target.tables), properties["privileges"])

    async def delete(self, context: Context, prior: ResourceState) -> None:
        server, setting = _server(context), prior.private["setting"]
        target = Target.of(prior.properties)
        recorded = await _recorded(server, target, setting)
        if recorded is None or recorded.owner != digest(context.owner):
            return
        target = Target.of({**prior.properties, "tables": recorded.tables})
        async with server.writing(target.database) as connection, connection.transaction():
            # What vanished with its table needs no REVOKE, and would refuse one.
            held = await _held(connection, target)
            await _change(connection, target, target.pairs({"privileges": recorded.privileges}) & held, set())
            whom = f"ROLE {identifier(target.role)} IN DATABASE {identifier(target.database)}"
            await connection.execute(f"ALTER {whom} RESET {setting}")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a setting says: for whom (digest), and the tables and privileges that were granted."""

    owner: str
    tables: tuple[str, ...]
    privileges: tuple[str, ...]


def _server(context: Context) -> Server:
    server: Server = context.connection
    return server


def _setting(context: Context) -> str:
    return f"windlass.grant_{digest(context.operation_id)}"


def _state(target: Target, setting: str, tables: list[str], privileges: list[str]) -> ResourceState:
    properties: JsonObject = {"role": target.role, "database": target.database, "privileges": sorted(privileges)}
    if target.schema is not None:
        properties["schema"] = target.schema
    if target.tables:
        properties["tables"] = tables
    suffix = setting.rpartition("_")[2]
    identity = f"{target.role}@{target.database}#{suffix}"
    return ResourceState(identity, properties, {"role": target.role, "database": target.database}, {"setting": setting})


async def _recorded(server: Server, target: Target, setting: str) -> Recorded | None:
    async with server.reading() as connection:
        item = await connection.fetchval(_SETTING, target.role, target.database, setting)
    if item is None:
        return None
    content = json.loads(item.partition("=")[2])
    return Recorded(content["owner"], tuple(content["tables"]), tuple(content["privileges"]))


async def _record(connection: Any, context: Context, target: Target, setting: str, properties: JsonObject) -> None:
    content = {
        "owner": digest(context.owner),
        "tables": list(target.tables),
        "privileges": sorted(properties["privileges"]),
    }
    whom = f"ROLE {identifier(target.role)} IN DATABASE {identifier(target.database)}"
    await connection.execute(f"ALTER {whom} SET {setting} TO {literal(json.dumps(content))}")


async def _held(connection: Any, target: Target) -> set[Pair]:
    """What the role was granted directly, and by name, on the objects."""
    if target.schema is None:
        rows = await connection.fetch(_HELD_ON_DATABASE, target.role)
    elif target.tables:
        rows = await connection.fetch(_HELD_ON_TABLES, target.role, target.schema, list(target.tables))
    else:
        rows = await connection.fetch(_HELD_ON_SCHEMA, target.role, target.schema)
    return {(row["object"], row["privilege_type"]) for row in rows}


async def _refuse_held(connection: Any, target: Target, pairs: set[Pair]) -> None:
    if taken := sorted(pairs & await _held(connection, target)):
        listed = ", ".join(f"{privilege} on {item}" for item, privilege in taken)
        message = f"{target.role} already has {listed}, and this operation did not grant it"
        raise ProviderError(ErrorKind.ALREADY_EXISTS, message, path=("privileges",))


async def _change(connection: Any, target: Target, revoked: set[Pair], granted: set[Pair]) -> None:
    role = identifier(target.role)
    for item, privilege in sorted(revoked):
        await connection.execute(f"REVOKE {privilege} ON {target.clause(item)} FROM {role}")
    for item, privilege in sorted(granted):
        await connection.execute(f"GRANT {privilege} ON {target.clause(item)} TO {role}")
