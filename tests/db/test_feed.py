"""The feed of a tenant: complete below the place that was read, each stream in its order, nobody else's events."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

import pytest

from app.db import feed, journal
from app.db.feed import FedEvent, Position
from app.db.uow import Database, Transaction
from app.domain.errors import Invalid
from app.domain.events import Event, EventKind, Stream
from tests.factories import records
from tests.factories.tenants import Access, tenant

_WRITERS = 6
_ROUNDS = 25


@pytest.fixture
async def acme(database: Database) -> Access:
    return await tenant(database)


def _said(text: str) -> Event:
    return Event(EventKind.JOB_STATUS_CHANGED, {"text": text})


async def _say(transaction: Transaction, job_id: int, text: str) -> None:
    transaction.authorize("test")
    await journal.append(transaction, Stream.JOB, job_id, [_said(text)])


async def _read(access: Access, after: Position | None = None, limit: int = 100) -> list[FedEvent]:
    async with access.write() as transaction:
        transaction.authorize("test")
        return await feed.read(transaction, after, limit)


async def _jobs(access: Access, count: int) -> list[int]:
    plan = await records.plan(access)
    return [(await records.job(access, plan)).id for _ in range(count)]


def _texts(events: list[FedEvent]) -> list[str]:
    return [event.data["text"] for event in events]


async def test_what_is_still_being_written_holds_back_what_was_committed_after_it_began(acme: Access) -> None:
    first, second = await _jobs(acme, 2)
    async with acme.write() as slow:
        await _say(slow, first, "slow")
        async with acme.write() as fast:
            await _say(fast, second, "fast")
        assert await _read(acme) == []
    assert _texts(await _read(acme)) == ["slow", "fast"]


async def test_a_stream_keeps_its_order_when_the_older_transaction_writes_later(acme: Access) -> None:
    first, second = await _jobs(acme, 2)
    async with acme.write() as older:
        await _say(older, first, "elsewhere")
        async with acme.write() as newer:
            await _say(newer, second, "one")
        await _say(older, second, "two")
    events = await _read(acme)
    assert _texts([event for event in events if event.stream_id == second]) == ["one", "two"]


async def test_whoever_begins_at_the_head_gets_what_was_being_written_then(acme: Access) -> None:
    before, during = await _jobs(acme, 2)
    async with acme.write() as transaction:
        await _say(transaction, before, "before")
    async with acme.write() as slow:
        await _say(slow, during, "during")
        async with acme.write() as transaction:
            transaction.authorize("test")
            start = await feed.head(transaction)
    assert _texts(await _read(acme, start)) == ["during"]


async def test_pages_of_a_moving_feed_add_up_to_what_was_written(acme: Access) -> None:
    jobs = await _jobs(acme, 3)
    chance = random.Random(7)
    seen: list[FedEvent] = []

    async def write(name: int) -> None:
        for number in range(_ROUNDS):
            async with acme.write() as transaction:
                for job_id in sorted(chance.sample(jobs, chance.randint(1, len(jobs)))):
                    await _say(transaction, job_id, f"{name}:{number}")
                await asyncio.sleep(chance.random() / 200)

    async def follow(writers: asyncio.Future[list[None]]) -> None:
        while True:
            over = writers.done()
            page = await _read(acme, seen[-1].position if seen else None, limit=7)
            seen.extend(page)
            if over and not page:
                return
            await asyncio.sleep(0.002)

    writers = asyncio.gather(*(write(name) for name in range(_WRITERS)))
    await asyncio.wait_for(follow(writers), timeout=60)
    assert [event.position for event in seen] == sorted({event.position for event in seen})
    streams = defaultdict(list)
    for event in seen:
        streams[event.stream_id].append(event.seq)
    assert len(seen) >= _WRITERS * _ROUNDS
    assert streams == {job_id: list(range(1, len(streams[job_id]) + 1)) for job_id in jobs}
    assert len(seen) == len(await _read(acme, limit=10_000))


async def test_another_tenant_has_a_feed_of_its_own(database: Database, acme: Access) -> None:
    rival = await tenant(database, "rival")
    (job_id,) = await _jobs(rival, 1)
    async with rival.write() as transaction:
        await _say(transaction, job_id, "secret")
    assert _texts(await _read(rival)) == ["secret"]
    assert await _read(acme) == []


def test_a_position_is_its_cursor() -> None:
    position = Position(12, "JOB", 34, 5)
    assert Position.decode(position.encode()) == position


@pytest.mark.parametrize(
    "text", ["", "x", "é", "djE6Sk9COjE6MQ", Position(-1, "JOB", 1, 1).encode(), Position(2**63, "JOB", 1, 1).encode()]
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        Position.decode(text)
    assert refused.value.path == ("after",)
