"""Service accounts over GraphQL: named as what they are, and no party to what they asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from app.db import models
from app.domain.enums import GateKind
from app.domain.operations import OperationKind
from app.domain.statuses import JobStatus, PlanStatus, StepStatus
from schema.nodes import encode_id, number_in
from tests.schema.conftest import Access, Api
from tests.schema.test_mutations import NOTE, manual_plan, revision
from tests.schema.verbs import done, refused

ROLE = ["READ", "WRITE", "APPROVE"]
PLAN = """query($id: ID!) { deploymentPlan(id: $id) { viewerCan availableActions { action allowed message }
  createdBy { ... on ServiceAccount { id name } } user { kind displayName }
  approvals { reviews { by { kind } actor { __typename ... on ServiceAccount { name } } } } } }"""


async def robot(api: Api, name: str, **given: Any) -> tuple[dict[str, Any], Access]:
    made: dict[str, Any] = (await done(api, "createServiceAccount", name=name, **given))["serviceAccount"]
    text = (await done(api, "createApiToken", name="t", userId=made["id"]))["text"]
    return made, replace(api.acme, token=text)


async def test_they_are_listed_apart_and_named_as_what_they_are(api: Api) -> None:
    made, access = await robot(api, "ci", role="ADMIN")
    assert "APPROVE" not in made["scopes"]
    viewer = (await api.data("{ viewer { role permissions actor { ... on ServiceAccount { id } } } }", access=access))[
        "viewer"
    ]
    assert (viewer["actor"], viewer["role"]) == ({"id": made["id"]}, "ADMIN")
    assert viewer["permissions"] == made["scopes"]
    listed = '{ serviceAccounts { nodes { id name } } tenant(slug: "acme") { users { nodes { email } } } }'
    assert await api.data(listed) == {
        "serviceAccounts": {"nodes": [{"id": made["id"], "name": "ci"}]},
        "tenant": {"users": {"nodes": [{"email": "admin@acme.example"}]}},
    }
    await done(api, "createResourceTemplate", access, name="t", type="CUSTOM", content=NOTE)
    log = """query($id: ID!) { auditLog(filter: {actorId: $id}) { nodes { action
      actor { __typename ... on ServiceAccount { name } } } } }"""
    assert (await api.data(log, {"id": made["id"]}))["auditLog"]["nodes"] == [
        {"action": "createResourceTemplate", "actor": {"__typename": "ServiceAccount", "name": "ci"}}
    ]
    entries = (await api.data("{ auditLog { nodes { action target { id } after } } }"))["auditLog"]["nodes"]
    (created,) = [entry for entry in entries if entry["action"] == "createServiceAccount"]
    assert created["target"] == {"id": made["id"]}
    assert next(iter(created["after"])).startswith("ServiceAccount:")


async def test_what_it_asked_for_is_approved_by_others_whatever_the_plan_says(api: Api) -> None:
    role = (await done(api, "createRole", name="both", permissions=ROLE))["role"]
    first, author = await robot(api, "author", customRoleId=role["id"], mayApprove=True)
    _, other = await robot(api, "other", customRoleId=role["id"], mayApprove=True)
    _, silent = await robot(api, "silent", customRoleId=role["id"])
    pinned = await revision(api, NOTE)
    asked = {"approvals": {"required": 1, "authorMayApprove": True}}
    given = {"name": "p", "type": "MANUAL", "templateRevisionId": pinned, "configuration": asked}
    plan = (await done(api, "createPlan", author, **given))["plan"]
    assert plan["status"] == "PENDING_APPROVAL"
    review = {"planId": plan["id"], "previewHash": plan["preview"]["hash"], "decision": "APPROVE"}
    seen = (await api.data(PLAN, {"id": plan["id"]}, access=author))["deploymentPlan"]
    assert seen["createdBy"] == {"id": first["id"], "name": "author"}
    assert seen["user"] == {"kind": "SERVICE_ACCOUNT", "displayName": "author"}
    (action,) = [one for one in seen["availableActions"] if one["action"] == "APPROVE"]
    assert (action["allowed"], action["message"]) == (False, "authors do not approve")
    assert [error["code"] for error in await refused(api, "reviewPlan", author, **review)] == ["POLICY_DENIED"]
    assert [error["code"] for error in await refused(api, "reviewPlan", silent, **review)] == ["FORBIDDEN"]
    assert (await api.data(PLAN, {"id": plan["id"]}, access=silent))["deploymentPlan"]["viewerCan"] == ["READ", "WRITE"]
    assert (await done(api, "reviewPlan", other, **review))["plan"]["status"] == "READY"
    (said,) = (await api.data(PLAN, {"id": plan["id"]}))["deploymentPlan"]["approvals"]["reviews"]
    assert said == {"by": {"kind": "SERVICE_ACCOUNT"}, "actor": {"__typename": "ServiceAccount", "name": "other"}}


async def test_nor_does_it_open_a_gate_on_the_way(api: Api) -> None:
    made, author = await robot(api, "author", role="ADMIN", mayApprove=True)
    _, other = await robot(api, "other", role="ADMIN", mayApprove=True)
    rows = api.acme.rows
    plan = await rows.plan(status=PlanStatus.RUNNING, user_id=number_in(made["id"], "ServiceAccount"))
    job = await rows.job(plan, status=JobStatus.RUNNING)
    step = await rows.step(job, "ask", status=StepStatus.WAITING, operation=OperationKind.GATE)
    await rows.add(
        models.Gate(tenant_id=rows.tenant_id, step_run_id=step.id, kind=GateKind.APPROVAL, prompt="?", approvers=[])
    )
    given = {"stepRunId": encode_id("StepRun", step.id), "approve": True}
    (error,) = await refused(api, "answerGate", author, **given)
    assert (error["code"], error["path"]) == ("POLICY_DENIED", ["stepRunId"])
    await done(api, "answerGate", other, **given)


async def test_a_replaced_token_is_shown_once(api: Api) -> None:
    _, access = await robot(api, "ci", role="OPERATOR")
    (token,) = (await api.data("{ serviceAccounts { nodes { tokens { nodes { id } } } } }"))["serviceAccounts"][
        "nodes"
    ][0]["tokens"]["nodes"]
    given = {"idempotencyKey": "k", "id": token["id"], "graceSeconds": 60}
    new = (await done(api, "rotateApiToken", access, **given))["text"]
    assert await manual_plan(replace_api(api, new))
    again = await api.data(
        "mutation($i: RotateApiTokenInput!) { rotateApiToken(input: $i) { replayed text } }", {"i": given}
    )
    assert again["rotateApiToken"] == {"replayed": True, "text": None}
    (error,) = await refused(api, "rotateApiToken", id=token["id"], graceSeconds=10**9)
    assert error["path"] == ["graceSeconds"]


def replace_api(api: Api, token: str) -> Api:
    """The same, asked with another token."""
    return replace(api, acme=replace(api.acme, token=token))
