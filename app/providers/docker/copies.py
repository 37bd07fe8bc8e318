"""The actions of a volume: backup into a file, restoration from one, and the move to another engine.

A volume cannot be renamed, nor emptied without running something. So it is restored by making it anew, which needs that
no container has it; what was in it waits in a file until the action is final.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.domain.enums import Reversibility, StepType
from app.providers.base import (
    ActionResult,
    ActionSpec,
    Artifact,
    Context,
    ErrorKind,
    JsonObject,
    ProviderError,
    ResourceState,
    Schema,
)
from app.providers.docker.contents import FOLDER, checksum, fill, given_file, save
from app.providers.docker.labels import OPERATION, OWNER, is_made_here, is_ours, marked, taken

if TYPE_CHECKING:
    from app.providers.docker.engine import Engine

KIND = "docker.volume"
_KEEP, _DROP = "KEEP", "DROP"
_FILE: Schema = {
    "type": "object",
    "required": ["uri", "size", "sha256"],
    "properties": {"uri": {"type": "string"}, "size": {"type": "integer"}, "sha256": {"type": "string"}},
}
_FROM_FILE: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["uri"],
    "properties": {
        "uri": {"type": "string", "minLength": 1, "description": "the output `uri` of a backup of this tenant"},
        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    },
}
_TO: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["connection"],
    "properties": {
        "connection": {"type": "string", "minLength": 1, "description": "the connection of the other engine, by name"},
        "source": {"enum": [_KEEP, _DROP], "default": _KEEP, "description": "what becomes of the source in the end"},
    },
}
_NAME: Schema = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
ACTIONS = {
    "backup": ActionSpec(
        "backup", {"type": "object", "additionalProperties": False, "properties": {}}, StepType.RESOURCE_BACKUP,
        Reversibility.REVERSIBLE, _FILE, "Packs the volume into a file; taking the step back keeps the file.",
    ),
    "restore": ActionSpec(
        "restore", _FROM_FILE, StepType.RESOURCE_RESTORE, Reversibility.REVERSIBLE, _NAME,
        "Makes the volume anew from a file; no container may have it. Taking it back restores what was in it.",
    ),
    "migrate": ActionSpec(
        "migrate", _TO, StepType.RESOURCE_MIGRATE, Reversibility.REVERSIBLE, _NAME,
        "Copies the volume to another engine; taking the step back removes the copy.",
    ),
}  # fmt: skip


async def act(context: Context, action: str, prior: ResourceState, arguments: JsonObject) -> ActionResult:
    """Runs one of the actions."""
    if action == "backup":
        return await _backup(context, prior)
    return await (_restore if action == "restore" else _migrate)(context, prior, arguments)


async def recover(context: Context, action: str, prior: ResourceState, arguments: JsonObject) -> ActionResult | None:
    """What an interrupted run did: a backup that is whole counts; what was begun otherwise is brought to its end."""
    if action == "backup":
        whole = await asyncio.to_thread(_path(context, prior, "tar").is_file)
        return await _backed_up(context, prior) if whole else None
    if action == "restore":
        begun = await asyncio.to_thread(_path(context, prior, "before.tar").is_file)
        return await _restore(context, prior, arguments) if begun else None
    async with context.connect(arguments["connection"]) as target:
        found = await target.volume(prior.id)
        # A copy may be half a copy.
        if found is not None and is_made_here(context, found.get("Labels")):
            await target.remove_volume(prior.id)
    return None


async def undo(context: Context, action: str, prior: ResourceState, material: JsonObject) -> None:
    """Takes an action back."""
    engine: Engine = context.connection
    if action == "restore":
        await _anew(context, engine, prior, Path(material["before"]))
    elif action == "migrate":
        async with context.connect(material["connection"]) as target:
            found = await target.volume(prior.id)
            if found is not None and (found.get("Labels") or {}).get(OPERATION) == material["operation"]:
                await target.remove_volume(prior.id)


async def finalize(context: Context, action: str, prior: ResourceState, material: JsonObject) -> None:
    """Gives up what taking back needs."""
    engine: Engine = context.connection
    if action == "restore":
        await asyncio.to_thread(Path(material["before"]).unlink, missing_ok=True)
    elif action == "migrate" and material["source"] == _DROP:
        found = await engine.volume(prior.id)
        if found is not None and is_ours(context, found.get("Labels")):
            await engine.remove_volume(prior.id)


async def _backup(context: Context, prior: ResourceState) -> ActionResult:
    await save(context, context.connection, prior.id, _path(context, prior, "tar"))
    return await _backed_up(context, prior)


async def _backed_up(context: Context, prior: ResourceState) -> ActionResult:
    path = _path(context, prior, "tar")
    sha256 = await checksum(path)
    size = (await asyncio.to_thread(path.stat)).st_size
    uri = (await asyncio.to_thread(path.resolve)).as_uri()
    artifact = Artifact(KIND, uri, size, sha256, {"volume": prior.id})
    return ActionResult(outputs={"uri": uri, "size": size, "sha256": sha256}, artifact=artifact)


async def _restore(context: Context, prior: ResourceState, arguments: JsonObject) -> ActionResult:
    engine: Engine = context.connection
    path = await given_file(context, arguments)
    before = _path(context, prior, "before.tar")
    # One that is there was written by an attempt before: what is in the volume now may be half of what is wanted.
    if not await asyncio.to_thread(before.is_file):
        await save(context, engine, prior.id, before)
    await _anew(context, engine, prior, path)
    return ActionResult(outputs={"name": prior.id}, undo={"before": str(before)})


async def _migrate(context: Context, prior: ResourceState, arguments: JsonObject) -> ActionResult:
    packed = _path(context, prior, "move.tar")
    async with context.connect(arguments["connection"]) as target:
        found = await target.volume(prior.id)
        if found is not None:
            raise taken(prior.id, "volume")
        try:
            await save(context, context.connection, prior.id, packed)
            await target.create_volume({"Name": prior.id, "Driver": "local", "Labels": marked(context)})
            await fill(context, target, prior.id, packed)
        except BaseException:
            made = await target.volume(prior.id)
            if made is not None and is_made_here(context, made.get("Labels")):
                await target.remove_volume(prior.id)
            raise
        finally:
            await asyncio.to_thread(packed.unlink, missing_ok=True)
    material = {
        "connection": arguments["connection"],
        "operation": context.operation_id,
        "source": arguments.get("source", _KEEP),
    }
    return ActionResult(state=prior, outputs={"name": prior.id}, undo=material, connection=str(arguments["connection"]))


async def _anew(context: Context, engine: Engine, prior: ResourceState, path: Path) -> None:
    """The volume with what is in the file and nothing else. Raises DEPENDENCY while a container has it."""
    found = await engine.volume(prior.id)
    labels: dict[str, Any] = marked(context)
    if found is not None:
        if not is_ours(context, found.get("Labels")):
            message = f"the volume {prior.id} is not the one that is managed here"
            raise ProviderError(ErrorKind.NOT_FOUND, message)
        labels = dict(found["Labels"])
        await engine.remove_volume(prior.id)
    await engine.create_volume({"Name": prior.id, "Driver": "local", "Labels": {**labels, OWNER: context.owner}})
    await fill(context, engine, prior.id, path)


def _path(context: Context, prior: ResourceState, ending: str) -> Path:
    return context.workspace / FOLDER / f"{prior.id}-{context.operation_id}.{ending}"
