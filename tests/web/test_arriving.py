"""Requests that do not arrive: over real sockets, to a server whose patience is short."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from app.cli.serve import listen
from app.web import arriving
from app.web.arriving import BodyDeadlines, BoundedHttp
from app.web.sockets import Socket

SHORT = 0.4
# How long a test waits for what has to come; nothing is measured by it.
PATIENCE = 20.0
HEAD = b"POST /echo HTTP/1.1\r\nHost: test\r\n"
HANDSHAKE = (
    b"GET /live HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(await request.body())


async def refuse(_: Request) -> PlainTextResponse:
    return PlainTextResponse("who are you?", 401)


async def slow(_: Request) -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(4):
            yield str(number).encode()
            await asyncio.sleep(SHORT / 2)

    return StreamingResponse(parts())


async def live(socket: WebSocket) -> None:
    await socket.accept()
    await asyncio.sleep(SHORT * 3)
    await socket.send_text("still here")
    await socket.close()


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A server with our protocol, over an application that reads what it is sent."""
    for name in ("HEAD_SECONDS", "STATE_SECONDS", "REST_SECONDS"):
        monkeypatch.setattr(arriving, name, SHORT)
    application = Starlette(
        routes=[
            Route("/echo", echo, methods=["POST"]),
            Route("/tofu/states/{name}", echo, methods=["POST"]),
            Route("/refuse", refuse, methods=["POST"]),
            Route("/slow", slow),
            WebSocketRoute("/live", live),
        ],
        middleware=[Middleware(BodyDeadlines, usual=SHORT / 2, states=PATIENCE)],
    )
    async with served(application, BoundedHttp) as listening_at:
        yield listening_at


