"""A step that is due is rung for whatever the tick is at, and whoever else dispatches at the same moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

import pytest
from sqlalchemy import text

from app.bus.bells import Bell, Bells
from app.db.uow import Rings, SystemRole, Transaction
from app.engine import dispatching, ticking
from app.engine.dispatching import Dispatched, dispatch
from tests.engine.harness import Workshop, note
from workers.tick import keep_dispatching

PATIENCE = 20.0


async def lost(workshop: Workshop, *names: str) -> None:
    """Steps are due whose rings were lost."""
    await workshop.submit(await workshop.template({"resources": {name: note(name) for name in names}}))
    workshop.rung.clear()


@contextlib.asynccontextmanager
async def waiting(workshop: Workshop, *names: str) -> AsyncIterator[Bell]:
    """Such steps; what is rung from here on is heard once the bell is rung. As many wait as are in `rung`."""
    await lost(workshop, *(names or ("a",)))
    async with Bell(Bells(), "due") as bell:
        keeping = asyncio.create_task(
            keep_dispatching(workshop.database, bell, 60, 60 if names else 0, lambda: len(workshop.rung))
        )
        try:
            yield bell
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)


async def until_rung(workshop: Workshop) -> None:
    async with asyncio.timeout(PATIENCE):
        while not workshop.rung:  # noqa: ASYNC110  it is a list
            await asyncio.sleep(0.01)


async def staff(workshop: Workshop, changes: str) -> None:
    async with workshop.database.system(SystemRole.TICK) as transaction:
        await transaction.session.execute(text(f"UPDATE worker SET {changes}"))


async def take(transaction: Transaction, module: object) -> None:
    """Be who ticks, or who dispatches."""
    mine = await transaction.fetch_one(module._MINE, {})  # type: ignore[attr-defined]
    assert mine is not None
    assert mine["mine"]


async def test_nobody_waits_for_what_else_the_tick_is_at(workshop: Workshop) -> None:
    async with waiting(workshop) as bell, workshop.database.system(SystemRole.TICK) as ticking_away:
        await take(ticking_away, ticking)
        bell.ring()
        await until_rung(workshop)


async def test_a_ring_while_another_one_dispatches_is_not_lost(workshop: Workshop) -> None:
    async with waiting(workshop) as bell:
        async with workshop.database.system(SystemRole.TICK) as other:
            await take(other, dispatching)
            assert await dispatch(workshop.database, ring_again_seconds=0) == Dispatched(ran=False)
            bell.ring()
            await asyncio.sleep(0.1)
            assert not workshop.rung
        await until_rung(workshop)


async def test_trouble_is_waited_out(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    troubles = [ConnectionError(), OSError()]
    pick = dispatching.pick

    async def troubled(transaction: Transaction, ring_again_seconds: float, limit: int) -> int:
        if troubles:
            raise troubles.pop()
        return await pick(transaction, ring_again_seconds, limit)

    monkeypatch.setattr(dispatching, "pick", troubled)
    async with waiting(workshop) as bell:
        while troubles:
            bell.ring()
            await asyncio.sleep(0.01)
        bell.ring()
        await until_rung(workshop)


async def test_no_more_are_rung_for_than_there_are_hands(workshop: Workshop) -> None:
    await lost(workshop, "a", "b", "c", "d")
    await staff(workshop, "hands = 3")
    ring = partial(dispatch, workshop.database, ring_again_seconds=0)
    assert await ring(queued=3) == Dispatched(ran=True, is_full=True, hands=3)
    assert await ring(queued=5) == Dispatched(ran=True, is_full=True, hands=3)
    assert await ring(queued=1) == Dispatched(ran=True, rung=2, is_full=True, hands=3)
    assert await ring(queued=0, limit=1) == Dispatched(ran=True, rung=1, is_full=True, hands=3)
    assert await ring(queued=None) == Dispatched(ran=True, rung=4, hands=3)
    # Whoever goes takes nothing on any more.
    await staff(workshop, "draining = true")
    assert await ring(queued=0) == Dispatched(ran=True, is_full=True)


async def test_as_rings_are_heard_others_follow_without_a_bell(workshop: Workshop) -> None:
    names = ["a", "b", "c", "d"]
    heard = set[int]()
    async with waiting(workshop, *names) as bell:
        await workshop.rows_written("UPDATE step_run SET dispatched_at = NULL, dispatches = 0")
        bell.ring()
        while len(heard) < len(names):
            await until_rung(workshop)
            assert len(workshop.rung) == 1, "there is one hand"
            heard.add(workshop.rung.pop().step_run_id)


async def test_who_makes_much_due_rings_for_some_and_leaves_the_others(workshop: Workshop) -> None:
    told: list[Rings] = []
    workshop.database._own_rings = lambda: 2
    workshop.database._after_commit = told.append
    await workshop.submit(await workshop.template({"resources": {name: note(name) for name in ("a", "b", "c")}}))
    assert [(len(rings.due), rings.freed) for rings in told if rings.due] == [(2, True)]
    rows = await workshop.rows("SELECT id FROM step_run WHERE dispatched_at IS NOT NULL AND dispatches = 1")
    assert {row.id for row in rows} == {ring.step_run_id for rings in told for ring in rings.due}
    # The scheduler rings for what was left to it, and for nothing else.
    assert (await dispatch(workshop.database, ring_again_seconds=60)).rung == 1
