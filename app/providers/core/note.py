"""`core.note`: a text in a file. The smallest thing that really exists, can be changed and can be lost."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

from app.domain.diffing import Difference
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
from app.providers.core.files import remove, write_new, write_over

FOLDER = "notes"


class NoteType(ResourceType):
    """A JSON file in the tenant's folder. The mark inside says for whom and by which operation it was made."""

    name = "core.note"
    title = "Note"
    description = "A text in a file of the tenant's folder: for trying things out."
    idempotency = Idempotency.TAG
    stateful = True
    create_only = frozenset({"/name"})
    scalable = frozenset({"/size"})
    schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"},
            "text": {"type": "string", "maxLength": 10_000, "default": ""},
            "size": {"type": "integer", "minimum": 0, "maximum": 1000, "default": 1, "description": "times the text"},
        },
    }
    outputs_schema: ClassVar[Schema] = {
        "type": "object",
        "required": ["path", "checksum"],
        "properties": {"path": {"type": "string"}, "checksum": {"type": "string", "description": "SHA-256, hex"}},
    }

    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:
        content = await asyncio.to_thread(_load, _path(context, state.id))
        if content is None or not _is_ours(context, content, state):
            return None
        return _state(context, content)

    async def create(self, context: Context, properties: JsonObject) -> ResourceState:
        content = _content(properties, {"owner": context.owner, "operation": context.operation_id})
        path = _path(context, properties["name"])
        try:
            await asyncio.to_thread(write_new, path, json.dumps(content, indent=2))
        except FileExistsError:
            found = await self.recover(context, properties)
            if found is None:
                message = f"the note {properties['name']} came and went while it was being made"
                raise ProviderError(ErrorKind.CONFLICT, message) from None
            return found
        context.log(f"wrote the note {properties['name']}")
        return _state(context, content)

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | None:
        content = await asyncio.to_thread(_load, _path(context, properties["name"]))
        if content is None:
            return None
        if content["mark"] != {"owner": context.owner, "operation": context.operation_id}:
            message = f"the note {properties['name']} exists already, and this operation did not make it"
            raise ProviderError(ErrorKind.ALREADY_EXISTS, message, path=("name",))
        return _state(context, content)

    async def update(
        self,
        context: Context,
        prior: ResourceState,
        properties: JsonObject,
        difference: Difference,  # noqa: ARG002  a note is always written whole
    ) -> ResourceState:
        path = _path(context, prior.id)
        found = await asyncio.to_thread(_load, path)
        if found is None or not _is_ours(context, found, prior):
            message = f"the note {prior.id} is gone, or is not the one that is managed here"
            raise ProviderError(ErrorKind.NOT_FOUND, message)
        content = _content(properties, found["mark"])
        await asyncio.to_thread(write_over, path, json.dumps(content, indent=2))
        return _state(context, content)

    async def delete(self, context: Context, prior: ResourceState) -> None:
        path = _path(context, prior.id)
        found = await asyncio.to_thread(_load, path)
        if found is not None and _is_ours(context, found, prior):
            await asyncio.to_thread(remove, path)

    async def import_(self, context: Context, identity: str) -> ResourceState:
        content = await asyncio.to_thread(_load, _path(context, identity))
        if content is None:
            message = f"there is no note {identity}"
            raise ProviderError(ErrorKind.NOT_FOUND, message)
        if content["mark"] and content["mark"]["owner"] != context.owner:
            message = f"the note {identity} is managed by {content['mark']['owner']}"
            raise ProviderError(ErrorKind.ALREADY_EXISTS, message)
        return _state(context, content)

    async def discover(self, context: Context) -> AsyncIterator[ResourceState]:
        for path in await asyncio.to_thread(lambda: sorted(_folder(context).glob("*.json"))):
            if (content := await asyncio.to_thread(_load, path)) is not None:
                yield _state(context, content)


def _folder(context: Context) -> Path:
    """The session names a folder of its own, or none."""
    return context.workspace / FOLDER / (context.connection or "")


def _path(context: Context, name: str) -> Path:
    return _folder(context) / f"{name}.json"


def _content(properties: JsonObject, mark: JsonObject) -> JsonObject:
    return {
        "name": properties["name"],
        "text": properties.get("text", ""),
        # JSON knows no difference between 1 and 1.0.
        "size": int(properties.get("size", 1)),
        "mark": mark,
    }


def _load(path: Path) -> JsonObject | None:
    try:
        content: Any = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        content = None
    if isinstance(content, dict) and content.keys() >= {"name", "text", "size"}:
        return {"mark": {}, **content}
    message = f"{path.name} is not a note"
    raise ProviderError(ErrorKind.INVALID, message)


def _is_ours(context: Context, content: JsonObject, state: ResourceState) -> bool:
    """A mark decides. Without one somebody wrote the note by hand, and it is ours if it was imported like that."""
    mark: JsonObject = content["mark"]
    return bool(mark["owner"] == context.owner if mark else state.private.get("mark") == mark)


def _state(context: Context, content: JsonObject) -> ResourceState:
    properties = {key: content[key] for key in ("name", "text", "size")}
    checksum = hashlib.sha256((content["text"] * content["size"]).encode()).hexdigest()
    outputs = {"path": str(_path(context, content["name"])), "checksum": checksum}
    return ResourceState(content["name"], properties, outputs, {"mark": content["mark"]})
