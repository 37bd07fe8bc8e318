"""Connections that the server has ended are made anew before anybody is told."""

from __future__ import annotations

import asyncio

import asyncpg
from sqlalchemy import text

from app.db.uow import Database

_TERMINATE = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'test-away'"
)


async def test_nobody_is_told_of_connections_that_ended_while_they_were_idle(database_url: str) -> None:
    database = Database.connect(database_url, name="test-away", pool_size=4)

    async def ask() -> int:
        async with database.read(1) as session:
            found: int = (await session.execute(text("SELECT pg_backend_pid() FROM pg_sleep(0.05)"))).scalar_one()
            return found

    try:
        before = set(await asyncio.gather(*(ask() for _ in range(4))))
        assert len(before) == 4
        owner = await asyncpg.connect(database_url)
        try:
            assert await owner.fetchval(_TERMINATE) == 4
        finally:
            await owner.close()
        # Until the ends have arrived.
        await asyncio.sleep(0.2)
        after = set(await asyncio.gather(*(ask() for _ in range(4))))
    finally:
        await database.close()
    assert len(after) == 4
    assert not before & after
