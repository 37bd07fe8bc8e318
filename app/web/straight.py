"""Answers for requests that have arrived whole, on the connection itself.

A request goes into an application as a task that waits for messages and sends others. Where all of it is there at once
and the application can say the whole answer, none of that is needed: `state.straight` of the application is asked, and
what it says goes out in one piece. Whatever it does not want to answer goes in as ever.
"""

from __future__ import annotations

import http
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.web.chunks import ChunkedHttp

# Status, headers as lines of the head, and body.
Whole = tuple[int, bytes, bytes]
# Of an ASGI scope and the body: the answer, now or later, or None for the way through the application.
Straight = Callable[[Any, bytes], Whole | Awaitable[Whole] | None]
# Proxies say who has really asked, which uvicorn has read before an application is asked.
_OF_PROXIES: Final = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})

_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as lines of a head."""
    return b"".join(b"%s: %s\r\n" % header for header in headers)


class StraightHttp(ChunkedHttp):
    """HTTP on a connection that asks for answers itself."""

    # What all answers of the process say for a second, and the lines that it comes to.
    _said_by_all: ClassVar[tuple[list[tuple[bytes, bytes]] | None, bytes]] = (None, b"")

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        # Whatever the application is wrapped in, what it offers is on itself.
        state = getattr(self.config.app, "state", None)
        self._straight: Straight | None = getattr(state, "straight", None)
        self._arriving = False
        # A request whose body may be among what has just arrived.
        self._held: RequestResponseCycle | None = None

    def data_received(self, data: bytes) -> None:
        self._arriving = True
        try:
            super().data_received(data)
        finally:
            self._arriving = False
            self._let_go()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._arriving and self._straight is not None and app is self.app and cycle.scope["method"] == "POST":
            self._held = cycle
            return
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        cycle, self._held = self._held, None
        if cycle is not None and not self._answers(cycle):
            super()._start_asgi_task(cycle, self.app)

    def _let_go(self) -> None:
        """What is held goes into the application, which waits for the rest of it."""
        cycle, self._held = self._held, None
        if cycle is not None:
            super()._start_asgi_task(cycle, self.app)

    def _answers(self, cycle: RequestResponseCycle) -> bool:
        """Whether the request is answered here."""
        if self._straight is None or self.flow.write_paused or cycle.waiting_for_100_continue:
            return False
        for name, _ in cycle.scope["headers"]:
            if name in _OF_PROXIES:
                return False
        try:
            answer = self._straight(cycle.scope, bytes(cycle.body))
        except Exception as error:
            # Within the parser of requests it would look as if this were none.
            answer = self._failed(cycle, error)
        if answer is None:
            return False
        if isinstance(answer, tuple):
            self._say(cycle, answer)
            return True
        task = self.loop.create_task(self._said(cycle, answer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return True

    async def _said(self, cycle: RequestResponseCycle, answer: Awaitable[Whole]) -> None:
        try:
            whole = await answer
        except Exception as error:
            whole = self._failed(cycle, error)
        if self.flow.write_paused and not cycle.disconnected:
            await self.flow.drain()
        self._say(cycle, whole)

    def _failed(self, cycle: RequestResponseCycle, error: Exception) -> Whole:
        """What is said where the application has raised something, which is logged as uvicorn would."""
        self.logger.error("Exception in ASGI application\n", exc_info=error)
        cycle.keep_alive = False
        return 500, b"content-type: text/plain; charset=utf-8\r\n", b"Internal Server Error"

    def _say(self, cycle: RequestResponseCycle, whole: Whole) -> None:
        # Whoever sends something that is no request behind this one is answered that, and shut out.
        if cycle.disconnected or self.transport.is_closing():
            return
        status, lines, body = whole
        closing = b"" if cycle.keep_alive else b"connection: close\r\n"
        length = b"content-length: %d\r\n\r\n" % len(body)
        cycle.response_started = cycle.response_complete = True
        self.transport.write(b"".join((_LINES[status], self._lines_by_all(), lines, closing, length, body)))
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _lines_by_all(self) -> bytes:
        given = self.server_state.default_headers
        known, lines = StraightHttp._said_by_all
        if known is not given:
            # uvicorn makes the list anew each second, for the date.
            lines = lines_of(given)
            StraightHttp._said_by_all = given, lines
        return lines
