"""The graphql-transport-ws connection: who is behind it, whether it lives, and how it ends.

Close codes: 4400 for what is not the protocol, 4403 for a token that is missing, wrong, expired or revoked, 4408 for a
client that does not introduce itself, 4499 for one that fell silent, 1012 when the server goes, 1013 for our own fault
and for a stranger too many. Never 1011: the common clients take it as final and do not come back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any
from uuid import uuid4

import structlog
from graphql import GraphQLError
from starlette.datastructures import Headers
from starlette.websockets import WebSocketDisconnect
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler, Operation
from strawberry.subscriptions.protocols.graphql_transport_ws.types import (
    CompleteMessage,
    ConnectionInitMessage,
    Message,
    SubscribeMessage,
)
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError

from app import clock
from app.auth.authenticator import Unauthenticated
from app.auth.principal import Principal
from app.domain.cursors import Place
from app.domain.errors import LimitExceeded
from app.web.sockets import PUSH, Push
from schema.allowance import RateLimited
from schema.context import Context, Services
from schema.documents import DocumentRefused
from schema.followers import After
from schema.guard import seconds_left
from schema.live_messages import fault_of, sending, shown_in
from schema.live_operations import LiveOperation, rest_of
from schema.masking import is_unavailable, mask
from schema.openings import Entry, Opening
from schema.sharing import Course, Joining

PING_SECONDS = 15.0
SILENCE_SECONDS = 45.0
# A client that does not read lets no message out; the operating system gives it up (TCP_USER_TIMEOUT).
_SEND_SECONDS = 5.0
_PING = b'{"type":"ping"}'
_GONE = (WebSocketDisconnected, WebSocketDisconnect)

_logger = structlog.get_logger("windlass.live")


class LiveTransportHandler(BaseGraphQLTransportWSHandler[Services, None]):
    """One connection. It has a principal; each of its operations has a context of its own."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._principal: Principal | None = None
        self._heard_at = self._pinged_at = clock.monotonic()
        self._closing = False
        # Once it has said who it is, or is gone.
        self._no_stranger: Callable[[], None] = lambda: None
        self._timer: asyncio.TimerHandle | None = None
        self._pinging: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        # The server's short way out, where it has one.
        self._push: Push | None = self.websocket.ws.scope.get("extensions", {}).get(PUSH)  # type: ignore[attr-defined]

    async def handle(self) -> None:
        leave = self.context.strangers.enter(self._address)
        if leave is None:
            # As of a server that is overloaded: whoever means well comes back later.
            await self._close(1013, "Try again later")
            return
        self._no_stranger = leave
        try:
            await super().handle()
        except asyncio.CancelledError:
            await self._close(1012, "Service restart")
            raise
        except _GONE:
            # The client went while it was being answered.
            self._closing = True
        except Exception:
            _logger.exception("a live connection failed")
            await self._close(1013, "Try again later")
        finally:
            self._stop_timer()
            self._no_stranger()
            if self._principal is not None:
                self.context.guard.leave(self._principal, self._revoked)
            await asyncio.gather(*filter(None, (self._pinging, self._ending)), return_exceptions=True)

    def on_request_accepted(self) -> None:
        self._set_timer(self.connection_init_wait_timeout.total_seconds(), self._not_introduced)

    def _not_introduced(self) -> None:
        self.connection_timed_out = True
        self._end(4408, "Connection initialisation timeout")

    async def handle_message(self, message: Any) -> None:
        self._heard_at = clock.monotonic()
        fault = fault_of(message)
        if fault is not None:
            await self.handle_invalid_message(fault)
            return
        await super().handle_message(message)

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        payload: Any = message.get("payload") or {}
        if self.connection_init_received:
            await self._close(4429, "Too many initialisation requests")
            return
        if not self.connection_timed_out and isinstance(payload, dict):
            # Before the wait for the database, so that the time limit is the client's alone.
            self._stop_timer()
            authenticator = self.context.authenticator
            headers: Headers = self.websocket.ws.headers  # type: ignore[attr-defined]  # Starlette's
            try:
                principal = await shown_in(payload, headers, self.context.origins).proven(authenticator)
            except Unauthenticated:
                await self._close(4403, "Forbidden")
                return
            self._no_stranger()
            if self._principal is None:
                self._principal = self.context.guard.watch(authenticator, principal, self._revoked)
                self._look_again(self._principal)
        await super().handle_connection_init({"type": "connection_init", "payload": payload})

    @property
    def _address(self) -> str:
        client = self.websocket.ws.client  # type: ignore[attr-defined]  # Starlette's
        return client.host if client else ""

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        name = message["id"]
        if not self.connection_acknowledged:
            await self._close(4401, "Unauthorized")
            return
        if name in self.operations:
            await self._close(4409, "Subscriber for this id already exists")
            return
        try:
            payload: Any = self.context.documents.complete(dict(message["payload"]))
        except DocumentRefused as error:
            await self._refuse(name, GraphQLError(error.message, extensions={"code": error.code}))
            return
        if len(self.operations) >= (self.max_subscriptions_per_connection or len(self.operations) + 1):
            await self._refuse(name, GraphQLError("Subscription limit reached"))
            return
        operation = LiveOperation(
            self, name, payload["query"], payload.get("variables"), payload.get("operationName"), self._push
        )
        self.operations[name] = operation
        if self._principal is None or not self._begins_together(operation, self._principal):
            operation.run(self.run_operation(operation))

    async def _refuse(self, name: str, error: GraphQLError) -> None:
        await self.send_message({"id": name, "type": "error", "payload": [error.formatted]})

    def _begins_together(self, operation: LiveOperation, principal: Principal) -> bool:
        """Whether it is in a group with the first frame of somebody who came just before: then it needs no task."""
        operation.entry = self.view.sharers.entry_of(  # type: ignore[attr-defined]  # our own endpoint
            operation.query, operation.operation_name, operation.variables, principal
        )
        opening = None if operation.entry is None else self.context.groups.opening(operation.entry)
        if opening is None:
            return False
        try:
            operation.count(principal)
        except LimitExceeded:
            # It is told so by its task.
            return False
        if self._enter(operation, principal, opening):
            return True
        operation.leave()
        return False

    async def run_operation(self, operation: Operation[Services, None]) -> None:
        """Run one operation to its end, or into a group."""
        await self._run(operation, self._begin)

    async def go_on(self, operation: Operation[Services, None]) -> None:
        """Send what the group offered and the socket did not take; come up again after falling out."""
        await self._run(operation, self._drain)

    async def _run(self, operation: Any, work: Callable[[LiveOperation, Principal, str], Awaitable[bool]]) -> None:
        """Whatever goes wrong is told to the client on this operation alone. `work` is true if it is in a group."""
        principal, request_id, stays = self._principal, uuid4().hex, False
        if principal is None:
            await self._close(4403, "Forbidden")
            return
        try:
            # Whatever was ended meanwhile stays nowhere, even where something has swallowed the cancellation.
            stays = await work(operation, principal, request_id) and self.operations.get(operation.id) is operation
        except _GONE:
            return
        except Exception as error:  # a bug of ours ends the operation, not the connection
            failure = GraphQLError("Internal error", original_error=error)
            mask([failure], request_id)
            with contextlib.suppress(Exception):
                await operation.send_initial_errors([failure])
            self.operations.pop(operation.id, None)
        finally:
            if not stays:
                operation.leave()

    async def _begin(self, operation: LiveOperation, principal: Principal, request_id: str) -> bool:
        operation.count(principal)
        if operation.entry is None:
            return await self._follow(operation, principal, request_id)
        opening = await self.context.groups.coming(operation.entry)
        if opening is not None and self._enter(operation, principal, opening):
            return True
        return await self._come_up(operation, principal, request_id, operation.entry)

    async def _drain(self, operation: LiveOperation, principal: Principal, request_id: str) -> bool:
        follower = operation.follower
        after = await follower.drain()
        if after is After.OVER:
            await self._complete(operation)
        elif after is After.ALONE and operation.entry is not None:
            operation.leave_group()
            return await self._come_up(operation, principal, request_id, operation.entry, start=follower.place)
        return after is After.TOGETHER

    async def _come_up(
        self,
        operation: LiveOperation,
        principal: Principal,
        request_id: str,
        entry: Entry,
        *,
        start: Place | None = None,
    ) -> bool:
        """By itself up to where the others are, and into their group; False if it came to the end by itself."""
        groups = self.context.groups
        lead = partial(self._lead, operation, principal, request_id)
        course = Joining(groups, entry, operation.follower, lead, start=start)
        if start is not None:
            return await self._follow(operation, principal, request_id, course)
        with groups.makings.one(entry) as course.made:
            return await self._follow(operation, principal, request_id, course)

    def _enter(self, operation: LiveOperation, principal: Principal, opening: Opening) -> bool:
        """Whether it is in the group now, with that first frame; if not, it has to come up by itself."""
        try:
            self.context.allowance.charge(principal, opening.points)
        except RateLimited:
            # It is told so by the execution, which costs as much.
            return False
        return self.context.groups.enter(operation.follower, opening)

    async def send_frame(self, head: bytes, rest: bytes) -> None:
        """Send a message in two parts, and wait while the socket is full."""
        if not self._closing:
            with sending():
                await self.websocket.ws.send_text((head + rest).decode())  # type: ignore[attr-defined]  # Starlette's

    async def _lead(
        self, operation: Operation[Services, None], principal: Principal, request_id: str, course: Course
    ) -> AsyncGenerator[bytes, None]:
        """The frames of an operation from a place on, encoded, for all who share them."""
        context = self._context_of(principal, request_id, course)
        async with contextlib.aclosing(await self._results(operation, context)) as results:
            async for result in results:
                if not isinstance(result, ExecutionResult) or result.errors:
                    message = "a frame could not be resolved"
                    raise RuntimeError(message)
                yield rest_of(result)

    def _context_of(self, principal: Principal, request_id: str, course: Course | None) -> Context:
        return self.context.context(principal, request_id, course, address=self._address)

    async def _results(self, operation: Operation[Services, None], context: Context) -> Any:
        return await self.schema.stream(
            operation.query,
            variable_values=operation.variables,
            context_value=context,
            root_value=None,
            operation_name=operation.operation_name,
        )

    async def _follow(
        self, operation: LiveOperation, principal: Principal, request_id: str, course: Joining | None = None
    ) -> bool:
        """Send every result; the operation is complete then, unless it has joined others, which is what is returned."""
        context = self._context_of(principal, request_id, course)
        async with contextlib.aclosing(await self._results(operation, context)) as results:
            async for result in results:
                if is_unavailable(getattr(result, "errors", None)):
                    # The client comes back, with the place of the last frame that it got.
                    self._end(1013, "Try again later")
                    return False
                if isinstance(result, PreExecutionError):
                    await operation.send_initial_errors(result.errors or [])
                    return False
                if not isinstance(result, ExecutionResult):
                    await operation.send_initial_errors([GraphQLError("@defer and @stream are not supported here")])
                    return False
                if result.errors or result.extensions:
                    await operation.send_next(result)
                    continue
                rest = rest_of(result)
                if course is not None and course.is_opening:
                    course.opened(rest, context.bill.points)
                await operation.follower.send(rest)
        if course is not None and course.joined:
            return True
        await self._complete(operation)
        return False

    async def _complete(self, operation: LiveOperation) -> None:
        await operation.send_operation_message(CompleteMessage(id=operation.id, type="complete"))

    async def cleanup_operation(self, operation_id: str) -> None:
        operation: Any = self.operations.pop(operation_id, None)
        if operation is not None:
            operation.end()

    def forget_id(self, id: str) -> None:
        # Closing has forgotten all of them.
        self.operations.pop(id, None)

    async def send_message(self, message: Message) -> None:
        # An operation may have something to say at the moment the connection closes; nobody is there to hear it.
        if not self._closing:
            with sending():
                await super().send_message(message)

    async def handle_invalid_message(self, error_message: str) -> None:
        # The reason of a close frame has 123 bytes.
        await self._close(4400, error_message[:100])

    def _look_again(self, principal: Principal) -> None:
        """Set the timer to when something is due."""
        due = min(self._pinged_at + PING_SECONDS, self._heard_at + SILENCE_SECONDS) - clock.monotonic()
        self._set_timer(max(0.0, min(due, seconds_left(principal))), partial(self._look, principal))

    def _look(self, principal: Principal) -> None:
        """Ping, and end the connection when nobody is there any more, or nobody who may be."""
        now = clock.monotonic()
        if now - self._heard_at >= SILENCE_SECONDS:
            self._end(4499, "No sign of life")
            return
        if seconds_left(principal) <= 0:
            self._end(4403, "Forbidden")
            return
        if now - self._pinged_at >= PING_SECONDS:
            self._pinged_at = now
            if self._push is None:
                self._pinging = asyncio.create_task(self._ping())
            else:
                # Where there is no room something is on its way already.
                self._push(_PING, b"")
        self._look_again(principal)

    async def _ping(self) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_SEND_SECONDS):
                await self.send_message({"type": "ping"})

    def _revoked(self) -> None:
        self._end(4403, "Forbidden")

    def _set_timer(self, seconds: float, then: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, code: int, reason: str) -> None:
        """Close in a task of its own, because closing ends those of the operations."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._close(code, reason))

    async def _close(self, code: int, reason: str) -> None:
        if self._closing:
            return
        self._closing = True
        for operation_id in list(self.operations):
            await self.cleanup_operation(operation_id)
        # The socket may be gone already.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_SEND_SECONDS):
                await self.websocket.close(code=code, reason=reason)
