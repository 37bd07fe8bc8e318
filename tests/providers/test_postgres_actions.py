"""Backup, restore and migration on real servers, taken back and made final."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.domain.enums import LogLevel
from app.providers.base import ActionResult, ErrorKind, OperationCancelled, ProviderError, ResourceState
from app.providers.conformance import StandaloneContext
from app.providers.postgres.archives import Archives
from app.providers.postgres.database import DatabaseType
from app.providers.postgres.failures import DRIVER_ERRORS
from app.providers.postgres.server import Server
from tests.providers.conftest import MakeContext

DATABASES = DatabaseType(Archives())
NAME = "act_data"
DRIVER_FAULTS = (asyncpg.PostgresError, *DRIVER_ERRORS)


async def _rows(server: Server) -> int:
    async with server.reading(NAME) as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM item")
    return count


async def _fill(server: Server, first: int, last: int) -> None:
    async with server.writing(NAME) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS item (number int PRIMARY KEY, text text)")
        await connection.execute(f"INSERT INTO item SELECT n, repeat('x', 50) FROM generate_series({first}, {last}) n")


async def _names(server: Server) -> list[str]:
    async with server.reading() as connection:
        rows = await connection.fetch("SELECT datname FROM pg_database WHERE datname ~ '^(windlass|act_)' ORDER BY 1")
    return [row[0] for row in rows]


async def _made(context: StandaloneContext) -> ResourceState:
    properties, diagnostics = DATABASES.check({"name": NAME})
    assert diagnostics == []
    return await DATABASES.create(context, properties)


@pytest.fixture
async def database(server: Server, make_context: MakeContext) -> AsyncIterator[ResourceState]:
    """A database with a table of 100 rows; whatever a test leaves is taken away."""
    context = make_context("make", connection=server)
    state = await _made(context)
    await _fill(server, 1, 100)
    yield state
    await DATABASES.delete(context, state)
    assert await _names(server) == []


async def _backed_up(make_context: MakeContext, database: ResourceState) -> ActionResult:
    return await DATABASES.act(make_context("backup"), "backup", database, {})


async def test_a_backup_is_a_file_with_its_checksum_and_its_log(
    make_context: MakeContext, database: ResourceState
) -> None:
    context = make_context("backup")
    assert await DATABASES.recover_action(context, "backup", database, {}) is None
    result = await DATABASES.act(context, "backup", database, {})
    assert result.artifact is not None
    (file,) = (context.workspace / "backups").iterdir()
    assert result.artifact.uri == file.as_uri()
    assert result.artifact.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert result.artifact.size == file.stat().st_size
    assert any("item" in line for _, line in context.lines)
    assert await DATABASES.recover_action(context, "backup", database, {}) == result


async def test_a_restore_can_be_taken_back(server: Server, make_context: MakeContext, database: ResourceState) -> None:
    backup = await _backed_up(make_context, database)
    await _fill(server, 101, 110)
    restored = await DATABASES.act(make_context("restore"), "restore", database, backup.outputs | {"size": 0})
    assert restored.state is not None
    assert restored.undo is not None
    assert await _rows(server) == 100
    assert await DATABASES.read(make_context("look"), restored.state) == restored.state
    # The answer may get lost: the operation finds what it did.
    found = await DATABASES.recover_action(make_context("restore"), "restore", database, backup.outputs)
    assert found == restored

    for _ in range(2):
        await DATABASES.undo_action(make_context("back"), "restore", database, restored.undo)
        assert await _rows(server) == 110
    assert await DATABASES.read(make_context("look"), database) == database


async def test_a_final_restore_gives_up_the_old_database(
    server: Server, make_context: MakeContext, database: ResourceState
) -> None:
    backup = await _backed_up(make_context, database)
    restored = await DATABASES.act(make_context("restore"), "restore", database, backup.outputs)
    assert len(await _names(server)) == 2
    for _ in range(2):
        await DATABASES.finalize_action(make_context("final"), "restore", database, restored.undo or {})
        assert await _names(server) == [NAME]


async def test_a_restore_keeps_privileges_and_settings_of_the_database(
    server: Server, make_context: MakeContext, database: ResourceState
) -> None:
    async with server.writing() as connection:
        await connection.execute(f"ALTER DATABASE {NAME} SET search_path TO private, public")
        await connection.execute(f"ALTER DATABASE {NAME} SET statement_timeout TO '7s'")
        await connection.execute(f"REVOKE CONNECT ON DATABASE {NAME} FROM PUBLIC")
    backup = await _backed_up(make_context, database)
    result = await DATABASES.act(make_context("restore"), "restore", database, backup.outputs)
    async with server.reading(NAME) as connection:
        assert await connection.fetchval("SHOW search_path") == "private, public"
        assert await connection.fetchval("SHOW statement_timeout") == "7s"
        held = "SELECT has_database_privilege('pg_monitor', current_database(), 'CONNECT')"
        assert await connection.fetchval(held) is False
    await DATABASES.finalize_action(make_context("final"), "restore", database, result.undo or {})


async def test_a_restore_ends_the_sessions_that_are_in_the_way(
    server: Server, make_context: MakeContext, database: ResourceState
) -> None:
    backup = await _backed_up(make_context, database)
    holding = server.reading(NAME)
    busy = await holding.__aenter__()
    restored = await DATABASES.act(make_context("restore"), "restore", database, backup.outputs)
    with pytest.raises(DRIVER_FAULTS) as ended:
        await busy.fetchval("SELECT 1")
    with pytest.raises(ProviderError) as lost:
        await holding.__aexit__(ended.type, ended.value, None)
    assert lost.value.kind is ErrorKind.UNAVAILABLE
    await DATABASES.finalize_action(make_context("final"), "restore", database, restored.undo or {})


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "http://host/file", "backups/x", "file:///../../etc/passwd"])
async def test_a_restore_reads_nothing_but_backups_of_the_tenant(
    uri: str, make_context: MakeContext, database: ResourceState
) -> None:
    with pytest.raises(ProviderError, match="backup of this tenant") as caught:
        await DATABASES.act(make_context("restore"), "restore", database, {"uri": uri})
    assert caught.value.kind is ErrorKind.INVALID


async def test_a_damaged_backup_leaves_the_database_alone(
    server: Server, make_context: MakeContext, database: ResourceState
) -> None:
    backup = await _backed_up(make_context, database)
    file = next((make_context().workspace / "backups").iterdir())
    file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(ProviderError, match="SHA-256"):
        await DATABASES.act(make_context("one"), "restore", database, backup.outputs)
    with pytest.raises(ProviderError, match="pg_restore ended"):
        await DATABASES.act(make_context("two"), "restore", database, {"uri": backup.outputs["uri"]})
    assert await _names(server) == [NAME]
    assert await _rows(server) == 100


async def test_cancelling_a_backup_that_waits_for_a_lock_ends_pg_dump(
    server: Server, make_context: MakeContext, database: ResourceState
) -> None:
    context = make_context("stuck")
    async with server.writing(NAME) as holder, holder.transaction():
        await holder.execute("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
        backup = asyncio.create_task(DATABASES.act(context, "backup", database, {}))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock'"
        )
        await _until(server, waiting, 1)
        context.cancelled = True
        with pytest.raises(OperationCancelled):
            await backup
        await _until(server, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump'", 0)
    assert list((context.workspace / "backups").iterdir()) == []


async def _until(server: Server, question: str, answer: int) -> None:
    async with asyncio.timeout(20):
        while True:
            async with server.reading() as connection:
                if await connection.fetchval(question) == answer:
                    return
            await asyncio.sleep(0.02)


@pytest.fixture
async def old_database(old_server: Server, server: Server, make_context: MakeContext) -> AsyncIterator[ResourceState]:
    context = make_context("make", connection=old_server)
    state = await _made(context)
    await _fill(old_server, 1, 100)
    yield state
    for each in (old_server, server):
        async with each.writing() as connection:
            await connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
        assert await _names(each) == []


def _moving(make_context: MakeContext, old: Server, new: Server, operation: str = "move") -> StandaloneContext:
    return make_context(operation, connection=old, connections={"new": new})


async def _write_to(server: Server) -> None:
    async with server.writing(NAME) as connection:
        await connection.execute("INSERT INTO item VALUES (1000)")


async def test_a_migration_moves_to_a_newer_server_and_back(
    old_server: Server, server: Server, make_context: MakeContext, old_database: ResourceState
) -> None:
    context = _moving(make_context, old_server, server)
    assert await DATABASES.recover_action(context, "migrate", old_database, {"connection": "new"}) is None
    result = await DATABASES.act(context, "migrate", old_database, {"connection": "new"})
    assert (result.connection, result.outputs["tables"], result.outputs["rows"]) == ("new", 1, 100)
    assert result.state is not None
    assert await DATABASES.read(make_context("look"), result.state) == result.state
    assert await _rows(server) == 100
    with pytest.raises(ProviderError, match="read-only"):
        await _write_to(old_server)
    await _write_to(server)
    assert await DATABASES.recover_action(context, "migrate", old_database, {"connection": "new"}) is not None

    for _ in range(2):
        undoing = _moving(make_context, old_server, server, "move-back")
        await DATABASES.undo_action(undoing, "migrate", old_database, result.undo or {})
    assert await _names(server) == []
    await _write_to(old_server)
    assert await _rows(old_server) == 101
    assert list(context.workspace.glob("*.part")) == []


@pytest.mark.parametrize(("policy", "left"), [("DROP", []), ("KEEP_READ_ONLY", [NAME])])
async def test_a_final_migration_disposes_of_the_source(
    policy: str,
    left: list[str],
    old_server: Server,
    server: Server,
    make_context: MakeContext,
    old_database: ResourceState,
) -> None:
    context = _moving(make_context, old_server, server)
    result = await DATABASES.act(context, "migrate", old_database, {"connection": "new", "source": policy})
    for _ in range(2):
        await DATABASES.finalize_action(context, "migrate", old_database, result.undo or {})
        assert await _names(old_server) == left
    assert await DATABASES.read(_moving(make_context, old_server, server), old_database) is None
    assert await _rows(server) == 100


async def test_a_migration_that_cannot_end_well_changes_nothing(
    old_server: Server, server: Server, make_context: MakeContext, old_database: ResourceState, database: Any
) -> None:
    arguments = {"connection": "new"}
    with pytest.raises(ProviderError) as taken:
        await DATABASES.act(_moving(make_context, old_server, server), "migrate", old_database, arguments)
    assert taken.value.kind is ErrorKind.ALREADY_EXISTS
    with pytest.raises(ProviderError, match="on that server already"):
        await DATABASES.act(_moving(make_context, old_server, old_server), "migrate", old_database, arguments)
    with pytest.raises(ProviderError, match="older than"):
        await DATABASES.act(_moving(make_context, server, old_server), "migrate", database, arguments)
    await _write_to(old_server)
    await _write_to(server)


async def test_a_cancelled_migration_opens_the_source_again(
    old_server: Server, server: Server, make_context: MakeContext, old_database: ResourceState
) -> None:
    context = _moving(make_context, old_server, server)
    context.cancelled = True
    with pytest.raises(OperationCancelled):
        await DATABASES.act(context, "migrate", old_database, {"connection": "new"})
    assert await _names(server) == []
    await _write_to(old_server)


async def test_errors_of_the_programs_are_logged_as_errors(
    server: Server, make_context: MakeContext, tmp_path: Path
) -> None:
    context = make_context()
    with pytest.raises(ProviderError) as caught:
        await Archives().dump(context, server, "act_nowhere", tmp_path / "out")
    assert LogLevel.ERROR in [level for level, _ in context.lines]
    assert caught.value.code == "PG_DUMP_1"


async def test_without_the_programs_the_message_says_which_are_missing(
    server: Server, make_context: MakeContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Archives, "_candidates", lambda _self, _tool: iter(()))
    with pytest.raises(ProviderError, match=r"no pg_dump of PostgreSQL 18"):
        await Archives().dump(make_context(), server, "postgres", tmp_path / "out")
