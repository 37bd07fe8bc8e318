"""The action `restore`: a dump is restored beside the database, then both swap names in one transaction."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg

from app.providers.base import ActionResult, Context, ErrorKind, JsonObject, ProviderError, ResourceState, Schema
from app.providers.postgres import catalog
from app.providers.postgres.archives import Archives
from app.providers.postgres.backups import checksum
from app.providers.postgres.marks import vanished
from app.providers.postgres.procedures import Procedure
from app.providers.postgres.server import Server, digest, identifier

RESTORE_INPUTS: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["uri"],
    "properties": {
        "uri": {"type": "string", "minLength": 1, "description": "the output `uri` of a backup of this tenant"},
        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "refuses a file with another one"},
    },
}
RESTORE_OUTPUTS: Schema = {
    "type": "object",
    "required": ["name", "oid"],
    "properties": {"name": {"type": "string"}, "oid": {"type": "integer"}},
}
SWAP_ATTEMPTS = 5


class DatabaseRestoration(Procedure):
    """Until the action is final the database as it was before waits under another name, closed to connections."""

    def __init__(self, archives: Archives) -> None:
        self._archives = archives

    async def run(self, context: Context, prior: ResourceState, arguments: JsonObject) -> ActionResult:
        server: Server = context.connection
        path = await _dump_file(context, arguments)
        fresh, _ = _names(context)
        async with server.writing() as connection:
            await catalog.lock(connection, context.operation_id)
            row = await _present(connection, prior.id)
            await catalog.drop(connection, fresh)
            await catalog.make_like(connection, row, fresh)
            try:
                await self._archives.restore(context, server, fresh, path)
                privileges, settings = await catalog.privileges_and_settings(connection, row)
                await catalog.equip(connection, fresh, privileges, settings)
                await catalog.comment(connection, fresh, row["comment"] or "")
                await _swap_in(connection, prior.id, *_names(context))
            except BaseException:
                await catalog.drop(connection, fresh)
                raise
            return await _result(context, connection, prior)

    async def recover(
        self,
        context: Context,
        prior: ResourceState,
        arguments: JsonObject,  # noqa: ARG002
    ) -> ActionResult | None:
        server: Server = context.connection
        fresh, old = _names(context)
        async with server.writing() as connection:
            await catalog.lock(connection, context.operation_id)
            if await catalog.find(connection, old) is not None:
                return await _result(context, connection, prior)
            await catalog.drop(connection, fresh)
        return None

    async def undo(self, context: Context, prior: ResourceState, undo: JsonObject) -> None:
        server: Server = context.connection
        async with server.writing() as connection:
            await catalog.lock(connection, undo["old"])
            if await catalog.find(connection, undo["old"]) is not None:
                await _swap_back(connection, prior.id, undo["fresh"], undo["old"])
            await catalog.drop(connection, undo["fresh"])

    async def finalize(self, context: Context, prior: ResourceState, undo: JsonObject) -> None:  # noqa: ARG002
        server: Server = context.connection
        async with server.writing() as connection:
            await catalog.drop(connection, undo["old"])


async def _swap_in(connection: Any, name: str, fresh: str, old: str) -> None:
    for attempt in range(SWAP_ATTEMPTS):
        try:
            async with connection.transaction():
                await catalog.end_sessions(connection, name)
                await catalog.rename(connection, name, old)
                await catalog.rename(connection, fresh, name)
                await connection.execute(f"ALTER DATABASE {identifier(old)} ALLOW_CONNECTIONS false")
        except asyncpg.ObjectInUseError:
            # Somebody connected between the end of the sessions and the renaming.
            if attempt + 1 == SWAP_ATTEMPTS:
                raise
        else:
            return


async def _swap_back(connection: Any, name: str, fresh: str, old: str) -> None:
    for attempt in range(SWAP_ATTEMPTS):
        try:
            async with connection.transaction():
                if await catalog.find(connection, name) is not None:
                    await catalog.end_sessions(connection, name)
                    await catalog.rename(connection, name, fresh)
                await catalog.rename(connection, old, name)
                await connection.execute(f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS true")
        except asyncpg.ObjectInUseError:
            if attempt + 1 == SWAP_ATTEMPTS:
                raise
        else:
            return


def _names(context: Context) -> tuple[str, str]:
    """The names of the database being restored and of the one that gives way to it."""
    suffix = digest(context.operation_id)
    return f"windlass_new_{suffix}", f"windlass_old_{suffix}"


async def _present(connection: Any, name: str) -> Any:
    row = await catalog.find(connection, name)
    if row is None:
        raise vanished(name, "database")
    return row


async def _result(context: Context, connection: Any, prior: ResourceState) -> ActionResult:
    server: Server = context.connection
    state = catalog.state_of(server, await _present(connection, prior.id))
    fresh, old = _names(context)
    outputs = {"name": state.id, "oid": state.private["oid"]}
    return ActionResult(state=state, outputs=outputs, undo={"fresh": fresh, "old": old})


async def _dump_file(context: Context, arguments: JsonObject) -> Path:
    """The file that the arguments name: inside the tenant's folder, and unchanged since the backup."""
    parts = urlsplit(arguments["uri"])
    root = await asyncio.to_thread(context.workspace.resolve)
    path = await asyncio.to_thread(Path(unquote(parts.path)).resolve)
    inside = parts.scheme == "file" and not parts.netloc and path.is_relative_to(root)
    if not inside or not await asyncio.to_thread(path.is_file):
        message = "the URI does not name a backup of this tenant"
        raise ProviderError(ErrorKind.INVALID, message, path=("uri",))
    expected = arguments.get("sha256")
    if expected is not None and await asyncio.to_thread(checksum, path) != expected:
        message = "the file is not the one that was backed up: its SHA-256 differs"
        raise ProviderError(ErrorKind.INVALID, message, path=("sha256",))
    return path
