"""The action `backup`: a dump in the tenant's folder."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

from app.providers.base import ActionResult, Artifact, Context, JsonObject, ResourceState, Schema
from app.providers.postgres.archives import Archives
from app.providers.postgres.procedures import Procedure
from app.providers.postgres.server import Server, digest

FOLDER = "backups"
MEDIA_KIND = "postgres.dump"

BACKUP_INPUTS: Schema = {"type": "object", "additionalProperties": False, "properties": {}}
BACKUP_OUTPUTS: Schema = {
    "type": "object",
    "required": ["uri", "size", "sha256"],
    "properties": {
        "uri": {"type": "string", "description": "what the action restore takes"},
        "size": {"type": "integer", "description": "in bytes"},
        "sha256": {"type": "string"},
    },
}


class DatabaseBackup(Procedure):
    """Dumps into a file that has its name only when it is complete, so that a file by that name can be trusted."""

    def __init__(self, archives: Archives) -> None:
        self._archives = archives

    async def run(self, context: Context, prior: ResourceState, arguments: JsonObject) -> ActionResult:  # noqa: ARG002
        server: Server = context.connection
        path = _path(context, prior)
        # A process of a worker that died may still write into the file of its own attempt.
        part = path.with_suffix(f".{context.attempt}.part")
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        try:
            await self._archives.dump(context, server, prior.id, part)
            await asyncio.to_thread(complete, part, path)
        finally:
            await asyncio.to_thread(discard_parts, path)
        return await _result(prior, path)

    async def recover(
        self,
        context: Context,
        prior: ResourceState,
        arguments: JsonObject,  # noqa: ARG002
    ) -> ActionResult | None:
        path = _path(context, prior)
        return await _result(prior, path) if await asyncio.to_thread(path.is_file) else None

    async def undo(self, context: Context, prior: ResourceState, undo: JsonObject) -> None:
        """Nothing to take back: a backup that was made is kept."""

    async def finalize(self, context: Context, prior: ResourceState, undo: JsonObject) -> None:
        """Nothing to give up."""


def complete(part: Path, path: Path) -> None:
    """Gives a file that was written its final name, durably."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def discard_parts(path: Path) -> None:
    """Removes what this attempt and earlier ones, cut off, wrote towards the file."""
    for part in path.parent.glob(f"{path.stem}.*.part"):
        part.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _path(context: Context, prior: ResourceState) -> Path:
    return context.workspace / FOLDER / f"{prior.id}-{digest(context.operation_id)}.dump"


async def _result(prior: ResourceState, path: Path) -> ActionResult:
    sha256 = await asyncio.to_thread(checksum, path)
    size = (await asyncio.to_thread(path.stat)).st_size
    uri = (await asyncio.to_thread(path.resolve)).as_uri()
    artifact = Artifact(MEDIA_KIND, uri, size, sha256, {"database": prior.id, "encoding": prior.properties["encoding"]})
    return ActionResult(outputs={"uri": uri, "size": size, "sha256": sha256}, artifact=artifact)
