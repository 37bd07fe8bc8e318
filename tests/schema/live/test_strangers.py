"""Connections that have not said who they are: how many there may be, and what becomes of one more."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from websockets.exceptions import ConnectionClosed

from schema.occupancy import Strangers
from tests.schema.live.conftest import Live
from tests.schema.live.test_protocol import VIEWER, close_code, dial, introduce, receive, send, subscribe


async def test_strangers_are_so_many_and_leave_room_when_they_say_who_they_are(live: Live) -> None:
    strangers = Strangers(per_address=2, in_all=3)
    object.__setattr__(live.api.services, "strangers", strangers)
    async with dial(live) as first, dial(live) as second:
        for _ in range(2):
            async with dial(live) as third:
                # Whatever it says: there is no room.
                with suppress(ConnectionClosed):
                    await send(third, type="connection_init", payload={"token": live.api.acme.token})
                assert await close_code(third) == 1013
        await introduce(first, live)
        async with dial(live) as fourth:
            await introduce(fourth, live)
            await send(second, type="connection_init", payload={"token": "wl_nonsense"})
            assert await close_code(second) == 4403
            await subscribe(fourth, VIEWER)
            assert (await receive(fourth))["type"] == "next"
    async with asyncio.timeout(10):
        while len(strangers):  # noqa: ASYNC110  a count has no bell
            await asyncio.sleep(0.01)


def test_strangers_of_one_address_leave_room_for_others() -> None:
    strangers = Strangers(per_address=2, in_all=3)
    leaving = [strangers.enter(address) for address in ("a", "a", "a", "b", "c")]
    assert [leave is not None for leave in leaving] == [True, True, False, True, False]
    for leave in (leaving[0], leaving[0]):
        assert leave is not None
        leave()
    assert len(strangers) == 2
    assert strangers.enter("c") is not None
    assert strangers.enter("a") is None
