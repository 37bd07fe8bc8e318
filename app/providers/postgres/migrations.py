"""The action `migrate`: a database moves to another server, and can move back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from app.domain.enums import LogLevel
from app.providers.base import ActionResult, Context, ErrorKind, JsonObject, ProviderError, ResourceState, Schema
from app.providers.postgres import catalog
from app.providers.postgres.archives import Archives
from app.providers.postgres.backups import discard_parts
from app.providers.postgres.marks import Mark, require_own, vanished
from app.providers.postgres.procedures import Procedure
from app.providers.postgres.server import Server, digest, identifier

KEEP = "KEEP_READ_ONLY"
DROP = "DROP"
READ_ONLY = "default_transaction_read_only"

MIGRATE_INPUTS: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["connection"],
    "properties": {
        "connection": {"type": "string", "minLength": 1, "description": "the connection of the new server, by name"},
        "source": {"enum": [KEEP, DROP], "default": KEEP, "description": "what becomes of the source in the end"},
    },
}
MIGRATE_OUTPUTS: Schema = {
    "type": "object",
    "required": ["url", "tables", "rows"],
    "properties": {
        "url": {"type": "string", "description": "of the database on the new server, without a password"},
        "tables": {"type": "integer"},
        "rows": {"type": "integer", "description": "counted on both servers"},
    },
}
_TABLES = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema' ORDER BY 1"""


class DatabaseMigration(Procedure):
    """Source read-only, dump, restore under a temporary name, compare, rename: only then is the move a fact."""

    def __init__(self, archives: Archives) -> None:
        self._archives = archives

    async def run(self, context: Context, prior: ResourceState, arguments: JsonObject) -> ActionResult:
        source: Server = context.connection
        async with context.connect(arguments["connection"]) as target:
            row, was_read_only = await _prepare(context, source, target, prior)
            dump = context.workspace / f"migration-{digest(context.operation_id)}.dump"
            file = dump.with_suffix(f".{context.attempt}.part")
            try:
                await _set_read_only(source, prior.id, on=True)
                counts = await self._copy(context, source, target, row, file)
            except BaseException:
                await _clear(target, context)
                await _set_read_only(source, prior.id, on=was_read_only)
                raise
            finally:
                await asyncio.to_thread(discard_parts, dump)
            return await _result(context, target, prior, arguments, counts, was_read_only=was_read_only)

    async def _copy(self, context: Context, source: Server, target: Server, row: Any, file: Path) -> dict[str, int]:
        temporary = _temporary(context)
        async with target.writing() as connection:
            await catalog.make_like(connection, row, temporary)
        context.progress(10, "dumping the source")
        await self._archives.dump(context, source, row["datname"], file)
        context.progress(40, "restoring on the new server")
        await self._archives.restore(context, target, temporary, file)
        context.progress(80, "comparing both")
        counts, copied = await _counts(source, row["datname"]), await _counts(target, temporary)
        if counts != copied:
            differing = sorted(table for table in {*counts, *copied} if counts.get(table) != copied.get(table))
            message = f"source and copy differ in {', '.join(differing)}"
            raise ProviderError(ErrorKind.NOT_STABILIZED, message)
        async with source.reading() as connection:
            privileges, settings = await catalog.privileges_and_settings(connection, row)
        async with target.writing() as connection, connection.transaction():
            kept = [item for item in settings if not item["item"].startswith(f"{READ_ONLY}=")]
            await catalog.equip(connection, temporary, privileges, kept)
            await catalog.comment(connection, temporary, str(Mark.of(context)))
            await catalog.rename(connection, temporary, row["datname"])
        context.progress(100, "moved")
        return counts

    async def recover(self, context: Context, prior: ResourceState, arguments: JsonObject) -> ActionResult | None:
        source: Server = context.connection
        async with context.connect(arguments["connection"]) as target:
            async with target.reading() as connection:
                row = await catalog.find(connection, prior.id)
            if row is not None and Mark.parse(row["comment"]) == Mark.of(context):
                counts = await _counts(target, prior.id)
                return await _result(context, target, prior, arguments, counts, was_read_only=False)
            await _clear(target, context)
        await _set_read_only(source, prior.id, on=False)
        return None

    async def undo(self, context: Context, prior: ResourceState, undo: JsonObject) -> None:
        source: Server = context.connection
        async with source.reading() as connection:
            if await catalog.find(connection, prior.id) is None:
                raise vanished(prior.id, "database")
        async with context.connect(undo["connection"]) as target, target.writing() as connection:
            row = await catalog.find(connection, prior.id)
            if row is not None and Mark.parse(row["comment"]) == Mark(context.owner, undo["operation"]):
                await catalog.drop(connection, prior.id)
        await _set_read_only(source, prior.id, on=undo["wasReadOnly"])

    async def finalize(self, context: Context, prior: ResourceState, undo: JsonObject) -> None:
        source: Server = context.connection
        async with source.writing() as connection:
            row = await catalog.find(connection, prior.id)
            mark = Mark.parse(row["comment"]) if row else None
            if row is None or (mark.owner != context.owner if mark else row["oid"] != prior.private.get("oid")):
                return
            if undo["source"] == DROP:
                await catalog.drop(connection, prior.id)
            else:
                # A mark of nobody's: the copy is the resource now, and nothing may take the source for it.
                await catalog.comment(connection, prior.id, str(Mark(f"windlass:moved to {undo['url']}", "")))