@contextlib.asynccontextmanager
async def served(application: Starlette, http: type[BoundedHttp], socket: type[Socket] = Socket) -> AsyncIterator[int]:
    """The port of a server."""
    config = uvicorn.Config(application, http=http, ws=socket, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    listening = listen("127.0.0.1", 0)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:  # noqa: ASYNC110  it has no event to wait for
        await asyncio.sleep(0.01)
    yield listening.getsockname()[1]
    server.should_exit = True
    await task


async def until_closed(port: int, sent: bytes, *, again: bytes = b"") -> bytes:
    """What the server says before it closes; `again` is sent over and over meanwhile."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)

    async def trickle() -> None:
        with contextlib.suppress(OSError):
            while again:
                await asyncio.sleep(SHORT / 8)
                writer.write(again)
                await writer.drain()

    trickling = asyncio.create_task(trickle())
    try:
        async with asyncio.timeout(PATIENCE):
            said = b""
            with contextlib.suppress(ConnectionResetError):
                while part := await reader.read(65_536):
                    said += part
            return said
    finally:
        trickling.cancel()
        writer.close()


async def test_who_says_nothing_is_hung_up_on(port: int) -> None:
    assert await until_closed(port, b"") == b""


@pytest.mark.parametrize("again", [b"", b"a"])
async def test_half_a_head_has_a_deadline_however_it_goes_on(port: int, again: bytes) -> None:
    assert (await until_closed(port, HEAD + b"X-Long: ", again=again)).startswith(b"HTTP/1.1 408 ")


async def test_empty_lines_are_no_sign_of_life(port: int) -> None:
    assert (await until_closed(port, b"\r\n", again=b"\r\n")).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 100\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"Content-Length: 1\r\n\r\n",
    ],
)
async def test_a_body_that_does_not_arrive_is_answered_with_408(port: int, rest: bytes) -> None:
    said = await until_closed(port, HEAD + rest)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head.lower()
    assert b"did not arrive within 0.2 s" in body


async def test_a_body_that_trickles_is_answered_with_408(port: int) -> None:
    said = await until_closed(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", again=b"1\r\na\r\n")
    assert said.startswith(b"HTTP/1.1 408 ")


async def test_what_nobody_reads_any_more_ends_as_well(port: int) -> None:
    unread = b"POST /refuse HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n"
    said = await until_closed(port, unread, again=b"a")
    assert said.startswith(b"HTTP/1.1 401 ")
    assert said.count(b"HTTP/1.1") == 1


async def test_a_state_may_take_longer_but_not_for_ever(port: int) -> None:
    unending = b"POST /tofu/states/x HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\na"
    assert await until_closed(port, unending) == b""


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"".join(b"X-%d: %b\r\n" % (number, b"a" * 1000) for number in range(1000)),
        HEAD + b"X-Long: " + b"a" * 1_000_000,
        HEAD.replace(b"echo", b"tofu/states/x")
        + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
        + b"X-Trailer: a\r\n" * 100_000,
    ],
)
async def test_headers_without_end_are_cut_off(port: int, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not by their deadlines, which are far away here.
    for name in ("HEAD_SECONDS", "STATE_SECONDS"):
        monkeypatch.setattr(arriving, name, PATIENCE * 10)
    said = await until_closed(port, sent)
    # The rest of what we sent can destroy the answer on its way.
    assert said.partition(b"\r\n")[0] in {b"", b"HTTP/1.1 431 Request Header Fields Too Large"}


async def test_an_answer_may_take_longer_than_any_request(port: int) -> None:
    ask = b"GET /slow HTTP/1.1\r\nHost: test\r\n"
    said = await until_closed(port, ask + b"\r\n" + ask + b"Connection: close\r\n\r\n")
    assert said.count(b"HTTP/1.1 200 ") == 2
    assert said.endswith(b"0\r\n\r\n")


async def test_requests_follow_one_another_on_a_connection(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(3):
        writer.write(HEAD + b"Content-Length: 3\r\n\r\na")
        await asyncio.sleep(SHORT / 4)
        writer.write(b"bc")
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(3) == b"abc"
        await asyncio.sleep(SHORT / 4)
    writer.close()


async def test_a_websocket_is_no_request_that_takes_long(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HANDSHAKE)
    async with asyncio.timeout(PATIENCE):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert b"still here" in await reader.readexactly(12)
    writer.close()


async def test_an_upgrade_behind_an_answer_that_is_still_to_come_is_none(port: int) -> None:
    ask = b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n"
    said = await until_closed(port, ask + ask + HANDSHAKE, again=b"a")
    assert said.count(b"HTTP/1.1 200 ") == said.count(b"HTTP/1.1 ") == 2
    assert said.endswith(b"0\r\n\r\n")


async def test_an_upgrade_behind_an_answer_is_one(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(PATIENCE):
        writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(HANDSHAKE)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    writer.close()


_NO_HANDSHAKES = {
    "a body": HANDSHAKE.replace(b"Host", b"Content-Length: 5\r\nHost") + b"hello",
    "a body in pieces": HANDSHAKE.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost") + b"0\r\n\r\n",
    "many headers": HANDSHAKE.replace(b"Host", b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"Host"),
    "a long header": HANDSHAKE.replace(b"Host", b"X-Long: " + b"a" * 9000 + b"\r\nHost"),
    "another method": HANDSHAKE.replace(b"GET", b"POST"),
    "no key": HANDSHAKE.replace(b"-Key", b"-Lock"),
    "another version": HANDSHAKE.replace(b"13", b"12"),
}


@pytest.mark.parametrize("name", _NO_HANDSHAKES)
async def test_what_no_websocket_begins_with_is_refused_and_closed(port: int, name: str) -> None:
    said = await until_closed(port, _NO_HANDSHAKES[name])
    assert said.startswith(b"HTTP/1.1 4"), said
    assert said.count(b"HTTP/1.1") == 1


async def test_a_socket_that_cannot_be_closed_well_does_not_keep_the_others() -> None:
    class Broken(Socket):
        def send_500_response(self) -> None:
            raise AssertionError

    opening = asyncio.Event()

    async def never(_: WebSocket) -> None:
        opening.set()
        await asyncio.sleep(SHORT)

    async with asyncio.timeout(PATIENCE):
        application = Starlette(routes=[WebSocketRoute("/live", never)])
        async with served(application, BoundedHttp, Broken) as port_of_it:
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of_it)
            writer.write(HANDSHAKE)
            await opening.wait()
        # It has stopped, and whoever was there is hung up on.
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()


async def test_of_a_websocket_nothing_stays_of_the_request_that_asked_for_it() -> None:
    speaking: weakref.WeakSet[BoundedHttp] = weakref.WeakSet()

    class Seen(BoundedHttp):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            speaking.add(self)
            super().connection_made(transport)

    async with served(Starlette(routes=[WebSocketRoute("/live", live)]), Seen) as port_of_it:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of_it)
        gc.collect()
        # Without a look for garbage, which a process that has little of it may not take for long.
        gc.disable()
        try:
            writer.write(HANDSHAKE)
            async with asyncio.timeout(PATIENCE):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                assert b"still here" in await reader.readexactly(12)
            assert len(speaking) == 0
        finally:
            gc.enable()
        writer.close()


async def test_who_leaves_in_the_middle_is_no_fault_of_ours(port: int, caplog: pytest.LogCaptureFixture) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD + b"Content-Length: 100\r\n\r\nabc")
    await writer.drain()
    await asyncio.sleep(SHORT / 8)
    writer.close()
    # Another request is answered after it.
    assert b"200 OK" in await until_closed(port, HEAD + b"Connection: close\r\nContent-Length: 1\r\n\r\na")
    assert "Exception in ASGI" not in caplog.text
