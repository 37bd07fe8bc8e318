"""Every built-in resource type meets the contract, and the kit notices a type that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.providers.base import Context, JsonObject, ResourceState, ResourceType
from app.providers.conformance import Check, Sample, StandaloneContext, check_resource_type
from app.providers.core.note import NoteType
from app.providers.postgres.server import Server
from app.providers.registry import Registry

ROLE = Sample(
    properties={"name": "conform_role", "password": "first", "connectionLimit": 3, "memberOf": ["conform_group"]},
    updated={"name": "conform_role", "password": "second", "login": False, "validUntil": "2030-01-01T00:00:00Z"},
    replaced={"name": "conform_role_2"},
    invalid=({}, {"name": "pg_mine"}, {"name": "conform_role", "size": 1}, {"name": "x", "connectionLimit": "many"}),
)
DATABASE = Sample(
    properties={"name": "conform_database"},
    updated={"name": "conform_database", "connectionLimit": 7, "owner": "conform_group"},
    replaced={"name": "conform_database_2"},
    invalid=({}, {"name": "windlass_x"}, {"name": "a", "encoding": "KLINGON"}),
)
GRANT = Sample(
    properties={"role": "conform_group", "database": "conform_data", "schema": "public", "tables": ["one"],
                "privileges": ["SELECT", "INSERT"]},
    updated={"role": "conform_group", "database": "conform_data", "schema": "public", "tables": ["one", "two"],
             "privileges": ["SELECT", "UPDATE"]},
    replaced={"role": "conform_group", "database": "conform_data", "privileges": ["CONNECT"]},
    invalid=({}, {"role": "r", "database": "d", "privileges": ["SELECT"]},
             {"role": "r", "database": "d", "tables": ["t"], "privileges": ["SELECT"]}),
)  # fmt: skip
NOTE = Sample(
    properties={"name": "conform", "text": "hello"},
    updated={"name": "conform", "text": "hello", "size": 3},
    replaced={"name": "other", "text": "hello"},
    invalid=({}, {"name": "../escape"}, {"name": "a", "size": -1}),
)


def _failed(checks: list[Check]) -> list[Check]:
    assert len(checks) == 13
    return [check for check in checks if not check.passed]


@pytest.fixture
async def surroundings(server: Server) -> None:
    """The group, database and tables that the samples speak of."""
    async with server.writing() as connection:
        if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = 'conform_group'"):
            await connection.execute("CREATE ROLE conform_group")
            await connection.execute("CREATE DATABASE conform_data")
    async with server.writing("conform_data") as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS one (a int); CREATE TABLE IF NOT EXISTS two (a int)")


@pytest.mark.parametrize(
    ("name", "sample"), [("postgres.role", ROLE), ("postgres.database", DATABASE), ("postgres.grant", GRANT)]
)
@pytest.mark.usefixtures("surroundings")
async def test_a_postgres_type_conforms(name: str, sample: Sample, server: Server, tmp_path: Path) -> None:
    def contexts(operation_id: str, owner: str) -> StandaloneContext:
        return StandaloneContext(f"{operation_id}-{name}", owner, server, tmp_path)

    assert _failed(await check_resource_type(Registry.default().resource(name), contexts, sample)) == []


async def test_the_note_conforms(tmp_path: Path) -> None:
    def contexts(operation_id: str, owner: str) -> StandaloneContext:
        return StandaloneContext(operation_id, owner, None, tmp_path)

    assert _failed(await check_resource_type(NoteType(), contexts, NOTE)) == []
    assert list((tmp_path / "notes").iterdir()) == []


class Forgetful(NoteType):
    """Takes whatever is there for its own."""

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | None:
        return await self.import_(context, properties["name"])


class Careless(NoteType):
    """Says that it deleted."""

    async def delete(self, context: Context, prior: ResourceState) -> None:
        pass


class Sloppy(NoteType):
    """Says that it updated."""

    async def update(self, *arguments: Any) -> ResourceState:
        prior: ResourceState = arguments[1]
        return prior


@pytest.mark.parametrize(
    ("resource", "found"),
    [
        (Forgetful(), "another operation does not take it for its own"),
        (Careless(), "what is deleted cannot be read"),
        (Sloppy(), "what is updated reads back without a difference"),
    ],
)
async def test_the_kit_finds_a_planted_fault(resource: ResourceType, found: str, tmp_path: Path) -> None:
    def contexts(operation_id: str, owner: str) -> StandaloneContext:
        return StandaloneContext(operation_id, owner, None, tmp_path)

    failed = _failed(await check_resource_type(resource, contexts, NOTE))
    assert found in [check.name for check in failed]
    assert all(check.detail for check in failed)
