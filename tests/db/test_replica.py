"""Queries answered by a copy: a second server that streams from the first."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from app.db.uow import Database
from app.embedded.postgres import EmbeddedPostgres

PATIENCE = 30.0
IS_COPY = "SELECT pg_is_in_recovery()::text"
NAME = (
    "SELECT q.name FROM (SELECT set_config('app.tenant_id', $1, true) AS entered) s, tenant q"
    " WHERE s.entered = q.id::text"
)


@dataclass
class Pair:
    """A primary and its copy; `control` is the superuser's on the copy."""

    primary: EmbeddedPostgres
    copy: EmbeddedPostgres

    def database(self, url: str) -> Database:
        at = url.rpartition("/")[2]
        copied = f"{self.copy.url.rpartition('/')[0]}/{at}"
        return Database.connect(url, name="test", pool_size=2, replica_url=copied)

    async def control(self, statement: str) -> None:
        connection = await asyncpg.connect(self.copy.url)
        await connection.execute(statement)
        await connection.close()


@pytest.fixture
def pair(postgres_server: EmbeddedPostgres) -> Iterator[Pair]:
    folder = Path(tempfile.mkdtemp(prefix="windlass-copy-"))
    folder.chmod(0o755)
    copy = EmbeddedPostgres(folder / "postgres", durable=False)
    copy.folder.mkdir()
    data = copy.folder / "data"
    command = [
        str(copy.binaries / "pg_basebackup"), "--dbname", postgres_server.url, "--pgdata", str(data),
        "--write-recovery-conf", "--wal-method", "stream", "--checkpoint", "fast",
    ]  # fmt: skip
    user = "pgserver" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(copy.folder, user)
    subprocess.run(command, check=True, capture_output=True, timeout=60, user=user, group=user)
    # The password is the primary's.
    shutil.copy(postgres_server.folder / "password", copy.folder / "password")
    copy.start()
    yield Pair(postgres_server, copy)
    copy.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def database(pair: Pair, database_url: str) -> AsyncIterator[Database]:
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO tenant (id, name, slug) OVERRIDING SYSTEM VALUE VALUES (7, 'old', 'seven')")
    await connection.close()
    found = pair.database(database_url)
    yield found
    await found.close()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await holds():  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.05)


async def test_the_copy_answers_until_it_is_behind_or_away(pair: Pair, database: Database, database_url: str) -> None:
    async def by_copy() -> bool:
        return await database.answer(7, IS_COPY, ()) == "true"

    async def by_primary() -> bool:
        return not await by_copy()

    # Nobody has looked at it yet.
    assert not await by_copy()
    await until(by_copy)

    # What the tenant has written through this process it sees, and so it does what others have written in time.
    async with database.write(7, actor="test", correlation_id="test") as transaction:
        transaction.authorize("test")
    assert await by_primary()
    assert await database.answer(8, IS_COPY, ()) == "true"
    await until(by_copy)

    await pair.control("SELECT pg_wal_replay_pause()")
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE tenant SET name = 'new' WHERE id = 7")
    await connection.close()
    await until(by_primary)
    assert await database.answer(7, NAME, ("7",)) == "new"
    await pair.control("SELECT pg_wal_replay_resume()")
    await until(by_copy)
    assert await database.answer(7, NAME, ("7",)) == "new"

    await asyncio.to_thread(pair.copy.stop)
    # Whoever asks now does not notice.
    assert await by_primary()
    assert await database.answer(7, NAME, ("7",)) == "new"
    await asyncio.to_thread(pair.copy.start)
    await until(by_copy)


async def test_the_copy_takes_nothing(database: Database) -> None:
    async def by_copy() -> bool:
        return await database.answer(7, IS_COPY, ()) == "true"

    await until(by_copy)
    # The primary is asked after the copy has refused, and takes nothing either.
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await database.answer(7, "INSERT INTO tenant (name, slug) VALUES ('x', 'x') RETURNING name", ())


async def test_what_is_no_copy_is_never_asked(database_url: str) -> None:
    database = Database.connect(database_url, name="test", pool_size=2, replica_url=database_url)
    replica = database._replica
    assert replica is not None
    assert await database.answer(7, IS_COPY, ()) == "false"
    await replica._look()
    assert not replica.may_answer(7)
    await database.close()
