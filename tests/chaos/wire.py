"""A wire to PostgreSQL that is cut when a commit was sent, came true, and its answer was about to arrive.

Whoever is at the other end cannot tell that from a commit that never happened. A wire understands as much of the
protocol as it takes to find such moments: statements that end a transaction, and statements that write outside of one.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

_CHUNK = 1 << 16
# The first message of a connection has no letter; its length is that of a name, a password's method, some settings.
_LONGEST_START = 10_000
_SSL_REQUEST, _CANCEL_REQUEST = 80877103, 80877102
_READY = b"Z\x00\x00\x00\x05"
_IDLE = ord("I")
# Commits that a connection is left: the first is often that by which a worker enters itself, and one that cannot do so
# ends and begins anew. That would be met again and again, and nothing else.
_SPARED = 2
_COMMIT = re.compile(rb"\s*COMMIT\b", re.IGNORECASE)
_WRITES = re.compile(rb"\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\b", re.IGNORECASE)
# The answers to what has come true; a transaction that had failed answers COMMIT with ROLLBACK.
_CAME_TRUE = re.compile(rb"C\x00\x00\x00.(?:COMMIT|INSERT|UPDATE|DELETE|SELECT)[ \x00]", re.DOTALL)
_REFUSED = re.compile(rb"E\x00\x00..S(?:ERROR|FATAL|PANIC)\x00", re.DOTALL)


class Frames:
    """Cuts what a client says into messages: (letter, body). The first ones, before it is let in, have no letter."""

    def __init__(self) -> None:
        self._rest = b""
        self._greeted = False

    def of(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The messages that are complete with `data`."""
        self._rest += data
        place = 0
        while True:
            start = place + 1 if self._greeted else place
            if len(self._rest) < start + 4:
                break
            (length,) = struct.unpack_from("!i", self._rest, start)
            if len(self._rest) < start + length:
                break
            body = self._rest[start + 4 : start + length]
            yield self._rest[place:start], body
            if not self._greeted and body[:4] not in (_packed(_SSL_REQUEST), _packed(_CANCEL_REQUEST)):
                self._greeted = length <= _LONGEST_START
            place = start + length
        self._rest = self._rest[place:]


class Ears:
    """Hears, of one connection, when the client asks for something that will come true with the next answer."""

    def __init__(self) -> None:
        self._frames = Frames()
        self._writing: dict[bytes, bool] = {}
        self.idle = True

    def heard(self, data: bytes) -> bool:
        """Whether `data`, from the client, asks for a commit."""
        commits = False
        for letter, body in self._frames.of(data):
            if letter == b"Q":
                commits = commits or _COMMIT.match(body) is not None
            elif letter == b"P":
                name, _, rest = body.partition(b"\x00")
                self._writing[name] = _WRITES.search(rest.partition(b"\x00")[0]) is not None
            elif letter == b"B":
                statement = body.partition(b"\x00")[2].partition(b"\x00")[0]
                commits = commits or (self.idle and self._writing.get(statement, False))
        return commits

    def answered(self, data: bytes) -> bool:
        """Whether `data`, from the server, ends an answer; notes whether a transaction is open then."""
        if data[-6:-1] != _READY:
            return False
        self.idle = data[-1] == _IDLE
        return True


@dataclass
class Wire:
    """Listens in place of the server at `url`. `arm` cuts the next commit of anybody behind it; `cuts` counts them."""

    url: str
    port: int = 0
    cuts: int = 0
    _armed: asyncio.Future[None] | None = None
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def leading(self) -> str:
        """The URL that leads through this wire."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{self.port}"))

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def arm(self, seconds: float) -> bool:
        """Cut the next commit. Returns False when none came in time."""
        if self._armed is not None:
            return False
        self._armed = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait_for(self._armed, seconds)
            return True
        except TimeoutError:
            return False
        finally:
            self._armed = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        parts = urlsplit(self.url)
        server: asyncio.StreamWriter | None = None
        try:
            answers, server = await asyncio.open_connection(parts.hostname, parts.port)
            call = _Call(self, Ears())
            ways = [
                asyncio.ensure_future(call.ask(reader, server)),
                asyncio.ensure_future(call.answer(answers, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            # The server is away, or the wire is taken down: so is its other end.
            pass
        finally:
            for end in (writer, server):
                if end is not None:
                    end.transport.abort()

    def take_aim(self) -> bool:
        """Whether the commit that was just heard is the one to be cut."""
        return self._armed is not None and not self._armed.done()

    def cut(self) -> None:
        self.cuts += 1
        if self._armed is not None and not self._armed.done():
            self._armed.set_result(None)


@dataclass
class _Call:
    """One connection over the wire."""

    wire: Wire
    ears: Ears
    commits: int = 0
    # What the server has said since the commit that is to be cut was sent.
    doomed: bytearray | None = None

    async def ask(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self.ears.heard(data):
                    self.commits += 1
                    if self.commits > _SPARED and self.doomed is None and self.wire.take_aim():
                        self.doomed = bytearray()
                server.write(data)
                await server.drain()

    async def answer(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await answers.read(_CHUNK):
                over = self.ears.answered(data)
                if self.doomed is None:
                    writer.write(data)
                    await writer.drain()
                    continue
                self.doomed += data
                if not over:
                    continue
                said, self.doomed = bytes(self.doomed), None
                if has_come_true(said) and self.ears.idle and self.wire.take_aim():
                    self.wire.cut()
                    return
                writer.write(said)


def has_come_true(said: bytes) -> bool:
    """Whether the server's answer says that something was made true."""
    return _CAME_TRUE.search(said) is not None and _REFUSED.search(said) is None


def _packed(number: int) -> bytes:
    return struct.pack("!i", number)
