"""The graphql-transport-ws connection: who is behind it, whether it lives, and how it ends.

Close codes: 4400 for what is not the protocol, 4403 for a token that is missing, wrong, expired or revoked, 4408 for a
client that does not introduce itself, 4499 for one that fell silent, 1012 when the server goes, 1013 for our own fault
and for a stranger too many. Never 1011: the common clients take it as final and do not come back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

import orjson
import structlog
from graphql import GraphQLError
from starlette.datastructures import Headers
from strawberry.schema import BaseSchema
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import (
    ConnectionInitMessage,
    Message,
    SubscribeMessage,
)

from app import clock
from app.auth.authenticator import Unauthenticated
from app.auth.principal import Principal
from app.web.sockets import PUSH, Push
from schema.context import Services
from schema.documents import DocumentRefused
from schema.followers import Follower
from schema.guard import seconds_left
from schema.live_messages import fault_of, sending, shown_in
from schema.live_operations import GONE, LiveOperation
from schema.masking import LIMIT_EXCEEDED

PING_SECONDS = 15.0
SILENCE_SECONDS = 45.0
# A client that does not read lets no message out; the operating system gives it up (TCP_USER_TIMEOUT).
_SEND_SECONDS = 5.0
_PING = b'{"type":"ping"}'

_message = attrgetter("message")

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
        self.push: Push | None = self.websocket.ws.scope.get("extensions", {}).get(PUSH)  # type: ignore[attr-defined]

    async def handle(self) -> None:
        leave = self.context.strangers.enter(self.address)
        if leave is None:
            # As of a server that is overloaded: whoever means well comes back later.
            await self._close(1013, "Try again later")
            return
        self._no_stranger = leave
        self.context.draining.enter(self._restarting)
        try:
            await super().handle()
        except asyncio.CancelledError:
            await self._close(1012, "Service restart")
            raise
        except GONE:
            # The client went while it was being answered.
            self._closing = True
        except Exception:
            _logger.exception("a live connection failed")
            await self._close(1013, "Try again later")
        finally:
            self._stop_timer()
            self._no_stranger()
            self.context.draining.leave(self._restarting)
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
    def address(self) -> str:
        client = self.websocket.ws.client  # type: ignore[attr-defined]  # Starlette's
        return client.host if client else ""

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        name = message["id"]
        if not self.connection_acknowledged or self._principal is None:
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
        most = self.max_subscriptions_per_connection
        if most is not None and len(self.operations) >= most:
            told = f"{most} operations run on this connection, which is all that it takes; use another one"
            await self._refuse(name, GraphQLError(told, extensions={"code": LIMIT_EXCEEDED}))
            return
        operation = SocketOperation(self, name, payload, self._principal)
        # It has what the connection asks of Strawberry's own.
        self.operations[name] = operation  # type: ignore[assignment]
        operation.begin()

    async def _refuse(self, name: str, error: GraphQLError) -> None:
        await self.send_message({"id": name, "type": "error", "payload": [error.formatted]})

    async def send_frame(self, head: bytes, rest: bytes) -> None:
        """Send a message in two parts, and wait while the socket is full."""
        if not self._closing:
            with sending():
                await self.websocket.ws.send_text((head + rest).decode())  # type: ignore[attr-defined]  # Starlette's

    def come_again(self) -> None:
        """Have the client come back when the database may be there again."""
        self._end(1013, "Try again later")

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
            if self.push is None:
                self._pinging = asyncio.create_task(self._ping())
            else:
                # Where there is no room something is on its way already.
                self.push(_PING, b"")
        self._look_again(principal)

    async def _ping(self) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_SEND_SECONDS):
                await self.send_message({"type": "ping"})

    def _restarting(self) -> None:
        self._end(1012, "Service restart")

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


class SocketOperation(LiveOperation):
    """An operation of a connection that may have others beside it."""

    __slots__ = ("_handler", "_is_over", "id")

    def __init__(self, handler: LiveTransportHandler, id: str, payload: dict[str, Any], principal: Principal) -> None:
        super().__init__(payload["query"], payload.get("variables"), payload.get("operationName"), principal)
        self._handler = handler
        self._is_over = False
        self.id = id  # the protocol's word
        head = b'{"id":' + orjson.dumps(id)
        self.follower = Follower(head, _message, handler.push, handler.send_frame, self.go_on)

    @property
    def services(self) -> Services:
        return self._handler.context

    @property
    def schema(self) -> BaseSchema:
        return self._handler.schema

    @property
    def address(self) -> str:
        return self._handler.address

    @property
    def is_wanted(self) -> bool:
        return self._handler.operations.get(self.id) is self  # type: ignore[comparison-overlap]  # see handle_subscribe

    async def refuse(self, errors: list[GraphQLError]) -> None:
        await self._finish({"id": self.id, "type": "error", "payload": [error.formatted for error in errors]})

    async def complete(self) -> None:
        await self._finish({"id": self.id, "type": "complete"})

    async def _finish(self, message: Message) -> None:
        if not self._is_over:
            self._is_over = True
            # Its id may be used again from now on.
            self._handler.forget_id(self.id)
            await self._handler.send_message(message)

    def cut_off(self) -> None:
        self._handler.come_again()
