"""A database that is away has one name, whatever the driver calls it."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app.db.away import DATABASE_AWAY
from app.db.uow import Database
from app.embedded.processes import free_port

_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'windlass-away'"


async def test_a_session_that_is_ended_while_it_works(database_url: str) -> None:
    database = Database.connect(database_url, name="windlass-away", pool_size=1)

    async def work() -> None:
        async with database.read(1) as session:
            await session.execute(text("SELECT pg_sleep(5)"))

    working = asyncio.create_task(work())
    await asyncio.sleep(0.3)
    other = await asyncpg.connect(database_url)
    assert await other.fetchval(_END)
    with pytest.raises(DATABASE_AWAY):
        await working
    # The pool has noticed: the next one is served.
    async with database.read(1) as session:
        assert await session.scalar(text("SELECT 1")) == 1
    await database.close()
    await other.close()


async def test_nobody_is_told_of_sessions_that_ended_while_they_were_idle(database_url: str) -> None:
    database = Database.connect(database_url, name="windlass-away", pool_size=4)

    async def ask() -> int:
        async with database.read(1) as session:
            found: int = (await session.execute(text("SELECT pg_backend_pid() FROM pg_sleep(0.05)"))).scalar_one()
            return found

    before = set(await asyncio.gather(*(ask() for _ in range(4))))
    other = await asyncpg.connect(database_url)
    assert len(await other.fetch(_END)) == len(before) == 4
    # Until their ends have arrived.
    await asyncio.sleep(0.2)
    after = set(await asyncio.gather(*(ask() for _ in range(4))))
    assert len(after) == 4
    assert not before & after
    await database.close()
    await other.close()


async def test_a_server_that_is_only_starting() -> None:
    """What it answers is an error like any other to SQLAlchemy."""
    port = free_port()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        if not reader.at_eof():
            # To the request for TLS: no; to the start of a session: "starting up", as PostgreSQL says it.
            writer.write(b"N")
            await reader.read(1024)
        fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
        writer.write(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    database = Database.connect(f"postgresql://x@127.0.0.1:{port}/x", name="windlass-away", pool_size=1)
    with pytest.raises(DATABASE_AWAY, match="starting up"):
        async with database.read(1):
            pass
    await database.close()
    server.close()


async def test_a_mistake_of_ours_is_not_the_databases_absence(database_url: str) -> None:
    database = Database.connect(database_url, name="windlass-away", pool_size=1)
    with pytest.raises(ProgrammingError):
        async with database.read(1) as session:
            await session.execute(text("SELECT nothing FROM nowhere"))
    await database.close()
