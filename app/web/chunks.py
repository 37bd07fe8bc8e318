"""HTTP that offers a short way out for answers that never end, as app/web/sockets.py does for WebSockets."""

from __future__ import annotations

from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.web.arriving import BoundedHttp
from app.web.sockets import PUSH


class ChunkedHttp(BoundedHttp):
    """A connection that offers `push`, as an extension of the scope, to whoever may be answered with events."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]  # the extension is ours
        if any(name == b"accept" and b"text/event-stream" in value.lower() for name, value in scope["headers"]):
            scope["extensions"] = {PUSH: partial(_push, cycle)}
        super()._start_asgi_task(cycle, app)


def _push(cycle: RequestResponseCycle, head: bytes, rest: bytes) -> bool:
    """Send `head` and `rest` as one chunk of an answer that has begun, unless the socket is full, closing or closed."""
    if (
        not cycle.chunked_encoding
        or cycle.response_complete
        or cycle.disconnected
        or cycle.flow.write_paused
        or cycle.transport.is_closing()
    ):
        return False
    # The length of an answer in chunks is not counted, and every message of it goes out in one write.
    cycle.transport.write(b"".join((b"%x\r\n" % (len(head) + len(rest)), head, rest, b"\r\n")))
    return True
