"""The contract with the outside world: what a provider offers, and what it may expect of whoever calls it.

The caller writes down its intent, calls, and writes down the outcome. A caller that finds an intent without an outcome
asks `recover` (or `recover_action`, or `read`) and never calls blindly again. Values handed to a provider are plain:
no Secret and no UNKNOWN is inside. States handed back are plain too; the caller wraps what the schema calls secret.
"""

# A method that only refuses still states its whole signature.
# ruff: noqa: ARG002

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol

from app.domain import diffing
from app.domain.diffing import Difference
from app.domain.enums import ErrorClass, LogLevel, Reversibility, StepType, TemplateType
from app.domain.errors import Diagnostic
from app.domain.schemas import apply_schema
from app.providers.preflights import PreflightRequest

JsonObject = dict[str, Any]
Schema = Mapping[str, Any]

NO_PROPERTIES: Schema = {"type": "object", "properties": {}, "additionalProperties": False}


class ErrorKind(StrEnum):
    """What a provider's refusal means. CancelledError and bugs are not among them."""

    INVALID = "INVALID"
    ACCESS_DENIED = "ACCESS_DENIED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    NOT_UPDATABLE = "NOT_UPDATABLE"
    QUOTA = "QUOTA"
    NOT_STABILIZED = "NOT_STABILIZED"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"
    DEPENDENCY = "DEPENDENCY"
    CONFLICT = "CONFLICT"
    THROTTLED = "THROTTLED"
    UNAVAILABLE = "UNAVAILABLE"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"

    @property
    def error_class(self) -> ErrorClass:
        """How the engine treats it: try again, give up, or find out first what happened."""
        if self in _WORTH_RETRYING:
            return ErrorClass.TRANSIENT
        if self is ErrorKind.OUTCOME_UNKNOWN:
            return ErrorClass.INDETERMINATE
        return ErrorClass.CANCELLED if self is ErrorKind.CANCELLED else ErrorClass.PERMANENT


_WORTH_RETRYING = frozenset({ErrorKind.DEPENDENCY, ErrorKind.CONFLICT, ErrorKind.THROTTLED, ErrorKind.UNAVAILABLE})


class Idempotency(StrEnum):
    """How a second attempt finds out what the first one made.

    TOKEN: the outside world deduplicates by the operation id. NAME: the name is derived from it. TAG: the thing carries
    a mark. NONE: nobody can tell, so an unknown outcome needs a person.
    """

    TOKEN = "TOKEN"  # noqa: S105  a way of being idempotent, not a credential
    NAME = "NAME"
    TAG = "TAG"
    NONE = "NONE"


@dataclass(frozen=True, slots=True)
class ResourceState:
    """A resource as it is outside.

    `id` is the provider's own identity of it, `properties` have the shape of the type's schema, `outputs` that of its
    outputs schema, `private` is for the provider alone (JSON, no secrets), `version` is the schema version.
    """

    id: str
    properties: JsonObject
    outputs: JsonObject
    private: JsonObject = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True, slots=True)
class Pending:
    """Work that the outside world has begun and not finished; ask again with `poll(handle)`."""

    handle: JsonObject
    poll_after_seconds: float
    message: str = ""
    percent: float | None = None
    partial: ResourceState | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that an action made. `size` in bytes, `sha256` in lower-case hex."""

    kind: str
    uri: str
    size: int
    sha256: str
    metadata: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What an action did. `state` is None where the resource did not change.

    `undo` is JSON material for `undo_action` and `finalize_action`; None where there is neither. `connection` names the
    connection under which the resource lives from now on; None where it stayed.
    """

    state: ResourceState | None = None
    outputs: JsonObject = field(default_factory=dict)
    artifact: Artifact | None = None
    undo: JsonObject | None = None
    connection: str | None = None


class ProviderError(Exception):
    """A refusal or failure of the outside world. `partial` is what exists in spite of it, to be recorded at once."""

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        code: str | None = None,
        path: Sequence[str] = (),
        retry_after_seconds: float | None = None,
        partial: ResourceState | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.code = code or kind.value
        self.path = tuple(path)
        self.retry_after_seconds = retry_after_seconds
        self.partial = partial


class OperationCancelled(ProviderError):
    """Somebody asked to stop, and the provider did. What it had begun is undone, or named in `partial`."""

    def __init__(self, message: str = "cancelled", *, partial: ResourceState | None = None) -> None:
        super().__init__(ErrorKind.CANCELLED, message, partial=partial)


