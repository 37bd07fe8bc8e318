"""A resource type with planned accidents: for rehearsals, and for tests of whoever calls providers."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from app.domain.diffing import Difference
from app.domain.errors import Diagnostic
from app.providers.base import (
    ActionResult,
    Context,
    ErrorKind,
    JsonObject,
    Pending,
    ProviderError,
    ResourceState,
    ResourceType,
)

Answer = TypeVar("Answer")
DECLARED = (
    "name", "title", "description", "template_type", "schema", "outputs_schema", "schema_version", "create_only",
    "secret", "scalable", "computed", "idempotency", "delete_first", "stateful", "observable", "actions",
)  # fmt: skip


class FaultKind(StrEnum):
    """DROP_BEFORE: the request is lost. DROP_AFTER: it has its effect and the answer is lost. The caller cannot tell
    the one from the other. THROTTLE and ERROR: refused, without effect. DELAY: it takes longer, and succeeds.
    """

    DROP_BEFORE = "DROP_BEFORE"
    DROP_AFTER = "DROP_AFTER"
    THROTTLE = "THROTTLE"
    ERROR = "ERROR"
    DELAY = "DELAY"


@dataclass(frozen=True, slots=True)
class Fault:
    """One accident. `seconds`: the delay, or after how long a throttled call may be repeated; `error`: for ERROR."""

    kind: FaultKind
    seconds: float = 0.0
    error: ErrorKind = ErrorKind.INTERNAL


class FaultyType(ResourceType):
    """A resource type whose calls meet the planned faults, in order; calls beyond the plan pass unharmed.

    `plan` has a list of faults, None for a call that succeeds, by the name of the method ("create", "act", …).
    `calls` lists the methods that were called.
    """

    def __init__(self, inner: ResourceType, plan: Mapping[str, Sequence[Fault | None]]) -> None:
        self._inner = inner
        self._plan = {method: deque(faults) for method, faults in plan.items()}
        self.calls: list[str] = []
        for attribute in DECLARED:
            setattr(self, attribute, getattr(inner, attribute))

    def check(self, properties: Mapping[str, Any]) -> tuple[JsonObject, list[Diagnostic]]:
        return self._inner.check(properties)

    def compare(
        self, prior: Mapping[str, Any] | None, desired: Mapping[str, Any], *, unknown_forces: bool = False
    ) -> Difference:
        return self._inner.compare(prior, desired, unknown_forces=unknown_forces)

    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:
        return await self._call("read", context, lambda: self._inner.read(context, state))

    async def import_(self, context: Context, identity: str) -> ResourceState:
        return await self._call("import_", context, lambda: self._inner.import_(context, identity))

    async def create(self, context: Context, properties: JsonObject) -> ResourceState | Pending:
        return await self._call("create", context, lambda: self._inner.create(context, properties))

    async def update(
        self, context: Context, prior: ResourceState, properties: JsonObject, difference: Difference
    ) -> ResourceState | Pending:
        return await self._call("update", context, lambda: self._inner.update(context, prior, properties, difference))

    async def delete(self, context: Context, prior: ResourceState) -> Pending | None:
        return await self._call("delete", context, lambda: self._inner.delete(context, prior))

    async def poll(self, context: Context, handle: JsonObject) -> ResourceState | Pending | None:
        return await self._call("poll", context, lambda: self._inner.poll(context, handle))

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | Pending | None:
        return await self._call("recover", context, lambda: self._inner.recover(context, properties))

    async def act(self, context: Context, action: str, prior: ResourceState, arguments: JsonObject) -> ActionResult:
        return await self._call("act", context, lambda: self._inner.act(context, action, prior, arguments))

    async def recover_action(
        self, context: Context, action: str, prior: ResourceState, arguments: JsonObject
    ) -> ActionResult | None:
        return await self._call(
            "recover_action", context, lambda: self._inner.recover_action(context, action, prior, arguments)
        )

    async def undo_action(self, context: Context, action: str, prior: ResourceState, undo: JsonObject) -> None:
        await self._call("undo_action", context, lambda: self._inner.undo_action(context, action, prior, undo))

    async def finalize_action(self, context: Context, action: str, prior: ResourceState, undo: JsonObject) -> None:
        await self._call("finalize_action", context, lambda: self._inner.finalize_action(context, action, prior, undo))

    async def _call(self, method: str, context: Context, inner: Callable[[], Awaitable[Answer]]) -> Answer:
        self.calls.append(method)
        planned = self._plan.get(method)
        fault = planned.popleft() if planned else None
        if fault is None:
            return await inner()
        if fault.kind is FaultKind.DELAY:
            await context.sleep(fault.seconds)
            return await inner()
        if fault.kind is FaultKind.DROP_AFTER:
            await inner()
        raise _refusal(method, fault)


def _refusal(method: str, fault: Fault) -> ProviderError:
    if fault.kind is FaultKind.THROTTLE:
        message = f"planned: {method} is throttled"
        return ProviderError(ErrorKind.THROTTLED, message, retry_after_seconds=fault.seconds)
    if fault.kind is FaultKind.ERROR:
        return ProviderError(fault.error, f"planned: {method} fails")
    return ProviderError(ErrorKind.OUTCOME_UNKNOWN, f"planned: the answer of {method} is lost")
