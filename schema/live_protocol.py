"""The graphql-transport-ws connection: who is behind it, whether it lives, and how it ends.

Close codes: 4400 for what is not the protocol, 4403 for a token that is missing, wrong, expired or revoked, 4408 for a
client that does not introduce itself, 4499 for one that fell silent, 1012 when the server goes, 1013 for our own fault.
Never 1011: the common clients take it as final and do not come back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import orjson
import structlog
from graphql import GraphQLError
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
from app.web.credentials import cookie_in
from schema.allowance import RateLimited
from schema.context import Context, Services
from schema.documents import ID, DocumentRefused
from schema.guard import seconds_left
from schema.masking import is_unavailable, mask
from schema.openings import Entry
from schema.sharing import Course, Follower, Group, Joining

PING_SECONDS = 15.0
SILENCE_SECONDS = 45.0
# A client that does not read lets no message out; the operating system gives it up (TCP_USER_TIMEOUT).
_SEND_SECONDS = 5.0
_GONE = (WebSocketDisconnected, WebSocketDisconnect)

_logger = structlog.get_logger("windlass.live")


class LiveTransportHandler(BaseGraphQLTransportWSHandler[Services, None]):
    """One connection. It has a principal; each of its operations has a context of its own."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._principal: Principal | None = None
        self._heard_at = clock.monotonic()
        self._closing = False
        self._watching: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    async def handle(self) -> None:
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
            if self._watching is not None:
                self._watching.cancel()
                await asyncio.gather(self._watching, return_exceptions=True)

    async def handle_message(self, message: Any) -> None:
        self._heard_at = clock.monotonic()
        fault = _fault(message)
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
            if self.connection_init_timeout_task:
                self.connection_init_timeout_task.cancel()
            try:
                self._principal = await self.context.authenticator.authenticate(self._token_in(payload))
            except Unauthenticated:
                await self._close(4403, "Forbidden")
                return
        await super().handle_connection_init({"type": "connection_init", "payload": payload})
        if self._principal is not None and self._watching is None:
            self._watching = asyncio.create_task(self._watch(self._principal))

    @property
    def _address(self) -> str:
        client = self.websocket.ws.client  # type: ignore[attr-defined]  # Starlette's
        return client.host if client else ""

    def _token_in(self, payload: dict[str, Any]) -> str:
        """The token of a connection_init, or else of the browser's cookie. Raises Unauthenticated."""
        token = _named_in(payload)
        headers = self.websocket.ws.headers  # type: ignore[attr-defined]  # Starlette's
        if token is None and self.context.origins.admit(headers, required=True):
            token = cookie_in(headers)
        if token is None:
            reason = "no token in connection_init"
            raise Unauthenticated(reason)
        return token

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        if not self.connection_acknowledged:
            await self._close(4401, "Unauthorized")
            return
        if message["id"] in self.operations:
            await self._close(4409, "Subscriber for this id already exists")
            return
        try:
            payload: Any = self.context.documents.complete(dict(message["payload"]))
        except DocumentRefused as error:
            refusal = GraphQLError(error.message, extensions={"code": error.code}).formatted
            await self.send_message({"id": message["id"], "type": "error", "payload": [refusal]})
            return
        await super().handle_subscribe({**message, "payload": payload})

    async def run_operation(self, operation: Operation[Services, None]) -> None:
        """Run one operation to its end; whatever goes wrong is told to the client on this operation alone."""
        principal = self._principal
        if principal is None:
            await self._close(4403, "Forbidden")
            return
        request_id = uuid4().hex
        try:
            entry = self.view.sharers.entry_of(  # type: ignore[attr-defined]  # our own endpoint
                operation.query, operation.operation_name, operation.variables, principal
            )
            with self.context.occupancy.one(principal):
                if entry is None:
                    await self._follow(operation, principal, request_id)
                else:
                    await self._follow_together(operation, principal, request_id, entry)
        except _GONE:
            return
        except Exception as error:  # a bug of ours ends the operation, not the connection
            failure = GraphQLError("Internal error", original_error=error)
            mask([failure], request_id)
            with contextlib.suppress(Exception):
                await operation.send_initial_errors([failure])
            self.operations.pop(operation.id, None)

    async def _follow_together(
        self, operation: Operation[Services, None], principal: Principal, request_id: str, entry: Entry
    ) -> None:
        """By itself up to where the others are, then with them; and again whenever it has fallen behind."""
        groups = self.context.groups
        follower = Follower(partial(self._send_frame, f'{{"id":{orjson.dumps(operation.id).decode()}'))
        lead = partial(self._lead, operation, principal, request_id)
        group = await self._enter(principal, entry, follower)
        start = None
        while True:
            course = Joining(groups, entry, follower, lead, start=start)
            try:
                if group is None:
                    with groups.makings.one(entry) as course.made:
                        await self._follow(operation, principal, request_id, course)
                    group = course.joined
                if group is None:
                    return
                if await follower.drain():
                    await operation.send_operation_message(CompleteMessage(id=operation.id, type="complete"))
                    return
            finally:
                joined = course.joined if group is None else group
                if joined is not None:
                    groups.leave(joined, follower)
            start, group = follower.place, None

    async def _enter(self, principal: Principal, entry: Entry, follower: Follower) -> Group | None:
        """The group, begun with the first frame of somebody who came just before; None: it has to come up by itself."""
        opening = await self.context.groups.opening(entry)
        if opening is None:
            return None
        try:
            self.context.allowance.charge(principal, opening.points)
        except RateLimited:
            # It is told so by the execution, which costs as much.
            return None
        return self.context.groups.enter(entry, follower, opening)

    async def _send_frame(self, head: str, payload: str) -> None:
        if not self._closing:
            with _sending():
                await self.websocket.ws.send_text(f'{head},"type":"next","payload":{payload}}}')  # type: ignore[attr-defined]

    async def _lead(
        self, operation: Operation[Services, None], principal: Principal, request_id: str, course: Course
    ) -> AsyncGenerator[str, None]:
        """The frames of an operation from a place on, encoded, for all who share them."""
        context = self._context_of(principal, request_id, course)
        async with contextlib.aclosing(await self._results(operation, context)) as results:
            async for result in results:
                if not isinstance(result, ExecutionResult) or result.errors:
                    message = "a frame could not be resolved"
                    raise RuntimeError(message)
                yield orjson.dumps({"data": result.data}).decode()

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
        self,
        operation: Operation[Services, None],
        principal: Principal,
        request_id: str,
        course: Joining | None = None,
    ) -> None:
        """Send every result; the operation is complete then, unless it has joined others."""
        context = self._context_of(principal, request_id, course)
        async with contextlib.aclosing(await self._results(operation, context)) as results:
            async for result in results:
                if is_unavailable(getattr(result, "errors", None)):
                    # The client comes back, with the place of the last frame that it got. A task of its own, because
                    # closing ends this one.
                    self._ending = asyncio.create_task(self._close(1013, "Try again later"))
                    return
                if isinstance(result, PreExecutionError):
                    await operation.send_initial_errors(result.errors or [])
                    return
                if not isinstance(result, ExecutionResult):
                    await operation.send_initial_errors([GraphQLError("@defer and @stream are not supported here")])
                    return
                if course is not None and course.is_opening and not result.errors:
                    course.opened(orjson.dumps({"data": result.data}).decode(), context.bill.points)
                await operation.send_next(result)
        if course is None or course.joined is None:
            await operation.send_operation_message(CompleteMessage(id=operation.id, type="complete"))

    def forget_id(self, id: str) -> None:
        # Closing has forgotten all of them.
        self.operations.pop(id, None)

    async def send_message(self, message: Message) -> None:
        # An operation may have something to say at the moment the connection closes; nobody is there to hear it.
        if not self._closing:
            with _sending():
                await super().send_message(message)

    async def handle_invalid_message(self, error_message: str) -> None:
        # The reason of a close frame has 123 bytes.
        await self._close(4400, error_message[:100])

    async def _watch(self, principal: Principal) -> None:
        """Ping, and end the connection when nobody is there any more, or nobody who may be."""
        with self.context.guard.watching(self.context.authenticator, principal) as revoked:
            pinged = clock.monotonic()
            while not self._closing:
                due = min(pinged + PING_SECONDS, self._heard_at + SILENCE_SECONDS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, min(due - clock.monotonic(), seconds_left(principal)))):
                        await revoked.wait()
                now = clock.monotonic()
                if now - self._heard_at >= SILENCE_SECONDS:
                    await self._close(4499, "No sign of life")
                elif revoked.is_set() or seconds_left(principal) <= 0:
                    await self._close(4403, "Forbidden")
                if now - pinged >= PING_SECONDS:
                    pinged = now
                    with contextlib.suppress(Exception):
                        async with asyncio.timeout(_SEND_SECONDS):
                            await self.send_message({"type": "ping"})

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

    @staticmethod
    def _get_pre_execution_close_reason(error: GraphQLError) -> str | None:  # noqa: ARG004
        # A document that does not parse is one operation's mistake, no reason to end the others.
        return None


