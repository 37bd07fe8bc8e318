"""What is asked together goes out together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from app.db.gathering import Gathering

Sent = list[tuple[int, list[int]]]


class Road:
    """What was sent, and answers that come when the test says so."""

    def __init__(self) -> None:
        self.sent: Sent = []
        self.answered = asyncio.Event()
        self.answered.set()

    async def send(self, tenant_id: int, asks: Sequence[int]) -> Sequence[int]:
        self.sent.append((tenant_id, list(asks)))
        await self.answered.wait()
        if 13 in asks:
            message = "there is no thirteen"
            raise LookupError(message)
        return [ask * 10 for ask in asks]


async def test_who_asks_alone_is_sent_at_once() -> None:
    road = Road()
    gathering = Gathering(road.send, senders=1, most=8)
    assert await gathering.ask(1, 2) == 20
    assert await gathering.ask(1, 3) == 30
    assert road.sent == [(1, [2]), (1, [3])]


async def test_what_is_asked_meanwhile_goes_together_and_each_hears_its_own_answer() -> None:
    road = Road()
    gathering = Gathering(road.send, senders=1, most=8)
    road.answered.clear()
    first = asyncio.create_task(gathering.ask(1, 1))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(gathering.ask(1, ask)) for ask in (2, 3, 4)]
    await asyncio.sleep(0.01)
    road.answered.set()
    assert await asyncio.gather(first, *others) == [10, 20, 30, 40]
    assert road.sent == [(1, [1]), (1, [2, 3, 4])]


async def test_no_more_than_the_bound_goes_together_and_tenants_take_turns() -> None:
    road = Road()
    gathering = Gathering(road.send, senders=1, most=2)
    asks = [(1, 1), (1, 2), (1, 3), (2, 4)]
    assert await asyncio.gather(*(gathering.ask(*ask) for ask in asks)) == [10, 20, 30, 40]
    assert road.sent == [(1, [1, 2]), (2, [4]), (1, [3])]


async def test_a_tenant_does_not_wait_for_another() -> None:
    road = Road()
    gathering = Gathering(road.send, senders=2, most=8)
    road.answered.clear()
    asked = [asyncio.create_task(gathering.ask(1, ask)) for ask in (1, 2)]
    await asyncio.sleep(0.01)
    asked += [asyncio.create_task(gathering.ask(*ask)) for ask in ((1, 3), (2, 4), (3, 5), (1, 6))]
    await asyncio.sleep(0.01)
    assert road.sent == [(1, [1, 2]), (2, [4])]
    road.answered.set()
    assert await asyncio.gather(*asked) == [10, 20, 30, 40, 50, 60]
    assert road.sent[2:] == [(3, [5]), (1, [3, 6])]


async def test_as_many_as_are_under_way_do_not_wait_for_them_and_no_third_goes() -> None:
    road = Road()
    gathering = Gathering(road.send, senders=4, most=8)
    road.answered.clear()
    asked = [asyncio.create_task(gathering.ask(1, ask)) for ask in (1, 2)]
    await asyncio.sleep(0.01)
    for ask in (3, 4, 5, 6, 7, 8):
        asked.append(asyncio.create_task(gathering.ask(1, ask)))
        await asyncio.sleep(0.01)
    assert road.sent == [(1, [1, 2]), (1, [3, 4])]
    road.answered.set()
    assert await asyncio.gather(*asked) == [ask * 10 for ask in range(1, 9)]
    assert road.sent[2:] == [(1, [5, 6, 7, 8])]


async def test_a_failure_is_heard_by_all_that_went_together_and_by_nobody_else() -> None:
    road = Road()
    gathering = Gathering(road.send, senders=1, most=8)
    failing = await asyncio.gather(*(gathering.ask(1, ask) for ask in (12, 13)), return_exceptions=True)
    assert [type(found) for found in failing] == [LookupError, LookupError]
    assert await gathering.ask(1, 14) == 140


async def test_who_has_gone_does_not_keep_the_others_from_their_answers() -> None:
    road = Road()
    gathering = Gathering(road.send, senders=1, most=8)
    road.answered.clear()
    gone, stays = (asyncio.create_task(gathering.ask(1, ask)) for ask in (1, 2))
    await asyncio.sleep(0.01)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    road.answered.set()
    assert await stays == 20
