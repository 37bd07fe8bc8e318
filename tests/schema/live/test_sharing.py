"""Many who follow the same stream are one execution, and each of them is told everything once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from app.db.models import OrchestrationJob
from app.domain.cursors import Place
from app.domain.events import Stream
from schema import followers
from schema.context import Services
from schema.live_operations import LiveOperation
from schema.sharers import Sharers
from tests.schema.live.conftest import JOB, LOGS, Live, job_id, progressed, seqs
from tests.schema.live.event_streams import Sent, listen
from tests.schema.live.test_protocol import dial, introduce, receive, send, subscribe
from tests.schema.test_loaders import statements


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  nothing tells when
            await asyncio.sleep(0.01)


def members(services: Services) -> int:
    return sum(len(group.members) for group in services.groups._groups.values())


async def test_each_frame_is_executed_once_for_all(live: Live, services: Services) -> None:
    job = await live.job()

    async def follow() -> list[int]:
        async with aclosing(live.frames(LOGS, {"id": job_id(job)})) as frames:
            return [seq async for frame in frames for seq in seqs([frame], "lines")]

    async with asyncio.timeout(30):
        following = [asyncio.create_task(follow()) for _ in range(30)]
        await until(lambda: members(services) == 30)
        (group,) = services.groups._groups.values()
        for number in range(5):
            await live.api.acme.rows.lines(job, f"line {number}")
            await until(lambda number=number: group.place == Place(number + 1))
        await live.finish(job)
        told = await asyncio.gather(*following)
    assert told == [[1, 2, 3, 4, 5]] * 30
    # Five frames of lines, and the end, for thirty followers.
    assert group.executions == 6
    assert len(services.groups) == 0


async def test_whoever_follows_over_whatever_shares_each_execution(live: Live, services: Services) -> None:
    job, begun = await live.job(), list[str]()

    async def over_socket() -> list[int]:
        told = list[int]()
        async with dial(live) as socket:
            await introduce(socket, live)
            await subscribe(socket, LOGS, {"id": job_id(job)})
            while (message := await receive(socket))["type"] == "next":
                begun.append("socket")
                told += seqs([message["payload"]["data"]["jobLogs"]], "lines")
        assert message == {"id": "1", "type": "complete"}
        return told

    async def over_events() -> list[int]:
        told, sent = list[int](), Sent()
        async with listen(live, LOGS, {"id": job_id(job)}) as source, aclosing(source.events()) as events:
            async for sent in events:
                if sent.event == "next":
                    begun.append("events")
                    assert sent.id == sent.frame()["cursor"]
                    told += seqs([sent.frame()], "lines")
        assert (sent.event, sent.data) == ("complete", "")
        return told

    async with asyncio.timeout(60):
        following = [asyncio.create_task(one()) for _ in range(200) for one in (over_socket, over_events)]
        await until(lambda: members(services) == 400)
        (group,) = services.groups._groups.values()
        for number in range(5):
            await live.api.acme.rows.lines(job, f"line {number}")
            await until(lambda number=number: group.place == Place(number + 1))
        await live.finish(job)
        told = await asyncio.gather(*following)
    assert told == [[1, 2, 3, 4, 5]] * 400
    # The beginning, five frames of lines, and the end.
    assert begun.count("socket") == begun.count("events") == 200 * 7
    assert group.executions == 6
    assert len(services.groups) == 0


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 8))])
async def test_everybody_is_told_everything_once_wherever_they_begin_and_however_they_read(
    live: Live, services: Services, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """They come and go, begin anywhere, and some read so slowly that they fall out again and again."""
    monkeypatch.setattr(followers, "WAITING_FRAMES", 2)
    job, chance = await live.job(), random.Random(seed)
    rows, over = live.api.acme.rows, asyncio.Event()

    @asynccontextmanager
    async def following_from(place: str | None) -> AsyncIterator[AsyncGenerator[dict[str, Any], None]]:
        if chance.random() < 0.5:
            async with aclosing(live.frames(LOGS, {"id": job_id(job), "after": place})) as frames:
                yield frames
        else:
            async with (
                listen(live, LOGS, {"id": job_id(job)}, behind=place) as source,
                aclosing(source.frames()) as frames,
            ):
                yield frames

    async def follow(number: int) -> list[int]:
        seen, after = list[int](), None
        await asyncio.sleep(chance.random())
        while True:
            async with following_from(after) as frames:
                left = chance.randint(3, 30)
                async for frame in frames:
                    seen += seqs([frame], "lines")
                    after = frame["cursor"]
                    if frame["kind"] == "END":
                        return seen
                    await asyncio.sleep(0.05 if number % 4 == 0 else 0)
                    left -= 1
                    if left == 0:
                        break

    async with asyncio.timeout(60):
        following = [asyncio.create_task(follow(number)) for number in range(12)]
        for number in range(120):
            if chance.random() < 0.3:
                await rows.events(Stream.JOB, job.id, progressed(job, float(number)))
            await rows.lines(job, *(f"line {number}" for _ in range(chance.randint(1, 4))))
            await asyncio.sleep(chance.choice((0.0, 0.0, 0.03)))
        over.set()
        await live.finish(job)
        told = await asyncio.gather(*following)
    assert len(told[0]) > 120
    assert all(one == told[0] for one in told)
    assert told[0] == sorted(set(told[0]))
    assert len(services.groups) == 0


async def _until_it_falls_out(live: Live, services: Services, job: OrchestrationJob) -> list[int]:
    """Follow beside somebody who does not read, until they are out of the group; the lines that were told meanwhile."""
    async with aclosing(live.frames(LOGS, {"id": job_id(job)})) as frames:
        await anext(frames)
        await until(lambda: members(services) == 2)
        seen = list[int]()
        for number in range(200):
            await live.api.acme.rows.lines(job, *(random.randbytes(2000).hex() for _ in range(60)))
            while len(seen) < 60 * (number + 1):
                seen += seqs([await anext(frames)], "lines")
            if members(services) == 1:
                break
        assert members(services) == 1
    return seen


async def test_whoever_does_not_read_costs_little_and_holds_up_nobody(
    live: Live, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "WAITING_BYTES", 4096)
    job = await live.job()
    async with dial(live) as sleeping, asyncio.timeout(60):
        await introduce(sleeping, live)
        await subscribe(sleeping, LOGS, {"id": job_id(job)})
        assert (await receive(sleeping))["type"] == "next"
        sleeping.transport.pause_reading()
        seen = await _until_it_falls_out(live, services, job)
        sleeping.transport.resume_reading()
        await live.finish(job)
        late = list[int]()
        while (message := await receive(sleeping))["type"] == "next":
            late += [int(line["seq"]) for line in message["payload"]["data"]["jobLogs"]["lines"]]
        assert message["type"] == "complete"
    assert late == seen


async def test_whoever_does_not_read_events_costs_little_and_holds_up_nobody(
    live: Live, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "WAITING_BYTES", 4096)
    job = await live.job()
    async with (
        asyncio.timeout(60),
        listen(live, LOGS, {"id": job_id(job)}) as sleeping,
        aclosing(sleeping.frames()) as late_frames,
    ):
        assert (await anext(late_frames))["kind"] == "SNAPSHOT"
        sleeping.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's is both
        seen = await _until_it_falls_out(live, services, job)
        sleeping.transport.resume_reading()  # type: ignore[attr-defined]
        await live.finish(job)
        late = [seq async for frame in late_frames for seq in seqs([frame], "lines")]
    assert late == seen


async def test_whoever_only_goes_along_has_no_task(
    live: Live, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = list[LiveOperation]()
    run = LiveOperation.run

    def counted(self: LiveOperation, work: Any) -> None:
        begun.append(self)
        run(self, work)

    monkeypatch.setattr(LiveOperation, "run", counted)
    job = await live.job()
    async with asyncio.timeout(20), dial(live) as first, dial(live) as second:
        for socket in (first, second):
            await introduce(socket, live)
            await subscribe(socket, LOGS, {"id": job_id(job)})
            assert (await receive(socket))["type"] == "next"
            await until(lambda: members(services) > 0)
        # The second was given the first one's beginning, and is in the group already.
        assert (len(begun), members(services)) == (1, 2)
        for number in range(3):
            await live.api.acme.rows.lines(job, f"line {number}")
            for socket in (first, second):
                assert seqs([(await receive(socket))["payload"]["data"]["jobLogs"]], "lines") == [number + 1]
        assert len(begun) == 1
        await until(lambda: begun[0].task is None)
        await live.finish(job)
        for socket in (first, second):
            assert [(await receive(socket))["type"] for _ in range(2)] == ["next", "complete"]
        await until(lambda: len(services.occupancy) == 0)


async def test_groups_of_one_job_see_the_same_of_the_database(live: Live, services: Services) -> None:
    job, frames = await live.job(), list[dict[str, Any]]()

    async def follow(number: int) -> None:
        document = JOB.replace("lagMs", f"lagMs unlike{number}: lagMs")
        async with aclosing(live.frames(document, {"id": job_id(job)})) as told:
            async for frame in told:
                frames.append(frame)

    async with asyncio.timeout(60):
        following = [asyncio.create_task(follow(number)) for number in range(20)]
        await until(lambda: members(services) == len(services.groups) == 20)
        with statements(live.api) as seen:
            for number in range(1, 11):
                await live.api.acme.rows.events(Stream.JOB, job.id, progressed(job, float(number)))
                await until(lambda number=number: len(frames) == 20 * (number + 1))
        executions = sum(group.executions for group in services.groups._groups.values())
        await live.finish(job)
        await asyncio.gather(*following)
    # Each document is executed for each event; what they show of the journal is read by few of them, not by twenty.
    assert executions == 200
    assert [seqs([frame]) for frame in frames[20:220]] == [[number] for number in range(1, 11) for _ in range(20)]
    assert len([one for one in seen if "FROM event_log" in one]) < 150


async def test_followers_who_go_leave_no_group(live: Live, services: Services) -> None:
    job = await live.job()

    async def look_in() -> None:
        async with aclosing(live.frames(JOB, {"id": job_id(job)})) as frames:
            await anext(frames)
            await asyncio.sleep(0.05)

    async with asyncio.timeout(30):
        await asyncio.gather(*(look_in() for _ in range(20)))
        await until(lambda: len(services.groups) == 0)


def test_who_shares_with_whom(live: Live) -> None:
    sharers, acme, rival = Sharers(), live.api.acme.principal, live.api.rival.principal

    def key(query: str, variables: dict[str, Any] | None = None, principal: Any = acme) -> Any:
        entry = sharers.entry_of(query, None, variables, principal)
        return None if entry is None else entry.key

    query = "subscription($id: ID!, $a: Cursor) { jobUpdated(id: $id, after: $a) { kind job { status viewerCan } } }"
    assert key(query, {"id": "x", "a": "1"}) == key(query, {"id": "x", "a": "2"}) == key(query, {"id": "x"})
    assert key(query, {"id": "x"}) != key(query, {"id": "y"})
    assert key(query, {"id": "x"}) != key(query, {"id": "x"}, rival)
    other = replace(acme, user_id=acme.user_id + 1)
    assert key(query, {"id": "x"}) == key(query, {"id": "x"}, other)
    lesser = replace(acme, permissions=frozenset())
    assert key(query, {"id": "x"}) != key(query, {"id": "x"}, lesser)
    # What a person may do is that person's own, wherever in the document it stands.
    own = (
        "subscription { jobUpdated(id: 1) { job { ...F } } } fragment F on OrchestrationJob { availableActions { ok } }"
    )
    assert key(own) == key(own) != key(own, None, other)
    for nothing in ("{ __typename }", "subscription {", "subscription { tenantEvents { kind } }", "{ a } { b }", ""):
        assert key(nothing) is None


async def test_too_many_operations_are_refused_with_a_name(live: Live, services: Services) -> None:
    services.occupancy._per_principal = 1
    job = await live.job()
    async with asyncio.timeout(20), dial(live) as socket:
        await introduce(socket, live)
        await subscribe(socket, JOB, {"id": job_id(job)})
        await receive(socket)
        await subscribe(socket, LOGS, {"id": job_id(job)}, name="2")
        refused = await receive(socket)
        assert (refused["type"], refused["id"]) == ("error", "2")
        assert refused["payload"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"
        await send(socket, type="complete", id="1")
        await until(lambda: len(services.occupancy) == 0)
        await subscribe(socket, JOB, {"id": job_id(job)}, name="3")
        assert (await receive(socket))["id"] == "3"


async def test_a_thousand_abrupt_disconnects_leave_nothing_behind(live: Live, services: Services) -> None:
    job = await live.job()
    async with asyncio.timeout(60), aclosing(live.frames(JOB, {"id": job_id(job)})) as other:
        # Somebody stays, so that the bus and the guard keep at it.
        await anext(other)
        await until(lambda: members(services) == 1)
        before = len(asyncio.all_tasks())
        for _ in range(10):
            sockets = [await dial(live).__aenter__() for _ in range(100)]
            for socket in sockets:
                await introduce(socket, live)
                await subscribe(socket, JOB, {"id": job_id(job)})
            for socket in sockets[::2]:
                await receive(socket)
            async with AsyncExitStack() as stack:
                for number in range(100):
                    source = await stack.enter_async_context(listen(live, JOB, {"id": job_id(job)}))
                    if number % 2 == 0:
                        await anext(source.frames())
                # Leaving cuts them off as well.
                for socket in sockets:
                    socket.transport.abort()
        await until(lambda: len(asyncio.all_tasks()) <= before)
        assert (len(services.groups), members(services), len(services.occupancy)) == (1, 1, 1)
