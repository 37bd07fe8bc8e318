"""`postgres.database`: a database with its backup, its restoration and its move to another server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import asyncpg

from app.domain.diffing import Difference
from app.domain.enums import LogLevel, Reversibility, StepType, TemplateType
from app.providers.base import (
    ActionResult,
    ActionSpec,
    Context,
    Idempotency,
    JsonObject,
    ResourceState,
    ResourceType,
    Schema,
)
from app.providers.postgres import catalog
from app.providers.postgres.archives import Archives
from app.providers.postgres.backups import BACKUP_INPUTS, BACKUP_OUTPUTS, DatabaseBackup
from app.providers.postgres.marks import Mark, is_ours, require_free, require_own, vanished
from app.providers.postgres.migrations import MIGRATE_INPUTS, MIGRATE_OUTPUTS, DatabaseMigration
from app.providers.postgres.procedures import Procedure
from app.providers.postgres.restorations import RESTORE_INPUTS, RESTORE_OUTPUTS, DatabaseRestoration
from app.providers.postgres.role import NAME
from app.providers.postgres.server import Server, digest, identifier, literal

ENCODINGS = ["UTF8", "SQL_ASCII", "LATIN1", "LATIN2", "LATIN9", "WIN1250", "WIN1251", "WIN1252", "EUC_JP", "EUC_KR"]


class DatabaseType(ResourceType):
    """A database of a PostgreSQL server.

    CREATE DATABASE cannot be part of a transaction. So a database is made under a name that only this operation uses,
    and then marked and renamed in one transaction: under its final name a database is either not there or ours.
    """

    name = "postgres.database"
    title = "PostgreSQL database"
    description = "A database of a PostgreSQL server, which can be backed up, restored and moved to another server."
    template_type = TemplateType.DATABASE
    idempotency = Idempotency.TAG
    stateful = True
    create_only = frozenset({"/name", "/encoding"})
    scalable = frozenset({"/connectionLimit"})
    computed = frozenset({"/owner"})
    schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": NAME,
            "owner": {"type": "string", "minLength": 1, "description": "a role; left out: the connection's account"},
            "encoding": {"enum": ENCODINGS, "default": "UTF8"},
            "connectionLimit": {"type": "integer", "minimum": -1, "maximum": 2147483647, "default": -1},
        },
    }
    outputs_schema: ClassVar[Schema] = {
        "type": "object",
        "required": ["name", "oid", "url"],
        "properties": {
            "name": {"type": "string"},
            "oid": {"type": "integer"},
            "url": {"type": "string", "description": "a libpq URL without a password"},
        },
    }
    actions: ClassVar[Mapping[str, ActionSpec]] = {
        "backup": ActionSpec(
            "backup", BACKUP_INPUTS, StepType.RESOURCE_BACKUP, Reversibility.REVERSIBLE, BACKUP_OUTPUTS,
            "Dumps the database into a file; taking the step back keeps the file.",
        ),
        "restore": ActionSpec(
            "restore", RESTORE_INPUTS, StepType.RESOURCE_RESTORE, Reversibility.REVERSIBLE, RESTORE_OUTPUTS,
            "Restores a dump beside the database and swaps both; taking the step back swaps them again.",
        ),
        "migrate": ActionSpec(
            "migrate", MIGRATE_INPUTS, StepType.RESOURCE_MIGRATE, Reversibility.REVERSIBLE, MIGRATE_OUTPUTS,
            "Moves the database to another server; taking the step back drops the copy and opens the source again.",
        ),
    }  # fmt: skip

    def __init__(self, archives: Archives) -> None:
        self._procedures: dict[str, Procedure] = {
            "backup": DatabaseBackup(archives),
            "restore": DatabaseRestoration(archives),
            "migrate": DatabaseMigration(archives),
        }

    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:
        server: Server = context.connection
        async with server.reading() as connection:
            row = await catalog.find(connection, state.id)
        if row is None or not is_ours(context, row["comment"], row["oid"], state):
            return None
        return catalog.state_of(server, row)

    async def create(self, context: Context, properties: JsonObject) -> ResourceState:
        server: Server = context.connection
        name, temporary = properties["name"], _temporary(context)
        async with server.writing() as connection:
            await catalog.lock(connection, context.operation_id)
            row = await catalog.find(connection, name)
            if row is None:
                await catalog.drop(connection, temporary)
                context.log(f"creating the database {name}")
                await connection.execute(_create_statement(temporary, properties))
                try:
                    await _name_and_mark(connection, context, temporary, name)
                except asyncpg.PostgresError:
                    await catalog.drop(connection, temporary)
                    raise
                row = await catalog.find(connection, name)
            else:
                require_own(context, row["comment"], f"the database {name}")
        return catalog.state_of(server, row)

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | None:
        server: Server = context.connection
        async with server.writing() as connection:
            # An interrupted creation may still be at work in the server: it holds this lock until its session ends.
            await catalog.lock(connection, context.operation_id)
            await catalog.drop(connection, _temporary(context))
            row = await catalog.find(connection, properties["name"])
        if row is None:
            return None
        require_own(context, row["comment"], f"the database {properties['name']}")
        return catalog.state_of(server, row)

    async def update(
        self, context: Context, prior: ResourceState, properties: JsonObject, difference: Difference
    ) -> ResourceState:
        server: Server = context.connection
        async with server.writing() as connection, connection.transaction():
            row = await catalog.find(connection, prior.id)
            if row is None or not is_ours(context, row["comment"], row["oid"], prior):
                raise vanished(prior.id, "database")
            name = identifier(prior.id)
            if difference.touches("connectionLimit"):
                limit = int(properties.get("connectionLimit", -1))
                await connection.execute(f"ALTER DATABASE {name} CONNECTION LIMIT {limit}")
            if difference.touches("owner") and properties.get("owner"):
                await connection.execute(f"ALTER DATABASE {name} OWNER TO {identifier(properties['owner'])}")
            return catalog.state_of(server, await catalog.find(connection, prior.id))

    async def delete(self, context: Context, prior: ResourceState) -> None:
        server: Server = context.connection
        async with server.writing() as connection:
            row = await catalog.find(connection, prior.id)
            if row is None:
                return
            if not is_ours(context, row["comment"], row["oid"], prior):
                context.log(f"the database {prior.id} is another one by now, and stays", LogLevel.WARN)
                return
            await catalog.drop(connection, prior.id)

    async def import_(self, context: Context, identity: str) -> ResourceState:
        server: Server = context.connection
        async with server.reading() as connection:
            row = await catalog.find(connection, identity)
        if row is None:
            raise vanished(identity, "database")
        require_free(context, row["comment"], f"the database {identity}")
        return catalog.state_of(server, row)

    async def discover(self, context: Context) -> AsyncIterator[ResourceState]:
        server: Server = context.connection
        async with server.reading() as connection:
            rows = await catalog.find_all(connection)
        for row in rows:
            yield catalog.state_of(server, row)

    async def act(self, context: Context, action: str, prior: ResourceState, arguments: JsonObject) -> ActionResult:
        procedure = self._procedure(action)
        server: Server = context.connection
        async with server.reading() as connection:
            row = await catalog.find(connection, prior.id)
        if row is None or not is_ours(context, row["comment"], row["oid"], prior):
            raise vanished(prior.id, "database")
        return await procedure.run(context, prior, arguments)

    async def recover_action(
        self, context: Context, action: str, prior: ResourceState, arguments: JsonObject
    ) -> ActionResult | None:
        return await self._procedure(action).recover(context, prior, arguments)

    async def undo_action(self, context: Context, action: str, prior: ResourceState, undo: JsonObject) -> None:
        await self._procedure(action).undo(context, prior, undo)

    async def finalize_action(self, context: Context, action: str, prior: ResourceState, undo: JsonObject) -> None:
        await self._procedure(action).finalize(context, prior, undo)

    def _procedure(self, action: str) -> Procedure:
        try:
            return self._procedures[action]
        except KeyError:
            raise self._no_action(action) from None


def _temporary(context: Context) -> str:
    return f"windlass_{digest(context.operation_id)}"


def _create_statement(name: str, properties: JsonObject) -> str:
    words = [f"CREATE DATABASE {identifier(name)} TEMPLATE template0"]
    words.append(f"ENCODING {literal(properties.get('encoding', 'UTF8'))}")
    words.append(f"CONNECTION LIMIT {int(properties.get('connectionLimit', -1))}")
    if properties.get("owner"):
        words.append(f"OWNER {identifier(properties['owner'])}")
    return " ".join(words)


async def _name_and_mark(connection: Any, context: Context, temporary: str, name: str) -> None:
    async with connection.transaction():
        await catalog.comment(connection, temporary, str(Mark.of(context)))
        await catalog.rename(connection, temporary, name)
