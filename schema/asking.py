"""What an HTTP request asks for: GraphQL over HTTP, or a refusal that says what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.requests import Request

from app.domain.errors import Path
from app.web.bodies import Unreadable, json_of
from schema.documents import ID, DocumentRefused, Documents
from schema.masking import BAD_REQUEST

RESPONSE_JSON = "application/graphql-response+json"
PLAIN_JSON = "application/json"
_KINDS: Mapping[str, type] = {"query": str, ID: str, "variables": dict, "operationName": str, "extensions": dict}


class BadRequest(Exception):
    """A request that is not GraphQL over HTTP. `status` is the HTTP status that says so, `path` leads into the body."""

    def __init__(
        self,
        message: str,
        status: int = 400,
        headers: Mapping[str, str] | None = None,
        code: str = BAD_REQUEST,
        path: Path = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.code = code
        self.status = status
        self.headers = dict(headers or {})


class Asked(NamedTuple):
    """What a request asks for; with `"extensions": {"cost": true}` also what that has cost."""

    document: str
    variables: dict[str, Any] | None
    name: str | None
    wants_cost: bool


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


async def asked_of(request: Request, documents: Documents) -> Asked:
    """What the request asks for. Raises BadRequest with the status that fits."""
    if request.method == "GET":
        pairs = request.query_params.multi_items()
        given: Any = dict(pairs)
        if len(given) != len(pairs):
            message = "the address has two values under one name"
            raise BadRequest(message)
        for name in ("variables", "extensions"):
            if given.get(name):
                given[name] = parsed(given[name])
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
        given = parsed(await request.body())
    else:
        message = "GraphQL is spoken with GET and POST"
        raise BadRequest(message, 405, {"Allow": "GET, POST"})
    return checked(given, documents)


def parsed(text: str | bytes) -> Any:
    """The value of a JSON text. Raises BadRequest."""
    try:
        return json_of(text)
    except Unreadable as error:
        raise BadRequest(error.message, path=error.path) from error
    except ValueError as error:
        message = "the request is not JSON"
        raise BadRequest(message) from error


def checked(given: Any, documents: Documents) -> Asked:
    """What an object asks for that a client has sent. Raises BadRequest."""
    if not isinstance(given, dict):
        message = "the request is one JSON object; batches are not taken"
        raise BadRequest(message)
    for name, value in given.items():
        kind = _KINDS.get(name)
        if kind is not None and value is not None and not isinstance(value, kind):
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
