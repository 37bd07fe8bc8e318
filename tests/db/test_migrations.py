"""The migrations make what the models say, can be taken back, and need no superuser."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.auth.authenticator import Authenticator
from app.db.migrating import configuration, migrate, unmigrate
from app.db.models import Base
from app.db.uow import Database
from app.services.seeding import create_tenant
from tests.factories.databases import elsewhere, empty_database, fetch, run

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
_COLUMNS = (
    "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default, is_identity"
    " FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version' ORDER BY 1, 2"
)
_INDEXES = (
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    " AND tablename <> 'alembic_version' ORDER BY 1, 2"
)
_CONSTRAINTS = (
    "SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace AND conrelid <> 0 AND conrelid::regclass::text <> 'alembic_version'"
    " ORDER BY 1, 2"
)
_POLICIES = "SELECT tablename, policyname, roles, cmd, qual, with_check FROM pg_policies ORDER BY 1, 2"
_GRANTS = (
    "SELECT grantee, table_name, column_name, privilege_type FROM information_schema.column_privileges"
    " WHERE grantee LIKE 'windlass\\_%' ORDER BY 1, 2, 3, 4"
)


async def _catalogue(url: str, *queries: str) -> list[list[tuple[Any, ...]]]:
    return [[tuple(row) for row in await fetch(url, query)] for query in queries]


async def test_up_down_and_up_again_leads_to_the_same(database_url: str) -> None:
    async with empty_database(database_url) as url:
        await asyncio.to_thread(migrate, url)
        first = await _catalogue(url, _COLUMNS, _INDEXES, _CONSTRAINTS, _POLICIES, _GRANTS)
        assert all(first)
        await asyncio.to_thread(unmigrate, url)
        assert await _catalogue(url, _TABLES, _POLICIES) == [[("alembic_version",)], []]
        assert not [row for row in await fetch(url, _GRANTS) if row["table_name"] != "alembic_version"]
        await asyncio.to_thread(migrate, url)
        assert await _catalogue(url, _COLUMNS, _INDEXES, _CONSTRAINTS, _POLICIES, _GRANTS) == first


async def test_every_migration_can_be_taken_back_alone(database_url: str) -> None:
    async with empty_database(database_url) as url:
        script = ScriptDirectory.from_config(configuration(url))
        revisions = [revision.revision for revision in script.walk_revisions()][::-1]
        await asyncio.to_thread(migrate, url)
        for revision in reversed(revisions[:-1]):
            await asyncio.to_thread(unmigrate, url, revision)
            assert [row["version_num"] for row in await fetch(url, "SELECT version_num FROM alembic_version")] == [
                revision
            ]


async def test_alembic_finds_nothing_to_change(owner: AsyncEngine) -> None:
    def difference(connection: Connection) -> Sequence[Any]:
        found: Sequence[Any] = compare_metadata(
            MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True}),
            Base.metadata,
        )
        return found

    async with owner.connect() as connection:
        assert await connection.run_sync(difference) == []


@pytest.mark.parametrize("query", [_COLUMNS, _INDEXES, _CONSTRAINTS], ids=["columns", "indexes", "constraints"])
async def test_migrated_is_the_same_as_made_from_the_models(database_url: str, query: str) -> None:
    """Sees what the comparison of Alembic does not: CHECKs, conditions of partial indexes, names."""
    async with empty_database(database_url) as url:
        engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await engine.dispose()
        assert await _catalogue(database_url, query) == await _catalogue(url, query)


async def test_two_processes_may_migrate_at_once(database_url: str) -> None:
    async with empty_database(database_url) as url:
        program = "import sys; from app.db.migrating import migrate; migrate(sys.argv[1])"
        both = [await asyncio.create_subprocess_exec(sys.executable, "-c", program, url) for _ in range(2)]
        assert [await process.wait() for process in both] == [0, 0]
        assert await _catalogue(url, _COLUMNS) == await _catalogue(database_url, _COLUMNS)


async def test_an_owner_without_superuser_rights_is_enough(database_url: str) -> None:
    """And does not see past the policies, because they are forced on the owner too."""
    login = f"owner_{uuid.uuid4().hex[:8]}"
    system_roles = ("windlass_app", "windlass_tick", "windlass_auth", "windlass_platform", "windlass_keys")
    await run(
        database_url,
        f"CREATE ROLE {login} LOGIN CREATEROLE PASSWORD 'owner'",
        *(f"GRANT {role} TO {login} WITH INHERIT FALSE, SET TRUE" for role in system_roles),
    )
    try:
        async with empty_database(database_url, login) as created:
            url = elsewhere(created, username=login, password="owner")
            await asyncio.to_thread(migrate, url)
            database = Database.connect(url, name="windlass-tests", pool_size=1)
            _, token = await create_tenant(database, "Acme", "acme", "admin@acme.example")
            principal = await Authenticator(database).authenticate(token)
            await database.close()
            assert principal.tenant_slug == "acme"
            assert await fetch(url, "SELECT id FROM tenant") == []
            assert len(await fetch(created, "SELECT id FROM tenant")) == 1
    finally:
        await run(database_url, f"DROP OWNED BY {login}", f"DROP ROLE {login}")
