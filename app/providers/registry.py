"""Every resource type and task of the installation, by name: the catalogue that definitions are checked against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Self, TypeVar

from app.domain.diffing import Difference
from app.domain.enums import Reversibility
from app.domain.errors import Diagnostic, UnknownReference
from app.domain.schemas import apply_schema
from app.domain.values import Value
from app.providers.base import Provider, ResourceType, TaskType
from app.providers.core.provider import CoreProvider
from app.providers.postgres.provider import PostgresProvider
from app.providers.reach import Reach

ENTRY_POINTS = "windlass.providers"
Entry = TypeVar("Entry")


class Registry:
    """The providers of an installation. Names are unique, and each begins with that of its provider and a dot."""

    def __init__(self, providers: Iterable[Provider]) -> None:
        self._providers: dict[str, Provider] = {}
        self._types: dict[str, tuple[Provider, ResourceType]] = {}
        self._tasks: dict[str, tuple[Provider, TaskType]] = {}
        for provider in providers:
            _enter(self._providers, provider.name, provider)
            for resource in provider.types():
                _enter(self._types, _prefixed(provider, resource.name), (provider, resource))
            for task in provider.tasks():
                _enter(self._tasks, _prefixed(provider, task.name), (provider, task))

    @classmethod
    def default(
        cls,
        *,
        allowed: Sequence[str] = (),
        directories: Sequence[Path] = (),
        sockets: bool = True,
        reach: Reach | None = None,
    ) -> Self:
        """The built-in providers, and those of other packages whose entry points are named in `allowed`.

        `directories` and `sockets` are those of the provider postgres; `reach` is what others may use of this machine
        and its surroundings, by default nothing.
        """
        postgres = PostgresProvider(directories=directories, sockets=sockets)
        return cls([CoreProvider(), postgres, *(reach or Reach()).providers(), *installed(allowed)])

    def providers(self) -> Sequence[Provider]:
        """All providers, in order of name."""
        return [self._providers[name] for name in sorted(self._providers)]

    def provider(self, name: str) -> Provider:
        """A provider by its name; UnknownReference."""
        return _find(self._providers, name, "provider")

    def provider_of(self, name: str) -> Provider:
        """The provider of a resource type or of a task; UnknownReference."""
        return self._tasks[name][0] if name in self._tasks else _find(self._types, name, "resource type")[0]

    def resource(self, name: str) -> ResourceType:
        """A resource type by its name; UnknownReference."""
        return _find(self._types, name, "resource type")[1]

    def task(self, name: str) -> TaskType:
        """A task by its name; UnknownReference."""
        return _find(self._tasks, name, "task")[1]

    def resources(self) -> Sequence[ResourceType]:
        """All resource types, in order of name."""
        return [self._types[name][1] for name in sorted(self._types)]

    def tasks(self) -> Sequence[TaskType]:
        """All tasks, in order of name."""
        return [self._tasks[name][1] for name in sorted(self._tasks)]

    def check_config(self, provider: str, config: Mapping[str, Any]) -> tuple[Value, list[Diagnostic]]:
        """The configuration of a connection with defaults filled in and secrets wrapped, and its faults."""
        return self.provider(provider).check_config(config)

    def has_type(self, name: str) -> bool:
        """Whether there is such a resource type."""
        return name in self._types

    def type_names(self) -> Sequence[str]:
        """The names of all resource types, sorted."""
        return sorted(self._types)

    def check(self, type_name: str, properties: Mapping[str, Any]) -> tuple[Value, list[Diagnostic]]:
        """The properties with defaults filled in and secrets wrapped, and their faults."""
        return self.resource(type_name).check(properties)

    def compare(
        self,
        type_name: str,
        prior: Mapping[str, Value] | None,
        desired: Mapping[str, Value],
        *,
        unknown_forces: bool = False,
    ) -> Difference:
        """What leads from the prior properties of a resource to the desired ones."""
        return self.resource(type_name).compare(prior, desired, unknown_forces=unknown_forces)

    def properties_schema(self, type_name: str) -> Mapping[str, Any]:
        """The JSON Schema of a type's properties."""
        return self.resource(type_name).schema

    def outputs_schema(self, type_name: str) -> Mapping[str, Any]:
        """The JSON Schema of a type's outputs."""
        return self.resource(type_name).outputs_schema

    def create_only(self, type_name: str) -> frozenset[str]:
        """Pointers to the properties whose change means replacement."""
        return self.resource(type_name).create_only

    def secret(self, type_name: str) -> frozenset[str]:
        """Pointers to the properties that may not be shown."""
        return self.resource(type_name).secret

    def scalable(self, type_name: str) -> frozenset[str]:
        """Pointers to the properties that RESOURCE_SCALE may change."""
        return self.resource(type_name).scalable

    def actions(self, type_name: str) -> frozenset[str]:
        """The names of a type's actions."""
        return frozenset(self.resource(type_name).actions)

    def is_stateful(self, type_name: str) -> bool:
        """Whether deleting a resource of the type loses data."""
        return self.resource(type_name).stateful

    def is_observable(self, type_name: str) -> bool:
        """Whether reading a resource of the type tells how it is."""
        return self.resource(type_name).observable

    def can_import(self, type_name: str) -> bool:
        """Whether resources of the type that exist already can become managed."""
        return type(self.resource(type_name)).import_ is not ResourceType.import_

    def preflights(self, type_name: str) -> bool:
        """Whether anybody can be asked beforehand what will stand in the way of resources of the type."""
        return type(self.resource(type_name)).preflight is not ResourceType.preflight

    def deletes_first(self, type_name: str) -> bool:
        """Whether a replacement cannot exist beside its predecessor."""
        return self.resource(type_name).delete_first

    def action_reversibility(self, type_name: str, action: str) -> Reversibility:
        """Whether an action of the type can be taken back."""
        return self.resource(type_name).actions[action].reversibility

    def task_undoable(self, name: str, inputs: Mapping[str, Value]) -> bool:
        """Whether a task with these inputs, as written, can be taken back by itself."""
        return self.task(name).can_undo(inputs)

    def provider_name(self, name: str) -> str:
        """The name of the provider of a type or task."""
        return self.provider_of(name).name

    def task_pure(self, name: str) -> bool:
        """Whether a task is no more than a function of its inputs."""
        return self.task(name).pure

    def reports(self, name: str) -> bool:
        """Whether a type or task says something at least now and then while it is at work."""
        if self.has_task(name):
            return self.task(name).reports
        return self.has_type(name) and self.resource(name).reports

    def has_task(self, name: str) -> bool:
        """Whether there is such a task."""
        return name in self._tasks

    def task_names(self) -> Sequence[str]:
        """The names of all tasks, sorted."""
        return sorted(self._tasks)

    def check_task(self, name: str, inputs: Mapping[str, Any]) -> tuple[Value, list[Diagnostic]]:
        """The inputs of a task with defaults filled in, and their faults."""
        return self.task(name).check(inputs)

    def check_action(self, type_name: str, action: str, inputs: Mapping[str, Any]) -> tuple[Value, list[Diagnostic]]:
        """The inputs of a resource's action with defaults filled in, and their faults.

        More than is asked for is no fault: all that a backup gives may be handed to the restoration.
        """
        value, faults = apply_schema(self.resource(type_name).actions[action].input_schema, dict(inputs))
        return value, [fault for fault in faults if fault.code != "UNKNOWN_PROPERTY"]


def installed(allowed: Sequence[str]) -> list[Provider]:
    """The providers of other packages. Their code is trusted as ours is, so only those that are named are loaded."""
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if missing := sorted(set(allowed) - found.keys()):
        message = f"no installed package has the provider {', '.join(missing)}"
        raise UnknownReference(message)
    return [found[name].load()() for name in allowed]


def _enter(entries: dict[str, Entry], name: str, entry: Entry) -> None:
    if name in entries:
        message = f"two providers claim the name {name}"
        raise ValueError(message)
    entries[name] = entry


def _prefixed(provider: Provider, name: str) -> str:
    if not name.startswith(f"{provider.name}."):
        message = f"{name} does not begin with {provider.name}."
        raise ValueError(message)
    return name


def _find(entries: Mapping[str, Entry], name: str, what: str) -> Entry:
    try:
        return entries[name]
    except KeyError:
        near = get_close_matches(name, entries, n=1)
        message = f"there is no {what} {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        raise UnknownReference(message) from None
