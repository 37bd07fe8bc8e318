"""Requests that are answered on the connection: over real sockets, beside an application that answers the others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app.cli.serve import listen
from app.web.straight import Respond, StraightHttp, Whole

PATIENCE = 20.0
# Of requests that took a moment: whether it was known by then that whoever sent them had gone.
GONE: list[bool] = []
# Heads that somebody was asked to answer.
HEADS: list[dict[bytes, bytes]] = []


async def through(request: Request) -> PlainTextResponse:
    body = await request.body()
    if body.endswith(b"later"):
        await asyncio.sleep(0.05)
        request.app.state.gone.append(await request.is_disconnected())
    return PlainTextResponse(b"through:" + body)


def straight(scope: Any) -> Respond | None:
    """Says back what it was sent; what it is sent says how."""
    HEADS.append(dict(scope["headers"]))
    if scope["path"] == "/broken":
        raise RuntimeError

    def respond(body: bytes) -> Whole | Awaitable[Whole] | None:
        answer: Whole = (200, b"x-path: %s\r\n" % scope["path"].encode(), b"straight:" + body)

        async def later() -> Whole:
            await asyncio.sleep(0.05 if body == b"later" else 0.002)
            if body == b"broken":
                raise RuntimeError
            return answer

        if body.startswith(b"not here"):
            return None
        if body == b"broken at once":
            raise RuntimeError
        return answer if body.startswith(b"now") else later()

    return respond


@pytest.fixture
async def port() -> AsyncIterator[int]:
    application = Starlette(routes=[Route("/", through, methods=["GET", "POST"])])
    application.state.straight = straight
    application.state.gone = GONE
    config = uvicorn.Config(application, http=StraightHttp, log_config=None, lifespan="off", server_header=False)
    server, listening = uvicorn.Server(config), listen("127.0.0.1", 0)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    HEADS.clear()
    yield listening.getsockname()[1]
    server.should_exit = True
    await asyncio.wait_for(serving, PATIENCE)


def post(body: bytes, *more: bytes) -> bytes:
    head = [b"POST / HTTP/1.1", b"Host: test", b"Content-Length: %d" % len(body), *more]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


async def answers(port: int, *pieces: bytes, number: int = 1, pause: float = 0.05) -> list[tuple[bytes, bytes]]:
    """Heads and bodies of so many answers to what is sent in these pieces; nothing may follow them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(pause)
    found = []
    for _ in range(number):
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        found.append((head, await asyncio.wait_for(reader.readexactly(length), PATIENCE)))
    writer.write_eof()
    rest = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    assert rest == b""
    return found


@pytest.mark.parametrize("body", [b"now", b"later"])
async def test_what_is_there_whole_is_answered_in_one_piece(port: int, body: bytes) -> None:
    ((head, said),) = await answers(port, post(body))
    assert said == b"straight:" + body
    status, *lines = head.strip().split(b"\r\n")
    assert status == b"HTTP/1.1 200 OK"
    assert [line.split(b":")[0] for line in lines] == [b"date", b"x-path", b"content-length"]


