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
from typing import Any

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
from app.web.bodies import Ambiguous, json_of
from app.web.credentials import Crossing, token_in
from schema import sse
from schema.allowance import RATE_LIMITED, RateLimited
from schema.compiling.queries import Asking, CompiledQueries
from schema.context import Context, Services
from schema.documents import ID, DocumentRefused, Documents
from schema.live_protocol import LiveTransportHandler
from schema.masking import BAD_REQUEST, FORBIDDEN, UNAUTHENTICATED, UNAVAILABLE, MaskingSchema
from schema.sharers import Sharers

_log = structlog.get_logger("windlass.http")

RESPONSE_JSON = "application/graphql-response+json"
PLAIN_JSON = "application/json"
_HEADERS = {"Cache-Control": "no-store", "Vary": "Accept"}
MAX_OPERATIONS_PER_SOCKET = 20
INIT_TIMEOUT = timedelta(seconds=5)


class BadRequest(Exception):
    """A request that is not GraphQL over HTTP. `status` is the HTTP status that says so."""

    def __init__(
        self, message: str, status: int = 400, headers: Mapping[str, str] | None = None, code: str = BAD_REQUEST
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.headers = dict(headers or {})


_REFUSED = (Unauthenticated, RateLimited, Crossing, BadRequest, *DATABASE_AWAY)


@dataclass(frozen=True, slots=True)
class Plain:
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
        self.sharers = Sharers()
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
            asked = await _asked(request, self._services.documents)
            if streaming:
                operation = sse.Operation(principal, request_id, asked.document, asked.variables, asked.name)
                return sse.EventStream(self.schema, self._services, operation, request)
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
            asked = _checked(_json(body), self._services.documents)
            context = self._services.context(principal, plain.request_id, address=plain.address)
            found = self._queries.begun(asked.document, asked.variables, asked.name, context)
        except _REFUSED as error:
            return _refused(error, plain.media_type, plain.request_id)
        if isinstance(found, bytes):
            return _compiled(found, asked, context, plain.media_type)
        return self._finished(found, asked, context, plain.media_type)

    async def _finished(self, found: Asking | None, asked: Asked, context: Context, media_type: str) -> Answer:
        try:
            body = None if found is None else await found.answer(context)
            if body is not None:
                return _compiled(body, asked, context, media_type)
            return await self._executed(asked, context, media_type, changes=True)
        except _REFUSED as error:
            return _refused(error, media_type, context.request_id)

    async def respond_plainly(self, plain: Plain, body: Callable[[], Awaitable[bytes]]) -> Answer:
        """The same for a request of which everything but its body is known (schema/door.py)."""
        try:
            principal = await self._services.authenticator.authenticate(plain.token)
            asked = _checked(_json(await body()), self._services.documents)
            context = self._services.context(principal, plain.request_id, address=plain.address)
            return await self._answered(asked, context, plain.media_type, changes=True)
        except _REFUSED as error:
            return _refused(error, plain.media_type, plain.request_id)

    async def _answered(self, asked: Asked, context: Context, media_type: str, *, changes: bool) -> Answer:
        """What anybody is answered who may ask, whichever way they came."""
        if self._queries is not None:
            # One statement, where the whole operation is one.
            body = await self._queries.answer(asked.document, asked.variables, asked.name, context)
            if body is not None:
                return _compiled(body, asked, context, media_type)
        return await self._executed(asked, context, media_type, changes=changes)

    async def _executed(self, asked: Asked, context: Context, media_type: str, *, changes: bool) -> Answer:
        with structlog.contextvars.bound_contextvars(request_id=context.request_id):
            result = await self._execute(asked, context, changes=changes)
        if asked.wants_cost:
            result.extensions = {**(result.extensions or {}), **_cost(context)}
        return _answer(result, media_type)

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


def negotiated(accept: str | None) -> str:
    """The media type to answer in, by what the client accepts. Raises BadRequest when it accepts none of ours."""
    accepted: dict[str, float] = {}
    for part in (accept or "*/*").split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        accepted[media] = next((_quality(text[2:]) for text in parameters if text.startswith("q=")), 1.0)
    wild = max(accepted.get("*/*", 0.0), accepted.get("application/*", 0.0))
    plain, modern = accepted.get(PLAIN_JSON, wild), accepted.get(RESPONSE_JSON, 0.0)
    if plain <= 0 and modern <= 0:
        message = f"this endpoint answers in {RESPONSE_JSON} or {PLAIN_JSON}"
        raise BadRequest(message, 406)
    if RESPONSE_JSON in accepted and PLAIN_JSON in accepted and plain > modern:
        return PLAIN_JSON
    return RESPONSE_JSON if modern > 0 else PLAIN_JSON


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for; with `"extensions": {"cost": true}` also what that has cost."""

    document: str
    variables: dict[str, Any] | None
    name: str | None
    wants_cost: bool


async def _there(body: bytes) -> bytes:
    return body


def _compiled(body: bytes, asked: Asked, context: Context, media_type: str) -> Answer:
    """What a compiled query came to."""
    if asked.wants_cost:
        body = body[:-1] + b',"extensions":' + orjson.dumps(_cost(context)) + b"}"
    return Answer(200, media_type, body)


def _cost(context: Context) -> dict[str, Any]:
    return {"cost": context.services.allowance.document(context.principal, context.bill.points)}


async def _asked(request: Request, documents: Documents) -> Asked:
    """What the request asks for. Raises BadRequest with the status that fits."""
    if request.method == "GET":
        pairs = request.query_params.multi_items()
        given: Any = dict(pairs)
        if len(given) != len(pairs):
            message = "the address has two values under one name"
            raise BadRequest(message)
        for name in ("variables", "extensions"):
            if given.get(name):
                given[name] = _json(given[name])
    elif request.method == "POST":
        media, _, parameters = request.headers.get("content-type", "").partition(";")
        if media.strip().lower() != PLAIN_JSON:
            message = f"the body of the request must be {PLAIN_JSON}"
            raise BadRequest(message, 415)
        charset = parameters.partition("charset=")[2].strip().strip('"').lower()
        if charset not in {"", "utf-8", "utf8"}:
            message = "the body of the request must be UTF-8"
            raise BadRequest(message, 415)
        if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            # Nothing is unpacked: a few bytes would become as many as one likes.
            message = "the body of the request must not be compressed"
            raise BadRequest(message, 415)
        given = _json(await request.body())
    else:
        message = "GraphQL is spoken with GET and POST"
        raise BadRequest(message, 405, {"Allow": "GET, POST"})
    return _checked(given, documents)


def _json(text: str | bytes) -> Any:
    try:
        return json_of(text)
    except Ambiguous as error:
        raise BadRequest(error.message) from error
    except ValueError as error:
        message = "the request is not JSON"
        raise BadRequest(message) from error


_KINDS: Mapping[str, type] = {"query": str, ID: str, "variables": dict, "operationName": str, "extensions": dict}


def _checked(given: Any, documents: Documents) -> Asked:
    if not isinstance(given, dict):
        message = "the request is one JSON object; batches are not taken"
        raise BadRequest(message)
    for name, kind in _KINDS.items():
        value = given.get(name)
        if value is not None and not isinstance(value, kind):
            message = f"`{name}` must be {'an object' if kind is dict else 'text'}"
            raise BadRequest(message)
    try:
        given = documents.complete(given)
    except DocumentRefused as error:
        raise BadRequest(error.message, code=error.code) from error
    if not given.get("query"):
        message = "the request has no query"
        raise BadRequest(message)
    wants_cost = (given.get("extensions") or {}).get("cost") is True
    return Asked(given["query"], given.get("variables"), given.get("operationName") or None, wants_cost)


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
            return _refusal(error.status, media_type, error.message, {"code": error.code, **extensions}, error.headers)
    _log.warning("the database does not answer", request_id=request_id, exc_info=error)
    return _refusal(503, media_type, "try again in a moment", {"code": UNAVAILABLE, **extensions}, {"Retry-After": "1"})


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
