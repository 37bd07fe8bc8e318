"""Conditions as clients write and read them."""

from __future__ import annotations

from typing import Any

import pytest

from app.engine.ticking import tick
from app.services.plans.watching import DueWatch, look
from tests.schema.conftest import Api
from tests.schema.test_mutations import WAIT
from tests.schema.verbs import done, refused

GO = {"when": "${signals.go.received}"}
PLAN = """query($id: ID!, $first: Int, $after: Cursor) { deploymentPlan(id: $id) { status condition
  availableActions { action allowed message } spawnedPlans { nodes { id status } }
  evaluations(first: $first, after: $after) { pageInfo { hasNextPage endCursor } edges { cursor
    node { at lastAt times result trigger inputs skipReason message spawned { id } } } } } }"""


async def made(api: Api, condition: dict[str, Any], **more: Any) -> dict[str, Any]:
    flow = await done(api, "createWorkflow", name="w", type="CUSTOM", definition={"steps": [WAIT]})
    given = {"name": "p", "type": "CONDITIONAL", "workflowId": flow["workflow"]["id"], "condition": condition, **more}
    plan: dict[str, Any] = (await done(api, "createPlan", **given))["plan"]
    return plan


async def shown(api: Api, plan_id: str, first: int = 20, after: str | None = None) -> dict[str, Any]:
    asked = {"id": plan_id, "first": first, "after": after}
    plan: dict[str, Any] = (await api.data(PLAN, asked))["deploymentPlan"]
    return plan


async def looked(api: Api) -> int:
    """What a scheduler does in one round."""
    database, context = api.services.database, api.services.context(api.acme.principal, "test")
    ticked = await tick(database, ring_again_seconds=10)
    due = [DueWatch(tenant_id, plan_id) for tenant_id, plan_id in ticked.due_watches]
    return sum([await look(database, watch, context.dependencies) for watch in due])


async def test_a_plan_waits_shows_what_it_saw_and_runs_upon_a_signal(api: Api) -> None:
    condition = {**GO, "fire": "EACH", "coolDown": "PT1H", "for": "PT0S"}
    plan = await made(api, condition)
    assert plan["status"] == "WAITING"
    assert await looked(api) == 1
    told = (await done(api, "signalPlan", planId=plan["id"], name="go", payload={"by": "me"}))["plan"]
    assert told["status"] == "WAITING"
    assert await looked(api) == 1
    found = await shown(api, plan["id"])
    assert found["condition"] == condition
    (child,) = found["spawnedPlans"]["nodes"]
    newest, oldest = (edge["node"] for edge in found["evaluations"]["edges"])
    assert newest.pop("at") <= newest.pop("lastAt")
    assert newest == {
        "times": "1", "result": True, "trigger": 'signals["go"]', "inputs": {"signals": {"go": {"received": True}}},
        "skipReason": None, "message": None, "spawned": {"id": child["id"]},
    }  # fmt: skip
    assert (oldest["result"], oldest["skipReason"], oldest["spawned"]) == (False, "CONDITION_FALSE", None)
    page = await shown(api, plan["id"], first=1)
    assert page["evaluations"]["pageInfo"]["hasNextPage"] is True
    rest = await shown(api, plan["id"], after=page["evaluations"]["pageInfo"]["endCursor"])
    assert [edge["node"] for edge in rest["evaluations"]["edges"]] == [oldest]


async def test_what_can_be_done_with_a_plan_that_waits(api: Api) -> None:
    plan = await made(api, GO)
    actions = {entry["action"]: entry["allowed"] for entry in (await shown(api, plan["id"]))["availableActions"]}
    assert {name for name, allowed in actions.items() if allowed} == {"EDIT", "PAUSE", "CANCEL"}
    assert (await done(api, "pausePlan", planId=plan["id"]))["plan"]["status"] == "PAUSED"
    (error,) = await refused(api, "signalPlan", planId=plan["id"], name="go")
    assert (error["__typename"], error["path"]) == ("IllegalStateError", ["planId"])
    assert (await done(api, "resumePlan", planId=plan["id"]))["plan"]["status"] == "WAITING"
    paused = (await done(api, "pausePlan", planId=plan["id"]))["plan"]
    cancelled = (await done(api, "cancelPlan", planId=plan["id"], expectedVersion=paused["version"]))["plan"]
    assert cancelled["status"] == "CANCELLED"


