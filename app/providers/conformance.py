"""What every resource type must be able to do, tried out on the real thing.

For the authors of providers: give `check_resource_type` a type, a way to make contexts and a sample, and look at the
checks that did not pass. Everything it makes it removes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from app import clock
from app.domain.enums import ChangeAction, LogLevel
from app.domain.errors import Severity
from app.domain.values import reveal
from app.providers.base import (
    Context,
    ErrorKind,
    JsonObject,
    OperationCancelled,
    Pending,
    ProviderError,
    ResourceState,
    ResourceType,
)
from app.providers.preflights import PreflightRequest

OWNER = "windlass:conformance:stack:subject"
STRANGER = "windlass:conformance:other:subject"
POLL_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Sample:
    """Properties to try: valid ones, an update of them (None: nothing can be changed), a version that needs replacement
    (None: the type has none), and several that must be refused.

    `unique`: two things cannot have the same properties side by side, because a name or a place is among them. Where
    they can, another operation makes another thing, and has not made the first.
    """

    properties: JsonObject
    updated: JsonObject | None
    replaced: JsonObject | None
    invalid: tuple[JsonObject, ...]
    unique: bool = True


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `detail` says what went wrong."""

    name: str
    passed: bool
    detail: str = ""


class ContextFactory(Protocol):
    """Makes the context of an operation."""

    def __call__(self, operation_id: str, owner: str) -> Context: ...


@dataclass(slots=True)
class StandaloneContext:
    """A context without an engine: it keeps its log lines and its progress in lists."""

    operation_id: str
    owner: str
    connection: Any
    workspace: Path
    attempt: int = 1
    cancelled: bool = False
    deadline: float = float("inf")
    connections: Mapping[str, Any] = field(default_factory=dict)
    lines: list[tuple[LogLevel, str]] = field(default_factory=list)
    percents: list[float | None] = field(default_factory=list)

    @asynccontextmanager
    async def connect(self, name: str) -> AsyncIterator[Any]:
        """One of `connections`."""
        if name not in self.connections:
            message = f"there is no connection {name!r}"
            raise ProviderError(ErrorKind.NOT_FOUND, message)
        yield self.connections[name]

    def log(
        self,
        message: str,
        level: LogLevel = LogLevel.INFO,
        stream: str = "provider",  # noqa: ARG002
        **fields: Any,  # noqa: ARG002
    ) -> None:
        self.lines.append((level, message))

    def progress(self, percent: float | None, message: str = "") -> None:  # noqa: ARG002
        self.percents.append(percent)

    async def drain(self) -> None:
        """Lines of a conformance run go nowhere that could fill up."""

    async def sleep(self, seconds: float) -> None:
        end = clock.monotonic() + seconds
        while True:
            if self.cancelled:
                raise OperationCancelled
            left = end - clock.monotonic()
            await asyncio.sleep(max(0.0, min(left, 0.05)))
            if left <= 0:
                return


async def check_resource_type(resource: ResourceType, contexts: ContextFactory, sample: Sample) -> list[Check]:
    """Every check in order, passed or not. The subject of the sample must not exist before."""
    return await _Trial(resource, contexts, sample).run()


