"""What a lost worker had is found and taken on, whatever becomes of the tick, of bells and of connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.db.uow import SystemRole
from app.domain.statuses import JobStatus
from app.engine import recovery, ticking
from app.engine.liveness import LOCK_CLASS, Worker
from app.engine.ticking import tick
from app.messages import StepDue
from tests.engine.harness import Workshop, note
from tests.engine.test_held_still import lost_step
from workers.hands import Hands
from workers.loop import LoopThread

DEADLINE_SECONDS = 30


async def unheard(workshop: Workshop, patience: float = 0.0, limit: int = 8) -> list[StepDue]:
    async with workshop.database.system(SystemRole.TICK) as transaction:
        return await recovery.unheard(transaction, limit, patience)


async def test_what_a_lost_worker_had_needs_no_bell(workshop: Workshop) -> None:
    job_id = await lost_step(workshop, "first")
    assert await unheard(workshop) == [], "a step that somebody has is nobody else's"
    await workshop.lose(workshop.workers[0])
    workshop.runners[:] = [await workshop.hire()]
    assert (await tick(workshop.database, ring_again_seconds=60)).reaped == 1
    assert len(workshop.rung) == 1
    # The bell is lost. It has its time to be heard, and then each step is for one of those who ask.
    workshop.rung.clear()
    assert await unheard(workshop, patience=60) == []
    (step,) = await unheard(workshop)
    assert await unheard(workshop, patience=60) == []
    await workshop.runners[0].run(step)
    assert (await workshop.job(job_id)).status is JobStatus.SUCCEEDED
    assert await unheard(workshop) == []


async def test_what_only_waits_for_its_time_is_not_taken_on(workshop: Workshop) -> None:
    await workshop.submit(await workshop.template({"resources": {"a": note("a")}}))
    assert await unheard(workshop) == []


async def test_a_death_is_noticed_although_the_tick_is_held(workshop: Workshop) -> None:
    job_id = await lost_step(workshop, "first")
    await workshop.lose(workshop.workers[0])
    async with workshop.database.system(SystemRole.TICK) as transaction:
        mine = await transaction.fetch_one(ticking._MINE, {})
        assert mine is not None
        assert mine["mine"]
        done = await tick(workshop.database, ring_again_seconds=60)
    assert (done.ran, done.reaped) == (False, 1)
    assert (await workshop.steps(job_id))["a"] == "UNKNOWN"


async def holders(connection: asyncpg.Connection, worker: Worker) -> list[int]:
    rows = await connection.fetch(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND objid = $2 AND granted",
        LOCK_CLASS,
        worker.id,
    )
    return [row["pid"] for row in rows]


async def other_holder(connection: asyncpg.Connection, worker: Worker, before: list[int]) -> list[int]:
    """Who has the worker's lock, once that is somebody else."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            found = await holders(connection, worker)
            if found and found != before:
                return found
            await asyncio.sleep(0.02)


async def test_a_worker_whose_connections_are_cut_has_its_lock_again_before_it_counts_as_lost(
    workshop: Workshop, database_url: str
) -> None:
    worker = Worker(workshop.database, 600, "steadfast", "0")
    await worker.register()
    eyes = await asyncpg.connect(database_url)
    # Tracebacks in colour take longer than everything else here.
    with capture_logs():
        living = asyncio.create_task(worker.run())
        await see_it_reconnect(workshop, worker, eyes, living)


async def see_it_reconnect(
    workshop: Workshop, worker: Worker, eyes: asyncpg.Connection, living: asyncio.Task[None]
) -> None:
    try:
        before = await other_holder(eyes, worker, [])
        # Its lease is good for ten minutes: the next renewal, and with it the next look at the lock, is far away.
        await eyes.execute("SELECT pg_terminate_backend($1)", before[0])
        assert len(await other_holder(eyes, worker, before)) == 1
        async with workshop.database.system(SystemRole.TICK) as transaction:
            alive = await transaction.session.scalar(
                text("SELECT dead_at IS NULL FROM worker WHERE id = :id"), {"id": worker.id}
            )
        assert alive
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
        await eyes.close()


# What was rung for again.
RUNG: list[StepDue] = []


@pytest.fixture
def hands() -> tuple[Hands, LoopThread]:
    RUNG.clear()
    loop = LoopThread()
    loop.start()
    return Hands(loop, 2, RUNG.extend), loop


def test_hands_take_on_what_was_lost_before_what_is_heard_later(hands: tuple[Hands, LoopThread]) -> None:
    two, loop = hands
    begun: list[int] = []
    gates = {number: asyncio.Event() for number in range(6)}

    async def answer(message: StepDue) -> None:
        begun.append(message.step_run_id)
        await gates[message.step_run_id].wait()

    async def take_on(*numbers: int) -> None:
        two.take_on([step(number) for number in numbers])

    def step(number: int) -> StepDue:
        return StepDue(1, 1, number)

    async def has(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.01)

    async def finish(number: int) -> None:
        gates[number].set()

    try:
        two.hear([step(0)])
        assert two.room == 0, "nobody answers yet"
        two.answer = answer
        assert two.room == 2
        two.hear([step(0)])
        two.hear([step(1)])
        loop.call(take_on(2, 3))
        assert two.room == 0
        loop.call(finish(0))
        loop.call(has(lambda: begun == [0, 1, 2]))
        loop.call(finish(1))
        loop.call(has(lambda: begun == [0, 1, 2, 3]))
        assert two.room == 2
        # A hand that is free begins at once.
        loop.call(finish(2))
        loop.call(take_on(4))
        loop.call(has(lambda: begun == [0, 1, 2, 3, 4]))
        assert not two.drain(0.05), "two steps are in hands"
        loop.call(finish(3))
        loop.call(finish(4))
        two.hear([step(5)])
        assert begun == [0, 1, 2, 3, 4], "who drains begins nothing"
        assert two.room == 0
    finally:
        loop.stop()


def test_of_several_that_were_rung_for_together_those_without_a_hand_are_rung_for_again(
    hands: tuple[Hands, LoopThread],
) -> None:
    two, loop = hands
    steps = [StepDue(1, 1, number) for number in range(8)]
    open_at_once, begun = asyncio.Event(), list[StepDue]()

    async def answer(message: StepDue) -> None:
        begun.append(message)
        await open_at_once.wait()

    async def open_() -> None:
        open_at_once.set()

    try:
        two.answer = answer
        two.hear(steps)
        assert (begun, RUNG) == (steps[:2], steps[2:])
        # Where hands become free all of them are begun.
        loop.call(open_())
        RUNG.clear()
        two.hear(steps)
        assert two.drain(DEADLINE_SECONDS)
        assert (begun[2:], RUNG) == (steps, [])
    finally:
        loop.stop()
