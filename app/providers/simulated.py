"""Stand-ins for resource types and tasks that change nothing: what they make is made up from the types' schemas.

The registry's remember nothing: what exists is what they are told that exists, for one operation. Whoever tells them
knows it from the journal. A rehearsal's (`SimulatedProvider`) remember what they made themselves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from app.domain.diffing import Difference
from app.domain.enums import LogLevel
from app.domain.errors import Diagnostic
from app.domain.placeholders import MARK, placeholder
from app.providers.base import (
    ActionResult,
    Context,
    JsonObject,
    Provider,
    ProviderError,
    ResourceState,
    ResourceType,
    Schema,
    TaskType,
)
from app.providers.faults import DECLARED
from app.providers.registry import Registry


class SimulatedRegistry(Registry):
    """A registry whose types and tasks are stand-ins for those of `real`, for one operation.

    `existing`: the resources that there are when it begins. `guessed`: what it is given may be made up.
    """

    def __init__(self, real: Registry, existing: Sequence[ResourceState], *, guessed: bool) -> None:
        super().__init__(())
        self._real = real
        self._existing = {state.id: state for state in existing}
        self._guessed = guessed

    def resource(self, name: str) -> ResourceType:
        return SimulatedType(self._real.resource(name), self._existing)

    def task(self, name: str) -> TaskType:
        return SimulatedTask(self._real.task(name), guessed=self._guessed)


class SimulatedType(ResourceType):
    """A resource type in a world that consists of `existing`, by id; that is changed instead of anything real.

    `asked`: the outputs that somebody will read; they are made up, too, where the schema leaves open which there are.
    """

    def __init__(
        self, inner: ResourceType, existing: dict[str, ResourceState], asked: frozenset[str] = frozenset()
    ) -> None:
        self._inner = inner
        self._existing = existing
        self._asked = asked
        for attribute in DECLARED:
            setattr(self, attribute, getattr(inner, attribute))

    def check(self, properties: Mapping[str, Any]) -> tuple[JsonObject, list[Diagnostic]]:
        return self._inner.check(properties)

    def compare(
        self, prior: Mapping[str, Any] | None, desired: Mapping[str, Any], *, unknown_forces: bool = False
    ) -> Difference:
        return self._inner.compare(prior, desired, unknown_forces=unknown_forces)

    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:  # noqa: ARG002
        return self._existing.get(state.id)

    async def create(self, context: Context, properties: JsonObject) -> ResourceState:
        _say(context)
        made = ResourceState(
            self._new_id(context), self._filled(properties, {}), self._outputs(), {MARK: True}, self.schema_version
        )
        self._existing[made.id] = made
        return made

    async def recover(self, context: Context, properties: JsonObject) -> None:  # noqa: ARG002
        """An attempt that was interrupted has made nothing."""
        return

    async def update(
        self,
        context: Context,
        prior: ResourceState,
        properties: JsonObject,
        difference: Difference,  # noqa: ARG002
    ) -> ResourceState:
        _say(context)
        made = ResourceState(
            prior.id,
            self._filled(properties, prior.properties),
            {**self._outputs(), **prior.outputs},
            prior.private,
            prior.version,
        )
        self._existing[made.id] = made
        return made

    async def delete(self, context: Context, prior: ResourceState) -> None:
        _say(context)
        self._existing.pop(prior.id, None)

    async def act(
        self,
        context: Context,
        action: str,
        prior: ResourceState,  # noqa: ARG002
        arguments: JsonObject,  # noqa: ARG002
    ) -> ActionResult:
        _say(context)
        return ActionResult(outputs=dict(placeholder(self.actions[action].outputs_schema, action)))

    async def recover_action(
        self,
        context: Context,  # noqa: ARG002
        action: str,  # noqa: ARG002
        prior: ResourceState,  # noqa: ARG002
        arguments: JsonObject,  # noqa: ARG002
    ) -> None:
        return

    def _new_id(self, context: Context) -> str:
        made = f"{MARK}:{context.owner}"
        return made if made not in self._existing else f"{made}:{context.operation_id}"

    def _outputs(self) -> JsonObject:
        return _made_up(self.outputs_schema, self.name, self._asked)

    def _filled(self, properties: JsonObject, known: JsonObject) -> JsonObject:
        """The properties, with those that the outside world would fill in."""
        declared = self.schema.get("properties", {})
        missing = [pointer[1:] for pointer in sorted(self.computed) if pointer[1:] not in properties]
        filled = {name: known.get(name, placeholder(declared.get(name, {}), name)) for name in missing}
        return {**filled, **properties}


class SimulatedTask(TaskType):
    """A task that is not run, unless it is pure. An interrupted attempt has done nothing, so it may be repeated."""

    idempotent = True

    def __init__(self, inner: TaskType, *, guessed: bool, asked: frozenset[str] = frozenset()) -> None:
        self._inner = inner
        self._guessed = guessed
        self._asked = asked
        for attribute in ("name", "title", "description", "schema", "outputs_schema", "undoable"):
            setattr(self, attribute, getattr(inner, attribute))

    def check(self, inputs: Mapping[str, Any]) -> tuple[JsonObject, list[Diagnostic]]:
        """What could be checked was checked when the job was made; what is left is made up."""
        return self._inner.check(inputs)[0], []

    def can_undo(self, inputs: Mapping[str, Any]) -> bool:
        return self._inner.can_undo(inputs)

    async def run(self, context: Context, inputs: JsonObject) -> JsonObject:
        if self._inner.pure:
            try:
                return await self._inner.run(context, inputs)
            except ProviderError as error:
                if not self._guessed:
                    raise
                context.log(f"not held against it, as values are made up: {error.message}", LogLevel.WARN, "engine")
        _say(context)
        return _made_up(self.outputs_schema, self.name, self._asked)

    async def undo(self, context: Context, inputs: JsonObject, outputs: JsonObject) -> None:  # noqa: ARG002
        _say(context)


def _made_up(schema: Schema, name: str, asked: frozenset[str]) -> JsonObject:
    found = dict(placeholder(schema, name))
    open_ = schema.get("additionalProperties", True)
    if open_ is not False:
        wanted = sorted(asked - found.keys())
        found |= {one: placeholder(open_ if isinstance(open_, Mapping) else {"type": "string"}, one) for one in wanted}
    return found


def _say(context: Context) -> None:
    context.log("only simulated: no provider is asked", stream="engine")


class SimulatedProvider(Provider):
    """A provider that reaches nothing, for as long as a rehearsal lasts: what there is is what its types have made.

    `asked`: by the name of a type or task, the outputs that somebody will read.
    """

    def __init__(self, inner: Provider, asked: Mapping[str, frozenset[str]]) -> None:
        for attribute in ("name", "title", "version", "config_schema"):
            setattr(self, attribute, getattr(inner, attribute))
        self._existing: dict[str, ResourceState] = {}
        none: frozenset[str] = frozenset()
        self._types = tuple(SimulatedType(kind, self._existing, asked.get(kind.name, none)) for kind in inner.types())
        # What reaches a task may come from a resource that was made up.
        self._tasks = tuple(
            SimulatedTask(task, guessed=True, asked=asked.get(task.name, none)) for task in inner.tasks()
        )

    def types(self) -> Sequence[ResourceType]:
        return self._types

    def tasks(self) -> Sequence[TaskType]:
        return self._tasks

    def check_config(self, config: Mapping[str, Any]) -> tuple[JsonObject, list[Diagnostic]]:
        """Whatever it is: nobody will be asked with it."""
        return dict(config), []

    @asynccontextmanager
    async def session(self, config: Mapping[str, Any]) -> AsyncIterator[None]:  # noqa: ARG002
        yield None
