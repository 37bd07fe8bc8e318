"""Pages: every row once, in order, whatever the order and the direction, and whatever is missing."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schema.compiling.queries import CompiledQueries
from schema.root import build_schema
from tests.schema.conftest import Api

SCHEMA = build_schema()

PLANS = """
query ($filter: PlanFilter, $orderBy: PlanOrder, $first: Int, $after: Cursor, $last: Int, $before: Cursor) {
  deploymentPlans(filter: $filter, orderBy: $orderBy, first: $first, after: $after, last: $last, before: $before) {
    nodes { name }
    edges { cursor node { name } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    totalCount { value exact }
  }
}
"""
START = datetime(2026, 1, 31, 8, tzinfo=UTC)
FIELDS = ["CREATED_AT", "UPDATED_AT", "SCHEDULED_AT", "STARTED_AT", "NAME"]


async def seven_plans(api: Api) -> None:
    """Of which three are not scheduled, and two are scheduled for the same moment."""
    hours = [None, 3, 1, None, 1, 2, None]
    for number, hour in enumerate(hours):
        moment = None if hour is None else START + timedelta(hours=hour)
        await api.acme.rows.plan(f"plan-{number}", scheduled_at=moment, created_at=START + timedelta(minutes=number))


async def walk(api: Api, size: int, order: dict[str, str], *, backwards: bool = False) -> list[str]:
    """All names, page by page."""
    count, cursor, end, more = (
        ("last", "before", "startCursor", "hasPreviousPage")
        if backwards
        else ("first", "after", "endCursor", "hasNextPage")
    )
    names: list[str] = []
    place = None
    while True:
        page = (await api.data(PLANS, {count: size, cursor: place, "orderBy": order}))["deploymentPlans"]
        found = [node["name"] for node in page["nodes"]]
        names = found + names if backwards else names + found
        place = page["pageInfo"][end]
        if not page["pageInfo"][more]:
            return names


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("direction", ["ASC", "DESC"])
async def test_pages_of_any_size_and_direction_show_every_row_once(api: Api, field: str, direction: str) -> None:
    await seven_plans(api)
    order = {"field": field, "direction": direction}
    whole = await walk(api, 100, order)
    assert sorted(whole) == [f"plan-{number}" for number in range(7)]
    for size in (1, 3):
        assert await walk(api, size, order) == whole
        assert await walk(api, size, order, backwards=True) == whole


@pytest.mark.parametrize("direction", ["ASC", "DESC"])
async def test_what_is_missing_counts_as_later_than_all_others(api: Api, direction: str) -> None:
    await seven_plans(api)
    names = await walk(api, 2, {"field": "SCHEDULED_AT", "direction": direction})
    rising = names if direction == "ASC" else names[::-1]
    assert rising[:4] == ["plan-2", "plan-4", "plan-5", "plan-1"]
    assert set(rising[4:]) == {"plan-0", "plan-3", "plan-6"}


async def test_a_row_that_vanishes_between_pages_costs_no_other_row(api: Api) -> None:
    await seven_plans(api)
    order = {"orderBy": {"field": "NAME", "direction": "ASC"}}
    first = (await api.data(PLANS, {"first": 3, **order}))["deploymentPlans"]
    async with api.acme.rows.write() as transaction:
        await transaction.session.execute(_delete("plan-1"))
    rest = (await api.data(PLANS, {"first": 9, "after": first["pageInfo"]["endCursor"], **order}))["deploymentPlans"]
    assert [node["name"] for node in rest["nodes"]] == ["plan-3", "plan-4", "plan-5", "plan-6"]


async def test_counts_are_exact_and_follow_the_filter(api: Api) -> None:
    await seven_plans(api)
    page = await api.data(PLANS, {"first": 2, "filter": {"name": {"in": ["plan-1", "plan-2", "plan-5"]}}})
    assert page["deploymentPlans"]["totalCount"] == {"value": 3, "exact": True}
    assert page["deploymentPlans"]["pageInfo"]["hasNextPage"] is True


@pytest.mark.parametrize(
    ("arguments", "code", "path"),
    [
        ({"first": 101}, "LIMIT_EXCEEDED", ["first"]),
        ({"last": 101}, "LIMIT_EXCEEDED", ["last"]),
        ({"first": -1}, "INVALID", ["first"]),
        ({"first": 1, "last": 1}, "INVALID", ["last"]),
        ({"after": "nonsense"}, "INVALID", ["after"]),
        ({"after": "ÿ"}, "INVALID", ["after"]),
        ({"before": "bnVsbA"}, "INVALID", ["before"]),
    ],
)
async def test_an_impossible_window_is_refused_by_name(
    api: Api, arguments: dict[str, Any], code: str, path: list[str]
) -> None:
    answer = await api.ask(PLANS, arguments)
    assert [error["extensions"] for error in answer["errors"]] == [{"code": code, "path": path}]
    assert answer["data"] is None


async def test_a_cursor_of_another_order_is_refused(api: Api) -> None:
    await seven_plans(api)
    by_name = {"orderBy": {"field": "NAME", "direction": "ASC"}}
    page = (await api.data(PLANS, {"first": 2, **by_name}))["deploymentPlans"]
    answer = await api.ask(PLANS, {"first": 2, "after": page["pageInfo"]["endCursor"]})
    assert answer["errors"][0]["extensions"] == {"code": "INVALID", "path": ["after"]}


async def test_a_page_of_none_is_empty(api: Api) -> None:
    await seven_plans(api)
    page = (await api.data(PLANS, {"first": 0}))["deploymentPlans"]
    assert page["edges"] == []
    assert page["pageInfo"] == {
        "hasNextPage": True,
        "hasPreviousPage": False,
        "startCursor": None,
        "endCursor": None,
    }


async def test_nested_pages_have_their_limit_per_parent(api: Api) -> None:
    rows = api.acme.rows
    for name in ("one", "two"):
        workflow = await rows.workflow(name)
        for number in range(3):
            await rows.plan(f"{name}-{number}", workflow_id=workflow.id, created_at=START + timedelta(hours=number))
    query = """
    query ($after: Cursor) { workflows(orderBy: {field: NAME, direction: ASC}) { nodes {
      plans(first: 2, after: $after) { nodes { name } pageInfo { hasNextPage endCursor } totalCount { value } }
    } } }
    """
    pages = [node["plans"] for node in (await api.data(query))["workflows"]["nodes"]]
    assert [[plan["name"] for plan in page["nodes"]] for page in pages] == [["one-2", "one-1"], ["two-2", "two-1"]]
    assert all(page["pageInfo"]["hasNextPage"] and page["totalCount"] == {"value": 3} for page in pages)
    rest = (await api.data(query, {"after": pages[0]["pageInfo"]["endCursor"]}))["workflows"]["nodes"]
    assert [plan["name"] for plan in rest[0]["plans"]["nodes"]] == ["one-0"]


def _delete(name: str) -> Any:
    from sqlalchemy import update

    from app.db.models import DeploymentPlan

    return update(DeploymentPlan).where(DeploymentPlan.plan_name == name).values(is_deleted=True)


@pytest.mark.parametrize(
    ("name", "field", "key"),
    [
        ("plan:CREATED_AT:True", "CREATED_AT", ["2026-01-01T00:00:00+00:00", 2**63]),
        ("plan:CREATED_AT:True", "CREATED_AT", ["0001-01-01T00:00:00+23:59", 1]),
        ("plan:CREATED_AT:True", "CREATED_AT", ["9999-12-31T23:59:59-23:59", 1]),
        ("plan:CREATED_AT:True", "CREATED_AT", ["2026-01-01", 1]),
        ("plan:NAME:True", "NAME", ["a\0b", 1]),
    ],
)
async def test_a_place_that_no_row_can_have_is_refused(api: Api, name: str, field: str, key: list[Any]) -> None:
    text = base64.urlsafe_b64encode(json.dumps([name, *key], separators=(",", ":")).encode()).decode().rstrip("=")
    query = (
        f"query($a: Cursor) {{ deploymentPlans(first: 1, after: $a, orderBy: {{field: {field}, direction: DESC}})"
        " { nodes { id } } }"
    )
    context = api.services.context(api.acme.principal, "test")
    assert CompiledQueries(SCHEMA).begun(query, {"a": text}, None, context) is None
    found = await SCHEMA.execute(query, {"a": text}, api.services.context(api.acme.principal, "test"))
    assert [(error.extensions or {})["code"] for error in found.errors or ()] == ["INVALID"]
