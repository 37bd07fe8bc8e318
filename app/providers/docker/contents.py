"""What is in a volume, as a tar: through a container that has it and is never started."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from app.providers.base import Context, ErrorKind, JsonObject, ProviderError
from app.providers.docker.labels import marked

if TYPE_CHECKING:
    from app.providers.docker.engine import Engine

FOLDER = "volumes"
_PLACE = "/volume"


async def save(context: Context, engine: Engine, volume: str, path: Path) -> None:
    """Writes what is in a volume into a file, which has its name only when it is whole."""
    part = path.with_suffix(f".{context.attempt}.part")
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    try:
        async with _helper(context, engine, volume) as container:
            # The folder itself is named, so that what is in it is packed under "./".
            await engine.download(container, f"{_PLACE}/.", part)
        await asyncio.to_thread(_complete, part, path)
    finally:
        await asyncio.to_thread(part.unlink, missing_ok=True)


async def fill(context: Context, engine: Engine, volume: str, path: Path) -> None:
    """Unpacks a tar that `save` wrote into a volume."""
    async with _helper(context, engine, volume) as container:
        with path.open("rb") as file:
            await engine.upload(container, _PLACE, file)


async def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hex."""

    def compute() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return await asyncio.to_thread(compute)


async def given_file(context: Context, arguments: JsonObject) -> Path:
    """The file of the tenant's that `uri` names; ProviderError where there is none, or another than `sha256` says."""
    parts = urlsplit(arguments["uri"])
    path = await asyncio.to_thread(Path(unquote(parts.path)).resolve)
    home = await asyncio.to_thread(context.workspace.resolve)
    if parts.scheme != "file" or not path.is_relative_to(home):
        message = "only backups of this tenant can be restored"
        raise ProviderError(ErrorKind.ACCESS_DENIED, message, path=("uri",))
    if not await asyncio.to_thread(path.is_file):
        message = "the backup is not there"
        raise ProviderError(ErrorKind.NOT_FOUND, message, path=("uri",))
    if arguments.get("sha256") and await checksum(path) != arguments["sha256"]:
        message = "the backup is not the one that was made"
        raise ProviderError(ErrorKind.INVALID, message, path=("sha256",))
    return path


@asynccontextmanager
async def _helper(context: Context, engine: Engine, volume: str) -> AsyncIterator[str]:
    image = await engine.empty_image(context)
    config = {
        "Image": image,
        "Cmd": ["never-started"],
        "Labels": marked(context),
        "HostConfig": {"NetworkMode": "none", "Mounts": [{"Type": "volume", "Source": volume, "Target": _PLACE}]},
    }
    container = await engine.create_container(None, config)
    try:
        yield container
    finally:
        await engine.remove_container(container)


def _complete(part: Path, path: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
