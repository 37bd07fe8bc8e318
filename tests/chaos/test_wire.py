"""The wire cuts what has come true, and nothing else."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from tests.chaos.wire import Ears, Frames, Wire


def test_messages_are_found_however_they_are_cut() -> None:
    greeting = b"\x00\x00\x00\x08\x04\xd2\x16\x2f" + b"\x00\x00\x00\x0c\x00\x03\x00\x00user"
    said = greeting + b"Q\x00\x00\x00\x0bCOMMIT\x00" + b"S\x00\x00\x00\x04"
    frames, found = Frames(), []
    for place in range(len(said)):
        found += list(frames.of(said[place : place + 1]))
    assert [letter for letter, _ in found] == [b"", b"", b"Q", b"S"]
    assert found[2][1] == b"COMMIT\x00"


def test_a_statement_that_writes_is_a_commit_only_outside_of_a_transaction() -> None:
    ears = Ears()
    parse = b"one\x00UPDATE note SET text = 'x'\x00\x00\x00"
    bind = b"\x00one\x00\x00\x00\x00\x00\x00\x00"
    ears.heard(b"\x00\x00\x00\x08\x00\x03\x00\x00")
    message = b"P" + (len(parse) + 4).to_bytes(4, "big") + parse + b"B" + (len(bind) + 4).to_bytes(4, "big") + bind
    assert ears.heard(message)
    assert ears.answered(b"Z\x00\x00\x00\x05T")
    assert not ears.heard(b"B" + (len(bind) + 4).to_bytes(4, "big") + bind)


async def test_a_commit_comes_true_and_its_answer_is_lost(database_url: str) -> None:
    wire = Wire(database_url)
    await wire.open()
    connection = await asyncpg.connect(wire.leading)
    direct = await asyncpg.connect(database_url)
    try:
        await _use(connection)
        await connection.execute("CREATE TABLE cut (number int)")
        arming = asyncio.create_task(wire.arm(20))
        await asyncio.sleep(0)
        # Neither a read nor a write that may yet be taken back is cut.
        assert await connection.fetchval("SELECT count(*) FROM cut") == 0
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO cut VALUES (1)")
        with pytest.raises((asyncpg.PostgresConnectionError, OSError)):
            await transaction.commit()
        assert await arming
        assert [row["number"] for row in await direct.fetch("SELECT number FROM cut")] == [1]
        again = await asyncpg.connect(wire.leading)
        await _use(again)
        arming = asyncio.create_task(wire.arm(20))
        await asyncio.sleep(0)
        with pytest.raises((asyncpg.PostgresConnectionError, OSError)):
            await again.execute("INSERT INTO cut SELECT $1::int", 2)
        assert await arming
        assert [row["number"] for row in await direct.fetch("SELECT number FROM cut ORDER BY 1")] == [1, 2]
        assert wire.cuts == 2
    finally:
        connection.terminate()
        await direct.close()
        await wire.close()


async def _use(connection: asyncpg.Connection) -> None:
    """The first commits of a connection are spared."""
    for _ in range(2):
        await connection.execute("BEGIN")
        await connection.execute("COMMIT")


async def test_nothing_is_cut_when_nobody_commits(database_url: str) -> None:
    wire = Wire(database_url)
    await wire.open()
    connection = await asyncpg.connect(wire.leading)
    try:
        arming = asyncio.create_task(wire.arm(0.1))
        assert await connection.fetchval("SELECT 1") == 1
        assert not await arming
        await connection.execute("CREATE TABLE kept (number int)")
        assert wire.cuts == 0
        await connection.close()
    finally:
        await wire.close()
