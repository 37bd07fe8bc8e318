"""Senders that die, are held still, or are many: nothing is lost, and what comes twice has one id."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.db import webhooks
from app.db.feed import Position
from tests.factories.databases import fetch
from tests.schema.conftest import SECRET_KEY
from tests.schema.verbs import done
from tests.schema.webhooks.conftest import Desk
from tests.schema.webhooks.receiver import Answer


class Killed(BaseException):
    """As a process ends: nothing in it is told, and nothing it has open is written."""


@pytest.mark.parametrize("event", [1, 2, 4])
async def test_who_dies_between_the_answer_and_the_record_leaves_it_to_be_sent_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, event: int
) -> None:
    job, hook = await desk.job(), await desk.create()
    await desk.happen(job, 4)
    record = webhooks.record

    async def dies(*given: Any, **named: Any) -> bool:
        if len(desk.receiver.received) == event:
            raise Killed
        return await record(*given, **named)

    monkeypatch.setattr(webhooks, "record", dies)
    with pytest.raises(Killed):
        await desk.settle(desk.deliverer(), lambda: False)
    monkeypatch.setattr(webhooks, "record", record)
    # Its lease holds until it runs out.
    assert await desk.deliverer().deliver_next() is False
    await desk.leases_run_out()
    await desk.arrive(5)
    sent = list(range(1, event + 1))
    assert desk.receiver.seqs == sent + list(range(event, 5))
    assert desk.receiver.received[event - 1].id == desk.receiver.received[event].id
    assert len({each.id for each in desk.receiver.received}) == 4
    assert len((await desk.look(hook))["deliveries"]) == 4


async def test_who_dies_before_sending_leaves_no_trace(desk: Desk) -> None:
    job, _ = await desk.job(), await desk.create()
    await desk.happen(job, 2)

    async def dies(*_: Any) -> Any:
        raise Killed

    with pytest.raises(Killed):
        await desk.settle(desk.deliverer(project=dies), lambda: False)
    assert desk.receiver.received == []
    await desk.leases_run_out()
    await desk.arrive(2)
    assert desk.receiver.seqs == [1, 2]


async def test_many_senders_send_each_event_once_and_in_order(desk: Desk) -> None:
    receivers = [desk.receiver, await desk.another_receiver(), await desk.another_receiver()]
    job, other = await desk.job(), await desk.job(name="other")
    for receiver in receivers:
        await desk.create(receiver=receiver)
    stopping = asyncio.Event()
    loops = [asyncio.create_task(desk.deliverer().run(stopping)) for _ in range(3)]
    await asyncio.gather(desk.happen(job, 30), desk.happen(other, 30))
    for receiver in receivers:
        await receiver.came(60)
    # A second sending would follow at once.
    await asyncio.sleep(0.2)
    stopping.set()
    await asyncio.gather(*loops)
    for receiver in receivers:
        told: dict[str, list[int]] = {}
        for each in receiver.received:
            told.setdefault(each.message["data"]["job"]["id"], []).append(each.message["seq"])
        assert list(told.values()) == [list(range(1, 31))] * 2
        cursors = [each.message["cursor"] for each in receiver.received]
        assert cursors == [each.message["cursor"] for each in receivers[0].received]
    (row,) = await fetch(desk.url, "SELECT count(*) AS attempts FROM webhook_delivery")
    assert row["attempts"] == 180


async def test_who_hangs_keeps_nobody_else_waiting(desk: Desk) -> None:
    job, other = await desk.job(), await desk.another_receiver()
    await desk.create()
    await desk.create(receiver=other)
    never, stopping = asyncio.Event(), asyncio.Event()
    desk.receiver.script.append(Answer(after=never))
    patient = desk.deliverer()
    patient.sender.poster._deadline = 30.0
    running = asyncio.create_task(patient.run(stopping))
    await desk.happen(job, 5)
    await asyncio.gather(other.came(5), desk.receiver.came(1))
    await desk.happen(job, 5)
    await other.came(10)
    assert (desk.receiver.seqs, other.seqs) == ([1], list(range(1, 11)))
    # What is under way when it is told to stop is finished.
    stopping.set()
    never.set()
    await running
    assert desk.receiver.seqs == list(range(1, len(desk.receiver.seqs) + 1))
    (row,) = await fetch(desk.url, "SELECT count(*) AS failed FROM webhook_delivery WHERE status <> 'DELIVERED'")
    assert row["failed"] == 0


async def test_a_sender_that_was_held_still_moves_nothing_back(desk: Desk) -> None:
    job, hook = await desk.job(), await desk.create()
    await desk.happen(job, 3)
    answer = asyncio.Event()
    desk.receiver.script.append(Answer(500, after=answer))
    # Long enough a deadline that the answer is still waited for.
    slow = desk.deliverer()
    slow.sender.poster._deadline = 10.0
    held = asyncio.create_task(desk.settle(slow, lambda: len(desk.receiver.received) >= 1))
    await desk.receiver.came(1)
    await desk.leases_run_out()
    await desk.arrive(4)
    answer.set()
    await held
    assert desk.receiver.seqs == [1, 1, 2, 3]
    seen = await desk.look(hook)
    assert (seen["status"], seen["failures"]) == ("ACTIVE", 0)
    assert Position.decode(seen["cursor"]) == Position.decode(desk.receiver.received[-1].message["cursor"])
    # The late failure is in the log all the same.
    assert sorted(entry["statusCode"] for entry in seen["deliveries"]) == [200, 200, 200, 500]


async def test_a_lease_that_is_too_short_for_an_attempt_is_not_begun_with(desk: Desk) -> None:
    await desk.create()
    await desk.happen(await desk.job())
    short = desk.deliverer(lease_seconds=3.0)
    async with asyncio.timeout(10):
        while not await short.deliver_next():  # noqa: ASYNC110  others' transactions have to end first
            await asyncio.sleep(0.01)
    assert desk.receiver.received == []
    await desk.arrive(1)


async def test_a_deleted_webhook_is_told_nothing_more(desk: Desk) -> None:
    job, hook = await desk.job(), await desk.create()
    await desk.happen(job, 3)
    answer = asyncio.Event()
    desk.receiver.script.append(Answer(after=answer))
    deliverer = desk.deliverer()
    turn = asyncio.create_task(desk.settle(deliverer, lambda: len(desk.receiver.received) >= 1))
    await desk.receiver.came(1)
    await done(desk.api, "deleteWebhook", id=hook.id)
    answer.set()
    await turn
    await desk.settle(deliverer)
    assert desk.receiver.seqs == [1]


@pytest.mark.parametrize("asked", [False, True], ids=["event", "ping"])
async def test_a_url_that_is_changed_meanwhile_is_where_the_next_goes(desk: Desk, asked: bool) -> None:
    job, hook, moved = await desk.job(), await desk.create(), await desk.another_receiver()
    if asked:
        await done(desk.api, "testWebhook", id=hook.id)
    await desk.happen(job, 3)
    answer = asyncio.Event()
    desk.receiver.script.append(Answer(after=answer))
    deliverer = desk.deliverer()
    # However long the change takes.
    deliverer.sender.poster._deadline = 30.0
    turn = asyncio.create_task(desk.settle(deliverer, lambda: len(moved.received) >= (3 if asked else 2)))
    await desk.receiver.came(1)
    seen = await desk.look(hook)
    await done(desk.api, "updateWebhook", id=hook.id, expectedVersion=seen["version"], url=moved.url)
    answer.set()
    await turn
    assert len(desk.receiver.received) == 1
    assert moved.seqs == ([1, 2, 3] if asked else [2, 3])


@asynccontextmanager
async def process(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`windlass webhooks`, as it is."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")},
        "WINDLASS_DATABASE_URL": url,
        "WINDLASS_REDIS_URL": "redis://127.0.0.1:1/0",
        "WINDLASS_SECRET_KEY": SECRET_KEY,
        "WINDLASS_WEBHOOK_ALLOWED_TARGETS": "127.0.0.1",
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli", "webhooks", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGTERM)
        await asyncio.wait_for(running.wait(), 40)


@pytest.mark.slow
async def test_a_process_is_killed_while_it_waits_for_an_answer(desk: Desk) -> None:
    job, hook = await desk.job(), await desk.create()
    desk.receiver.script.extend([Answer(), Answer(hangs=True)])
    async with process(desk.url) as first:
        await desk.happen(job, 4)
        await desk.receiver.came(2)
        first.kill()
    await desk.leases_run_out()
    async with process(desk.url) as second:
        await desk.receiver.came(5)
    assert second.returncode == 0
    assert desk.receiver.seqs == [1, 2, 2, 3, 4]
    assert desk.receiver.received[1].id == desk.receiver.received[2].id
    assert [each.verified(hook.secret)["seq"] for each in desk.receiver.received] == desk.receiver.seqs