async def _prepare(context: Context, source: Server, target: Server, prior: ResourceState) -> tuple[Any, bool]:
    """Refuses what cannot end well while nothing has happened; then the source's row, and whether it was read-only."""
    if await source.system_identifier() == await target.system_identifier():
        message = "the database is on that server already"
        raise ProviderError(ErrorKind.INVALID, message, path=("connection",))
    if await target.major_version() < await source.major_version():
        message = "the new server is older than the one the database is on"
        raise ProviderError(ErrorKind.INVALID, message, path=("connection",))
    async with source.reading() as connection:
        row = await catalog.find(connection, prior.id)
        if row is None:
            raise vanished(prior.id, "database")
        _, settings = await catalog.privileges_and_settings(connection, row)
    async with target.reading() as connection:
        if not await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", row["owner"]):
            message = f"the new server has no role {row['owner']}, which owns the database"
            raise ProviderError(ErrorKind.NOT_FOUND, message, path=("connection",))
        present = await catalog.find(connection, prior.id)
    if present is not None:
        require_own(context, present["comment"], f"the database {prior.id}")
    await _clear(target, context)
    return row, any(item["everyone"] and item["item"] == f"{READ_ONLY}=on" for item in settings)


async def _result(
    context: Context,
    target: Server,
    prior: ResourceState,
    arguments: JsonObject,
    counts: dict[str, int],
    *,
    was_read_only: bool,
) -> ActionResult:
    async with target.reading() as connection:
        row = await catalog.find(connection, prior.id)
    if row is None:
        raise vanished(prior.id, "database")
    url = target.address.url(prior.id)
    context.log(f"{len(counts)} tables with {sum(counts.values())} rows are on the new server", LogLevel.INFO)
    return ActionResult(
        state=catalog.state_of(target, row),
        outputs={"url": url, "tables": len(counts), "rows": sum(counts.values())},
        undo={
            "connection": arguments["connection"],
            "source": arguments.get("source", KEEP),
            "operation": context.operation_id,
            "url": url,
            "wasReadOnly": was_read_only,
        },
        connection=arguments["connection"],
    )


async def _set_read_only(server: Server, name: str, *, on: bool) -> None:
    """Lets new sessions only read, or write again, and ends the present ones so that it holds for all."""
    verb = f"SET {READ_ONLY} TO on" if on else f"RESET {READ_ONLY}"
    async with server.writing() as connection:
        await connection.execute(f"ALTER DATABASE {identifier(name)} {verb}")
        await catalog.end_sessions(connection, name)


async def _clear(target: Server, context: Context) -> None:
    async with target.writing() as connection:
        await catalog.drop(connection, _temporary(context))


async def _counts(server: Server, database: str) -> dict[str, int]:
    """How many rows each table has, in one snapshot."""
    async with server.reading(database) as connection, connection.transaction(isolation="repeatable_read"):
        tables = [row[0] for row in await connection.fetch(_TABLES)]
        return {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in tables}  # noqa: S608


def _temporary(context: Context) -> str:
    return f"windlass_new_{digest(context.operation_id)}"
