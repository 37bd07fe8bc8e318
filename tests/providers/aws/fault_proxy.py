"""A way to the emulator on which accidents happen: requests and answers are lost, and there are too many requests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import parse_qs

from app.providers.faults import FaultKind
from tests.providers.aws.moto_server import Emulator

# What only asks. REST services say it by their method.
_ASKS = re.compile("^(Describe|List|Get|Head|Assume)")
# Each service is throttled in its own words; the SDK knows all of them.
_QUERY = "<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>m</Message></Error></Errors></Response>"
_ERROR = "<ErrorResponse><Error><Code>Throttling</Code><Message>m</Message></Error></ErrorResponse>"


@dataclass(frozen=True)
class Request:
    """A request as it came in. `operation`: its name, or method and path where it has none."""

    head: bytes
    body: bytes
    operation: str
    service: str

    @property
    def writes(self) -> bool:
        return _ASKS.match(self.operation.removeprefix("GET ").removeprefix("HEAD ")) is None and not (
            self.operation.startswith(("GET ", "HEAD "))
        )

    @property
    def key(self) -> str:
        """The same for the same request sent again."""
        return f"{self.operation} {sha256(self.body).hexdigest()}"


Judge = Callable[[Request], FaultKind | None]
Rewrite = Callable[[Request, str], str]


@dataclass
class FaultProxy:
    """`judge` says what happens to a request, `rewrite` what becomes of the body of an answer.

    `seen` lists the operations that change something, `faulted` those to which something happened.
    """

    emulator: Emulator
    judge: Judge
    rewrite: Rewrite | None = None
    url: str = ""
    faulted: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            await _close(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await _read(reader, writer)) is not None:
            if request.writes:
                self.seen.append(request.operation)
            fault = self.judge(request)
            if fault is not None:
                self.faulted.append(request.operation)
            if fault is FaultKind.DROP_BEFORE:
                break
            answer = _throttled(request) if fault is FaultKind.THROTTLE else await self._forward(request)
            if fault is FaultKind.DROP_AFTER:
                break
            writer.write(answer)
            await writer.drain()

    async def _forward(self, request: Request) -> bytes:
        reader, writer = await asyncio.open_connection(self.emulator.host, self.emulator.port)
        try:
            head = re.sub(rb"\r\n(?i:connection|expect):[^\r]*", b"", request.head)
            writer.write(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + request.body)
            await writer.drain()
            answer = await reader.read()
        finally:
            await _close(writer)
        # The emulator closes after each answer; whoever asked us may go on.
        head, _, body = re.sub(rb"\r\n(?i:connection): close", b"", answer, count=1).partition(b"\r\n\r\n")
        if self.rewrite is not None:
            body = self.rewrite(request, body.decode()).encode()
            head = re.sub(rb"(?i:content-length): \d+", f"Content-Length: {len(body)}".encode(), head)
        return head + b"\r\n\r\n" + body


def once_each(*kinds: FaultKind) -> Judge:
    """Each time that the same request which changes something is sent, the next of these happens to it."""
    met: Counter[str] = Counter()

    def judge(request: Request) -> FaultKind | None:
        if not request.writes or met[request.key] >= len(kinds):
            return None
        met[request.key] += 1
        return kinds[met[request.key] - 1]

    return judge


@asynccontextmanager
async def between(emulator: Emulator, judge: Judge, rewrite: Rewrite | None = None) -> AsyncIterator[FaultProxy]:
    """A proxy in front of the emulator, on a port of its own of the loopback address."""
    proxy = FaultProxy(emulator, judge, rewrite)
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    proxy.url = f"http://{host}:{port}"
    try:
        yield proxy
    finally:
        server.close()
        for task in [*connections]:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head.decode().split("\r\n")[1:])
    }
    if headers.get("expect") == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    assert "chunked" not in headers.get("transfer-encoding", "")
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path = head.decode().split(" ")[:2]
    action = parse_qs(body.decode(errors="replace")).get("Action", [""])[0] if b"Action=" in body else ""
    action = action or headers.get("x-amz-target", "").rpartition(".")[2] or f"{method} {path}"
    scope = re.search(r"/([a-z0-9]+)/aws4_request", headers.get("authorization", ""))
    return Request(head, body, action, scope.group(1) if scope else "")


def _throttled(request: Request) -> bytes:
    status, kind, body = "400 Bad Request", "text/xml", _QUERY if request.service == "ec2" else _ERROR
    if request.service == "s3":
        status, body = "503 Slow Down", "<Error><Code>SlowDown</Code><Message>m</Message></Error>"
    elif b"x-amz-json" in request.head.lower():
        kind, body = "application/x-amz-json-1.1", json.dumps({"__type": "ThrottlingException", "message": "m"})
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