@contextlib.contextmanager
def _sending() -> Iterator[None]:
    """Starlette and uvicorn have each an error of their own for a connection that has ended; here it is one."""
    try:
        yield
    except RuntimeError as error:
        raise WebSocketDisconnected from error


def _named_in(payload: dict[str, Any]) -> str | None:
    """The token of a connection_init, as `authorization: Bearer …` or `token`."""
    for name, value in payload.items():
        if not isinstance(value, str):
            continue
        if name.lower() == "authorization":
            scheme, _, token = value.partition(" ")
            if scheme.lower() == "bearer":
                return token.strip()
        if name.lower() == "token":
            return value.strip()
    return None


def _fault(message: Any) -> str | None:
    """What is wrong with the form of a message; None when nothing is."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return "A message is an object with a type"
    kind = message["type"]
    if kind in {"subscribe", "complete"} and not (isinstance(message.get("id"), str) and message["id"]):
        return f"A {kind} message has an id"
    payload = message.get("payload")
    if kind != "subscribe":
        return None if payload is None or isinstance(payload, dict) else "A payload is an object"
    if not isinstance(payload, dict) or not any(isinstance(payload.get(name), str) for name in ("query", ID)):
        return "A subscribe message has a payload with a query"
    if not isinstance(payload.get("variables"), dict | None):
        return "Variables are an object"
    if not isinstance(payload.get("operationName"), str | None):
        return "An operation name is text"
    return None
