"""How long a request may take to arrive, and how large what comes before its body may be.

A client that sends half a request and waits would keep a connection, and a place among the open files of the process,
for as long as it likes; one that never ends its headers would have us keep them all.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.web.tofu import is_state

HEAD_SECONDS: Final = 10.0
BODY_SECONDS: Final = 15.0
STATE_SECONDS: Final = 60.0
# What is left of a body that nobody reads any more, because the answer is out.
REST_SECONDS: Final = 5.0
MAX_HEAD: Final = 64 * 1024


def too_late(seconds: float) -> str:
    """What somebody is told whose body did not come in that time."""
    return f"the body of the request did not arrive within {seconds:g} s"


class BodyDeadlines:
    """A body that has not arrived in time is answered with 408; states of OpenTofu may take longer.

    Whoever leaves in the middle of one gets no answer, and is no fault of ours.
    """

    def __init__(self, app: ASGIApp, usual: float = BODY_SECONDS, states: float = STATE_SECONDS) -> None:
        self.app = app
        self._usual = usual
        self._states = states

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seconds = self._states if is_state(scope) else self._usual
        deadline = asyncio.get_running_loop().time() + seconds
        whole = False

        async def part() -> Message:
            nonlocal whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise _Late from None
            whole = not message.get("more_body", False)
            return message

        try:
            await self.app(scope, part, send)
        except _Late:
            body = {"error": too_late(seconds)}
            headers = {"Cache-Control": "no-store", "Connection": "close"}
            await JSONResponse(body, 408, headers)(scope, receive, send)
        except ClientDisconnect:
            return


class _Late(Exception):
    """Only part of a body came in time."""


class BoundedHttp(HttpToolsProtocol):
    """HTTP as uvicorn speaks it, on connections that are closed when a request takes too long to arrive."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._deadline: asyncio.TimerHandle | None = None
        # Of the loop's clock: infinity where nothing is waited for.
        self._due = inf
        # Since something of a request was complete: bytes of headers, or of what follows a body.
        self._pending = 0
        self._moved = False
        # Whether what comes is for nobody any more.
        self._deaf = False
        # What the application has in hands: of several requests on a connection not the one that came last.
        self._asked: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own has it so
        super().connection_made(transport)
        self._arm(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_timer()
        super().connection_lost(exc)
        if self._asked is not None and not self._asked.response_complete:
            self._asked.disconnected = True
            self._asked.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._asked = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._moved = False
        super().data_received(data)
        self._pending = 0 if self._moved else self._pending + len(data)
        if self._pending > MAX_HEAD:
            self._refuse(b"431 Request Header Fields Too Large")

    def handle_websocket_upgrade(self) -> None:
        if not self._is_free():
            # Requests before it have no answer yet, and may not be answered within a WebSocket. They are all that this
            # connection answers: whoever wants one has to ask again on another.
            self.cycle.keep_alive, self._deaf = False, True
            return
        self._end_timer()
        super().handle_websocket_upgrade()
        # Nothing more is said to this protocol, not even that the connection is lost: what it and its parser hold of
        # each other would stay until garbage is looked for.
        self.parser = None  # type: ignore[assignment]  # as uvicorn does where a connection is lost

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arm(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._moved = True
        # Longer than any body may take, which is answered before (BodyDeadlines).
        self._arm(STATE_SECONDS + REST_SECONDS)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._moved = True

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._moved = True
        self._disarm()

    def on_response_complete(self) -> None:
        # As uvicorn does it, but for its timer: each request would start one, and the next one end it.
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        if self.cycle.response_complete:
            # Before the next request, or while the rest of this one comes.
            idle = min(HEAD_SECONDS, self.timeout_keep_alive)
            self._arm(idle if self._due == inf else REST_SECONDS)

    def _is_free(self) -> bool:
        """Whether the connection does nothing but wait for a request."""
        cycle: RequestResponseCycle | None = self.cycle
        return (cycle is None or cycle.response_complete) and not self.transport.is_closing()

    def _arm(self, seconds: float) -> None:
        self._due = self.loop.time() + seconds
        # A timer that is running looks again when it is over: most deadlines are over long before any timer is.
        if self._deadline is None or self._deadline.when() > self._due:
            self._wait()

    def _wait(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_at(self._due, self._over)

    def _disarm(self) -> None:
        self._due = inf

    def _end_timer(self) -> None:
        self._disarm()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _over(self) -> None:
        self._deadline = None
        if self._due == inf:
            return
        if self._due > self.loop.time():
            self._wait()
        else:
            self._late()

    def _late(self) -> None:
        self._due = inf
        if self.pipeline:
            # A request that waits for the answer to the one before it: we are who does not read.
            self._arm(HEAD_SECONDS)
        elif self._pending:
            self._refuse(b"408 Request Timeout")
        else:
            self.transport.close()

    def _refuse(self, status: bytes) -> None:
        """Close the connection; with an answer, if none is under way."""
        if self.transport.is_closing():
            return
        asked: RequestResponseCycle | None = self.cycle
        if asked is None or asked.response_complete:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()
