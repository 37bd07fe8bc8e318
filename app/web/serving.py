"""uvicorn's server, which sends away who would stay for ever before it stops."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

# Ends what is followed live, within so many seconds, or at once when what it is given says so.
Drain = Callable[[float, Callable[[], bool]], Awaitable[None]]


class DrainingServer(uvicorn.Server):
    """Before it closes connections it drains them, over `seconds` at most; a second Ctrl-C hurries it."""

    def __init__(self, config: uvicorn.Config, drain: Drain, seconds: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._seconds = seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Nobody comes in any more: whoever is sent away shall find another process.
        listening: list[Any] = [*self.servers, *(sockets or ())]
        for one in listening:
            one.close()
        await self._drain(self._seconds, lambda: self.force_exit)
        await super().shutdown(sockets)
