"""A step that is due is rung for whatever the tick is at, and whoever else dispatches at the same moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from app.bus.bells import Bell, Bells
from app.db.uow import SystemRole, Transaction
from app.engine import dispatching, ticking
from app.engine.dispatching import Dispatched, dispatch
from tests.engine.harness import Workshop, note
from workers.tick import keep_dispatching

PATIENCE = 20.0


@contextlib.asynccontextmanager
async def waiting(workshop: Workshop) -> AsyncIterator[Bell]:
    """A step is due whose ring was lost; what is rung from here on is heard once the bell is rung."""
    await workshop.submit(await workshop.template({"resources": {"a": note("a")}}))
    workshop.rung.clear()
    async with Bell(Bells(), "due") as bell:
        keeping = asyncio.create_task(keep_dispatching(workshop.database, bell, 0))
        try:
            yield bell
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)


async def until_rung(workshop: Workshop) -> None:
    async with asyncio.timeout(PATIENCE):
        while not workshop.rung:  # noqa: ASYNC110  it is a list
            await asyncio.sleep(0.01)


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