@pytest.mark.parametrize(
    ("kind", "condition", "code", "path"),
    [
        ("CONDITIONAL", None, "REQUIRED", ["condition"]),
        ("IMMEDIATE", GO, "INVALID", ["condition"]),
        ("CONDITIONAL", "${signals.go.received}", "TYPE_MISMATCH", ["condition"]),
        ("CONDITIONAL", {"when": "${plans.p.status == 'READY'}"}, "INVALID", ["condition", "when"]),
        ("CONDITIONAL", {"when": "${plan.x.status}"}, "UNKNOWN_REFERENCE", ["condition", "when"]),
        ("CONDITIONAL", {**GO, "for": "5m"}, "INVALID", ["condition", "for"]),
        ("CONDITIONAL", {**GO, "unless": "x"}, "INVALID", ["condition", "unless"]),
    ],
)
async def test_what_is_refused_names_its_place(api: Api, kind: str, condition: Any, code: str, path: list[str]) -> None:
    flow = await done(api, "createWorkflow", name="w", type="CUSTOM", definition={"steps": [WAIT]})
    given = {"name": "p", "type": kind, "workflowId": flow["workflow"]["id"], "condition": condition}
    errors = await refused(api, "createPlan", **given)
    assert [(error["code"], error["path"]) for error in errors] == [(code, path)]


async def test_an_edit_changes_what_it_waits_for(api: Api) -> None:
    plan = await made(api, GO)
    errors = await refused(
        api, "updatePlan", id=plan["id"], expectedVersion=plan["version"], condition={"when": "${signals}"}
    )
    assert [error["path"] for error in errors] == [["condition", "when"]]
    # A name by which its condition would read the plan itself is refused as well.
    reads_other = {"when": '${jobs["other"].status == "FAILED"}'}
    given = {"id": plan["id"], "expectedVersion": plan["version"], "condition": reads_other}
    edited = (await done(api, "updatePlan", **given))["plan"]
    assert edited["status"] == "DRAFT"
    (error,) = await refused(api, "updatePlan", id=plan["id"], expectedVersion=edited["version"], name="other")
    assert error["path"] == ["condition", "when"]
    assert (await done(api, "submitPlan", planId=plan["id"]))["plan"]["status"] == "WAITING"
    (error,) = await refused(api, "signalPlan", planId=plan["id"], name="go")
    assert (error["code"], error["path"]) == ("UNKNOWN_REFERENCE", ["name"])


async def test_a_signal_has_a_bounded_payload(api: Api) -> None:
    plan = await made(api, GO)
    (error,) = await refused(api, "signalPlan", planId=plan["id"], name="go", payload={"text": "x" * 20_000})
    assert (error["code"], error["path"]) == ("LIMIT_EXCEEDED", ["payload"])
    (error,) = await refused(api, "signalPlan", planId=plan["id"], name="go", payload=[1])
    assert (error["code"], error["path"]) == ("TYPE_MISMATCH", ["payload"])


async def test_a_signal_that_is_sent_twice_with_one_key_is_one(api: Api) -> None:
    plan = await made(api, {"when": "${signals.go.count == 1}", "for": "PT1H"})
    for _ in range(2):
        document = """mutation($id: ID!) { signalPlan(input: {idempotencyKey: "k", planId: $id, name: "go"}) {
            userErrors { message } replayed } }"""
        assert (await api.data(document, {"id": plan["id"]}))["signalPlan"]["userErrors"] == []
    await looked(api)
    ((edge),) = (await shown(api, plan["id"]))["evaluations"]["edges"]
    assert edge["node"]["inputs"] == {"signals": {"go": {"count": 1}}}
