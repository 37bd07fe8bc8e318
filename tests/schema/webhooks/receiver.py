"""An integrator's server, as good or as bad as a test wants it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from standardwebhooks import Webhook


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to a request. `after`: only then; `hangs`: never; `drops`: the connection is closed instead."""

    status: int = 200
    body: bytes = b"thanks"
    headers: dict[str, str] = field(default_factory=dict)
    after: asyncio.Event | None = None
    hangs: bool = False
    drops: bool = False
    endless: bool = False


OK = Answer()


@dataclass(frozen=True, slots=True)
class Received:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def message(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def verified(self, secret: str) -> dict[str, Any]:
        """The message, if the reference implementation believes it. Raises WebhookVerificationError."""
        found: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return found


@dataclass
class Receiver:
    """Answers by `script`, then with 200."""

    port: int = 0
    script: deque[Answer] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)
    _bell: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def seqs(self) -> list[int]:
        """The numbers of the events that came, in the order in which they came."""
        return [each.message["seq"] for each in self.received]

    async def came(self, count: int, seconds: float = 30) -> None:
        """Wait for so many requests in all."""
        async with asyncio.timeout(seconds):
            while len(self.received) < count:
                self._bell.clear()
                await self._bell.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            writer.transport.abort()

    def choose(self) -> Answer:
        """What is said to the request that came last."""
        return self.script.popleft() if self.script else OK

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.received.append(Received(head[0].split()[1], headers, body))
        self._bell.set()
        answer = self.choose()
        if answer.hangs:
            await asyncio.Event().wait()
        if answer.after is not None:
            await answer.after.wait()
        if answer.drops:
            return False
        length = 10**9 if answer.endless else len(answer.body)
        lines = [f"HTTP/1.1 {answer.status} x", f"content-length: {length}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
        await writer.drain()
        if answer.endless:
            await asyncio.Event().wait()
        return True


R = TypeVar("R", bound=Receiver)


@asynccontextmanager
async def receiving(receiver: R) -> AsyncIterator[R]:
    """The receiver, listening on this machine."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await receiver.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
