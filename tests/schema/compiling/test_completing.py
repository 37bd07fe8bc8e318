"""What Python works out has the columns that it names, and no others; what is neither SQL nor computed is not built."""

from __future__ import annotations

import re

import pytest
import strawberry
from sqlalchemy.orm.exc import DetachedInstanceError

from app.db import models
from app.domain.enums import PolicyLevel
from schema.compiling.completing import Inputs
from schema.compiling.coverage import Uncovered, cover
from schema.compiling.queries import CompiledQueries
from schema.fields import computed
from schema.nodes import encode_id
from schema.root import build_schema
from tests.schema.compiling.documents import answer_of
from tests.schema.conftest import Api


@strawberry.type
class Odd:
    row: strawberry.Private[models.Policy]

    @strawberry.field
    def name(self) -> str:
        return self.row.name

    @strawberry.field
    def loud(self) -> str:
        return self.row.name.upper()

    @computed("name volume")
    def louder(self) -> str:
        return self.row.name.upper() + "!"

    @computed("name")
    def low(self) -> str:
        return self.row.name.lower()


@strawberry.type
class OddQuery:
    @strawberry.field
    def odd(self) -> Odd | None:
        return None


def test_a_field_that_is_neither_is_not_built() -> None:
    faults = "Odd.loud is neither SQL nor computed; Odd.louder reads volume, which is no column"
    with pytest.raises(Uncovered, match=f"^{re.escape(faults)}$"):
        cover(strawberry.Schema(query=OddQuery))


def test_a_row_has_what_was_brought_and_nothing_else() -> None:
    inputs = Inputs.of(models.Policy, ["name", "level"])
    row = inputs.row([7, "a", PolicyLevel.ADVISORY.value])
    assert (row.id, row.name, row.level) == (7, "a", PolicyLevel.ADVISORY)
    with pytest.raises(DetachedInstanceError):
        _ = row.requirement


async def test_what_fails_is_told_by_the_ordinary_way(api: Api) -> None:
    """Where one place of many is null, and why: nothing of the answer that was begun is left."""
    plan = await api.acme.rows.plan()
    await api.acme.rows.job(plan)
    text = "{ orchestrationJobs { nodes { name events(after: %s) { nodes { seq } } } } }"
    queries, context = CompiledQueries(build_schema()), api.services.context(api.acme.principal, "test")
    assert await answer_of(queries, text % "null", {}, None, context) is not None
    assert await answer_of(queries, text % '"nonsense"', {}, None, context) is None
    answer = await api.ask(text % '"nonsense"')
    assert [error["path"] for error in answer["errors"]] == [["orchestrationJobs", "nodes", 0, "events"]]


async def test_fields_of_one_name_are_told_apart_by_their_types(api: Api) -> None:
    """A person's and a service account's: each is given what it is made of itself."""
    account = await api.acme.rows.service_account()
    for author in (api.acme.rows.actor, f"service-account:{account.id}", "system:engine"):
        await api.acme.rows.plan(created_by=author)
    text = """{ deploymentPlans { nodes { createdBy { __typename ... on User { id all: roles { role } }
      ... on ServiceAccount { id scopes } ... on SystemActor { name } } } } }"""
    found = [node["createdBy"] for node in (await api.data(text))["deploymentPlans"]["nodes"]]
    assert found == [
        {"__typename": "SystemActor", "name": "engine"},
        {"__typename": "ServiceAccount", "id": encode_id("ServiceAccount", account.id), "scopes": ["READ"]},
        {"__typename": "User", "id": encode_id("User", api.acme.rows.user_id), "all": [{"role": "ADMIN"}]},
    ]
