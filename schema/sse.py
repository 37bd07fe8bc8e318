"""GraphQL over server-sent events, in the mode of one connection for one operation: what curl and EventSource can read.

Each result is an event `next`; an event `complete` says that there is nothing more. An answer that ends without it was
cut off (the server goes, or the token has run out): come again with `Last-Event-ID`, which stands for the variable
`after`, and nothing is missed. Whoever follows the same as others, over whatever, shares their frames.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import orjson
from graphql import GraphQLError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from strawberry.schema import BaseSchema
from strawberry.types.graphql import OperationType

from app.auth.principal import Principal
from app.web.sockets import PUSH, Push
from schema.asking import Asked
from schema.context import Services
from schema.encoded import Encoded
from schema.followers import Follower
from schema.guard import seconds_left
from schema.live_operations import LiveOperation

MEDIA_TYPE = "text/event-stream"
# What proxies take for silence is longer.
COMMENT_SECONDS = 15.0
# A client that does not read lets nothing out; the operating system gives it up (TCP_USER_TIMEOUT).
_SEND_SECONDS: Final = 5.0
_COMPLETE = b"event: complete\ndata:\n\n"
_COMMENT = b":\n\n"

_GOT: Final = frozenset({OperationType.QUERY, OperationType.SUBSCRIPTION})
_POSTED: Final = _GOT | {OperationType.MUTATION}

_event = attrgetter("event")


def wanted(request: Request) -> bool:
    """Whether the client asks for a stream of events."""
    return any(
        part.split(";")[0].strip().lower() == MEDIA_TYPE for part in request.headers.get("accept", "").split(",")
    )


@dataclass(frozen=True, slots=True)
class Operation:
    """What was asked for, by whom and from where."""

    principal: Principal
    request_id: str
    address: str
    document: str
    variables: Mapping[str, Any] | None
    name: str | None
    allowed: frozenset[OperationType]

    @classmethod
    def of(cls, asked: Asked, principal: Principal, request_id: str, request: Request) -> Operation:
        """What a request asks for; where it comes again, behind the last event that it got."""
        place = request.headers.get("last-event-id")
        return cls(
            principal,
            request_id,
            request.client.host if request.client else "",
            asked.document,
            {**(asked.variables or {}), "after": place} if place else asked.variables,
            asked.name,
            _POSTED if request.method == "POST" else _GOT,
        )


class Wire:
    """The way to the client of one answer, which is `over` with it."""

    def __init__(self, push: Push | None, send: Send) -> None:
        self.push = push
        self.over = asyncio.Event()
        self._send = send

    async def send(self, head: bytes, rest: bytes) -> None:
        """Send a piece of the answer, and wait while the socket is full."""
        await self._send({"type": "http.response.body", "body": head + rest, "more_body": True})

    async def comment(self) -> None:
        """Show that somebody is there. Where there is no room something is on its way already."""
        if self.push is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SEND_SECONDS):
                    await self.send(_COMMENT, b"")
        else:
            self.push(_COMMENT, b"")

    async def finish(self) -> None:
        """There is nothing more to come, on this connection at least."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SEND_SECONDS):
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class EventStream(Response):
    """The answer to one operation, as events."""

    media_type = MEDIA_TYPE

    def __init__(self, schema: BaseSchema, services: Services, asked: Operation) -> None:
        # No proxy shall keep events back to send them together; and whoever comes back shall not come to a process that
        # has just sent it away, on the connection that is still there.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept", "Connection": "close"}
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._schema = schema
        self._services = services
        self._asked = asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        services, wire = self._services, Wire(scope.get("extensions", {}).get(PUSH), send)
        end = wire.over.set
        operation = EventOperation(self._schema, services, self._asked, wire)
        gone = asyncio.create_task(_gone(receive, end))
        principal = services.guard.watch(services.authenticator, operation.principal, end)
        services.draining.enter(end)
        try:
            operation.begin()
            await _stay(wire, principal)
        finally:
            services.draining.leave(end)
            services.guard.leave(principal, end)
            tasks = [gone, *filter(None, (operation.task,))]
            operation.end()
            gone.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await wire.finish()


class EventOperation(LiveOperation):
    """The one operation of an answer."""

    __slots__ = ("_asked", "_schema", "_services", "_wire")

    def __init__(self, schema: BaseSchema, services: Services, asked: Operation, wire: Wire) -> None:
        super().__init__(asked.document, asked.variables, asked.name, asked.principal)
        self._schema = schema
        self._services = services
        self._asked = asked
        self._wire = wire
        self.follower = Follower(b"", _event, wire.push, wire.send, self.go_on)

    @property
    def services(self) -> Services:
        return self._services

    @property
    def schema(self) -> BaseSchema:
        return self._schema

    @property
    def address(self) -> str:
        return self._asked.address

    @property
    def is_wanted(self) -> bool:
        return not self._wire.over.is_set()

    @property
    def allowed(self) -> frozenset[OperationType]:
        return self._asked.allowed

    def request_id(self) -> str:
        return self._asked.request_id

    async def refuse(self, errors: list[GraphQLError]) -> None:
        told = orjson.dumps({"errors": [error.formatted for error in errors]})
        try:
            await self.follower.send(Encoded(told))
        finally:
            await self.complete()

    async def complete(self) -> None:
        try:
            await self._wire.send(_COMPLETE, b"")
        finally:
            self._wire.over.set()

    def cut_off(self) -> None:
        self._wire.over.set()


async def _stay(wire: Wire, principal: Principal) -> None:
    """Until it is over, or the token is."""
    while not wire.over.is_set() and (left := seconds_left(principal)) > 0:
        try:
            async with asyncio.timeout(min(left, COMMENT_SECONDS)):
                await wire.over.wait()
        except TimeoutError:
            await wire.comment()


async def _gone(receive: Receive, end: Callable[[], None]) -> None:
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        end()
