"""`docker.volume`: a folder of the engine's that outlives containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from app.domain.enums import TemplateType
from app.domain.errors import Diagnostic
from app.providers.base import (
    ActionResult,
    ActionSpec,
    Context,
    ErrorKind,
    Idempotency,
    JsonObject,
    ProviderError,
    ResourceState,
    ResourceType,
    Schema,
)
from app.providers.docker import copies
from app.providers.docker.labels import NAME_PATTERN, is_made_here, is_ours, marked, taken
from app.providers.docker.preflights import require_free
from app.providers.preflights import PreflightRequest

if TYPE_CHECKING:
    from app.providers.docker.engine import Engine


class VolumeType(ResourceType):
    """A volume of the driver `local`, without options: those could name any folder of the engine's machine."""

    name = "docker.volume"
    title = "Container volume"
    description = "A folder that outlives the containers that use it."
    template_type = TemplateType.INFRASTRUCTURE
    idempotency = Idempotency.TAG
    stateful = True
    create_only = frozenset({"/name"})
    schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {"name": {"type": "string", "pattern": NAME_PATTERN}},
    }
    outputs_schema: ClassVar[Schema] = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "createdAt": {"type": "string"}},
    }

    actions: ClassVar[Mapping[str, ActionSpec]] = copies.ACTIONS

    async def preflight(self, context: Context, request: PreflightRequest) -> Sequence[Diagnostic]:
        engine: Engine = context.connection
        name = request.properties.get("name")
        found = None if name is None else await engine.volume(name)
        if found is not None:
            require_free(context, request, found.get("Labels"), "volume")
        return ()

    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:
        engine: Engine = context.connection
        found = await engine.volume(state.id)
        return None if found is None or not is_ours(context, found.get("Labels")) else _state(found)

    async def create(self, context: Context, properties: JsonObject) -> ResourceState:
        engine: Engine = context.connection
        await engine.create_volume({"Name": properties["name"], "Driver": "local", "Labels": marked(context)})
        # The engine does not mind that a volume is there already, and hands that one out.
        found = await self.recover(context, properties)
        if found is None:
            message = f"the volume {properties['name']} vanished while it was being made"
            raise ProviderError(ErrorKind.CONFLICT, message)
        return found

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | None:
        engine: Engine = context.connection
        found = await engine.volume(properties["name"])
        if found is None:
            return None
        if not is_made_here(context, found.get("Labels")):
            raise taken(properties["name"], "volume")
        return _state(found)

    async def delete(self, context: Context, prior: ResourceState) -> None:
        engine: Engine = context.connection
        if await self.read(context, prior) is not None:
            await engine.remove_volume(prior.id)

    async def act(self, context: Context, action: str, prior: ResourceState, arguments: JsonObject) -> ActionResult:
        return await copies.act(context, action, prior, arguments)

    async def recover_action(
        self, context: Context, action: str, prior: ResourceState, arguments: JsonObject
    ) -> ActionResult | None:
        return await copies.recover(context, action, prior, arguments)

    async def undo_action(self, context: Context, action: str, prior: ResourceState, undo: JsonObject) -> None:
        await copies.undo(context, action, prior, undo)

    async def finalize_action(self, context: Context, action: str, prior: ResourceState, undo: JsonObject) -> None:
        await copies.finalize(context, action, prior, undo)


def _state(found: Mapping[str, Any]) -> ResourceState:
    outputs = {"name": found["Name"], "createdAt": found.get("CreatedAt", "")}
    return ResourceState(found["Name"], {"name": found["Name"]}, outputs)
