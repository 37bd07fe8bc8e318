"""A process that goes sends away who follows something live, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from app import clock
from app.settings import Settings
from app.web.serving import DrainingServer
from schema import draining
from schema.asgi import assemble
from schema.context import Services
from schema.draining import Draining
from tests.schema.live.conftest import LOGS, Live, job_id, seqs, server_config, started
from tests.schema.live.event_streams import listen
from tests.schema.live.test_protocol import dial, introduce, receive, subscribe
from tests.schema.live.test_sharing import members, until


class Clock:
    """Time that only passes while somebody sleeps."""

    def __init__(self, patches: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patches.setattr(clock, "monotonic", lambda: self.now)
        patches.setattr(asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("count", "longest"), [(1, 0.0), (20, 0.1), (1_000, 3.0), (5_000, 3.0)])
async def test_they_go_in_equal_distances(monkeypatch: pytest.MonkeyPatch, count: int, longest: float) -> None:
    time, draining, told = Clock(monkeypatch), Draining(), list[float]()

    class One:
        def go(self) -> None:
            told.append(time.now - 1000.0)
            draining.leave(self.go)

    for _ in range(count):
        draining.enter(One().go)
    await draining.drain(3.0)
    assert len(told) == count
    assert len(draining) == 0
    assert told[0] == 0.0
    assert told[-1] == pytest.approx(longest * (count - 1) / count)
    assert all(later - earlier == pytest.approx(longest / count) for earlier, later in pairwise(told))


async def test_where_it_is_urgent_they_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    time, draining, told = Clock(monkeypatch), Draining(), list[float]()

    def go_of(number: int) -> None:
        draining.enter(lambda: told.append(number))

    for number in range(1_000):
        go_of(number)
    await draining.drain(3.0, lambda: len(told) >= 10)
    assert told[:1_000] == [*range(1_000)]
    assert time.now - 1000.0 == pytest.approx(3.0 * 9 / 1_000)


async def test_who_comes_or_leaves_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    draining, told = Draining(), list[str]()
    late, gone = (lambda: told.append("late")), (lambda: told.append("gone"))

    def first() -> None:
        told.append("first")
        draining.leave(first)
        draining.leave(gone)
        draining.enter(late)

    draining.enter(first)
    draining.enter(gone)
    await draining.drain(3.0)
    assert told == ["first", "late"]
    # And afterwards nobody stays.
    draining.enter(lambda: told.append("last"))
    loop = asyncio.get_running_loop()
    turned = loop.create_future()
    loop.call_soon(turned.set_result, None)
    await turned
    assert told == ["first", "late", "last"]


@asynccontextmanager
async def going(live: Live, services: Services) -> AsyncIterator[tuple[Live, DrainingServer]]:
    """A process beside the one of `live`, which is about to go."""
    own = replace(services, draining=Draining())
    server = DrainingServer(server_config(assemble(own, Settings())), own.draining.drain, 5.0)
    async with started(server) as port:
        yield Live(live.api, port), server
    assert len(own.draining) == 0


@dataclass
class Told:
    """What one client has heard, and how it ended."""

    lines: list[int] = field(default_factory=list)
    place: str | None = None
    end: int | str | None = None


async def test_who_is_sent_away_is_served_until_then_and_misses_nothing_elsewhere(
    live: Live, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As few as these would be gone too soon for anything to happen meanwhile.
    monkeypatch.setattr(draining, "_A_SECOND", 5)
    job, ended = await live.job(), asyncio.Event()

    def hear(told: Told, frame: dict[str, Any]) -> None:
        told.lines += seqs([frame], "lines")
        told.place = frame["cursor"]

    async def over_socket(old: Live, told: Told) -> None:
        async with dial(old) as socket:
            await introduce(socket, old)
            await subscribe(socket, LOGS, {"id": job_id(job)})
            with suppress(ConnectionClosed):
                while True:
                    hear(told, (await receive(socket))["payload"]["data"]["jobLogs"])
            told.end = socket.close_code
        ended.set()
        async with aclosing(live.frames(LOGS, {"id": job_id(job), "after": told.place})) as frames:
            async for frame in frames:
                hear(told, frame)

    async def over_events(old: Live, told: Told) -> None:
        async with listen(old, LOGS, {"id": job_id(job)}) as source, aclosing(source.events()) as events:
            last = None
            async for sent in events:
                last = sent.event
                hear(told, sent.frame())
            told.end = last
            # Nobody comes to the same process again on the same connection.
            assert await source.reader.read() == b""
        ended.set()
        async with (
            listen(live, LOGS, {"id": job_id(job)}, behind=told.place) as source,
            aclosing(source.frames()) as frames,
        ):
            async for frame in frames:
                hear(told, frame)

    async with asyncio.timeout(60), going(live, services) as (old, server):
        clients = [(one, Told()) for one in (over_socket, over_events) for _ in range(10)]
        following = [asyncio.create_task(one(old, told)) for one, told in clients]
        await until(lambda: members(services) == 20)
        await live.api.acme.rows.lines(job, "before")
        await until(lambda: all(told.lines for _, told in clients))
        server.should_exit = True
        await ended.wait()
        await live.api.acme.rows.lines(job, "meanwhile")
        # The last of them hear it from the old process, which nobody gets into any more.
        await until(lambda: any(told.lines == [1, 2] and told.end is None for _, told in clients))
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", old.port)
        await until(lambda: all(told.end for _, told in clients))
        await live.finish(job)
        await asyncio.gather(*following)
    assert [told.lines for _, told in clients] == [[1, 2]] * 20
    assert {told.end for one, told in clients if one is over_socket} == {1012}
    # There was no `complete`: there would have been more.
    assert {told.end for one, told in clients if one is over_events} == {"next"}
