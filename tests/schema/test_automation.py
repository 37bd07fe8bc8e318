"""Standing plans as clients write and read them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from app.domain.statuses import PlanStatus
from schema.nodes import encode_id
from tests.schema.conftest import Api
from tests.schema.test_hooks import HOOK, address, call, fire, standing
from tests.schema.test_mutations import NOTE, WAIT, revision
from tests.schema.verbs import done, refused

SHOWN = """query($id: ID!) { deploymentPlan(id: $id) { type status statusReason configuration trigger { on }
  blockedBy { reason message since } availableActions { action allowed message }
  spawnedPlans { nodes { id type parentPlan { id } configuration availableActions { action allowed }
    trigger { on at cause chain { id } } } } } }"""


async def shown(api: Api, plan_id: str) -> dict[str, Any]:
    plan: dict[str, Any] = (await api.data(SHOWN, {"id": plan_id}))["deploymentPlan"]
    return plan


def actions(plan: dict[str, Any]) -> dict[str, bool]:
    return {action["action"]: action["allowed"] for action in plan["availableActions"]}


async def test_a_standing_plan_and_its_runs(api: Api) -> None:
    plan_id = await standing(api)
    plan = await shown(api, plan_id)
    assert (plan["type"], plan["status"], plan["blockedBy"], plan["trigger"]) == ("AUTOMATED", "WAITING", [], None)
    assert plan["configuration"] == {"automation": HOOK}
    allowed = {action for action, may in actions(plan).items() if may}
    assert allowed == {"EDIT", "PAUSE", "CANCEL"}
    (execute,) = [action for action in plan["availableActions"] if action["action"] == "EXECUTE"]
    assert execute["message"] == "each of its runs is a plan of its own, made by what it listens to"
    hook = await address(api, plan_id)
    taken = (await call(api, hook["path"], {"secret": "canary"}, webhook_id="msg_1")).json()
    await fire(api)
    plan = await shown(api, plan_id)
    (child,) = plan["spawnedPlans"]["nodes"]
    assert (child["type"], child["parentPlan"], child["configuration"]) == ("IMMEDIATE", {"id": plan_id}, None)
    assert (child["trigger"]["on"], child["trigger"]["chain"]) == ("WEBHOOK", [])
    assert (child["trigger"]["cause"]["id"], "canary" in str(plan)) == (taken["id"], False)
    assert actions(child)["EDIT"] is False


async def test_why_nothing_comes_of_it(api: Api) -> None:
    plan_id = await standing(api, rate={"count": 1, "per": "PT1H"}, overlap="SKIP")
    hook = await address(api, plan_id)
    await call(api, hook["path"])
    await fire(api)
    assert (await shown(api, plan_id))["blockedBy"] == []
    async with api.acme.rows.write() as transaction:
        await transaction.session.execute(text("UPDATE plan_trigger SET created_at = created_at - interval '1 hour'"))
    await call(api, hook["path"])
    await fire(api)
    (blocker,) = (await shown(api, plan_id))["blockedBy"]
    assert (blocker["reason"], blocker["message"]) == ("QUOTA", "its rate is 1 runs in 3600 seconds")
    async with api.acme.rows.write() as transaction:
        await transaction.session.execute(text("UPDATE plan_trigger SET decided_at = decided_at - interval '1 hour'"))
        await transaction.session.execute(text("UPDATE plan_trigger SET created_at = created_at - interval '1 hour'"))
    await call(api, hook["path"])
    await fire(api)
    (blocker,) = (await shown(api, plan_id))["blockedBy"]
    assert (blocker["reason"], blocker["message"]) == ("CONCURRENCY_LIMIT", "a run is not over")


async def test_an_open_circuit_is_shown_and_closed(api: Api) -> None:
    plan_id = await standing(api, breaker={"failures": 1})
    hook = await address(api, plan_id)
    await call(api, hook["path"])
    await fire(api)
    async with api.acme.rows.write() as transaction:
        await transaction.session.execute(
            text("UPDATE deployment_plan SET status = 'ROLLED_BACK' WHERE parent_plan_id IS NOT NULL")
        )
    await call(api, hook["path"])
    await fire(api)
    plan = await shown(api, plan_id)
    assert (plan["status"], plan["statusReason"]) == ("PAUSED", "CIRCUIT_OPEN")
    (blocker,) = plan["blockedBy"]
    assert blocker["reason"] == "CIRCUIT_OPEN"
    assert blocker["message"] == "its last run has failed: resume it when the cause is mended"
    assert {action for action, may in actions(plan).items() if may} == {"RESUME", "CANCEL"}
    assert (await done(api, "resumePlan", planId=plan_id))["plan"]["status"] == "WAITING"
    await fire(api)
    assert (await shown(api, plan_id))["blockedBy"] == []
    await done(api, "pausePlan", planId=plan_id)
    assert (await done(api, "cancelPlan", planId=plan_id))["plan"]["status"] == "CANCELLED"


@pytest.mark.parametrize(
    ("automation", "paths"),
    [
        (None, [["triggers"]]),
        ({"triggers": []}, [["triggers"]]),
        ({"triggers": [{"on": "PLAN_SUCCEEDED"}]}, [["triggers", "0", "plan"]]),
        ({**HOOK, "rate": {"count": 0, "per": "x"}}, [["rate", "count"], ["rate", "per"]]),
        ({"triggers": [{"on": "RECURRENCE", "recurrence": "x", "timeZone": "UTC"}]}, [["triggers", "0", "recurrence"]]),
    ],
)
async def test_what_cannot_be_listened_to_is_refused_with_its_paths(
    api: Api, automation: dict[str, Any] | None, paths: list[list[str]]
) -> None:
    configuration = None if automation is None else {"automation": automation}
    given = {"name": "p", "type": "AUTOMATED", "templateRevisionId": await revision(api, NOTE)}
    errors = await refused(api, "createPlan", **given, configuration=configuration)
    prefix = ["configuration", "automation"]
    assert [error["path"] for error in errors] == [[*prefix, *path] for path in paths]
    if automation is not None and automation["triggers"]:
        stored = await api.acme.rows.plan(plan_type="AUTOMATED", status=PlanStatus.DRAFT)
        edit = {"id": encode_id("DeploymentPlan", stored.id), "expectedVersion": 1, "configuration": configuration}
        errors = await refused(api, "updatePlan", **edit)
        assert [error["path"] for error in errors] == [[*prefix, *path] for path in paths]


async def test_a_plan_of_another_type_listens_to_nothing(api: Api) -> None:
    given = {"name": "p", "type": "MANUAL", "templateRevisionId": await revision(api, NOTE)}
    (error,) = await refused(api, "createPlan", **given, configuration={"automation": HOOK})
    assert (error["code"], error["path"]) == ("INVALID", ["configuration", "automation"])


async def test_another_tenants_public_template_is_followed_while_it_is_public(api: Api) -> None:
    made = await done(api, "createResourceTemplate", api.rival, name="t", type="CUSTOM", content=NOTE, isPublic=True)
    template = made["resourceTemplate"]

    async def publish(**change: Any) -> dict[str, Any]:
        shown = "query($id: ID!) { resourceTemplate(id: $id) { version } }"
        found = (await api.data(shown, {"id": template["id"]}, access=api.rival))["resourceTemplate"]
        if change:
            edit = {"id": template["id"], "expectedVersion": found["version"], **change}
            found = (await done(api, "updateResourceTemplate", api.rival, **edit))["resourceTemplate"]
        given = {"id": template["id"], "expectedVersion": found["version"]}
        revision: dict[str, Any] = (await done(api, "publishResourceTemplate", api.rival, **given))["revision"]
        return revision

    first = await publish()
    plan = await done(
        api, "createPlan", name="p", type="AUTOMATED", templateRevisionId=first["id"],
        configuration={"automation": {"triggers": [{"on": "TEMPLATE_PUBLISHED"}]}},
    )  # fmt: skip
    pinned = """query($id: ID!) { deploymentPlan(id: $id) { template { id }
        spawnedPlans { nodes { template { id } trigger { on cause } } } } }"""
    second = await publish(content={"resources": {"b": NOTE["resources"]["a"]}})
    await fire(api)
    found = (await api.data(pinned, {"id": plan["plan"]["id"]}))["deploymentPlan"]
    assert found["template"] == {"id": second["id"]}
    (child,) = found["spawnedPlans"]["nodes"]
    assert (child["template"], child["trigger"]["on"]) == ({"id": second["id"]}, "TEMPLATE_PUBLISHED")
    assert child["trigger"]["cause"]["revision"] == 2
    await publish(content={"resources": {"c": NOTE["resources"]["a"]}}, isPublic=False)
    await fire(api)
    found = (await api.data(pinned, {"id": plan["plan"]["id"]}))["deploymentPlan"]
    assert len(found["spawnedPlans"]["nodes"]) == 1


async def test_a_workflow_says_what_its_plans_listen_to(api: Api) -> None:
    given = {"name": "w", "type": "CUSTOM", "definition": {"steps": [WAIT]}}
    (error,) = await refused(api, "createWorkflow", **given, triggers=[{"on": "webhook"}])
    assert (error["code"], error["path"]) == ("INVALID", ["triggers", "0", "on"])
    flow = (await done(api, "createWorkflow", **given, triggers=HOOK["triggers"]))["workflow"]
    change = {"id": flow["id"], "expectedVersion": flow["version"]}
    (error,) = await refused(api, "updateWorkflow", **change, triggers={"rate": 1})
    assert (error["code"], error["path"]) == ("TYPE_MISMATCH", ["triggers", "rate"])
    made = await done(api, "createPlan", name="p", type="AUTOMATED", workflowId=flow["id"])
    assert made["plan"]["status"] == "WAITING"
    assert (await address(api, made["plan"]["id"]))["path"]


async def test_an_edited_plan_listens_again_when_it_is_submitted(api: Api) -> None:
    plan_id = await standing(api)
    hook = await address(api, plan_id)
    await call(api, hook["path"])
    version = (await done(api, "pausePlan", planId=plan_id))["plan"]["version"]
    (error,) = await refused(api, "updatePlan", id=plan_id, expectedVersion=version, description="x")
    assert error["__typename"] == "IllegalStateError"
    version = (await done(api, "resumePlan", planId=plan_id))["plan"]["version"]
    changed = {"automation": {**HOOK, "maxConcurrent": 2}}
    edited = (await done(api, "updatePlan", id=plan_id, expectedVersion=version, configuration=changed))["plan"]
    assert edited["status"] == "DRAFT"
    assert (await call(api, hook["path"])).status_code == 409
    assert (await done(api, "submitPlan", planId=plan_id))["plan"]["status"] == "WAITING"
    await fire(api)
    assert (await shown(api, plan_id))["spawnedPlans"]["nodes"] == [], "what it heard before was meant for another"
    assert (await call(api, hook["path"])).status_code == 202
    await fire(api)
    assert len((await shown(api, plan_id))["spawnedPlans"]["nodes"]) == 1
