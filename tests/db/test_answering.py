"""Connections that are lent: bounded, in turn, and never left with somebody who does not come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.db import answering
from app.db.answering import Answers
from app.db.away import DATABASE_AWAY
from app.db.uow import Database

PID = "SELECT pg_backend_pid()"


@pytest.fixture
def one(database_url: str) -> Answers:
    """A single connection."""
    return Answers(lambda: asyncpg.connect(database_url), 1)


@pytest.fixture
async def many(database_url: str) -> AsyncIterator[Answers]:
    """Up to eight connections."""
    answers = Answers(lambda: asyncpg.connect(database_url), 8)
    yield answers
    await answers.close()


async def test_those_who_find_none_wait_in_turn_for_the_same(one: Answers) -> None:
    order = list[int]()

    async def ask(number: int) -> int:
        pid: int = await one.value(PID, [])
        order.append(number)
        return pid

    assert len(set(await asyncio.gather(*(ask(number) for number in range(5))))) == 1
    assert order == [0, 1, 2, 3, 4]
    await one.close()


async def test_a_statement_that_is_refused_leaves_the_connection_to_others(one: Answers) -> None:
    pid = await one.value(PID, [])
    with pytest.raises(asyncpg.UndefinedTableError):
        await one.value("SELECT * FROM nothing_of_that_name", [])
    with pytest.raises(asyncpg.DivisionByZeroError):
        await one.value("SELECT 1 / $1::int", [0])
    assert await one.value("SELECT 1 / $1::int", [1]) == 1
    assert await one.value(PID, []) == pid
    await one.close()


async def test_whoever_goes_away_takes_nobody_elses_turn(one: Answers) -> None:
    pid = await one.value(PID, [])
    gone = [asyncio.create_task(one.value("SELECT pg_sleep(30)", [])) for _ in range(3)]
    waiting = asyncio.create_task(one.value(PID, []))
    await asyncio.sleep(0.05)
    for task in gone:
        task.cancel()
    # The connection that is still at work is not lent again.
    assert await asyncio.wait_for(waiting, 20) != pid
    assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*gone, return_exceptions=True))
    await one.close()


async def test_what_takes_too_long_is_ended_and_so_is_waiting_for_it(
    one: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(answering, "_LOOK_SECONDS", 0.05)
    asked = [one.value("SELECT pg_sleep(30)", []), one.value(PID, [])]
    ends = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 20)
    assert isinstance(ends[0], DATABASE_AWAY)
    # Either it had waited too long as well, or it was given leave to open another.
    assert isinstance(ends[1], TimeoutError | int)
    assert isinstance(await one.value(PID, []), int)
    await one.close()


async def test_a_connection_that_broke_is_replaced(one: Answers, database: Database) -> None:
    pid = await one.value(PID, [])
    async with database.engine.connect() as other:
        await other.exec_driver_sql("SET ROLE NONE")
        await other.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 5000)")
    await asyncio.sleep(0.05)
    assert await one.value(PID, []) != pid
    await one.close()


async def test_more_statements_than_are_kept_are_prepared_again(one: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "_PREPARED", 2)
    for _ in range(2):
        assert [await one.value(f"SELECT {number}", []) for number in range(5)] == [0, 1, 2, 3, 4]
    assert await one.value("SELECT count(*) FROM pg_prepared_statements", []) <= 3
    await one.close()


async def test_few_are_used_while_statements_come_back(many: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "_STALL_SECONDS", 20.0)
    pids = await asyncio.gather(*(many.value(PID, []) for _ in range(40)))
    assert len(set(pids)) == 3


async def test_whoever_waits_behind_long_ones_has_another_and_later_there_are_few_again(
    many: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = [asyncio.create_task(many.value("SELECT pg_sleep(3), pg_backend_pid()", [])) for _ in range(6)]
    assert await asyncio.wait_for(many.value(PID, []), 2.5)
    assert not any(task.done() for task in long)
    await asyncio.gather(*long)
    monkeypatch.setattr(answering, "_STALL_SECONDS", 20.0)
    pids = await asyncio.gather(*(many.value(PID, []) for _ in range(40)))
    assert len(set(pids)) == 3


async def test_all_are_used_where_none_comes_back(many: Answers) -> None:
    sleeping = [asyncio.create_task(many.value("SELECT pg_sleep(5)", [])) for _ in range(8)]
    async with asyncio.timeout(4):
        while len(many._busy) < 8:  # noqa: ASYNC110  it has no event to wait for
            await asyncio.sleep(0.01)
    for task in sleeping:
        task.cancel()
    await asyncio.gather(*sleeping, return_exceptions=True)
