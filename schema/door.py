"""The short way in: what comes as almost all do goes to the endpoint past all that asks about the others.

Short are POSTs of JSON to /graphql with a bearer token, a length and a host of ours, each header once. What the layers
of the application would do for such a request is done here: the number of the request, the host, the length of the
body. Whatever has something else about it takes the long way, which says what is wrong with it; from the token on both
are the same (schema/http.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.web import requests
from app.web.arriving import BODY_SECONDS, too_late
from app.web.straight import Respond, Whole, lines_of
from schema import sse
from schema.asking import PLAIN_JSON, RESPONSE_JSON, BadRequest, negotiated
from schema.http import Answer, GraphQLEndpoint, Plain

PATH: Final = "/graphql"
_JSON: Final = frozenset({b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"})
_BEARER: Final = b"bearer "
# What comes in pieces or packed is for the layers to take or to refuse.
_ELSEWHERE = frozenset({b"transfer-encoding", b"content-encoding"})
# Clients accept what their libraries say; whoever makes up more than these is read anew each time.
_KEPT: Final = 100
_REQUEST_ID: Final = requests.HEADER.lower().encode()
# What every answer in a media type says, and the same as lines of a head.
_SAID: Final = {
    media_type: (
        (b"content-type", f"{media_type}; charset=utf-8".encode()),
        (b"cache-control", b"no-store"),
        (b"vary", b"Accept"),
    )
    for media_type in (PLAIN_JSON, RESPONSE_JSON)
}
_SAID_LINES: Final = {media_type: lines_of(said) for media_type, said in _SAID.items()}


class _Gone(Exception):
    """Nobody waits for the answer any more."""


class Door:
    """Takes the short way where a request is plain, and leaves the rest to `app`."""

    def __init__(self, app: ASGIApp, endpoint: GraphQLEndpoint, hosts: Sequence[str], max_body: int) -> None:
        self.app = app
        self._endpoint = endpoint
        self._hosts = frozenset(host.lower().encode() for host in hosts)
        self._any_host = "*" in hosts
        self._max_body = max_body
        self._media_types: dict[bytes, str | None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        plain = None
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == PATH:
            plain = self._plain(scope)
        if plain is None:
            await self.app(scope, receive, send)
            return
        plain = _numbered(plain)

        async def body() -> bytes:
            return await _whole(receive)

        try:
            answer = await self._endpoint.respond_plainly(plain, body)
        except _Gone:
            return
        headers = [(b"content-length", b"%d" % len(answer.body)), *_headers(answer, plain)]
        start: Message = {"type": "http.response.start", "status": answer.status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": answer.body})

    def straight(self, scope: Scope) -> Respond | None:
        """Who answers requests with such a head that are there whole (app.web.straight)."""
        if scope["path"] != PATH or scope["method"] != "POST":
            return None
        plain = self._plain(scope)
        if plain is None:
            return None

        def respond(body: bytes) -> Whole | Awaitable[Whole]:
            this = _numbered(plain)
            answer = self._endpoint.respond_at_once(this, body)
            if isinstance(answer, Answer):
                return answer.status, _lines(answer, this), answer.body
            return _later(answer, this)

        return respond

    def _plain(self, scope: Scope) -> Plain | None:
        """What the head says, or None for the long way; without a number where it brings none."""
        given = scope["headers"]
        headers: dict[bytes, bytes] = dict(given)
        # One that comes twice is for somebody to decide who looks more closely.
        if len(headers) != len(given) or not _ELSEWHERE.isdisjoint(headers):
            return None
        if headers.get(b"content-type") not in _JSON:
            return None
        authorization, length = headers.get(b"authorization", b""), headers.get(b"content-length", b"")
        if authorization[:7].lower() != _BEARER or not length.isdigit() or int(length) > self._max_body:
            return None
        if not self._is_ours(headers.get(b"host", b"")):
            return None
        media_type = self._media_type(headers.get(b"accept", b""))
        if media_type is None:
            return None
        request_id = headers.get(_REQUEST_ID)
        return Plain(
            token=authorization[7:].decode("latin-1").strip(),
            media_type=media_type,
            request_id=(requests.well_formed(request_id) if request_id else None) or "",
            address=scope["client"][0] if scope.get("client") else "",
        )

    def _is_ours(self, host: bytes) -> bool:
        if self._any_host:
            return True
        name, _, port = host.rpartition(b":")
        return host.lower() in self._hosts or (port.isdigit() and name.lower() in self._hosts)

    def _media_type(self, accept: bytes) -> str | None:
        if accept in self._media_types:
            return self._media_types[accept]
        media_type: str | None = None
        if sse.MEDIA_TYPE.encode() not in accept.lower():
            try:
                media_type = negotiated(accept.decode("latin-1"))
            except BadRequest:
                media_type = None
        if len(self._media_types) < _KEPT and len(accept) < 200:
            self._media_types[accept] = media_type
        return media_type


def _numbered(plain: Plain) -> Plain:
    """Of this request, and no other with such a head."""
    if plain.request_id:
        return plain
    return Plain(plain.token, plain.media_type, requests.made(), plain.address)


def _headers(answer: Answer, plain: Plain) -> list[tuple[bytes, bytes]]:
    return [*_SAID[answer.media_type], *_own_headers(answer, plain)]


def _lines(answer: Answer, plain: Plain) -> bytes:
    return _SAID_LINES[answer.media_type] + lines_of(_own_headers(answer, plain))


def _own_headers(answer: Answer, plain: Plain) -> list[tuple[bytes, bytes]]:
    headers = [(_REQUEST_ID, plain.request_id.encode())]
    if answer.headers:
        headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
    return headers


async def _later(answer: Awaitable[Answer], plain: Plain) -> Whole:
    found = await answer
    return found.status, _lines(found, plain), found.body


async def _whole(receive: Receive) -> bytes:
    """The body, whose length the server holds to what its head says, in the time that all bodies have."""
    parts: list[bytes] = []
    try:
        async with asyncio.timeout(BODY_SECONDS):
            message = await receive()
            while message.get("more_body"):
                parts.append(message.get("body", b""))
                message = await receive()
    except TimeoutError:
        raise BadRequest(too_late(BODY_SECONDS), 408, {"Connection": "close"}) from None
    if message["type"] == "http.disconnect":
        raise _Gone
    return b"".join((*parts, message.get("body", b"")))
