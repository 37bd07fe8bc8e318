from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from app.bus import bus as module
from app.bus.bus import Bus
from app.db.uow import Rings
from app.domain.events import Stream
from app.messages import StepDue
from tests.bus.valkey import Valkey

JOB_7 = Rings(streams={(1, Stream.JOB, 7)})


@pytest.fixture
async def valkey() -> AsyncIterator[Valkey]:
    server = Valkey()
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
async def buses(valkey: Valkey) -> AsyncIterator[tuple[Bus, Bus]]:
    """Two processes' buses, both started."""
    here, there = Bus(valkey.url), Bus(valkey.url)
    await here.start()
    await there.start()
    yield here, there
    await here.stop()
    await there.stop()


async def listening(bus: Bus) -> None:
    """Until the bus hears others."""
    async with asyncio.timeout(5):
        while not bus.healthy:  # noqa: ASYNC110  health is a property and has no event
            await asyncio.sleep(0.01)


async def test_a_ring_reaches_another_process(buses: tuple[Bus, Bus]) -> None:
    here, there = buses
    async with there.watch(1, Stream.JOB, 7) as bell:
        await listening(there)
        await bell.wait(0.1)  # the bell that says "you may have missed something" on connecting
        here.ring(JOB_7)
        assert await bell.wait(2)
        assert not await bell.wait(0.05)


async def test_only_the_stream_that_was_rung_is_heard(buses: tuple[Bus, Bus]) -> None:
    here, there = buses
    async with (
        there.watch(1, Stream.JOB, 7) as rung,
        there.watch(2, Stream.JOB, 7) as other_tenant,
        there.watch(1, Stream.PLAN, 7) as other_stream,
        there.watch(1, Stream.JOB, 70) as other_id,
    ):
        await listening(there)
        for bell in (rung, other_tenant, other_stream, other_id):
            await bell.wait(0.05)
        here.ring(JOB_7)
        assert await rung.wait(2)
        for bell in (other_tenant, other_stream, other_id):
            assert not await bell.wait(0.02)


async def test_a_ring_while_nobody_waits_is_remembered_once(buses: tuple[Bus, Bus]) -> None:
    here, _ = buses
    async with here.watch(1, Stream.JOB, 7) as bell:
        await listening(here)
        await bell.wait(0.1)
        for _ in range(5):
            here.ring(JOB_7)
        assert await bell.wait(0)
        await asyncio.sleep(0.1)
        await bell.wait(0)  # the same ring, come back over the wire
        assert not await bell.wait(0.05)


async def test_steps_that_become_due_wake_the_scheduler(buses: tuple[Bus, Bus]) -> None:
    here, scheduler = buses
    async with scheduler.due_bell() as bell:
        await listening(scheduler)
        await bell.wait(0.1)
        here.ring(Rings(due=[StepDue(1, 2, 3)]))
        assert await bell.wait(2)


async def test_a_stack_that_became_free_wakes_the_scheduler(buses: tuple[Bus, Bus]) -> None:
    here, scheduler = buses
    async with scheduler.due_bell() as bell:
        await listening(scheduler)
        await bell.wait(0.1)
        here.ring(Rings(freed=True))
        assert await bell.wait(2)


async def test_a_ring_from_another_thread_arrives(buses: tuple[Bus, Bus]) -> None:
    here, _ = buses
    async with here.watch(1, Stream.JOB, 7) as bell:
        await listening(here)
        await bell.wait(0.1)
        thread = threading.Thread(target=here.ring, args=(JOB_7,))
        thread.start()
        assert await bell.wait(2)
        thread.join()


async def test_a_dead_server_blocks_and_raises_nothing(valkey: Valkey) -> None:
    bus = Bus(valkey.url)
    await valkey.kill()
    await bus.start()
    async with bus.watch(1, Stream.JOB, 7) as bell:
        started = time.perf_counter()
        for number in range(2_000):
            bus.ring(Rings(streams={(1, Stream.JOB, number)}))
        assert time.perf_counter() - started < 0.5
        assert await bell.wait(0)  # within this process rings need no server
        await asyncio.sleep(0.1)
        assert not bus.healthy
    await bus.stop()


async def test_what_waits_to_be_published_is_bounded(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PENDING_LIMIT", 10)
    await valkey.kill()
    bus = Bus(valkey.url)
    await bus.start()
    for number in range(1_000):
        bus.ring(Rings(streams={(1, Stream.JOB, number)}))
    assert len(bus._pending) == 10
    await bus.stop()


async def test_listening_goes_on_after_the_server_was_killed(buses: tuple[Bus, Bus], valkey: Valkey) -> None:
    here, there = buses
    async with there.watch(1, Stream.JOB, 7) as bell:
        await listening(there)
        await valkey.kill()
        async with asyncio.timeout(5):
            while there.healthy:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await bell.wait(0)
        await valkey.start()
        assert await bell.wait(5)  # something may have been missed
        await listening(there)
        async with asyncio.timeout(5):
            while True:
                here.ring(JOB_7)
                if await bell.wait(0.2):
                    break


async def test_garbage_on_the_channel_is_heard_by_nobody(buses: tuple[Bus, Bus], valkey: Valkey) -> None:
    here, there = buses
    async with there.watch(1, Stream.JOB, 7) as bell:
        await listening(there)
        await bell.wait(0.1)
        await valkey.flood("windlass:rings", b"\xff\xfe\n1:JOB")
        await asyncio.sleep(0.1)
        here.ring(JOB_7)
        assert await bell.wait(2)
        assert there.healthy


async def test_namespaces_keep_installations_apart(valkey: Valkey) -> None:
    here, stranger = Bus(valkey.url, "one"), Bus(valkey.url, "two")
    await here.start()
    await stranger.start()
    async with here.watch(1, Stream.JOB, 7) as bell:
        await listening(here)
        await bell.wait(0.1)
        stranger.ring(JOB_7)
        assert not await bell.wait(0.2)
    await here.stop()
    await stranger.stop()


async def test_bells_are_taken_down(buses: tuple[Bus, Bus]) -> None:
    here, _ = buses
    async with here.watch(1, Stream.JOB, 7), here.watch(1, Stream.JOB, 7):
        assert len(here._bells) == 2
    assert len(here._bells) == 0


async def test_a_bus_that_was_not_started_or_was_stopped_takes_rings(valkey: Valkey) -> None:
    bus = Bus(valkey.url)
    bus.ring(JOB_7)
    await bus.start()
    await bus.stop()
    bus.ring(JOB_7)
    assert not bus._pending


async def test_a_cancellation_that_gets_lost_does_not_keep_it_from_stopping(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the client takes the cancellation of a command for its timeout."""
    bus = Bus(valkey.url)
    publishing = asyncio.Event()
    swallowed = 0

    async def publish(*_: object) -> None:
        nonlocal swallowed
        publishing.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            swallowed += 1
            if swallowed > 1:
                raise

    monkeypatch.setattr(Redis, "publish", publish)
    await bus.start()
    bus.ring(JOB_7)
    await publishing.wait()
    async with asyncio.timeout(5):
        await bus.stop()
