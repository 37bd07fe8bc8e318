"""`docker.image`: an image under a name of ours, from an archive on the worker's machine or from a registry.

Whatever it comes from, the last layer is ours and has nothing but labels: an image that was loaded or pulled could not
be told from anybody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

from app import clock
from app.domain.enums import ChangeAction, TemplateType
from app.domain.errors import Diagnostic
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
from app.providers.docker.labels import is_made_here, is_ours, marked, taken
from app.providers.docker.preflights import image_to_make
from app.providers.preflights import PreflightRequest
from app.providers.sources import Sources

if TYPE_CHECKING:
    from app.providers.docker.engine import Engine

_LONGEST_SECONDS = 3600.0


class ImageType(ResourceType):
    """An image; its id is its name, and what it consists of is the output `id`."""

    name = "docker.image"
    title = "Container image"
    description = "An image that is built, loaded, imported or pulled, under a name of its own."
    template_type = TemplateType.APPLICATION
    idempotency = Idempotency.TAG
    create_only = frozenset({"/reference", "/from", "/archive", "/source"})
    schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["reference", "from"],
        "properties": {
            "reference": {
                "type": "string",
                "pattern": "^[a-z0-9][a-z0-9._/-]{0,127}:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$",
                "description": "its name and tag",
            },
            "from": {
                "enum": ["BUILD", "LOAD", "ROOTFS", "PULL"],
                "description": "BUILD: a tar with a Dockerfile; LOAD: what `docker save` wrote; ROOTFS: a tar of files",
            },
            "archive": {"type": "string", "pattern": "^/", "description": "the tar, on the worker's machine"},
            "source": {"type": "string", "minLength": 1, "description": "the image to pull"},
        },
        "allOf": [
            {"if": {"properties": {"from": {"const": "PULL"}}},
             "then": {"required": ["source"]}, "else": {"required": ["archive"]}}
        ],
    }  # fmt: skip
    outputs_schema: ClassVar[Schema] = {
        "type": "object",
        "required": ["id", "reference"],
        "properties": {
            "id": {"type": "string", "description": "sha256:…, which no other image has"},
            "reference": {"type": "string"},
            "size": {"type": "integer", "description": "bytes"},
        },
    }

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def preflight(self, context: Context, request: PreflightRequest) -> Sequence[Diagnostic]:
        engine: Engine = context.connection
        reference = request.properties.get("reference")
        found = None if reference is None else await engine.image(reference)
        if found is not None and request.action is ChangeAction.CREATE and not is_ours(context, _labels(found)):
            raise taken(str(reference), "image")
        return await image_to_make(context, request, self._sources)

    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:
        engine: Engine = context.connection
        found = await engine.image(state.id)
        if found is None or not is_ours(context, _labels(found)):
            return None
        return _state(state.properties, found)

    async def create(self, context: Context, properties: JsonObject) -> ResourceState:
        engine: Engine = context.connection
        found = await self.recover(context, properties)
        if found is not None:
            return found
        seconds = max(1.0, min(context.deadline - clock.monotonic(), _LONGEST_SECONDS))
        reference, labels = properties["reference"], marked(context)
        if properties["from"] == "PULL":
            await engine.pull(context, properties["source"])
            await self._label(context, engine, properties["source"], reference)
        else:
            path = await asyncio.to_thread(self._sources.find, properties["archive"], field="archive")
            with path.open("rb") as archive:
                if properties["from"] == "LOAD":
                    loaded = await engine.load(context, archive, seconds)
                    await self._label(context, engine, loaded, reference)
                elif properties["from"] == "BUILD":
                    await engine.build(context, archive, reference, labels, seconds)
                else:
                    with _around(path) as whole:
                        await engine.build(context, whole, reference, labels, seconds)
        made = await self.recover(context, properties)
        if made is None:
            message = f"the engine built {reference}, and does not have it"
            raise ProviderError(ErrorKind.NOT_STABILIZED, message)
        return made

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | None:
        engine: Engine = context.connection
        found = await engine.image(properties["reference"])
        if found is None:
            return None
        if not is_made_here(context, _labels(found)):
            raise taken(properties["reference"], "image")
        return _state(properties, found)

    async def delete(self, context: Context, prior: ResourceState) -> None:
        engine: Engine = context.connection
        if await self.read(context, prior) is not None:
            await engine.remove_image(prior.id)

    async def _label(self, context: Context, engine: Engine, source: str, reference: str) -> None:
        found = await engine.image(source)
        if found is None:
            message = f"the engine has no image {source}"
            raise ProviderError(ErrorKind.NOT_FOUND, message)
        dockerfile = f"FROM {found['Id']}\n".encode()
        with tempfile.TemporaryFile() as whole:
            with tarfile.open(fileobj=whole, mode="w") as packed:
                _add(packed, "Dockerfile", dockerfile)
            whole.seek(0)
            await engine.build(context, whole, reference, marked(context), 300.0)


@contextlib.contextmanager
def _around(path: Path) -> Iterator[IO[bytes]]:
    """A tar with the tar and a Dockerfile that unpacks it: building labels it at once, as importing would not."""
    with tempfile.TemporaryFile() as whole:
        with tarfile.open(fileobj=whole, mode="w") as packed:
            _add(packed, "Dockerfile", b"FROM scratch\nADD rootfs.tar /\n")
            packed.add(path, "rootfs.tar")
        whole.seek(0)
        yield whole


def _add(packed: tarfile.TarFile, name: str, content: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        packed.addfile(entry, file)


def _labels(found: Mapping[str, Any]) -> Mapping[str, str]:
    return (found.get("Config") or {}).get("Labels") or {}


def _state(properties: Mapping[str, Any], found: Mapping[str, Any]) -> ResourceState:
    reference = properties["reference"]
    outputs = {"id": found["Id"], "reference": reference, "size": int(found.get("Size") or 0)}
    return ResourceState(reference, dict(properties), outputs)
