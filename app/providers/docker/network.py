"""`docker.network`: where the containers of a tenant find each other by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from app.domain.enums import TemplateType
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
from app.providers.docker.labels import NAME_PATTERN, is_made_here, is_ours, marked, taken
from app.providers.docker.preflights import require_free
from app.providers.preflights import PreflightRequest

if TYPE_CHECKING:
    from app.providers.docker.engine import Engine


class NetworkType(ResourceType):
    """A bridge. Nothing of it can be changed: another one is made."""

    name = "docker.network"
    title = "Container network"
    description = "A network of its own for containers."
    template_type = TemplateType.NETWORK
    idempotency = Idempotency.TAG
    create_only = frozenset({"/name", "/internal", "/subnet"})
    computed = frozenset({"/subnet"})
    schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "pattern": NAME_PATTERN},
            "internal": {"type": "boolean", "default": False, "description": "whether nobody outside is reached"},
            "subnet": {"type": "string", "pattern": "^[0-9.]+/[0-9]+$"},
        },
    }
    outputs_schema: ClassVar[Schema] = {
        "type": "object",
        "required": ["id", "name"],
        "properties": {"id": {"type": "string"}, "name": {"type": "string"}, "gateway": {"type": "string"}},
    }

    async def preflight(self, context: Context, request: PreflightRequest) -> Sequence[Diagnostic]:
        engine: Engine = context.connection
        name = request.properties.get("name")
        for found in [] if name is None else await engine.networks(name=name):
            if found["Name"] == name:
                require_free(context, request, found.get("Labels"), "network")
        return ()

    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:
        engine: Engine = context.connection
        found = await engine.network(state.id)
        return None if found is None or not is_ours(context, found.get("Labels")) else _state(found)

    async def create(self, context: Context, properties: JsonObject) -> ResourceState:
        engine: Engine = context.connection
        found = await self.recover(context, properties)
        if found is not None:
            return found
        subnet = properties.get("subnet")
        made = await engine.create_network(
            {
                "Name": properties["name"],
                "CheckDuplicate": True,
                "Driver": "bridge",
                "Internal": properties.get("internal", False),
                "IPAM": {"Driver": "default", "Config": [{"Subnet": subnet}] if subnet else []},
                "Labels": marked(context),
            }
        )
        return _state(await _there(engine, made))

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | None:
        engine: Engine = context.connection
        # The engine's filter finds parts of names.
        found = [each for each in await engine.networks(name=properties["name"]) if each["Name"] == properties["name"]]
        if not found:
            return None
        mine = next((each for each in found if is_made_here(context, each.get("Labels"))), None)
        if mine is None:
            raise taken(properties["name"], "network")
        return _state(await _there(engine, mine["Id"]))

    async def delete(self, context: Context, prior: ResourceState) -> None:
        engine: Engine = context.connection
        if await self.read(context, prior) is not None:
            await engine.remove_network(prior.id)

    async def import_(self, context: Context, identity: str) -> ResourceState:
        """Labels cannot be added, so only what was made for this very resource can come back."""
        engine: Engine = context.connection
        found = await engine.network(identity)
        if found is None:
            message = f"there is no network {identity}"
            raise ProviderError(ErrorKind.NOT_FOUND, message)
        if not is_ours(context, found.get("Labels")):
            raise taken(identity, "network")
        return _state(found)


async def _there(engine: Engine, identity: str) -> Mapping[str, Any]:
    found = await engine.network(identity)
    if found is None:
        message = f"the network {identity} vanished while it was being made"
        raise ProviderError(ErrorKind.CONFLICT, message)
    return found


def _state(found: Mapping[str, Any]) -> ResourceState:
    ranges = (found.get("IPAM") or {}).get("Config") or [{}]
    properties: JsonObject = {"name": found["Name"], "internal": bool(found.get("Internal"))}
    if ranges[0].get("Subnet"):
        properties["subnet"] = ranges[0]["Subnet"]
    outputs = {"id": found["Id"], "name": found["Name"]}
    if ranges[0].get("Gateway"):
        outputs["gateway"] = ranges[0]["Gateway"]
    return ResourceState(found["Id"], properties, outputs)
