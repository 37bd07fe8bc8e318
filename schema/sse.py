"""GraphQL over server-sent events, in the mode of one connection for one operation: what curl and EventSource can read.

Each result is an event `next`; an event `complete` says that there is nothing more. An answer that ends without it was
cut off (the server goes, or the token has run out): come again with `Last-Event-ID`, which stands for the variable
`after`, and nothing is missed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from graphql import GraphQLError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from strawberry.schema import BaseSchema
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from app.auth.principal import Principal
from schema.context import Services
from schema.masking import is_unavailable, mask

MEDIA_TYPE = "text/event-stream"
# What proxies take for silence is longer.
COMMENT_SECONDS = 15.0
_COMPLETE = b"event: complete\ndata:\n\n"
_COMMENT = b":\n\n"

_logger = structlog.get_logger("windlass.live")


def wanted(request: Request) -> bool:
    """Whether the client asks for a stream of events."""
    return any(
        part.split(";")[0].strip().lower() == MEDIA_TYPE for part in request.headers.get("accept", "").split(",")
    )


@dataclass(frozen=True, slots=True)
class Operation:
    """What was asked for, by whom."""

    principal: Principal
    request_id: str
    document: str
    variables: Mapping[str, Any] | None
    name: str | None


class EventStream(Response):
    """The answer to one operation, as events."""

    media_type = MEDIA_TYPE

    def __init__(self, schema: BaseSchema, services: Services, operation: Operation, request: Request) -> None:
        # No proxy shall keep events back to send them together.
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"})
        del self.headers["content-length"]
        self._schema = schema
        self._services = services
        self._operation = operation
        self._allowed = {OperationType.QUERY, OperationType.SUBSCRIPTION}
        if request.method == "POST":
            self._allowed.add(OperationType.MUTATION)
        place = request.headers.get("last-event-id")
        self._variables = {**(operation.variables or {}), **({"after": place} if place else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        tasks = [
            asyncio.create_task(work)
            for work in (
                self._tell(send),
                _gone(receive),
                self._comment(send),
                self._services.guard.until_gone(self._services.authenticator, self._operation.principal),
                self._services.draining.wait(),
            )
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> None:
        operation = self._operation
        try:
            with self._services.occupancy.one(operation.principal):
                if not await self._send_results(send):
                    return
        except (
            Exception
        ) as error:  # a bug of ours ends the operation; the client learns that, and nothing of its inside
            failure = GraphQLError("Internal error", original_error=error)
            mask([failure], operation.request_id)
            with contextlib.suppress(Exception):
                await send(_body(_event(ExecutionResult(data=None, errors=[failure]))))
        await send(_body(_COMPLETE))

    async def _send_results(self, send: Send) -> bool:
        """Send every result; whether there is no more."""
        operation = self._operation
        results = await self._schema.stream(
            operation.document,
            variable_values=self._variables,
            context_value=self._services.context(operation.principal, operation.request_id),
            operation_name=operation.name,
            allowed_operation_types=self._allowed,
        )
        async with aclosing(results):
            async for result in results:
                if is_unavailable(getattr(result, "errors", None)):
                    # Cut off: the client comes back, with the place of the last frame that it got.
                    return False
                await send(_body(_event(result)))
        return True

    async def _comment(self, send: Send) -> None:
        while True:
            await asyncio.sleep(COMMENT_SECONDS)
            await send(_body(_COMMENT))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(result: Any) -> bytes:
    """A result as an event `next`; its id is the cursor of its frame."""
    if not isinstance(result, ExecutionResult | PreExecutionError):
        result = ExecutionResult(data=None, errors=[GraphQLError("@defer and @stream are not supported here")])
    body: dict[str, Any] = {}
    if result.errors:
        body["errors"] = [error.formatted for error in result.errors]
    if not isinstance(result, PreExecutionError):
        body["data"] = result.data
    if result.extensions:
        body["extensions"] = result.extensions
    cursor = _cursor_in(result.data)
    # JSON has no line breaks of its own, so it is one line of data.
    head = b"event: next\n" if cursor is None else b"event: next\nid: " + cursor.encode() + b"\n"
    return head + b"data: " + orjson.dumps(body) + b"\n\n"


def _cursor_in(data: Any) -> str | None:
    if not isinstance(data, dict) or len(data) != 1:
        return None
    (frame,) = data.values()
    cursor = frame.get("cursor") if isinstance(frame, dict) else None
    return cursor if isinstance(cursor, str) else None


def _body(content: bytes) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": True}
