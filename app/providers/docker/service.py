"""`docker.service`: so many containers of one image, started, replaced one after the other, and counted.

What a container is for is written on it in labels: the service, which replica, by what specification. Reading one is
reading those. After an update that failed half way some are of one specification and some of the other, which differs
from both: putting the former one back converges from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from app.domain.diffing import Difference
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
from app.providers.docker.labels import HASH, OWNER, REPLICA, SERVICE, SPEC, is_made_here, is_ours, marked, taken
from app.providers.docker.preflights import image_to_run, ports_to_take, require_free
from app.providers.docker.readiness import await_ready
from app.providers.docker.specification import SCHEMA, Specification
from app.providers.preflights import PreflightRequest

if TYPE_CHECKING:
    from app.providers.docker.engine import Engine


class ServiceType(ResourceType):
    """Containers that do the same; its id is its name."""

    name = "docker.service"
    title = "Container service"
    description = "A number of containers of one image, with a probe that says when they are ready."
    template_type = TemplateType.APPLICATION
    idempotency = Idempotency.TAG
    create_only = frozenset({"/name"})
    secret = frozenset({"/secretEnvironment"})
    scalable = frozenset({"/replicas"})
    schema: ClassVar[Schema] = SCHEMA
    outputs_schema: ClassVar[Schema] = {
        "type": "object",
        "required": ["name", "containers", "addresses"],
        "properties": {
            "name": {"type": "string"},
            "containers": {"type": "array", "items": {"type": "string"}},
            "addresses": {
                "type": "array",
                "items": {"type": "string"},
                "description": "host:port of what is published",
            },
        },
    }

    async def preflight(self, context: Context, request: PreflightRequest) -> Sequence[Diagnostic]:
        engine: Engine = context.connection
        name = request.properties.get("name")
        for found in [] if name is None else await engine.replicas(name):
            require_free(context, request, _labels(found), "service")
        return [*await image_to_run(context, request), *await ports_to_take(context, request)]

    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:
        found = await self._own(context, state.id)
        return _state(context, state.properties, found) if found else None

    async def create(self, context: Context, properties: JsonObject) -> ResourceState:
        engine: Engine = context.connection
        found = await engine.replicas(properties["name"])
        if any(not is_made_here(context, _labels(each)) for each in found):
            raise taken(properties["name"], "service")
        return await self._converged(context, properties)

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | None:
        """What was made whole is ours. What was made in part is removed: it is begun anew, or was to go anyway."""
        engine: Engine = context.connection
        found = await engine.replicas(properties["name"])
        if not found:
            return None
        if any(not is_made_here(context, _labels(each)) for each in found):
            raise taken(properties["name"], "service")
        state = _state(context, properties, found)
        if self.compare(state.properties, properties).changes:
            await self._remove(context, found, properties.get("stopSeconds", 10))
            return None
        return state

    async def update(
        self,
        context: Context,
        prior: ResourceState,
        properties: JsonObject,
        difference: Difference,  # noqa: ARG002  what there is says what is to be done
    ) -> ResourceState:
        if not await self._own(context, prior.id):
            message = f"the service {prior.id} is gone, or is not the one that is managed here"
            raise ProviderError(ErrorKind.NOT_FOUND, message)
        return await self._converged(context, properties)

    async def delete(self, context: Context, prior: ResourceState) -> None:
        await self._remove(context, await self._own(context, prior.id), prior.properties.get("stopSeconds", 10))

    async def import_(self, context: Context, identity: str) -> ResourceState:
        """Labels cannot be added, so only what was made for this very resource can come back."""
        engine: Engine = context.connection
        found = await engine.replicas(identity)
        if not found:
            message = f"there is no service {identity}"
            raise ProviderError(ErrorKind.NOT_FOUND, message)
        if any(not is_ours(context, _labels(each)) for each in found):
            raise taken(identity, "service")
        return _state(context, {"name": identity}, found)

    async def _own(self, context: Context, name: str) -> list[dict[str, Any]]:
        engine: Engine = context.connection
        return [each for each in await engine.replicas(name) if is_ours(context, _labels(each))]

    async def _converged(self, context: Context, properties: JsonObject) -> ResourceState:
        """One replica after the other is as it should be, and those beyond their number are gone."""
        engine: Engine = context.connection
        specification = await Specification.of(context, engine, properties)
        wanted = int(properties.get("replicas", 1))
        seconds = int(properties.get("stopSeconds", 10))
        try:
            there = {_number(each): each for each in await self._own(context, properties["name"])}
            await self._remove(context, [each for number, each in there.items() if number > wanted], seconds)
            for number in range(1, wanted + 1):
                context.progress(100 * (number - 1) / wanted, f"{number - 1} of {wanted} are as they should be")
                found = there.get(number)
                if found is not None and _labels(found).get(HASH) == specification.hash and _runs(found):
                    continue
                await self._remove(context, [found] if found is not None else [], seconds)
                await self._started(context, engine, specification, number)
        except ProviderError as error:
            if error.partial is None:
                left = await self._own(context, properties["name"])
                error.partial = _state(context, properties, left) if left else None
            raise
        return _state(context, properties, await self._own(context, properties["name"]))

    async def _started(self, context: Context, engine: Engine, specification: Specification, number: int) -> None:
        name = specification.container_name(number)
        squatter = await engine.container(name)
        if squatter is not None:
            # Left by an attempt of ours that was interrupted, or somebody else's.
            if not is_ours(context, _labels(squatter)):
                raise taken(name, "container")
            await engine.remove_container(squatter["Id"])
        labels = {
            **marked(context), SERVICE: specification.name, REPLICA: str(number), HASH: specification.hash,
            SPEC: specification.text,
        }  # fmt: skip
        identity = await engine.create_container(name, specification.config(number, labels))
        await engine.start(identity)
        context.log(f"started {name}")
        await await_ready(context, engine, identity, name, specification.properties.get("ready"))
        context.log(f"{name} is ready")

    async def _remove(self, context: Context, found: Sequence[Mapping[str, Any]], seconds: int) -> None:
        engine: Engine = context.connection
        for each in found:
            if _runs(each):
                await engine.stop(each["Id"], seconds)
            await engine.remove_container(each["Id"])
            context.log(f"removed {each['Name'].lstrip('/')}")


def _labels(found: Mapping[str, Any]) -> Mapping[str, str]:
    return (found.get("Config") or {}).get("Labels") or {}


def _number(found: Mapping[str, Any]) -> int:
    text = _labels(found).get(REPLICA, "")
    return int(text) if text.isdigit() else 1_000_000


def _runs(found: Mapping[str, Any]) -> bool:
    return bool((found.get("State") or {}).get("Running"))


def _state(context: Context, properties: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> ResourceState:
    """What there is: by the newest specification that is there, and as many as run by it."""
    newest = max(found, key=lambda each: str(each.get("Created", "")))
    mark = _labels(newest).get(HASH, "")
    running = [each for each in found if _runs(each)]
    same = [each for each in running if _labels(each).get(HASH) == mark]
    if mark == Specification.hash_of(context, properties):
        live = dict(properties)
    else:
        live = _told(newest, str(properties.get("name")))
    # Those that are left of another specification are too many; that they are there must be seen.
    mixed = len(same) != len(running) and len(same) == properties.get("replicas", 1)
    live["replicas"] = len(running) if mixed else len(same)
    ordered = sorted(running, key=_number)
    outputs = {
        "name": str(properties.get("name")),
        "containers": [each["Name"].lstrip("/") for each in ordered],
        "addresses": [address for each in ordered for address in _addresses(each)],
    }
    return ResourceState(str(properties.get("name")), live, outputs, {"owner": _labels(newest).get(OWNER, "")})


def _told(found: Mapping[str, Any], name: str) -> JsonObject:
    """The properties that a container was made by, as it has them written on it; secrets are not."""
    try:
        told = json.loads(_labels(found).get(SPEC, "{}"))
    except ValueError:
        told = {}
    return {**(told if isinstance(told, dict) else {}), "name": name}


def _addresses(found: Mapping[str, Any]) -> list[str]:
    ports = (found.get("NetworkSettings") or {}).get("Ports") or {}
    return [f"{each['HostIp']}:{each['HostPort']}" for name in sorted(ports) for each in ports[name] or ()]
