"""Simulations as clients ask for them and see them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.schema.conftest import Api
from tests.schema.test_approvals import person
from tests.schema.test_mutations import manual_plan
from tests.schema.verbs import done, refused, send

_SEEN = """query ($id: ID!) { deploymentPlan(id: $id) {
  status version lastJob { id } activeJob { id } jobs { nodes { id simulated } }
  availableActions { action allowed } events { nodes { __typename } } } }"""
_JOB = """query ($id: ID!) { orchestrationJob(id: $id) {
  simulated name configuration availableActions { action allowed message }
  steps { key status } events { nodes { __typename } } } }"""


async def seen(api: Api, plan_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.data(_SEEN, {"id": plan_id}))["deploymentPlan"]
    return found


async def test_a_plan_that_is_simulated_stays_as_it_is(api: Api) -> None:
    plan = await manual_plan(api)
    before = await seen(api, plan["id"])
    run = {"planId": plan["id"], "simulate": True, "simulateFailureAt": ["a:undo", "a"]}
    made = await done(api, "executePlan", **run)
    job = made["job"]
    assert (job["simulated"], job["name"], job["status"]) == (True, "p simulation", "DISPATCHED")
    assert made["plan"]["status"] == "READY"
    after = await seen(api, plan["id"])
    assert after.pop("jobs") == {"nodes": [{"id": job["id"], "simulated": True}]}
    assert {**after, "jobs": {"nodes": []}} == before
    found = (await api.data(_JOB, {"id": job["id"]}))["orchestrationJob"]
    assert found["steps"] == [{"key": "a", "status": "READY"}]
    assert found["configuration"]["simulation"] == {"failAt": ["a", "a:undo"]}
    kinds = {event["__typename"] for event in found["events"]["nodes"]}
    assert kinds == {"JobStatusChanged", "StepStatusChanged"}
    actions = {action["action"]: (action["allowed"], action["message"]) for action in found["availableActions"]}
    assert actions == {
        "CANCEL": (True, None),
        "FORCE_CANCEL": (False, "not while it is DISPATCHED"),
        "CONTINUE_ROLLBACK": (False, "it is only simulated"),
    }
    (error,) = await refused(api, "continueRollback", jobId=job["id"], resolutions=[])
    assert (error["__typename"], error["path"]) == ("IllegalStateError", ["jobId"])
    run = {"planId": plan["id"], "expectedPreviewHash": plan["preview"]["hash"]}
    real = (await done(api, "executePlan", **run))["job"]
    assert real["simulated"] is False
    assert (await seen(api, plan["id"]))["lastJob"] == {"id": real["id"]}
    assert (await done(api, "cancelJob", jobId=job["id"]))["job"]["status"] in ("CANCELLING", "CANCELLED")


async def test_a_key_makes_one_simulation_and_each_new_key_another(api: Api) -> None:
    plan = await manual_plan(api)
    run = {"planId": plan["id"], "simulate": True}
    answers = [await send(api, "executePlan", {**run, "idempotencyKey": "one"}) for _ in range(2)]
    assert [answer["replayed"] for answer in answers] == [False, True]
    assert answers[0]["job"]["id"] == answers[1]["job"]["id"]
    other = await send(api, "executePlan", {**run, "simulateFailureAt": ["a"], "idempotencyKey": "one"})
    assert other["userErrors"][0]["path"] == ["idempotencyKey"]
    assert (await done(api, "executePlan", **run))["job"]["id"] != answers[0]["job"]["id"]


async def test_a_stale_hash_is_told_and_the_plan_is_not_sent_back(api: Api) -> None:
    plan = await manual_plan(api)
    (error,) = await refused(api, "executePlan", planId=plan["id"], simulate=True, expectedPreviewHash="0" * 64)
    assert (error["__typename"], error["current"]["hash"]) == ("StalePreviewError", plan["preview"]["hash"])
    assert (await seen(api, plan["id"]))["version"] == plan["version"]


@pytest.mark.parametrize(
    ("given", "path", "said"),
    [
        ({"simulateFailureAt": ["a"]}, ["simulateFailureAt"], "simulate"),
        ({"simulate": True, "simulateFailureAt": ["a", "A:undo"]}, ["simulateFailureAt", "1"], "'a:undo'"),
        ({"simulate": True, "simulateFailureAt": [""]}, ["simulateFailureAt", "0"], "there is no step ''"),
    ],
)
async def test_what_cannot_be_simulated_is_refused_with_its_path(
    api: Api, given: dict[str, Any], path: list[str], said: str
) -> None:
    plan = await manual_plan(api)
    (error,) = await refused(api, "executePlan", planId=plan["id"], **given)
    assert (error["path"], said in error["message"]) == (path, True)


async def test_another_tenants_plan_is_not_there_and_who_may_not_execute_may_not_simulate(api: Api) -> None:
    plan = await manual_plan(api)
    (error,) = await refused(api, "executePlan", api.rival, planId=plan["id"], simulate=True)
    assert (error["code"], error["path"]) == ("NOT_FOUND", ["planId"])
    approver = await person(api, "approver")
    (error,) = await refused(api, "executePlan", approver, planId=plan["id"], simulate=True)
    assert (error["__typename"], error["required"]) == ("PermissionError", "EXECUTE")
