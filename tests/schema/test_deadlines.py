"""An operation that takes too long is told so, field by field, whichever way it is answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import httpx
import pytest

from app.settings import Settings, SettingsError
from schema.asgi import assemble
from schema.nodes import encode_id
from tests.schema.conftest import Api
from tests.schema.test_isolation import first_of

SECONDS = 0.3
TWO = "{ first: workflows { nodes { id } } ...More } fragment More on Query { ... { second: viewer { role } } }"
ONE = "{ first: workflows { nodes { id } } }"
MAKE = """mutation { createRole(input: {idempotencyKey: "k", name: "r", permissions: [READ]}) { role { id } } }"""
WATCH = "subscription($id: ID!) { jobUpdated(id: $id) { kind job { plan { name } } } }"


@asynccontextmanager
async def locked(database_url: str, table: str) -> AsyncIterator[None]:
    """Nobody else reads or writes the table meanwhile."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def ask(api: Api, document: str, *, compiled: bool) -> dict[str, Any]:
    settings = Settings.from_environment(
        {"WINDLASS_ALLOWED_HOSTS": "*", "WINDLASS_COMPILED_QUERIES": "true" if compiled else "false"}
    )
    app = assemble(replace(api.services, operation_seconds=SECONDS), settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://windlass.test") as client:
        headers = {"authorization": f"Bearer {api.acme.token}"}
        answer = await client.post("/graphql", json={"query": document}, headers=headers)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def late(seconds: float, *names: str) -> dict[str, Any]:
    message = f"the operation took longer than {seconds:g} s"
    return {
        "errors": [{"message": message, "path": [name], "extensions": {"code": "DEADLINE_EXCEEDED"}} for name in names],
        "data": None,
    }


async def test_a_query_has_a_deadline(api: Api, database_url: str) -> None:
    assert "errors" not in await ask(api, TWO, compiled=False)
    async with locked(database_url, "workflow"):
        assert await ask(api, TWO, compiled=False) == late(SECONDS, "first", "second")
    assert "errors" not in await ask(api, TWO, compiled=False)


async def test_a_query_of_one_statement_has_the_statements(
    api: Api, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.uow.STATEMENT_TIMEOUT", "300ms")
    async with locked(database_url, "workflow"):
        assert await ask(api, ONE, compiled=True) == late(5, "first")
    assert "errors" not in await ask(api, ONE, compiled=True)


async def test_a_mutation_has_a_deadline_and_leaves_nothing_when_it_is_late(api: Api, database_url: str) -> None:
    async with locked(database_url, "custom_role"):
        assert await ask(api, MAKE, compiled=True) == late(SECONDS, "createRole")
    assert (await api.data("{ roles { nodes { id } } }"))["roles"]["nodes"] == []
    assert (await ask(api, MAKE, compiled=True))["data"]["createRole"]["role"]["id"]


async def test_each_event_of_a_subscription_has_a_deadline(api: Api, database_url: str) -> None:
    bounded = replace(api, services=replace(api.services, operation_seconds=SECONDS))
    job = await api.acme.rows.job(await api.acme.rows.plan())
    asked = {"id": encode_id("OrchestrationJob", job.id)}
    async with locked(database_url, "deployment_plan"):
        result = await first_of(bounded, WATCH, asked)
    assert {"errors": [error.formatted for error in result.errors], "data": result.data} == late(SECONDS, "jobUpdated")
    assert (await first_of(bounded, WATCH, asked)).data["jobUpdated"]["job"]["plan"]["name"]


@pytest.mark.parametrize("seconds", ["5", "601", "nan", "x"])
def test_the_deadline_is_longer_than_that_of_a_statement(seconds: str) -> None:
    with pytest.raises(SettingsError, match="OPERATION_SECONDS"):
        Settings.from_environment({"WINDLASS_OPERATION_SECONDS": seconds})
