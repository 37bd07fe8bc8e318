"""What clients learn of failures.

A DomainError is a message to whoever asked; a fault in the request is explained. Everything else is a bug of ours: the
client gets a number to quote, the log gets the traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import strawberry
import structlog
from graphql import GraphQLError, GraphQLSyntaxError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionContext

from app.db.away import DATABASE_AWAY
from app.domain.errors import DomainError
from schema.context import Context
from schema.parsed import DocumentCache
from schema.wording import reword

_log = structlog.get_logger("windlass.graphql")

INTERNAL = "INTERNAL"
LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
UNAUTHENTICATED = "UNAUTHENTICATED"
UNAVAILABLE = "UNAVAILABLE"
FORBIDDEN = "FORBIDDEN"
BAD_REQUEST = "BAD_REQUEST"


_OF_THE_REQUEST = (CannotGetOperationTypeError, InvalidOperationTypeError)


class MaskingSchema(strawberry.Schema):
    """A schema whose every error, on any transport, has passed `mask`. `documents`: those it was asked lately.

    `compiled`: whether objects are read by statements of their selections (schema.compiling.entities).
    """

    compiled = False
    documents = DocumentCache(1)
    introspection = True

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        context = None if execution_context is None else execution_context.context
        if execution_context is not None:
            reword(errors, execution_context.variables or {})
        mask(errors, context.request_id if isinstance(context, Context) else "")
        if not self.introspection:
            _without_suggestions(errors)


def mask(errors: Iterable[GraphQLError], request_id: str) -> None:
    """Rewrite each error in place: stable `extensions.code`, and nothing of our insides."""
    for error in errors:
        extensions: dict[str, Any] = error.extensions or {}
        if "code" in extensions:
            continue
        cause = _cause(error)
        if isinstance(cause, DomainError):
            error.message = cause.message
            extensions = {"code": cause.code, "path": list(cause.path)}
        elif isinstance(cause, DATABASE_AWAY):
            _log.warning("the database does not answer", request_id=request_id, path=error.path, exc_info=cause)
            error.message = "try again in a moment"
            extensions = {"code": UNAVAILABLE, "requestId": request_id}
        elif isinstance(cause, RecursionError):
            error.message = "the document is nested too deeply"
            extensions = {"code": LIMIT_EXCEEDED}
        elif cause is None or isinstance(cause, _OF_THE_REQUEST) or (error.path is None and error.nodes):
            extensions = {"code": _request_code(error)}
        else:
            _log.error("unexpected error", request_id=request_id, path=error.path, exc_info=cause)
            error.message = "Internal error"
            extensions = {"code": INTERNAL, "requestId": request_id}
        error.extensions = extensions


def _without_suggestions(errors: Iterable[GraphQLError]) -> None:
    """Whoever may not ask for the schema is not told its names one by one either."""
    for error in errors:
        if (error.extensions or {}).get("code") == VALIDATION_FAILED:
            error.message = error.message.partition(" Did you mean ")[0]


def is_unavailable(errors: Iterable[GraphQLError] | None) -> bool:
    """Whether some of these masked errors says that the database was away."""
    return any((error.extensions or {}).get("code") == UNAVAILABLE for error in errors or ())


def _cause(error: GraphQLError) -> Exception | None:
    """What a resolver raised; None for an error of the request itself."""
    cause: BaseException | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause if isinstance(cause, Exception) else None


def _request_code(error: GraphQLError) -> str:
    if not isinstance(error, GraphQLSyntaxError):
        return VALIDATION_FAILED
    # The parser has no other name for a document that is too long or nested too deeply.
    return LIMIT_EXCEEDED if error.message.endswith("Parsing aborted.") else PARSE_FAILED
