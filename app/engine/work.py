"""What a worker has in hands, and what can come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from app.domain.diffing import Difference
from app.domain.enums import ChangeAction, ErrorClass
from app.domain.operations import EffectState, OperationKind
from app.domain.retrying import RetryPolicy
from app.domain.statuses import StepStatus
from app.domain.values import Secret, Value, secrets_in
from app.providers.base import Artifact, ResourceState


class Mode(StrEnum):
    """Why the worker looks at the step."""

    RUN = "RUN"
    POLL = "POLL"
    OBSERVE = "OBSERVE"
    UNDO = "UNDO"


class UndoAim(StrEnum):
    """What an undoing that waits has begun: to find out what was made, to remove it, to make what was before."""

    FIND = "FIND"
    REMOVE = "REMOVE"
    MAKE = "MAKE"


@dataclass(frozen=True, slots=True)
class Effect:
    """A journalled side effect: what was meant, what was before, what is after."""

    action: ChangeAction
    state: EffectState
    operation_id: UUID
    before: ResourceState | None
    intended: Mapping[str, Value] | None
    after: ResourceState | None
    undo: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """That the work is only simulated. `fails`: that is what it was asked for."""

    fails: bool


# Not frozen, which would make it three times as slow to make: one is made, and made anew, several times a step.
@dataclass(slots=True)
class Work:
    """One claimed step. Everything a provider call needs, taken from the database in the claiming transaction.

    Once it is claimed it is only read; `dataclasses.replace` makes another.

    `resource_id` is the resource's place in the record that the job reads and writes (app.engine.records).
    `prior` is the resource as recorded before this job touched it, or as it is recorded now where nothing did.
    `inputs` are rendered and checked, Secrets inside. `fence` is the right to write the outcome,
    `effect_of` the step run whose journalled effect this step makes or undoes. `words` are the secret texts in what is
    recorded of the resource, which `prior` and `effect` hold in plain. `inherited` is what the step run
    `inherited_from` of an earlier job has left open of the same resource (app.engine.inheriting).
    """

    tenant_id: int
    job_id: int
    plan_id: int
    stack: str
    tenant_slug: str
    step_id: int
    effect_of: int
    key: str
    mode: Mode
    operation: OperationKind
    action: ChangeAction
    status: StepStatus
    spec: Mapping[str, Value]
    inputs: Mapping[str, Value]
    attempt: int
    fence: int
    worker_id: int
    operation_id: UUID
    timeout_seconds: float
    retry: RetryPolicy
    attempts_left: int
    observations: int
    # How long everything outside may take, all attempts and waits together; None where its row says nothing.
    total_seconds: float | None = None
    # How long its provider may say nothing; None: for as long as it likes.
    heartbeat_seconds: float | None = None
    prior: ResourceState | None = None
    difference: Difference | None = None
    effect: Effect | None = None
    handle: dict[str, Any] | None = None
    resource_id: int | None = None
    resource_status: str | None = None
    outputs: Mapping[str, Value] = field(default_factory=dict)
    words: frozenset[str] = frozenset()
    rehearsal: Rehearsal | None = None
    inherited: Effect | None = None
    inherited_from: int | None = None
    _secrets: Sequence[Secret] | None = field(default=None, init=False)

    @property
    def secrets(self) -> Sequence[Secret]:
        """What must not be shown of what the step is told. Looked for once: the log and the record both ask."""
        if self._secrets is None:
            self._secrets = tuple(secrets_in([self.inputs, self.spec]))
        return self._secrets

    def told(self, inputs: Mapping[str, Value], action: ChangeAction) -> Self:
        """The same work, now that it is known what it is told and what it does: as long as nobody else has seen it."""
        self.inputs, self.action, self._secrets = inputs, action, None
        return self

    @property
    def undoing(self) -> UndoAim | None:
        """What the undoing has begun that is under way; None where it begins. A handle of the way forward is none."""
        aim = (self.handle or {}).get("undoing") if self.mode is Mode.UNDO else None
        return None if aim is None else UndoAim(aim)

    @property
    def resource_key(self) -> str | None:
        return self.spec.get("resourceKey")


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The step's aim is reached. `state` is the resource as it is now, None where it is gone or there is none."""

    state: ResourceState | None = None
    outputs: Mapping[str, Value] = field(default_factory=dict)
    artifact: Artifact | None = None
    undo: dict[str, Any] | None = None
    connection: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The outside world is at work; ask again later."""

    handle: dict[str, Any]
    seconds: float
    message: str = ""
    percent: float | None = None
    partial: ResourceState | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """A question was put; whoever answers it, or its deadline, brings the step back."""

    prompt: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed. Whether it is tried again depends on `error_class` and the step's policy.

    `unsent`: there was no way to the provider, so this attempt cannot have done anything. `unanswered`: only a question
    about work that is under way was not answered, which says nothing about the work.
    """

    error_class: ErrorClass
    code: str
    message: str
    retry_after_seconds: float | None = None
    partial: ResourceState | None = None
    unsent: bool = False
    unanswered: bool = False

    def document(self, *, retryable: bool) -> dict[str, Any]:
        """The error as stored and shown."""
        return {
            "class": self.error_class.value,
            "code": self.code,
            "message": self.message,
            "retryable": retryable,
        }


@dataclass(frozen=True, slots=True)
class Unclear:
    """Nobody here knows whether it happened; the outside world must be asked."""

    error_class: ErrorClass
    message: str


@dataclass(frozen=True, slots=True)
class Absent:
    """Observed: what was meant is not there, or only in part. It is safe to try again."""

    partial: bool = False


@dataclass(frozen=True, slots=True)
class Undone:
    """Observed or done: the effect is taken back. `state` is the resource as it is now, None where it is gone.

    `nothing`: there was no effect.
    """

    state: ResourceState | None = None
    nothing: bool = False


@dataclass(frozen=True, slots=True)
class NotUndoable:
    """There is no way to take the effect back, as the preview said, or nobody wants it taken back any more.

    `seen`: the resource was looked at; `state` is how it is, None where it is gone.
    """

    message: str
    state: ResourceState | None = None
    seen: bool = False


Outcome = Succeeded | Waiting | Asking | Failed | Unclear | Absent | Undone | NotUndoable