class Context(Protocol):
    """One operation, as the provider sees it."""

    @property
    def operation_id(self) -> str:
        """The idempotency key: the same over retries and worker restarts, different for every operation."""

    @property
    def attempt(self) -> int:
        """1 for the first attempt."""

    @property
    def owner(self) -> str:
        """To whom the resource belongs: "windlass:<tenant>:<stack>:<key>"."""

    @property
    def connection(self) -> Any:
        """What `Provider.session` gave for the connection of the resource."""

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked to stop."""

    @property
    def deadline(self) -> float:
        """When the attempt must be over, on the clock of `app.clock.monotonic`."""

    @property
    def workspace(self) -> Path:
        """The tenant's folder for files, which exists."""

    def connect(self, name: str) -> AbstractAsyncContextManager[Any]:
        """The session of another connection of the tenant; ProviderError NOT_FOUND where there is none."""

    def log(self, message: str, level: LogLevel = LogLevel.INFO, stream: str = "provider", **fields: Any) -> None:
        """Adds a line to the log of the step."""

    def progress(self, percent: float | None, message: str = "") -> None:
        """Says how far it is: 0 to 100, None if nobody knows."""

    async def drain(self) -> None:
        """Waits while too many lines wait to be written. Whoever relays another's output awaits it after each line."""

    async def sleep(self, seconds: float) -> None:
        """Waits; raises OperationCancelled as soon as somebody asks to stop."""


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """An action beyond create, update and delete."""

    name: str
    input_schema: Schema
    step_type: StepType
    reversibility: Reversibility
    outputs_schema: Schema = field(default_factory=lambda: NO_PROPERTIES)
    description: str = ""


