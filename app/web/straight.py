"""Answers for requests that have arrived whole, on the connection itself.

A request goes into an application as a task that waits for messages and sends others. Where all of it is there at once
and the application can say the whole answer, none of that is needed: `state.straight` of the application is asked who
answers requests with such a head, and what that says goes out in one piece. Whatever nobody wants to answer so goes in
as ever.

Clients send the same head again and again. One that was read and taken here is not read again when the same bytes come
once more on the same connection: docs/decisions/0083-heads.md.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar, Final, NamedTuple

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.web.chunks import ChunkedHttp

# Status, headers as lines of the head, and body.
Whole = tuple[int, bytes, bytes]
# Of a body: the answer, now or later, or None for the way through the application.
Respond = Callable[[bytes], Whole | Awaitable[Whole] | None]
# Of an ASGI scope: who answers requests with such a head, or None for the way through the application.
Straight = Callable[[Any], Respond | None]
# Proxies say who has really asked, which uvicorn has read before an application is asked.
_OF_PROXIES: Final = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})
# What makes a request more than a head and so many bytes of a body.
_UNUSUAL: Final = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"trailer"})
_END: Final = b"\r\n\r\n"
# Of each connection; of a head of usual length they take a few kilobytes.
_KEPT_HEADS: Final = 4

_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as lines of a head."""
    return b"".join(b"%s: %s\r\n" % header for header in headers)


class _Head(NamedTuple):
    """What was read of a head: how long the body is, the scope, and who answers."""

    length: int
    scope: Any
    respond: Respond


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
        # Whether all that has arrived came as one whole request at a time.
        self._in_step = self.limit_concurrency is None
        self._begun = 0
        self._heads: dict[bytes, _Head] = {}
        # Of the request that has just been read.
        self._respond: Respond | None = None

    def data_received(self, data: bytes) -> None:
        if self._in_step:
            # Where there is no end of a head, nothing is as short as what this finds.
            end = data.find(_END) + len(_END)
            head = self._heads.get(data[:end])
            if head is not None and len(data) == end + head.length and self._is_free():
                self._arrived_again(head, data[end:])
                return
        self._arriving, self._begun, self._respond = True, 0, None
        try:
            super().data_received(data)
        finally:
            self._arriving = False
            self._let_go()
        if self._in_step:
            self._in_step = self._begun == 1 and self._keeps(data)

    def _keeps(self, data: bytes) -> bool:
        """Whether `data` is one whole request; its head is kept where it may be known again."""
        head, found, body = data.partition(_END)
        if not found or self.transport.is_closing():
            return False
        lines = head.split(b"\r\n")
        headers: list[tuple[bytes, bytes]] = self.scope["headers"]  # type: ignore[assignment]  # uvicorn has it so
        # Read as we do, and in no other way: a line for each header, and none that ends differently.
        if len(lines) != len(headers) + 1 or any(b"\n" in line or b"\r" in line for line in lines):
            return False
        lengths = [value for name, value in headers if name == b"content-length"] or [b"0"]
        if len(lengths) > 1 or not lengths[0].isdigit() or len(body) != int(lengths[0]):
            return False
        if any(name in _UNUSUAL for name, _ in headers) or not self.cycle.keep_alive:
            return False
        if self._respond is not None:
            if len(self._heads) >= _KEPT_HEADS:
                del self._heads[next(iter(self._heads))]
            self._heads[head + _END] = _Head(len(body), self.scope, self._respond)
        return True

    def _arrived_again(self, head: _Head, body: bytes) -> None:
        """What the parser and what it calls would come to."""
        self._disarm()
        cycle = self.cycle = RequestResponseCycle(
            scope=head.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=self.on_response_complete,
        )
        if self.flow.write_paused or not self._answers(cycle, head.respond, body):
            # Whoever it goes through may write into what is said about it.
            scope: Any = {**head.scope, "headers": [*head.scope["headers"]], "state": self.app_state.copy()}
            cycle.scope, cycle.body, cycle.more_body = scope, bytearray(body), False
            cycle.message_event.set()
            super()._start_asgi_task(cycle, self.app)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun += 1

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._arriving and self._straight is not None and app is self.app and cycle.scope["method"] == "POST":
            self._held = cycle
            return
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        cycle, self._held = self._held, None
        if cycle is None:
            return
        try:
            respond = self._who_responds(cycle)
        except Exception as error:
            # Within the parser of requests it would look as if this were none.
            self._say(cycle, self._failed(cycle, error))
            return
        if respond is None or not self._answers(cycle, respond, bytes(cycle.body)):
            super()._start_asgi_task(cycle, self.app)
        else:
            self._respond = respond

    def _let_go(self) -> None:
        """What is held goes into the application, which waits for the rest of it."""
        cycle, self._held = self._held, None
        if cycle is not None:
            super()._start_asgi_task(cycle, self.app)

    def _who_responds(self, cycle: RequestResponseCycle) -> Respond | None:
        """Who answers the request here, if anybody."""
        if self._straight is None or self.flow.write_paused or cycle.waiting_for_100_continue:
            return None
        for name, _ in cycle.scope["headers"]:
            if name in _OF_PROXIES:
                return None
        return self._straight(cycle.scope)

    def _answers(self, cycle: RequestResponseCycle, respond: Respond, body: bytes) -> bool:
        """Whether the request is answered here."""
        try:
            answer = respond(body)
        except Exception as error:
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
