"""uvicorn's WebSocket, with a short way out for messages that many are sent.

An ASGI `send` goes through every middleware, makes an event of each message, and has to be awaited. What is told to
thousands at once is told in one turn of the loop: `push` puts the bytes on the wire, or says that there is no room.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

# The name of the extension in the ASGI scope.
PUSH: Final = "windlass.push"
_TEXT: Final = 0x81
_SHORT: Final = 126
_LONG: Final = 1 << 16

# Sends one text message, given in two parts of UTF-8. False: there is no room now, or nobody there; nothing was sent.
Push = Callable[[bytes, bytes], bool]


class Socket(WebSocketsSansIOProtocol):
    """A connection that offers `push` to the application as an extension of its scope."""

    async def run_asgi(self) -> None:
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[PUSH] = self.push
        # The scope has all of it that is still wanted; a connection may last for days.
        del self.request
        await super().run_asgi()

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


def _header(size: int) -> bytes:
    if size < _SHORT:
        return bytes((_TEXT, size))
    if size < _LONG:
        return struct.pack("!BBH", _TEXT, 126, size)
    return struct.pack("!BBQ", _TEXT, 127, size)