class ResourceType(ABC):
    """One kind of resource. Property pointers ("/a/b") name what is create-only, secret, scalable or computed.

    `computed` properties are filled in by the outside world where the declaration leaves them out. `delete_first`:
    a replacement cannot exist beside its predecessor. `stateful`: deleting loses data.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str] = ""
    template_type: ClassVar[TemplateType] = TemplateType.CUSTOM
    schema: ClassVar[Schema]
    outputs_schema: ClassVar[Schema] = NO_PROPERTIES
    schema_version: ClassVar[int] = 1
    create_only: ClassVar[frozenset[str]] = frozenset()
    secret: ClassVar[frozenset[str]] = frozenset()
    scalable: ClassVar[frozenset[str]] = frozenset()
    computed: ClassVar[frozenset[str]] = frozenset()
    idempotency: ClassVar[Idempotency] = Idempotency.NONE
    delete_first: ClassVar[bool] = False
    stateful: ClassVar[bool] = False
    # Whether `read` tells how the resource is, and not only that it is there: without that there is no drift to find.
    observable: ClassVar[bool] = True
    # Whether it says something now and then while it works, so that silence means something.
    reports: ClassVar[bool] = False
    actions: ClassVar[Mapping[str, ActionSpec]] = {}

    def check(self, properties: Mapping[str, Any]) -> tuple[JsonObject, list[Diagnostic]]:
        """The properties with defaults filled in and secrets wrapped, and every fault in them. Pure."""
        value, diagnostics = apply_schema(self.schema, dict(properties))
        return value, list(diagnostics)

    def compare(
        self, prior: Mapping[str, Any] | None, desired: Mapping[str, Any], *, unknown_forces: bool = False
    ) -> Difference:
        """What leads from the prior properties (None: no resource) to the desired ones. Pure; copes with UNKNOWN."""
        left_out = {pointer[1:] for pointer in self.computed} - desired.keys()
        known = None if prior is None else {key: value for key, value in prior.items() if key not in left_out}
        return diffing.compare(known, desired, self.create_only, self.secret, unknown_forces=unknown_forces)

    async def preflight(self, context: Context, request: PreflightRequest) -> Sequence[Diagnostic]:
        """What will stand in the way of the change. Asks before anything of the job is done, and changes nothing."""
        return ()

    @abstractmethod
    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:
        """The resource as it is now; None where it is gone, or is no longer the one that `state` describes."""

    @abstractmethod
    async def create(self, context: Context, properties: JsonObject) -> ResourceState | Pending:
        """Makes the resource and marks it as ours; ALREADY_EXISTS where something is in its place."""

    async def update(
        self, context: Context, prior: ResourceState, properties: JsonObject, difference: Difference
    ) -> ResourceState | Pending:
        """Brings the resource to the properties. Safe to repeat. Not for types of which everything is create-only."""
        message = f"nothing of {self.title} {prior.id} can be changed"
        raise ProviderError(ErrorKind.NOT_UPDATABLE, message)

    @abstractmethod
    async def delete(self, context: Context, prior: ResourceState) -> Pending | None:
        """Removes the resource; absent is done. Safe to repeat."""

    async def poll(self, context: Context, handle: JsonObject) -> ResourceState | Pending | None:
        """How the pending work stands; None where it was a deletion and is done.

        A handle holds no secrets, so properties that the outside world tells nobody may be missing in the state: the
        caller adds them by `with_undisclosed`.
        """
        message = f"{self.name} has no pending work"
        raise ProviderError(ErrorKind.INTERNAL, message)

    def with_undisclosed(self, state: ResourceState, known: Mapping[str, Any]) -> ResourceState:
        """The state with the secret top-level properties that it lacks, as they are known. Pure."""
        names = {pointer[1:] for pointer in self.secret if pointer.count("/") == 1}
        missing = {name: known[name] for name in names & known.keys() if name not in state.properties}
        return replace(state, properties={**state.properties, **missing}) if missing else state

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | Pending | None:
        """What `create` of this very operation made; None if nothing, Pending while it is still being made.

        Raises ALREADY_EXISTS where something that another operation made is in its place.
        """
        message = f"nobody can tell what an interrupted creation of {self.name} has made"
        raise ProviderError(ErrorKind.OUTCOME_UNKNOWN, message)

    async def act(self, context: Context, action: str, prior: ResourceState, arguments: JsonObject) -> ActionResult:
        """Runs an action of `actions`."""
        raise self._no_action(action)

    async def recover_action(
        self, context: Context, action: str, prior: ResourceState, arguments: JsonObject
    ) -> ActionResult | None:
        """What `act` of this very operation did; None if nothing that remained, so that it may be run again."""
        raise self._no_action(action)

    async def undo_action(self, context: Context, action: str, prior: ResourceState, undo: JsonObject) -> None:
        """Takes an action back. `prior` is the state before it, the session is that of `prior`. Safe to repeat."""
        raise self._no_action(action)

    async def finalize_action(self, context: Context, action: str, prior: ResourceState, undo: JsonObject) -> None:
        """Gives up what only `undo_action` needs: nobody will take the action back. Safe to repeat."""
        raise self._no_action(action)

    async def import_(self, context: Context, identity: str) -> ResourceState:
        """The state of a resource that exists already and becomes managed; NOT_FOUND where there is none."""
        message = f"{self.name} cannot be imported"
        raise ProviderError(ErrorKind.INVALID, message)

    def discover(self, context: Context) -> AsyncIterator[ResourceState]:
        """Every resource of this type that the session can see, ours or not."""
        message = f"{self.name} cannot be listed"
        raise ProviderError(ErrorKind.INVALID, message)

    def _no_action(self, action: str) -> ProviderError:
        message = f"{self.name} has no action {action!r}"
        return ProviderError(ErrorKind.INVALID, message)


class TaskType(ABC):
    """Something that is done rather than something that is: a step that leaves no resource behind."""

    name: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str] = ""
    schema: ClassVar[Schema] = NO_PROPERTIES
    outputs_schema: ClassVar[Schema] = NO_PROPERTIES
    # Whether running it again after an unknown outcome does no harm.
    idempotent: ClassVar[bool] = False
    # Whether it is no more than a function of its inputs, touching and waiting for nothing: a simulation runs it.
    pure: ClassVar[bool] = False
    # Whether `undo` leaves the world as it was before.
    undoable: ClassVar[bool] = False
    reports: ClassVar[bool] = False

    def can_repeat(self, inputs: Mapping[str, Any]) -> bool:
        """Whether it does no harm to run it again with these inputs after an unknown outcome."""
        return self.idempotent

    def can_undo(self, inputs: Mapping[str, Any]) -> bool:
        """Whether `undo` takes it back when it was run with these inputs, as written: expressions may be in them."""
        return self.undoable

    def check(self, inputs: Mapping[str, Any]) -> tuple[JsonObject, list[Diagnostic]]:
        """The inputs with defaults filled in, and every fault in them. Pure."""
        value, diagnostics = apply_schema(self.schema, dict(inputs))
        return value, list(diagnostics)

    @abstractmethod
    async def run(self, context: Context, inputs: JsonObject) -> JsonObject:
        """Does it; returns the outputs."""

    async def undo(self, context: Context, inputs: JsonObject, outputs: JsonObject) -> None:
        """Takes it back. Safe to repeat."""
        message = f"{self.name} cannot be undone"
        raise ProviderError(ErrorKind.INVALID, message)


class Provider(ABC):
    """A family of resource types and tasks that share a connection."""

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[str]
    # What a connection holds; "x-sensitive" marks what is sealed.
    config_schema: ClassVar[Schema] = NO_PROPERTIES

    @abstractmethod
    def types(self) -> Sequence[ResourceType]:
        """Its resource types."""

    def tasks(self) -> Sequence[TaskType]:
        """Its tasks."""
        return ()

    def check_config(self, config: Mapping[str, Any]) -> tuple[JsonObject, list[Diagnostic]]:
        """The configuration with defaults filled in and secrets wrapped, and every fault in it. Pure."""
        value, diagnostics = apply_schema(self.config_schema, dict(config))
        return value, list(diagnostics)

    @abstractmethod
    def session(self, config: Mapping[str, Any]) -> AbstractAsyncContextManager[Any]:
        """A session with the outside world, kept for many operations and used by several at a time."""
