"""A client of server-sent events that can be held back and cut off, which those of libraries cannot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.schema.live.conftest import Live


@dataclass(slots=True)
class Sent:
    """One event as it was sent; a comment has neither name nor data."""

    event: str | None = None
    id: str | None = None
    data: str | None = None

    def frame(self) -> dict[str, Any]:
        frame: dict[str, Any] = next(iter(json.loads(self.data or "")["data"].values()))
        return frame


@dataclass(slots=True)
class EventSource:
    """The answer to one operation. `transport` can be paused, and aborted."""

    reader: asyncio.StreamReader
    transport: asyncio.WriteTransport

    async def events(self) -> AsyncGenerator[Sent, None]:
        """Every event and comment, up to the end of the answer."""
        text = b""
        while True:
            while b"\n\n" in text:
                event, _, text = text.partition(b"\n\n")
                sent = Sent()
                for line in event.decode().split("\n"):
                    name, _, value = line.partition(":")
                    if name:
                        setattr(sent, name, value.removeprefix(" "))
                yield sent
            size = int(await self.reader.readline(), 16)
            text += (await self.reader.readexactly(size + 2))[:-2]
            if size == 0:
                return

    async def frames(self) -> AsyncGenerator[dict[str, Any], None]:
        """The frames of one subscription."""
        async with aclosing(self.events()) as events:
            async for sent in events:
                if sent.event == "next":
                    frame = sent.frame()
                    assert sent.id == frame["cursor"]
                    yield frame


@asynccontextmanager
async def listen(
    live: Live, document: str, variables: dict[str, Any], *, behind: str | None = None
) -> AsyncGenerator[EventSource]:
    """Follow a document; `behind` is the id of the last event of another time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    body = json.dumps({"query": document, "variables": variables}).encode()
    head = [
        "POST /graphql HTTP/1.1", "Host: 127.0.0.1", "Accept: text/event-stream",
        "Content-Type: application/json", f"Content-Length: {len(body)}",
        f"Authorization: Bearer {live.api.acme.token}", *([f"Last-Event-ID: {behind}"] if behind else []),
    ]  # fmt: skip
    try:
        writer.write("\r\n".join((*head, "", "")).encode() + body)
        status = await reader.readuntil(b"\r\n\r\n")
        assert status.startswith(b"HTTP/1.1 200 "), status
        yield EventSource(reader, writer.transport)
    finally:
        writer.transport.abort()
