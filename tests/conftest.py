"""Real servers for all tests: started once, a fresh migrated database for each test that asks for one."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from app.db.migrating import migrate
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.valkey import EmbeddedValkey

TEMPLATE = "migrated"
_numbers = itertools.count(1)


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder that a server running as another user can reach; pytest's own folders are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="windlass-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """PostgreSQL for the whole session; `url` is the superuser's."""
    folder = Path(tempfile.mkdtemp(prefix="windlass-test-"))
    server = EmbeddedPostgres(folder / "postgres", durable=False)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[EmbeddedValkey]:
    """Valkey for the whole session."""
    folder = Path(tempfile.mkdtemp(prefix="windlass-test-"))
    server = EmbeddedValkey(folder / "valkey", durable=False)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_template(postgres_server: EmbeddedPostgres) -> str:
    """A database at the head of the migrations, to be copied."""
    asyncio.run(_execute(postgres_server.url, f"CREATE DATABASE {TEMPLATE}"))
    migrate(database(postgres_server, TEMPLATE))
    return TEMPLATE


@pytest.fixture
async def database_url(postgres_server: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[str]:
    """A migrated database of the test's own, as its owner."""
    name = f"test_{next(_numbers)}"
    await _execute(postgres_server.url, f"CREATE DATABASE {name} TEMPLATE {migrated_template}")
    yield database(postgres_server, name)
    await _execute(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def empty_database_url(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """A database without any table."""
    name = f"test_{next(_numbers)}"
    await _execute(postgres_server.url, f"CREATE DATABASE {name}")
    yield database(postgres_server, name)
    await _execute(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


def database(server: EmbeddedPostgres, name: str) -> str:
    """The URL of another database of the server."""
    return f"{server.url.rpartition('/')[0]}/{name}"


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
