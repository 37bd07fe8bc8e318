"""uvicorn's WebSocket, with a short way out for messages that many are sent, and little kept for those who only wait.

An ASGI `send` goes through every middleware, makes an event of each message, and has to be awaited. What is told to
thousands at once is told in one turn of the loop: `push` puts the bytes on the wire, or says that there is no room.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers

# The name of the extension in the ASGI scope.
PUSH: Final = "windlass.push"
_TEXT: Final = 0x81
_SHORT: Final = 126
_LONG: Final = 1 << 16
_NO_HEADERS: Final = Headers()
_NO_HANDSHAKE: Final = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

# Sends one text message, given in two parts of UTF-8. False: there is no room now, or nobody there; nothing was sent.
Push = Callable[[bytes, bytes], bool]


class Inbox:
    """What has come and was not received yet, for one who receives: an `asyncio.Queue` in 300 bytes, not 3,000."""

    __slots__ = ("_events", "_waiting")

    def __init__(self) -> None:
        self._events: list[Any] = []
        self._waiting: asyncio.Future[None] | None = None

    def put_nowait(self, event: Any) -> None:
        """Never full: the connection is not read while something is here."""
        self._events.append(event)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def get(self) -> Any:
        """The oldest event, once there is one."""
        while not self._events:
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        return self._events.pop(0)

    def empty(self) -> bool:
        return not self._events


class Room:
    """Whether the connection takes more: an `asyncio.Event` that keeps nothing while nobody waits."""

    __slots__ = ("_coming",)

    def __init__(self) -> None:
        # Done when there is room; None while there is.
        self._coming: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        return self._coming is None

    def set(self) -> None:
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.set_result(None)

    def clear(self) -> None:
        if self._coming is None:
            self._coming = asyncio.get_running_loop().create_future()

    async def wait(self) -> bool:
        while self._coming is not None:
            # One of those who wait may be cancelled.
            await asyncio.shield(self._coming)
        return True


class Socket(WebSocketsSansIOProtocol):
    """A connection that offers `push` to the application as an extension of its scope."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.queue = Inbox()  # type: ignore[assignment]  # as much of a Queue as is used here
        self.writable = Room()  # type: ignore[assignment]  # and of an Event

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            # What has just come as HTTP is no request as WebSockets begin with: with a body, or more headers than are
            # read. Nobody else would say so, or ever close the connection.
            self.handshake_complete = self.close_sent = True
            self.transport.write(_NO_HANDSHAKE)
            self.transport.close()

    def shutdown(self) -> None:
        try:
            super().shutdown()
        except Exception:
            # All others have to be closed, too, and the application.
            self.logger.exception("a WebSocket was not closed well")
            self.transport.abort()

    async def run_asgi(self) -> None:
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[PUSH] = self.push
        # The scope has all of it that is still wanted; a connection may last for days. Its parser keeps it as well.
        self.request.headers = _NO_HEADERS
        del self.request
        await super().run_asgi()

    def start_keepalive(self) -> None:
        """The answer to the handshake has gone out."""
        del self.response
        super().start_keepalive()

    def push(self, head: bytes, rest: bytes) -> bool:
        """Send `head` and `rest` as one text message, unless the socket is full, closing or closed."""
        if (
            not self.handshake_complete
            or self.close_sent
            or self.disconnected
            or not self.writable.is_set()
            or self.transport.is_closing()
        ):
            return False
        # A frame of a server is not masked, and nothing else is under way: every message goes out in one write.
        self.transport.write(b"".join((_header(len(head) + len(rest)), head, rest)))
        return True


@lru_cache(maxsize=64)
def _header(size: int) -> bytes:
    if size < _SHORT:
        return bytes((_TEXT, size))
    if size < _LONG:
        return struct.pack("!BBH", _TEXT, 126, size)
    return struct.pack("!BBQ", _TEXT, 127, size)
