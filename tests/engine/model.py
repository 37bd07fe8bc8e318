"""A world of things that point at each other, and what plans over it must come to: the model that jobs are held to.

The world refuses, as real ones do, to make what points at nothing and to delete what something points at; what it
refused is written down, because that is what no order of steps may ever come to.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from app.engine.context import StepContext
from app.engine.work import Mode
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
from tests.engine.harness import AccidentalCore


@dataclass(frozen=True, slots=True)
class Thing:
    """What there is: its properties, and by which operation it was made."""

    properties: JsonObject
    operation: str

    @property
    def refs(self) -> frozenset[str]:
        return frozenset(self.properties["refs"])


@dataclass
class World:
    """Everything by its id, which no two things ever share. `fails`: the key whose change is refused, and whether after
    it had its effect; `stuck`: the keys whose undoing is refused; `kept`: those whose deletion is.
    """

    things: dict[str, Thing] = field(default_factory=dict)
    fails: tuple[str, bool] | None = None
    stuck: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    _ids: Any = field(default_factory=itertools.count)

    def snapshot(self) -> dict[str, tuple[int, frozenset[str]]]:
        """By key the value of each thing, and the keys of what it points at."""
        return {
            self._key(thing): (thing.properties["value"], frozenset(self._key(self.things[id_]) for id_ in thing.refs))
            for thing in self.things.values()
        }

    def ids(self) -> dict[str, str]:
        return {self._key(thing): id_ for id_, thing in self.things.items()}

    def put(self, id_: str | None, thing: Thing) -> str:
        """Make a thing, or change the one that has the id."""
        dangling = thing.refs - self.things.keys()
        if dangling:
            self.wrong.append(f"{self._key(thing)} was to point at {sorted(dangling)}, which are not there")
        id_ = id_ or f"{self._key(thing)}-{next(self._ids)}"
        self.things[id_] = thing
        return id_

    def remove(self, id_: str) -> None:
        pointing = [self._key(thing) for thing in self.things.values() if id_ in thing.refs]
        if pointing:
            self.wrong.append(f"{id_} was deleted while {pointing} pointed at it")
        self.things.pop(id_, None)

    @staticmethod
    def _key(thing: Thing) -> str:
        return str(thing.properties["key"])


class Node(ResourceType):
    """A thing of the world."""

    name = "core.node"
    title = "Node"
    idempotency = Idempotency.TAG
    create_only = frozenset({"/kind"})
    schema: ClassVar[Schema] = {
        "type": "object",
        "required": ["key", "kind", "value", "refs"],
        "properties": {
            "key": {"type": "string"},
            "kind": {"type": "integer"},
            "value": {"type": "integer"},
            "refs": {"type": "array", "items": {"type": "string"}},
        },
    }
    outputs_schema: ClassVar[Schema] = {
        "type": "object", "required": ["id"], "properties": {"id": {"type": "string"}},
    }  # fmt: skip

    def __init__(self, world: World) -> None:
        self.world = world

    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:
        del context
        return self._state(state.id) if state.id in self.world.things else None

    async def create(self, context: Context, properties: JsonObject) -> ResourceState:
        made = self._found(context, properties)
        if made is None:
            self._refuse(context, properties, after=False)
            made = self.world.put(None, Thing(properties, context.operation_id))
            self._refuse(context, properties, after=True)
        return self._state(made)

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | None:
        made = self._found(context, properties)
        return None if made is None else self._state(made)

    async def update(
        self, context: Context, prior: ResourceState, properties: JsonObject, difference: Any
    ) -> ResourceState:
        del difference
        self._refuse(context, properties, after=False)
        self.world.put(prior.id, replace(self.world.things[prior.id], properties=properties))
        self._refuse(context, properties, after=True)
        return self._state(prior.id)

    async def delete(self, context: Context, prior: ResourceState) -> None:
        if prior.id in self.world.things:
            key = self.world.things[prior.id].properties["key"]
            if _mode(context) is not Mode.UNDO and key in self.world.kept:
                raise ProviderError(ErrorKind.ACCESS_DENIED, f"{key} is kept")
            self._refuse(context, self.world.things[prior.id].properties, after=None)
            self.world.remove(prior.id)

    def _refuse(self, context: Context, properties: JsonObject, *, after: bool | None) -> None:
        key = properties["key"]
        if _mode(context) is Mode.UNDO:
            if not after and key in self.world.stuck:
                raise ProviderError(ErrorKind.ACCESS_DENIED, f"{key} is stuck")
        elif after is not None and self.world.fails == (key, after):
            raise ProviderError(ErrorKind.ACCESS_DENIED, f"{key} fails")

    def _found(self, context: Context, properties: JsonObject) -> str | None:
        made = [
            id_
            for id_, thing in self.world.things.items()
            if (thing.operation, thing.properties["key"]) == (context.operation_id, properties["key"])
        ]
        return made[0] if made else None

    def _state(self, id_: str) -> ResourceState:
        return ResourceState(id_, dict(self.world.things[id_].properties), {"id": id_})


def _mode(context: Context) -> Mode:
    """Why the engine asks, which a provider need not know, and whoever plans its refusals does."""
    return Mode(context._work.mode) if isinstance(context, StepContext) else Mode.OBSERVE


class Brittle(Node):
    """One that has to go before its successor can be made."""

    name = "core.brittle"
    delete_first = True


class ModelCore(AccidentalCore):
    """The provider `core` with the things of a world."""

    def __init__(self, world: World) -> None:
        super().__init__({})
        self._nodes = (Node(world), Brittle(world))

    def types(self) -> Sequence[ResourceType]:
        return (*super().types(), *self._nodes)


@dataclass(frozen=True, slots=True)
class Graph:
    """What is declared: by key what each needs, its kind, its value, and whether it has to go before its successor."""

    needs: Mapping[str, frozenset[str]]
    kinds: Mapping[str, int]
    values: Mapping[str, int]
    brittle: frozenset[str]

    def template(self) -> dict[str, Any]:
        return {
            "resources": {
                key: {
                    "type": "core.brittle" if key in self.brittle else "core.node",
                    "properties": {
                        "key": key, "kind": self.kinds[key], "value": self.values[key],
                        "refs": [f"${{resources.{need}.outputs.id}}" for need in sorted(of)],
                    },
                }
                for key, of in self.needs.items()
            }
        }  # fmt: skip

    def snapshot(self) -> dict[str, tuple[int, frozenset[str]]]:
        return {key: (self.values[key], of) for key, of in self.needs.items()}

    def behind(self, keys: set[str]) -> set[str]:
        """What these need, however far, and themselves."""
        found = set(keys)
        for key in reversed(list(self.needs)):
            if key in found:
                found |= self.needs[key]
        return found

    def before(self, keys: set[str]) -> set[str]:
        """What needs these, however far, and themselves."""
        found = set(keys)
        for key, of in self.needs.items():
            if of & found:
                found.add(key)
        return found


def graphs(chance: random.Random) -> tuple[Graph, Graph]:
    """A stack, and what a plan makes of it: some things are new, others changed, replaced, left as they are, gone."""
    keys = [f"r{number}" for number in range(chance.randint(2, 6))]
    # Nobody points at one that goes before its successor is there.
    brittle = frozenset(key for key in keys if chance.random() < 0.15)
    old = _graph(chance, keys, brittle, {}, {})
    new = _graph(chance, keys, brittle, old.kinds, old.values)
    return old, new


def _graph(
    chance: random.Random, keys: list[str], brittle: frozenset[str], kinds: Mapping[str, int], values: Mapping[str, int]
) -> Graph:
    chosen = [key for key in keys if chance.random() < 0.75] or keys[:1]
    needs = {
        key: frozenset(other for other in chosen[:place] if other not in brittle and chance.random() < 0.4)
        for place, key in enumerate(chosen)
    }
    changes = {key: chance.choice(("keep", "update", "replace")) for key in chosen}
    return Graph(
        needs,
        {key: kinds.get(key, 0) + (changes[key] == "replace") for key in chosen},
        {key: values.get(key, 0) + (changes[key] == "update") for key in chosen},
        brittle,
    )
