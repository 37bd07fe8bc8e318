"""One action on many plans: each for itself, or all or none."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from app.domain.statuses import PlanStatus
from schema.nodes import encode_id
from tests.schema.conftest import Access, Api
from tests.schema.test_mutations import NOTE, _with_scopes, revision
from tests.schema.verbs import Contents, done

BULK = """mutation($input: BulkPlanActionInput!) { bulkPlanAction(input: $input) {
  items { index id plan { id status } job { id } userErrors { code message path } }
  succeeded failed replayed userErrors { code message path } } }"""


async def bulk(api: Api, action: str, access: Access | None = None, **given: Any) -> dict[str, Any]:
    variables = {"input": {"idempotencyKey": uuid4().hex, "action": action, **given}}
    answer: dict[str, Any] = (await api.data(BULK, variables, access=access))["bulkPlanAction"]
    return answer


async def drafts(api: Api, count: int, name: str = "p") -> list[str]:
    pinned = await revision(api, NOTE)
    made = [
        await done(api, "createPlan", name=f"{name}{n}", type="IMMEDIATE", templateRevisionId=pinned, submit=False)
        for n in range(count)
    ]
    return [one["plan"]["id"] for one in made]


def codes(answer: dict[str, Any]) -> list[list[str]]:
    return [[error["code"] for error in item["userErrors"]] for item in answer["items"]]


async def test_each_plan_is_done_or_refused_for_itself_in_the_order_given(api: Api) -> None:
    first, second = await drafts(api, 2)
    missing = encode_id("DeploymentPlan", 999_999)
    await done(api, "cancelPlan", planId=second)
    answer = await bulk(api, "SUBMIT", planIds=[missing, second, first])
    assert codes(answer) == [["NOT_FOUND"], ["ILLEGAL_STATE"], []]
    assert [item["index"] for item in answer["items"]] == [0, 1, 2]
    assert (answer["items"][0]["plan"], answer["items"][2]["plan"]["status"]) == (None, "QUEUED")
    assert (answer["succeeded"], answer["failed"]) == (1, 2)


async def test_sent_again_it_tries_what_was_refused_and_nothing_else(api: Api) -> None:
    first, second = await drafts(api, 2)
    key = uuid4().hex
    await bulk(api, "CANCEL", planIds=[first], idempotencyKey=key)
    again = await bulk(api, "CANCEL", planIds=[first], idempotencyKey=key)
    assert (again["replayed"], again["succeeded"], codes(again)) == (True, 1, [[]])
    other = await bulk(api, "CANCEL", planIds=[second], idempotencyKey=key)
    assert [error["code"] for error in other["userErrors"]] == ["IDEMPOTENCY_MISMATCH"]


async def test_all_or_none(api: Api, database_url: str) -> None:
    first, second = await drafts(api, 2)
    missing = encode_id("DeploymentPlan", 999_999)
    before = await Contents.of(database_url)
    answer = await bulk(api, "SUBMIT", planIds=[first, missing, second], errorPolicy="ATOMIC")
    assert codes(answer) == [[], ["NOT_FOUND"], []]
    assert (answer["succeeded"], answer["failed"]) == (0, 1)
    assert await Contents.of(database_url) == before
    answer = await bulk(api, "SUBMIT", planIds=[second, first], errorPolicy="ATOMIC")
    assert (answer["succeeded"], answer["failed"]) == (2, 0)
    assert [item["plan"]["id"] for item in answer["items"]] == [second, first]


async def test_a_filter_finds_them_oldest_first_and_too_many_are_refused(api: Api) -> None:
    wanted = await drafts(api, 3, "wanted")
    await api.acme.rows.plan("other", status=PlanStatus.DRAFT)
    given: dict[str, Any] = {"filter": {"name": {"startsWith": "wanted"}, "status": ["DRAFT"]}}
    answer = await bulk(api, "CANCEL", None, **given, maxItems=2)
    assert [(error["code"], error["path"]) for error in answer["userErrors"]] == [("LIMIT_EXCEEDED", ["filter"])]
    answer = await bulk(api, "CANCEL", None, **given, maxItems=3)
    assert [item["id"] for item in answer["items"]] == wanted
    assert {item["plan"]["status"] for item in answer["items"]} == {"CANCELLED"}


@pytest.mark.parametrize("policy", ["ATOMIC", "CONTINUE"])
async def test_neither_permissions_nor_other_tenants_are_passed_over(api: Api, database_url: str, policy: str) -> None:
    (mine,) = await drafts(api, 1)
    theirs = await api.rival.rows.plan("theirs")
    access = await _with_scopes(api, ["READ"])
    before = await Contents.of(database_url)
    answer = await bulk(api, "SUBMIT", access, planIds=[mine], errorPolicy=policy)
    assert codes(answer) == [["FORBIDDEN"]]
    answer = await bulk(api, "SUBMIT", planIds=[encode_id("DeploymentPlan", theirs.id)], errorPolicy=policy)
    assert codes(answer) == [["NOT_FOUND"]]
    after = await Contents.of(database_url)
    # What was asked for is remembered, so that it can be asked again.
    assert {name for name in before.tables if before.tables[name] != after.tables[name]} <= {"idempotency_key"}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"action": "EDIT", "planIds": []}, ("INVALID", ["action"])),
        ({"action": "CANCEL"}, ("REQUIRED", ["planIds"])),
        ({"action": "CANCEL", "planIds": [], "filter": {}}, ("INVALID", ["filter"])),
        ({"action": "CANCEL", "planIds": [], "maxItems": 101}, ("LIMIT_EXCEEDED", ["maxItems"])),
        ({"action": "CANCEL", "planIds": [], "maxItems": 0}, ("LIMIT_EXCEEDED", ["maxItems"])),
    ],
)
async def test_what_makes_no_sense_is_refused(api: Api, given: dict[str, Any], error: tuple[str, list[str]]) -> None:
    answer = await bulk(api, given["action"], **{name: value for name, value in given.items() if name != "action"})
    assert [(found["code"], found["path"]) for found in answer["userErrors"]] == [error]
    assert answer["items"] == []
