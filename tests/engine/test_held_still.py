"""A process that is held still in the middle of a transaction keeps its locks; nobody else may have to wait for it."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from app.db.uow import Database, SystemRole
from app.engine import ticking
from app.engine.ticking import tick
from tests.engine.harness import Workshop, note


async def lost_step(workshop: Workshop, stack: str) -> int:
    """A job one of whose steps is in the hands of a worker that is gone; the job's id."""
    template = await workshop.template({"resources": {"a": note(f"{stack}-a")}}, stack)
    job_id = await workshop.submit(template, stack=stack)
    assert await workshop.runners[0]._claim(workshop.rung.pop(0)) is not None
    return job_id


async def test_a_job_whose_lock_somebody_keeps_does_not_keep_others_from_being_taken_over(
    workshop: Workshop, database_url: str
) -> None:
    first, second = await lost_step(workshop, "first"), await lost_step(workshop, "second")
    await workshop.lose(workshop.workers[0])
    holder = await asyncpg.connect(database_url)
    try:
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM orchestration_job WHERE id = $1 FOR UPDATE", first)
            async with asyncio.timeout(3):
                done = await tick(workshop.database, ring_again_seconds=0)
            assert done.reaped == 1
            assert (await workshop.steps(second))["a"] == "UNKNOWN"
            assert (await workshop.steps(first))["a"] == "RUNNING"
    finally:
        await holder.close()
    assert (await tick(workshop.database, ring_again_seconds=0)).reaped == 1
    assert (await workshop.steps(first))["a"] == "UNKNOWN"


async def test_a_tick_that_is_held_still_gives_its_lock_back(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.uow.IDLE_TIMEOUT", "1s")
    still, lively = (Database.connect(database_url, name=name, pool_size=2) for name in ("still", "lively"))

    async def hold_still() -> None:
        async with still.system(SystemRole.TICK) as transaction:
            mine = await transaction.fetch_one(ticking._MINE, {})
            assert mine is not None
            assert mine["mine"]
            assert not (await tick(lively, ring_again_seconds=0)).ran
            await asyncio.sleep(1.5)
            assert (await tick(lively, ring_again_seconds=0)).ran

    try:
        with pytest.raises(Exception, match=r"idle-in-transaction|closed"):
            await hold_still()
    finally:
        await lively.close()
        await still.close()
