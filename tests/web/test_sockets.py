"""What stands in for a queue and an event of asyncio's does what those do, as far as a connection uses it."""

from __future__ import annotations

import asyncio

from app.web.sockets import Inbox, Room


async def test_what_has_come_is_received_in_order_and_waited_for() -> None:
    inbox = Inbox()
    assert inbox.empty()
    receiving = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    for event in (1, 2, 3):
        inbox.put_nowait(event)
    assert await receiving == 1
    assert [await inbox.get(), await inbox.get()] == [2, 3]
    assert inbox.empty()


async def test_whoever_gives_up_receiving_takes_nothing_along() -> None:
    inbox = Inbox()
    receiving = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    receiving.cancel()
    # It comes after the cancellation, and before whoever is cancelled has noticed.
    inbox.put_nowait(1)
    await asyncio.gather(receiving, return_exceptions=True)
    assert receiving.cancelled()
    async with asyncio.timeout(5):
        assert await inbox.get() == 1


async def test_all_who_wait_for_room_go_on_and_one_that_gives_up_disturbs_nobody() -> None:
    room = Room()
    assert room.is_set()
    assert await room.wait()
    room.clear()
    room.clear()
    assert not room.is_set()
    waiting = [asyncio.create_task(room.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting[1:])
    room.set()
    room.set()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*waiting[1:]) == [True, True]
    assert waiting[0].cancelled()


async def test_whoever_is_let_on_when_there_is_no_room_again_waits_on() -> None:
    room = Room()
    room.clear()
    waiting = asyncio.create_task(room.wait())
    await asyncio.sleep(0)
    room.set()
    room.clear()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    room.set()
    async with asyncio.timeout(5):
        assert await waiting
