"""An installation that does not tell its schema."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.settings import Settings
from schema.asgi import assemble
from tests.schema.conftest import Api

SCHEMA = "{ __schema { queryType { name } } }"
MISTAKEN = "{ deploymentPlan(idd: 1) { nam } tenannt { id } }"
FILTERED = "query($wanted: PlanFilter) { deploymentPlans(filter: $wanted) { nodes { id } } }"


@pytest.fixture
async def silent(api: Api) -> AsyncIterator[Api]:
    """The same application with introspection refused."""
    app = assemble(
        api.services, Settings.from_environment({"WINDLASS_ALLOWED_HOSTS": "*", "WINDLASS_INTROSPECTION": "refused"})
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://windlass.test") as client:
        yield Api(app, api.services, client, api.acme, api.rival)


async def messages(api: Api, document: str, variables: dict[str, Any] | None = None) -> str:
    answer = await api.ask(document, variables)
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"GRAPHQL_VALIDATION_FAILED"}
    return " ".join(error["message"] for error in answer["errors"])


async def test_whoever_is_let_in_may_ask_for_the_schema_and_is_helped(api: Api) -> None:
    assert (await api.data(SCHEMA))["__schema"]["queryType"]["name"] == "Query"
    assert "Did you mean" in await messages(api, MISTAKEN)
    assert "Did you mean 'name'" in await messages(api, FILTERED, {"wanted": {"nam": {}}})


async def test_where_it_is_refused_nobody_is_told_a_name(silent: Api) -> None:
    for document in (SCHEMA, '{ __type(name: "Tenant") { name } }'):
        assert "introspection has been disabled" in await messages(silent, document)
    for document, variables in ((MISTAKEN, None), (FILTERED, {"wanted": {"nam": {}}})):
        found = await messages(silent, document, variables)
        assert "Did you mean" not in found
        assert "nam" in found
    assert (await silent.data("{ __typename viewer { __typename } }"))["__typename"] == "Query"
