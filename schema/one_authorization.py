"""Whoever says twice who they are is not asked which of the two is meant.

Servers before this one, and libraries, take the first of two headers, the last, or both with a comma between: what one
has checked need not be what another believes. So it is refused, wherever it was sent, before anything is read.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from schema.http import request_id_of
from schema.masking import BAD_REQUEST

_HEADER: Final = b"authorization"
_MESSAGE: Final = "the request has more than one Authorization header"
_HEADERS: Final = {"Cache-Control": "no-store"}


class OneAuthorization:
    """Answers 400 to requests, and handshakes of WebSockets, with two; on the path `graphql` as GraphQL does."""

    def __init__(self, app: ASGIApp, graphql: str) -> None:
        self.app = app
        self._graphql = graphql

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"} and sum(name == _HEADER for name, _ in scope["headers"]) > 1:
            await self._refusal(scope)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response:
        body: dict[str, object] = {"error": _MESSAGE}
        if scope["path"] == self._graphql:
            extensions = {"code": BAD_REQUEST, "requestId": request_id_of(scope)}
            body = {"errors": [{"message": _MESSAGE, "extensions": extensions}]}
        return JSONResponse(body, 400, _HEADERS)
