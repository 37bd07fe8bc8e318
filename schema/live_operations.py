"""One operation of a live connection: by itself with a task, or a member of a group and little more than its place.

What it is sent over says the rest: a WebSocket (schema/live_protocol.py) or the answer to a request (schema/sse.py).
Those of both kinds are members of the same groups.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any
from uuid import uuid4

from graphql import GraphQLError
from starlette.websockets import WebSocketDisconnect
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.schema import BaseSchema
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from app.auth.principal import Principal
from app.domain.cursors import Place
from app.domain.errors import LimitExceeded
from schema.allowance import RateLimited
from schema.context import Context, Services
from schema.encoded import Encoded
from schema.followers import After, Follower
from schema.masking import is_unavailable, mask
from schema.openings import Entry, Opening
from schema.sharing import Course, Joining

# What sending to somebody who is gone comes to.
GONE = (WebSocketDisconnected, WebSocketDisconnect)


class LiveOperation(ABC):
    """Has a task only while it comes up to its group, or the client does not read."""

    __slots__ = ("entry", "follower", "is_counted", "operation_name", "principal", "query", "task", "variables")

    # Made by whoever inherits, of the way to the client.
    follower: Follower

    def __init__(
        self, query: str, variables: Mapping[str, Any] | None, operation_name: str | None, principal: Principal
    ) -> None:
        self.query = query
        self.variables = variables
        self.operation_name = operation_name
        self.principal = principal
        self.entry: Entry | None = None
        self.task: asyncio.Task[None] | None = None
        self.is_counted = False

    @property
    @abstractmethod
    def services(self) -> Services:
        """What all operations share."""

    @property
    @abstractmethod
    def schema(self) -> BaseSchema:
        """What it is executed by."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the client is."""

    @property
    @abstractmethod
    def is_wanted(self) -> bool:
        """Whether nobody has ended it."""

    @property
    def allowed(self) -> Iterable[OperationType] | None:
        """The kinds of operation that it may be; None for all."""
        return None

    @abstractmethod
    async def refuse(self, errors: list[GraphQLError]) -> None:
        """Send what is wrong with it. It is over."""

    @abstractmethod
    async def complete(self) -> None:
        """Say that there is nothing more. It is over."""

    @abstractmethod
    def cut_off(self) -> None:
        """Have the client come back, with the place of the last frame that it got."""

    def request_id(self) -> str:
        """What its log lines are found by."""
        return uuid4().hex

    def begin(self) -> None:
        """In a group with the first frame of somebody who came just before, which needs no task; or with one."""
        self.entry = self.services.sharers.entry_of(self.query, self.operation_name, self.variables, self.principal)
        if not self._begins_together():
            self.run(self._attempt(self._begin))

    def go_on(self) -> None:
        """Send what the group offered and the socket did not take; come up again after falling out."""
        self.run(self._attempt(self._drain))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` in a task, which is forgotten when it is over."""
        task = self.task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._over)

    def end(self) -> None:
        """The client has had enough, or is gone."""
        if self.task is not None:
            self.task.cancel()
        self._leave()

    def _begins_together(self) -> bool:
        opening = None if self.entry is None else self.services.groups.opening(self.entry)
        if opening is None:
            return False
        try:
            self._count()
        except LimitExceeded:
            # It is told so by its task.
            return False
        if self._enter(opening):
            return True
        self._leave()
        return False

    async def _attempt(self, work: Callable[[str], Awaitable[bool]]) -> None:
        """Whatever goes wrong is told to the client on this operation alone. `work` is true if it is in a group."""
        request_id, stays = self.request_id(), False
        try:
            # Whatever was ended meanwhile stays nowhere, even where something has swallowed the cancellation.
            stays = await work(request_id) and self.is_wanted
        except GONE:
            return
        except Exception as error:  # a bug of ours ends the operation, not the connection
            failure = GraphQLError("Internal error", original_error=error)
            mask([failure], request_id)
            with contextlib.suppress(Exception):
                await self.refuse([failure])
        finally:
            if not stays:
                self._leave()

    async def _begin(self, request_id: str) -> bool:
        self._count()
        if self.entry is None:
            return await self._follow(request_id)
        opening = await self.services.groups.coming(self.entry)
        if opening is not None and self._enter(opening):
            return True
        return await self._come_up(request_id, self.entry)

    async def _drain(self, request_id: str) -> bool:
        after = await self.follower.drain()
        if after is After.OVER:
            await self.complete()
        elif after is After.ALONE and self.entry is not None:
            self.services.groups.leave(self.follower)
            return await self._come_up(request_id, self.entry, start=self.follower.place)
        return after is After.TOGETHER

    async def _come_up(self, request_id: str, entry: Entry, *, start: Place | None = None) -> bool:
        """By itself up to where the others are, and into their group; False if it came to the end by itself."""
        groups = self.services.groups

        def lead(course: Course) -> AsyncGenerator[Encoded, None]:
            return self._lead(request_id, course)

        course = Joining(groups, entry, self.follower, lead, start=start)
        if start is not None:
            return await self._follow(request_id, course)
        with groups.makings.one(entry) as course.made:
            return await self._follow(request_id, course)

    def _enter(self, opening: Opening) -> bool:
        """Whether it is in the group now, with that first frame; if not, it has to come up by itself."""
        try:
            self.services.allowance.charge(self.principal, opening.points)
        except RateLimited:
            # It is told so by the execution, which costs as much.
            return False
        return self.services.groups.enter(self.follower, opening)

    async def _lead(self, request_id: str, course: Course) -> AsyncGenerator[Encoded, None]:
        """The frames of the operation from a place on, for all who share them."""
        async with contextlib.aclosing(await self._results(self._context(request_id, course))) as results:
            async for result in results:
                if not isinstance(result, ExecutionResult) or result.errors or result.extensions:
                    # What is beside the data may be for one of them only: they go on by themselves, and are told.
                    return
                yield Encoded.of(result)

    async def _follow(self, request_id: str, course: Joining | None = None) -> bool:
        """Send every result; the operation is complete then, unless it has joined others, which is what is returned."""
        context = self._context(request_id, course)
        async with contextlib.aclosing(await self._results(context)) as results:
            async for result in results:
                if is_unavailable(getattr(result, "errors", None)):
                    self.cut_off()
                    return False
                if isinstance(result, PreExecutionError):
                    await self.refuse(result.errors or [])
                    return False
                if not isinstance(result, ExecutionResult):
                    await self.refuse([GraphQLError("@defer and @stream are not supported here")])
                    return False
                encoded = Encoded.of(result)
                if course is not None and course.is_opening and not (result.errors or result.extensions):
                    course.opened(encoded, context.bill.points)
                await self.follower.send(encoded)
        if course is not None and course.joined:
            return True
        await self.complete()
        return False

    def _context(self, request_id: str, course: Course | None) -> Context:
        return self.services.context(self.principal, request_id, course, address=self.address)

    async def _results(self, context: Context) -> Any:
        return await self.schema.stream(
            self.query,
            variable_values=None if self.variables is None else dict(self.variables),
            context_value=context,
            operation_name=self.operation_name,
            allowed_operation_types=self.allowed,
        )

    def _count(self) -> None:
        """Be one of the principal's operations until `_leave`. Raises LimitExceeded."""
        if not self.is_counted:
            self.services.occupancy.take(self.principal)
            self.is_counted = True

    def _leave(self) -> None:
        """Take up no room any more."""
        self.services.groups.leave(self.follower)
        if self.is_counted:
            self.services.occupancy.give_back(self.principal)
            self.is_counted = False

    def _over(self, task: asyncio.Task[None]) -> None:
        if self.task is task:
            self.task = None
        if not task.cancelled():
            # What went wrong was told where it went wrong.
            task.exception()
