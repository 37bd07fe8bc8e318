"""GraphQL over HTTP as its specification has it, and the WebSocket beside it on the same path.

Who asks is settled from the header, before one byte of the body is read. Requests in the body of a POST may be queries
and mutations, those in the address of a GET queries only; subscriptions are for the WebSocket, and for those who accept
`text/event-stream` (schema/sse.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from math import ceil
from typing import Any, NamedTuple

import orjson
import structlog
from graphql import GraphQLError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType

from app.auth.authenticator import Unauthenticated
from app.auth.principal import Principal
from app.db.away import DATABASE_AWAY
from app.web.bodies import json_of
from app.web.credentials import Crossing, token_in
from schema import sse
from schema.allowance import RATE_LIMITED, RateLimited
from schema.asking import PLAIN_JSON, RESPONSE_JSON, Asked, BadRequest, asked_of, checked, negotiated, parsed
from schema.compiling.queries import Asking, CompiledQueries
from schema.context import Context, Services
from schema.live_protocol import LiveTransportHandler
from schema.masking import BAD_REQUEST, FORBIDDEN, INTERNAL, UNAUTHENTICATED, UNAVAILABLE, MaskingSchema

_log = structlog.get_logger("windlass.http")

_HEADERS = {"Cache-Control": "no-store", "Vary": "Accept"}
MAX_OPERATIONS_PER_SOCKET = 20
INIT_TIMEOUT = timedelta(seconds=5)


_REFUSED = (Unauthenticated, RateLimited, Crossing, BadRequest, *DATABASE_AWAY)


class Plain(NamedTuple):
    """What the head of a request says that has nothing unusual about it: a POST of JSON, with a token in its header."""

    token: str
    media_type: str
    request_id: str
    address: str


@dataclass(slots=True)
class Answer:
    """What is sent back; `headers` beside those that every answer has."""

    status: int
    media_type: str
    body: bytes
    headers: Mapping[str, str] | None = None


class GraphQLEndpoint(GraphQL[Services, None]):
    """The ASGI application behind /graphql."""

    graphql_transport_ws_handler_class = LiveTransportHandler

    def __init__(
        self,
        schema: MaskingSchema,
        services: Services,
        *,
        allowed_origins: Sequence[str] = (),
        compiled: bool = True,
    ) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
            connection_init_wait_timeout=INIT_TIMEOUT,
            multipart_uploads_enabled=False,
            max_subscriptions_per_connection=MAX_OPERATIONS_PER_SOCKET,
            allowed_origins=allowed_origins,
        )
        self._services = services
        self._queries = CompiledQueries(schema) if compiled else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await super().__call__(scope, receive, send)
            return
        request = Request(scope, receive)
        response = await self.respond(request)
        await response(scope, receive, send)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Services:  # noqa: ARG002
        # A WebSocket says who it is in its first message; until then there is nobody to make a Context for.
        return self._services

    def encode_json(self, data: object) -> str:
        # Text, not bytes: Strawberry sends bytes as binary frames, which the protocol does not have.
        return orjson.dumps(data).decode()

    def decode_json(self, data: str | bytes) -> object:
        return json_of(data)

    async def respond(self, request: Request) -> Response:
        """The answer to one HTTP request."""
        request_id = request_id_of(request.scope)
        media_type = PLAIN_JSON
        try:
            streaming = sse.wanted(request)
            media_type = PLAIN_JSON if streaming else negotiated(request.headers.get("accept"))
            principal = await self._principal(request)
            asked = await asked_of(request, self._services.documents)
            if streaming:
                operation = sse.Operation.of(asked, principal, request_id, request)
                return sse.EventStream(self.schema, self._services, operation)
            address = request.client.host if request.client else ""
            context = self._services.context(principal, request_id, address=address)
            answer = await self._answered(asked, context, media_type, changes=request.method != "GET")
        except _REFUSED as error:
            answer = _refused(error, media_type, request_id)
        return Response(
            answer.body, answer.status, {**_HEADERS, **(answer.headers or {})}, f"{answer.media_type}; charset=utf-8"
        )

    def respond_at_once(self, plain: Plain, body: bytes) -> Answer | Awaitable[Answer]:
        """The same where the body is there, too: what needs nobody to be waited for is answered at once."""
        principal = self._services.authenticator.known(plain.token)
        if principal is None or self._queries is None:
            return self.respond_plainly(plain, partial(_there, body))
        try:
            asked = checked(parsed(body), self._services.documents)
            context = self._services.context(principal, plain.request_id, address=plain.address)
            found = self._queries.begun(asked.document, asked.variables, asked.name, context)
        except Exception as error:
            # Whoever asks is told the number of the request, the log the rest.
            return _refused(error, plain.media_type, plain.request_id)
        if isinstance(found, bytes):
            return _compiled(found, asked, context, plain.media_type)
        return self._finished(found, asked, context, plain.media_type)

    async def _finished(
        self, found: Asking | None, asked: Asked, context: Context, media_type: str, *, changes: bool = True
    ) -> Answer:
        try:
            body = None if found is None else await found.answer(context)
            if body is not None:
                return _compiled(body, asked, context, media_type)
            with structlog.contextvars.bound_contextvars(request_id=context.request_id):
                result = await self._execute(asked, context, changes=changes)
        except Exception as error:
            return _refused(error, media_type, context.request_id)
        if asked.wants_cost:
            result.extensions = {**(result.extensions or {}), **_cost(context)}
        return _answer(result, media_type)

    async def respond_plainly(self, plain: Plain, body: Callable[[], Awaitable[bytes]]) -> Answer:
        """The same for a request of which everything but its body is known (schema/door.py)."""
        try:
            principal = await self._services.authenticator.authenticate(plain.token)
            asked = checked(parsed(await body()), self._services.documents)
            context = self._services.context(principal, plain.request_id, address=plain.address)
            return await self._answered(asked, context, plain.media_type, changes=True)
        except _REFUSED as error:
            return _refused(error, plain.media_type, plain.request_id)

    async def _answered(self, asked: Asked, context: Context, media_type: str, *, changes: bool) -> Answer:
        """What anybody is answered who may ask, whichever way they came."""
        found: bytes | Asking | None = None
        if self._queries is not None:
            try:
                # One statement, where the whole operation is one.
                found = self._queries.begun(asked.document, asked.variables, asked.name, context)
            except Exception as error:
                return _refused(error, media_type, context.request_id)
        if isinstance(found, bytes):
            return _compiled(found, asked, context, media_type)
        return await self._finished(found, asked, context, media_type, changes=changes)

    async def _principal(self, request: Request) -> Principal:
        changes = request.method != "GET"
        shown = token_in(request.headers, self._services.origins, changes=changes)
        return await shown.proven(self._services.authenticator)

    async def _execute(self, asked: Asked, context: Context, *, changes: bool) -> ExecutionResult:
        allowed = {OperationType.QUERY, OperationType.MUTATION} if changes else {OperationType.QUERY}
        try:
            return await self.schema.execute(
                asked.document,
                variable_values=asked.variables,
                operation_name=asked.name,
                context_value=context,
                allowed_operation_types=allowed,
            )
        except MissingQueryError as error:
            message = "the request has no query"
            raise BadRequest(message) from error
        except CannotGetOperationTypeError as error:
            return ExecutionResult(data=None, errors=[_unknown_operation(error)])
        except InvalidOperationTypeError as error:
            if error.operation_type is OperationType.SUBSCRIPTION:
                message = (
                    "subscriptions need `Accept: text/event-stream`,"
                    " or the WebSocket on this path (graphql-transport-ws)"
                )
                raise BadRequest(message) from error
            message = "mutations are for POST"
            raise BadRequest(message, 405, {"Allow": "POST"}) from error


def request_id_of(scope: Scope) -> str:
    """The id that the middleware gave the request."""
    return str(scope.get("state", {}).get("request_id", ""))


async def _there(body: bytes) -> bytes:
    return body


def _compiled(body: bytes, asked: Asked, context: Context, media_type: str) -> Answer:
    """What a compiled query came to."""
    if asked.wants_cost:
        body = body[:-1] + b',"extensions":' + orjson.dumps(_cost(context)) + b"}"
    return Answer(200, media_type, body)


def _cost(context: Context) -> dict[str, Any]:
    return {"cost": context.services.allowance.document(context.principal, context.bill.points)}


def _unknown_operation(error: CannotGetOperationTypeError) -> GraphQLError:
    return GraphQLError(error.as_http_error_reason(), extensions={"code": BAD_REQUEST})


def _refused(error: Exception, media_type: str, request_id: str) -> Answer:
    """What somebody is told whose request came to nothing."""
    extensions: dict[str, Any] = {"requestId": request_id}
    match error:
        case Unauthenticated():
            message = "a valid API token is needed: Authorization: Bearer wl_…"
            extensions["code"] = UNAUTHENTICATED
            return _refusal(401, PLAIN_JSON, message, extensions, {"WWW-Authenticate": 'Bearer realm="windlass"'})
        case RateLimited():
            extensions = {**(error.error().extensions or {}), **extensions}
            return _refusal(429, media_type, error.message, extensions, error.headers)
        case Crossing():
            return _refusal(403, PLAIN_JSON, error.message, {"code": FORBIDDEN, **extensions}, {})
        case BadRequest():
            path = {"path": list(error.path)} if error.path else {}
            extensions = {"code": error.code, **path, **extensions}
            return _refusal(error.status, media_type, error.message, extensions, error.headers)
        case _ if isinstance(error, DATABASE_AWAY):
            _log.warning("the database does not answer", request_id=request_id, exc_info=error)
            extensions["code"] = UNAVAILABLE
            return _refusal(503, media_type, "try again in a moment", extensions, {"Retry-After": "1"})
    _log.error("unexpected error", request_id=request_id, exc_info=error)
    return _refusal(500, media_type, "Internal error", {"code": INTERNAL, **extensions}, {})


def _answer(result: ExecutionResult, media_type: str) -> Answer:
    body: dict[str, Any] = {}
    if result.errors:
        body["errors"] = [error.formatted for error in result.errors]
    # Without a path the request itself was refused, and there is no `data` at all.
    refused = result.data is None and all(error.path is None for error in result.errors or ())
    if not refused:
        body["data"] = result.data
    if result.extensions:
        body["extensions"] = result.extensions
    limited = next((error.extensions for error in result.errors or () if _is_limited(error)), None)
    if limited is not None:
        seconds = limited["retryAfter"]
        headers = {} if seconds is None else {"Retry-After": str(max(1, ceil(seconds)))}
        return _response(body, 429, media_type, headers)
    # A client of plain JSON cannot tell our 400 from a proxy's, so the specification keeps 200 for it.
    status = 400 if refused and media_type == RESPONSE_JSON else 200
    return _response(body, status, media_type)


def _is_limited(error: GraphQLError) -> bool:
    return (error.extensions or {}).get("code") == RATE_LIMITED


def _refusal(status: int, media_type: str, message: str, extensions: dict[str, Any], headers: dict[str, str]) -> Answer:
    return _response({"errors": [{"message": message, "extensions": extensions}]}, status, media_type, headers)


def _response(body: dict[str, Any], status: int, media_type: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, media_type, orjson.dumps(body), headers)
