"""A number for every request, so that a client's report, our log lines and the events it caused can be joined."""

from __future__ import annotations

import os
import re

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-Id"
_BEGINNINGS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIds:
    """Takes the caller's X-Request-Id where it is well-formed, makes one otherwise, and sends it back."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        request_id = _given(scope) or made()
        scope.setdefault("state", {})["request_id"] = request_id

        async def answer(message: Message) -> None:
            if message["type"] in _BEGINNINGS:
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self.app(scope, receive, answer)


def made() -> str:
    """A new one."""
    return os.urandom(16).hex()


def well_formed(value: bytes) -> str | None:
    """The caller's, where it may stay as it is."""
    text = value.decode("latin-1")
    return text if _WELL_FORMED.fullmatch(text) else None


def _given(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == HEADER.lower().encode():
            return well_formed(value)
    return None