@pytest.mark.parametrize(
    "pieces",
    [
        [post(b"not here")],
        [b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"],
        [post(b"now")[:-1], b"w"],
        [post(b"now")[:20], post(b"now")[20:-2], b"ow"],
        [post(b"now", b"X-Forwarded-For: 10.0.0.1")],
        [post(b"now", b"Expect: 100-continue")],
    ],
    ids=["declined", "another method", "in two pieces", "in three pieces", "of a proxy", "it waits"],
)
async def test_everything_else_goes_through(port: int, pieces: list[bytes]) -> None:
    if b"Expect" in pieces[0]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(pieces[0])
        answer = await asyncio.wait_for(reader.readuntil(b"through:now"), PATIENCE)
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
        writer.close()
        return
    ((_, said),) = await answers(port, *pieces)
    assert said.startswith(b"through:")


async def test_requests_in_one_packet_are_answered_in_their_order(port: int) -> None:
    bodies = [b"now", b"later", b"now", b"not here", b"later", b"now"]
    found = await answers(port, b"".join(post(body) for body in bodies), number=len(bodies))
    assert [said.split(b":")[1] for _, said in found] == bodies


async def test_a_connection_that_is_to_be_closed_is(port: int) -> None:
    for body in (b"now", b"later"):
        ((head, said),) = await answers(port, post(body, b"Connection: close"))
        assert said == b"straight:" + body
        assert b"connection: close\r\n" in head


@pytest.mark.parametrize("body", [b"broken", b"broken at once"])
async def test_a_bug_is_answered_and_ends_the_connection(port: int, body: bytes) -> None:
    ((head, said),) = await answers(port, post(body))
    assert head.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert (b"connection: close\r\n" in head, said) == (True, b"Internal Server Error")


async def test_a_fault_in_asking_who_answers_is_no_fault_of_the_request(port: int) -> None:
    ((head, said),) = await answers(port, post(b"now").replace(b"POST /", b"POST /broken"))
    assert head.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert (b"connection: close\r\n" in head, said) == (True, b"Internal Server Error")


async def test_a_head_that_comes_again_is_not_read_again(port: int) -> None:
    bodies = [b"now 0000", b"now 0001", b"later on", b"not here", b"now 0002", b"not here", b"later by"]
    found = await answers(port, *(post(body) for body in bodies), number=len(bodies))
    assert [said.split(b":")[1] for _, said in found] == bodies
    assert [said.split(b":")[0] == b"through" for _, said in found] == [body == b"not here" for body in bodies]
    assert len(HEADS) == 1
    # Another length is another head, and so is another value; of old ones there are few.
    heads = [post(b"now"), post(b"now 1"), *(post(b"now", b"X-Number: %d" % number) for number in range(6))]
    await answers(port, *heads, *heads, number=2 * len(heads))
    assert len(HEADS) == 1 + 2 * len(heads)


@pytest.mark.parametrize(
    "more",
    [
        [b"X-Odd: a\nX-Other: b"],
        [b"Transfer-Encoding: identity"],
        [b"Content-Length: 3"],
        [b"X-Folded: a", b" b"],
    ],
    ids=["ends of lines", "in pieces", "two lengths", "folded"],
)
async def test_what_is_no_request_is_none_behind_one_that_is_known(port: int, more: list[bytes]) -> None:
    *_, (head, _) = await answers(port, post(b"now"), post(b"now"), post(b"now", *more), number=3)
    assert head.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("more", [b"Expect: nothing", b"Trailer: x"])
async def test_heads_that_say_more_are_read_anew(port: int, more: bytes) -> None:
    await answers(port, *[post(b"now", more)] * 3, number=3)
    assert len(HEADS) == 3


async def test_a_request_may_be_cut_anywhere_behind_one_that_is_known(port: int) -> None:
    whole = post(b"now")
    for place in range(1, len(whole)):
        found = await answers(port, whole, whole, whole[:place], whole[place:], whole, number=4, pause=0.003)
        assert [said.split(b":")[1] for _, said in found] == [b"now"] * 4


@pytest.mark.parametrize("beginning", [b"POS", b"P", b"\x00", b"GET / HTTP/1.1\r\n"])
async def test_what_begins_before_a_known_request_makes_it_another(port: int, beginning: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in (post(b"now"), post(b"now"), beginning, post(b"now")):
        writer.write(piece)
        await asyncio.sleep(0.02)
    told = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    assert told.count(b"straight:now") == 2
    assert b"HTTP/1.1 400 " in told


@pytest.mark.parametrize("first", [b"POST / HTTP/9.9\r\n\r\n", b"\r\n\r\n\x00", b"POS"])
async def test_a_connection_may_begin_with_anything(port: int, first: bytes, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    await asyncio.sleep(0.05)
    writer.write_eof()
    told = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    assert told == b"" or told.startswith(b"HTTP/1.1 400 ")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("seed", range(20))
async def test_however_requests_arrive_each_is_answered_in_its_turn(port: int, seed: int) -> None:
    """Heads that are known and others, cut and joined at random, answered at once, later, and elsewhere."""
    chance = random.Random(seed)
    for _ in range(5):
        bodies = [chance.choice([b"now %04d", b"later %02d", b"not here %d"]) % number for number in range(10, 25)]
        heads = [chance.choice([[], [b"X-A: 1"], [b"X-Forwarded-For: 1"]]) for _ in bodies]
        waiting = b"".join(post(body, *more) for body, more in zip(bodies, heads, strict=True))
        ends, at = [], 0
        for body, more in zip(bodies, heads, strict=True):
            at += len(post(body, *more))
            ends.append(at)
        places = sorted({*chance.sample(ends, 10), *chance.sample(range(at), chance.choice([0, 0, 2]))})
        pieces = [waiting[begin:end] for begin, end in zip([0, *places], [*places, at], strict=True)]
        found = await answers(port, *pieces, number=len(bodies), pause=0.004)
        assert [said.split(b":")[1] for _, said in found] == bodies


async def test_whoever_leaves_is_not_answered(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(b"later"))
    await writer.drain()
    writer.transport.abort()
    await asyncio.sleep(0.1)
    ((_, said),) = await answers(port, post(b"now"))
    assert said == b"straight:now"


async def test_whoever_sends_several_and_leaves_is_known_to_have_gone(port: int) -> None:
    """The one in hands is not the one that came last; writing to a connection that is closed would be an error."""
    GONE.clear()
    for _ in range(3):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"not here, later") * 4)
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.transport.abort()
    await asyncio.sleep(0.3)
    ((_, said),) = await answers(port, post(b"now"))
    assert said == b"straight:now"
    assert GONE == [True] * 3
