"""`tofu.workspace`: what an OpenTofu module makes, as one resource.

The program itself knows what there is and what is to be done. So a workspace is read by planning it: `converged` is
false where the plan would change something, which is drift, or what an update that failed has left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from app.domain.diffing import Difference
from app.domain.enums import TemplateType
from app.domain.errors import Diagnostic, Severity
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
from app.providers.preflights import PreflightRequest
from app.providers.tofu.backend import Backend, Kept
from app.providers.tofu.runs import Installation, prepared

_CHANGES = 2
_PLAN_FILE = "windlass.plan"


@dataclass(frozen=True, slots=True)
class TofuSession:
    """What runs of one connection are given."""

    config: Mapping[str, Any]


class WorkspaceType(ResourceType):
    """A module with its variables and its state; its id is its name, which is unique in the tenant."""

    name = "tofu.workspace"
    title = "OpenTofu workspace"
    description = "A module, applied; its outputs are outputs."
    template_type = TemplateType.INFRASTRUCTURE
    idempotency = Idempotency.TAG
    stateful = True
    reports = True
    create_only = frozenset({"/name"})
    secret = frozenset({"/sensitiveVariables"})
    schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,99}$"},
            "source": {"type": "string", "pattern": "^/", "description": "the module's folder on the worker's machine"},
            "files": {
                "type": "object",
                "maxProperties": 50,
                "propertyNames": {"pattern": "^[A-Za-z0-9_-]+\\.(tf|tf\\.json|tftpl|txt|json)$"},
                "additionalProperties": {"type": "string", "maxLength": 200_000},
                "description": "the module's files, or more of them, if the installation allows that",
            },
            "variables": {"type": "object", "default": {}},
            "sensitiveVariables": {"type": "object", "x-sensitive": True},
            "converged": {
                "const": True,
                "default": True,
                "description": "whether a plan would change nothing; false is what is found, never what is wanted",
            },
        },
    }
    outputs_schema: ClassVar[Schema] = {
        "type": "object",
        "required": ["workspace"],
        "additionalProperties": True,
        "properties": {"workspace": {"type": "string"}},
    }

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def check(self, properties: Mapping[str, Any]) -> tuple[JsonObject, list[Diagnostic]]:
        value, faults = super().check(properties)
        if self._installation.backend is None:
            message = "this installation runs no OpenTofu (WINDLASS_TOFU_STATE_URL is not set)"
            faults.append(Diagnostic(Severity.ERROR, "NOT_ALLOWED", message, ()))
        elif isinstance(value.get("files"), Mapping) and not self._installation.inline:
            message = "this installation does not run modules of tenants' own (WINDLASS_TOFU_INLINE)"
            faults.append(Diagnostic(Severity.ERROR, "NOT_ALLOWED", message, ("files",)))
        elif not properties.keys() & {"files", "source"}:
            message = "a workspace has a `source`, or `files`"
            faults.append(Diagnostic(Severity.ERROR, "REQUIRED", message, ("source",)))
        return value, faults

    async def preflight(self, context: Context, request: PreflightRequest) -> Sequence[Diagnostic]:
        """What the program finds wrong with the module, without looking at anything that there is."""
        if request.unknown & {"name", "source", "files"}:
            return ()
        async with self._run(context, dict(request.properties), keeps=False) as run:
            found: list[Diagnostic] = await run.validate()
            return found

    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:
        kept = await self._kept(context, state.id)
        if kept is None or kept.is_empty:
            return None
        properties = {**state.properties, "converged": True}
        async with self._run(context, properties) as run:
            code = await run.call(
                "plan",
                "-input=false",
                "-no-color",
                "-json",
                "-lock=false",
                "-detailed-exitcode",
                accepted=(0, _CHANGES),
            )
        return _state({**properties, "converged": code != _CHANGES}, kept)

    async def create(self, context: Context, properties: JsonObject) -> ResourceState:
        kept = await self._backend.fetch(context, properties["name"])
        if kept is not None and not kept.is_empty and kept.operation != context.operation_id:
            message = f"the workspace {properties['name']} exists already, and this operation did not make it"
            raise ProviderError(ErrorKind.ALREADY_EXISTS, message, path=("name",))
        return await self._applied(context, properties)

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | None:
        """What was made whole is ours. What was made in part is destroyed: it is begun anew, or was to go anyway.

        A run that was killed has not told of what it made last, and nobody else knows: a person has to look.
        """
        kept = await self._backend.fetch(context, properties["name"])
        _refuse_interrupted(kept)
        if kept is None or kept.is_empty:
            return None
        if kept.operation != context.operation_id:
            message = f"the workspace {properties['name']} exists already, and this operation did not make it"
            raise ProviderError(ErrorKind.ALREADY_EXISTS, message, path=("name",))
        found = _state(properties, kept)
        live = await self.read(context, found)
        if live is not None and not live.properties["converged"]:
            await self.delete(context, found)
            return None
        return live

    async def update(
        self,
        context: Context,
        prior: ResourceState,
        properties: JsonObject,
        difference: Difference,  # noqa: ARG002  the program finds out for itself
    ) -> ResourceState:
        kept = await self._kept(context, prior.id)
        if kept is None:
            message = f"the workspace {prior.id} is gone, or is not the one that is managed here"
            raise ProviderError(ErrorKind.NOT_FOUND, message)
        return await self._applied(context, properties)

    async def delete(self, context: Context, prior: ResourceState) -> None:
        kept = await self._kept(context, prior.id)
        if kept is None:
            return
        if not kept.is_empty:
            async with self._run(context, prior.properties) as run:
                await run.call("destroy", "-auto-approve", "-input=false", "-no-color", "-json")
        await self._backend.remove(context, prior.id)

    async def _applied(self, context: Context, properties: JsonObject) -> ResourceState:
        properties = {**properties, "converged": True}
        _refuse_interrupted(await self._kept(context, properties["name"]))
        try:
            async with self._run(context, properties) as run:
                await run.call("plan", "-input=false", "-no-color", "-json", f"-out={_PLAN_FILE}")
                await run.call("apply", "-input=false", "-no-color", "-json", _PLAN_FILE)
        except ProviderError as error:
            kept = await self._kept(context, properties["name"])
            if kept is not None and not kept.is_empty:
                error.partial = _state({**properties, "converged": False}, kept)
            raise
        kept = await self._kept(context, properties["name"])
        if kept is None:
            message = f"the workspace {properties['name']} was applied, and nothing is kept of it"
            raise ProviderError(ErrorKind.NOT_STABILIZED, message)
        return _state(properties, kept)

    async def _kept(self, context: Context, name: str) -> Kept | None:
        """The state, if it is ours."""
        try:
            return await self._backend.fetch(context, name)
        except ProviderError as error:
            if error.kind is ErrorKind.ALREADY_EXISTS:
                return None
            raise

    def _run(self, context: Context, properties: JsonObject, *, keeps: bool = True) -> Any:
        session: TofuSession = context.connection
        return prepared(context, self._installation, self._backend, properties, session.config, keeps=keeps)

    @property
    def _backend(self) -> Backend:
        if self._installation.backend is None:
            message = "this installation runs no OpenTofu (WINDLASS_TOFU_STATE_URL is not set)"
            raise ProviderError(ErrorKind.INVALID, message)
        return self._installation.backend


def _refuse_interrupted(kept: Kept | None) -> None:
    """The program writes its state only now and then while it applies: one that was killed knows more than is kept."""
    if kept is not None and kept.interrupted:
        message = (
            "a run of this step was killed while it applied; what it made last is in no state, and has to be looked for"
        )
        raise ProviderError(ErrorKind.OUTCOME_UNKNOWN, message)


def _state(properties: Mapping[str, Any], kept: Kept) -> ResourceState:
    name = str(properties["name"])
    return ResourceState(name, dict(properties), {**kept.outputs, "workspace": name})