class _Trial:
    def __init__(self, resource: ResourceType, contexts: ContextFactory, sample: Sample) -> None:
        self._resource = resource
        self._sample = sample
        self._mine = contexts("conformance-create", OWNER)
        self._again = contexts("conformance-again", OWNER)
        self._strange = contexts("conformance-strange", STRANGER)
        self._state: ResourceState | None = None

    async def run(self) -> list[Check]:
        steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("valid properties are accepted, and checking them twice changes nothing", self._accepts),
            ("invalid properties are refused", self._refuses),
            ("asking beforehand makes nothing, and finds nothing in the way", self._asks),
            ("what is created reads back without a difference", self._creates),
            ("the creating operation recovers what it made", self._recovers),
            ("another operation does not take it for its own", self._recovers_nothing_foreign),
            ("a second creation leaves the first alone, and is refused if there is no room for it", self._leaves_first),
            ("another owner neither sees it nor removes it", self._keeps_strangers_out),
            ("what is updated reads back without a difference", self._updates),
            ("a create-only change means replacement", self._replaces),
            ("what is deleted cannot be read", self._deletes),
            ("deleting twice is fine", self._deletes_again),
            ("after the deletion there is nothing to recover", self._recovers_nothing),
        ]
        checks = []
        for name, step in steps:
            try:
                await step()
            except Exception as error:
                checks.append(Check(name, passed=False, detail=f"{type(error).__name__}: {error}"))
            else:
                checks.append(Check(name, passed=True))
        await self._clean_up()
        return checks

    async def _accepts(self) -> None:
        once, diagnostics = self._resource.check(self._sample.properties)
        _expect(not diagnostics, f"found {diagnostics}")
        twice, _ = self._resource.check(reveal(once))
        _expect(once == twice, f"{once} became {twice}")

    async def _refuses(self) -> None:
        for properties in self._sample.invalid:
            _, diagnostics = self._resource.check(properties)
            _expect(any(item.severity is Severity.ERROR for item in diagnostics), f"accepted {properties}")

    async def _asks(self) -> None:
        properties = self._declared(self._sample.properties)
        for request in (
            PreflightRequest(ChangeAction.CREATE, properties),
            PreflightRequest(ChangeAction.CREATE, {}, frozenset(properties)),
        ):
            found = await self._resource.preflight(self._mine, request)
            faults = [item for item in found if item.severity is Severity.ERROR]
            _expect(not faults, f"found {faults}")
        if type(self._resource).preflight is not ResourceType.preflight:
            made = await self._resource.recover(self._mine, properties)
            _expect(made is None, f"made {made}")

    async def _creates(self) -> None:
        declared = self._declared(self._sample.properties)
        made = await self._settled(self._mine, await self._resource.create(self._mine, declared))
        self._state = self._resource.with_undisclosed(made, declared) if made else None
        await self._reads_back(declared)

    async def _recovers(self) -> None:
        answer = await self._resource.recover(self._mine, self._declared(self._sample.properties))
        found = None if answer is None else await self._settled(self._mine, answer)
        _expect(found is not None and found.id == self._known.id, f"recovered {found}")

    async def _recovers_nothing_foreign(self) -> None:
        properties = self._declared(self._sample.properties)
        if self._sample.unique:
            await _expect_kind(self._resource.recover(self._again, properties), ErrorKind.ALREADY_EXISTS)
        else:
            found = await self._resource.recover(self._again, properties)
            _expect(found is None, f"recovered {found}")

    async def _leaves_first(self) -> None:
        properties = self._declared(self._sample.properties)
        if self._sample.unique:
            await _expect_kind(self._resource.create(self._again, properties), ErrorKind.ALREADY_EXISTS)
        else:
            second = await self._settled(self._again, await self._resource.create(self._again, properties))
            _expect(second is not None and second.id != self._known.id, f"made {second}")
            if second is not None:
                await self._settled(self._again, await self._resource.delete(self._again, second))
        await self._reads_back(properties)

    async def _keeps_strangers_out(self) -> None:
        found = await self._resource.read(self._strange, self._known)
        _expect(found is None, f"another owner read {found}")
        await self._settled(self._strange, await self._resource.delete(self._strange, self._known))
        await self._reads_back(self._declared(self._sample.properties))

    async def _updates(self) -> None:
        if self._sample.updated is None:
            fixed = {pointer.split("/")[1] for pointer in self._resource.create_only}
            _expect(fixed >= set(self._resource.schema["properties"]), "the sample lacks an update")
            return
        declared = self._declared(self._sample.updated)
        difference = self._resource.compare(self._known.properties, declared)
        _expect(difference.action is ChangeAction.UPDATE, f"the difference is {difference.action}")
        outcome = await self._resource.update(self._again, self._known, declared, difference)
        changed = await self._settled(self._again, outcome)
        self._state = self._resource.with_undisclosed(changed, declared) if changed else None
        await self._reads_back(declared)

    async def _replaces(self) -> None:
        if self._sample.replaced is None:
            _expect(not self._resource.create_only, "the sample lacks a replacement")
            return
        action = self._resource.compare(self._known.properties, self._declared(self._sample.replaced)).action
        _expect(action is ChangeAction.REPLACE, f"the difference is {action}")

    async def _deletes(self) -> None:
        known = self._known
        await self._settled(self._mine, await self._resource.delete(self._mine, known))
        found = await self._resource.read(self._mine, known)
        _expect(found is None, f"read {found}")

    async def _deletes_again(self) -> None:
        await self._settled(self._mine, await self._resource.delete(self._mine, self._known))

    async def _recovers_nothing(self) -> None:
        found = await self._resource.recover(self._mine, self._declared(self._sample.properties))
        _expect(found is None, f"recovered {found}")

    async def _clean_up(self) -> None:
        """Takes away what a failed check may have left; the checks have said what there is to say."""
        if self._state is not None and await self._resource.read(self._mine, self._state) is not None:
            await self._settled(self._mine, await self._resource.delete(self._mine, self._state))

    @property
    def _known(self) -> ResourceState:
        if self._state is None:
            message = "nothing was created"
            raise AssertionError(message)
        return self._state

    def _declared(self, properties: JsonObject) -> JsonObject:
        declared: JsonObject = reveal(self._resource.check(properties)[0])
        return declared

    async def _reads_back(self, declared: JsonObject) -> None:
        found = await self._resource.read(self._mine, self._known)
        _expect(found is not None, "it cannot be read")
        difference = self._resource.compare(found.properties if found else None, declared)
        _expect(difference.action is ChangeAction.NO_CHANGE, f"it differs in {[*difference.paths]}")

    async def _settled(self, context: Context, outcome: ResourceState | Pending | None) -> ResourceState | None:
        for _ in range(POLL_LIMIT):
            if not isinstance(outcome, Pending):
                return outcome
            await context.sleep(outcome.poll_after_seconds)
            outcome = await self._resource.poll(context, outcome.handle)
        message = f"still pending after {POLL_LIMIT} polls"
        raise AssertionError(message)


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


async def _expect_kind(attempt: Awaitable[object], kind: ErrorKind) -> None:
    try:
        result = await attempt
    except ProviderError as error:
        _expect(error.kind is kind, f"refused as {error.kind}: {error.message}")
    else:
        message = f"not refused; the result is {result}"
        raise AssertionError(message)
