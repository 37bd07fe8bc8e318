"""What mutations do to plans and steps in every moment, who may send them, and what no input may hold."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.db import models
from app.domain.enums import Permission
from app.domain.statuses import JobStatus, PlanStatus, ResourceStatus
from schema.nodes import encode_id
from schema.requirements import MUTATIONS
from tests.schema.belongings import KIND_OF, belongings, ids_in
from tests.schema.conftest import Access, Api
from tests.schema.test_isolation_of_mutations import APART, GIVEN, WITHOUT_ID, given_type
from tests.schema.verbs import Contents, done, mutations, refused, send

NOTE = {"resources": {"a": {"type": "core.note", "properties": {"name": "a"}}}}
WAIT: dict[str, Any] = {
    "key": "wait",
    "type": "CUSTOM",
    "configuration": {"task": "core.wait"},
    "inputs": {"seconds": 0},
}


async def revision(api: Api, content: dict[str, Any], name: str = "t") -> str:
    """The id of a published revision with this content."""
    made = await done(api, "createResourceTemplate", name=name, type="CUSTOM", content=content)
    template = made["resourceTemplate"]
    given = {"id": template["id"], "expectedVersion": template["version"]}
    published = await done(api, "publishResourceTemplate", **given)
    return str(published["revision"]["id"])


async def manual_plan(api: Api, **more: Any) -> dict[str, Any]:
    """A reviewed plan that waits to be executed."""
    pinned = await revision(api, NOTE)
    made = await done(api, "createPlan", name="p", type="MANUAL", templateRevisionId=pinned, **more)
    plan: dict[str, Any] = made["plan"]
    assert plan["status"] == "READY"
    return plan


# ── plans ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_plan_is_not_executed_after_its_time(api: Api) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.4)
    plan = await manual_plan(api, validUntil=soon.isoformat())
    await asyncio.sleep(max(0.0, (soon - datetime.now(UTC)).total_seconds()) + 0.01)
    run = {"planId": plan["id"], "expectedPreviewHash": plan["preview"]["hash"]}
    (error,) = await refused(api, "executePlan", **run)
    assert (error["__typename"], error["status"], error["path"]) == ("IllegalStateError", "READY", ["planId"])


async def test_a_plan_is_executed_once_however_often_it_is_asked(api: Api) -> None:
    plan = await manual_plan(api)
    run = {"planId": plan["id"], "expectedPreviewHash": plan["preview"]["hash"]}
    answers = await asyncio.gather(*(send(api, "executePlan", run) for _ in range(5)))
    assert sum(answer["job"] is not None for answer in answers) == 1
    told = [answer["userErrors"][0] for answer in answers if answer["job"] is None]
    assert {(error["__typename"], tuple(error["path"])) for error in told} == {("IllegalStateError", ("planId",))}


async def test_a_running_plan_is_cancelled_by_who_knows_its_version(api: Api) -> None:
    plan = await manual_plan(api)
    run = {"planId": plan["id"], "expectedPreviewHash": plan["preview"]["hash"]}
    job = (await done(api, "executePlan", **run))["job"]
    (error,) = await refused(api, "cancelPlan", planId=plan["id"], expectedVersion=plan["version"])
    assert (error["__typename"], error["path"]) == ("ConflictError", ["expectedVersion"])
    current = error["currentVersion"]
    cancelled = (await done(api, "cancelPlan", planId=plan["id"], expectedVersion=current, comment="stop"))["plan"]
    assert cancelled["activeJob"] in (None, {"id": job["id"]})


async def test_an_edited_plan_keeps_nothing_that_was_worked_out(api: Api) -> None:
    plan = await manual_plan(api)
    given = {"id": plan["id"], "expectedVersion": plan["version"], "description": "other"}
    edited = (await done(api, "updatePlan", **given))["plan"]
    assert (edited["status"], edited["preview"], edited["diagnostics"]) == ("DRAFT", None, [])
    assert edited["graph"] == {"nodes": []}
    (error,) = await refused(api, "updatePlan", **given)
    assert (error["code"], error["path"]) == ("STALE_VERSION", ["expectedVersion"])
    submitted = (await done(api, "submitPlan", planId=plan["id"]))["plan"]
    assert (submitted["status"], submitted["preview"]["hash"]) == ("READY", plan["preview"]["hash"])


@pytest.mark.parametrize("status", [PlanStatus.RUNNING, PlanStatus.SUCCEEDED, PlanStatus.CANCELLED])
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("submitPlan", {}),
        ("executePlan", {}),
        ("retryPlan", {"mode": "RESUME"}),
        ("updatePlan", {"expectedVersion": 1, "description": "x"}),
    ],
)
async def test_what_a_plan_cannot_take_now_is_refused_with_its_status(
    api: Api, status: PlanStatus, name: str, more: dict[str, Any]
) -> None:
    plan = await api.acme.rows.plan(status=status)
    field = "id" if name == "updatePlan" else "planId"
    (error,) = await refused(api, name, **{field: encode_id("DeploymentPlan", plan.id)}, **more)
    assert (error["__typename"], error["status"], error["path"]) == ("IllegalStateError", status.value, [field])


# ── jobs, resources, templates ───────────────────────────────────────────────────────────────────────────────────


async def test_a_job_that_is_over_is_not_cancelled(api: Api) -> None:
    plan = await api.acme.rows.plan(status=PlanStatus.SUCCEEDED)
    job = await api.acme.rows.job(plan, status=JobStatus.SUCCEEDED)
    (error,) = await refused(api, "cancelJob", jobId=encode_id("OrchestrationJob", job.id))
    assert (error["__typename"], error["status"], error["path"]) == ("IllegalStateError", "SUCCEEDED", ["jobId"])


@pytest.mark.parametrize("status", [ResourceStatus.DELETED, ResourceStatus.CREATING])
async def test_a_resource_is_detached_only_when_it_rests(api: Api, status: ResourceStatus) -> None:
    resource = await api.acme.rows.resource("r", status=status)
    (error,) = await refused(api, "detachCloudResource", id=encode_id("CloudResource", resource.id))
    assert (error["__typename"], error["status"], error["path"]) == ("IllegalStateError", status.value, ["id"])


async def test_a_draft_template_is_not_deprecated(api: Api) -> None:
    made = await done(api, "createResourceTemplate", name="t", type="CUSTOM", content=NOTE)
    (error,) = await refused(api, "deprecateResourceTemplate", id=made["resourceTemplate"]["id"])
    assert (error["__typename"], error["status"], error["path"]) == ("IllegalStateError", "DRAFT", ["id"])


# ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_fault_of_a_step_is_told_where_it_was_given(api: Api) -> None:
    flow = (await done(api, "createWorkflow", name="w", type="CUSTOM", definition={"steps": [WAIT]}))["workflow"]
    second = {**WAIT, "key": "second"}
    late = {**second, "dependsOn": ["nobody"]}
    (error,) = await refused(api, "createWorkflowStep", workflowId=flow["id"], step=late)
    assert error["path"][:2] == ["step", "dependsOn"]
    (error,) = await refused(api, "createWorkflowStep", workflowId=flow["id"], step={**WAIT, "type": "NOTHING"})
    assert error["path"] == ["step", "type"]
    made = (await done(api, "createWorkflowStep", workflowId=flow["id"], step={**second, "dependsOn": ["wait"]}))[
        "workflowStep"
    ]
    assert (made["key"], made["dependsOn"]) == ("second", [{"key": "wait"}])
    # The first cannot go while the second waits for it; of the input only the id says that.
    (error,) = await refused(api, "deleteWorkflowStep", id=flow["steps"][0]["id"])
    assert error["path"] == ["id"]
    (error,) = await refused(api, "updateWorkflowStep", id=made["id"], step={**second, "dependsOn": ["second"]})
    assert error["__typename"] in {"CycleError", "ValidationError"}
    changed = {**second, "inputs": {"seconds": 1}}
    assert (await done(api, "updateWorkflowStep", id=made["id"], step=changed))["workflowStep"]["inputs"] == {
        "seconds": 1
    }


# ── what no input may hold ───────────────────────────────────────────────────────────────────────────────────────


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("literal", "path", "code"),
    [
        ('{a: [{b: {x: "$sealed"}}, $more]}', ["metadata", "a", "1"], "INVALID"),
        ("{a: 1000000000000000000000000000000}", ["metadata", "a"], "INVALID"),
        ("{a: -10000000000000000000}", ["metadata", "a"], "INVALID"),
        ("{a: 1e999}", ["metadata", "a"], "INVALID"),
        ("{b: $deep}", ["metadata"], "LIMIT_EXCEEDED"),
    ],
)
async def test_what_could_not_be_kept_is_refused_where_it_stands(
    api: Api, literal: str, path: list[str], code: str, database_url: str
) -> None:
    """Written into the document, where the reader of JSON has not rounded or refused it yet."""
    before = await Contents.of(database_url)
    extra = {"more": {"$sealed": "x"}, "deep": _nested(300)}
    used = {name: value for name, value in extra.items() if f"${name}" in literal}
    document = f"""mutation($key: String!, $definition: JSON!{"".join(f", ${name}: JSON" for name in used)}) {{
        createWorkflow(input: {{
            idempotencyKey: $key, name: "w", type: CUSTOM, definition: $definition, metadata: {literal}
        }}) {{ workflow {{ id }} userErrors {{ code path }} }} }}"""
    variables = {"key": "k", "definition": {"steps": [WAIT]}, **used}
    answer = (await api.data(document, variables))["createWorkflow"]
    assert answer == {"workflow": None, "userErrors": [{"code": code, "path": path}]}
    assert await Contents.of(database_url) == before


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 1.5e300, 0.1, math.pi])
async def test_numbers_come_back_as_they_were(api: Api, number: float) -> None:
    given = {"name": "w", "type": "CUSTOM", "definition": {"steps": [WAIT]}, "metadata": {"n": number}}
    assert (await done(api, "createWorkflow", **given))["workflow"]["metadata"] == {"n": number}


# ── who may ──────────────────────────────────────────────────────────────────────────────────────────────────────

REQUIRED: dict[Permission, set[str]] = {
    Permission.WRITE: {
        "createPlan", "updatePlan", "submitPlan", "createResourceTemplate", "updateResourceTemplate",
        "publishResourceTemplate", "deprecateResourceTemplate", "createWorkflow", "updateWorkflow",
        "createWorkflowStep", "updateWorkflowStep", "updateOrchestrationJob", "updateCloudResource", "testWebhook",
        "replayWebhook", "redeliverWebhook", "acceptDrift", "ignoreDrift", "heedDrift", "importResource",
    },
    Permission.APPROVE: {"reviewPlan", "answerGate", "delegateGate"},
    Permission.EXECUTE: {
        "executePlan", "retryPlan", "pausePlan", "resumePlan", "signalPlan", "signalJob", "stepAction",
        "rotatePlanHook", "revokePlanHook", "refreshResource", "resolveResource",
    },
    Permission.CANCEL: {"cancelPlan", "cancelJob"},
    Permission.ROLLBACK: {"rollbackPlan", "createRollbackPlan", "continueRollback", "acceptCurrentState"},
    Permission.DELETE: {
        "deletePlan", "deleteResourceTemplate", "deleteWorkflow", "deleteWorkflowStep", "deleteOrchestrationJob",
        "detachCloudResource",
    },
    Permission.ADMIN: {
        "createConnection", "updateConnection", "deleteConnection", "createUser", "updateUser", "deleteUser",
        "updateTenant", "createApiToken", "createWebhook", "updateWebhook", "rotateWebhookSecret", "deleteWebhook",
        "createPolicy", "updatePolicy", "deletePolicy", "inviteUser", "createRole", "updateRole", "deleteRole",
        "endPlatformAccess", "createServiceAccount", "updateServiceAccount", "deleteServiceAccount",
    },
}  # fmt: skip
# Whoever may not see a token is not told that it is there.
UNSEEN = {"revokeApiToken", "rotateApiToken"}
_MADE: dict[str, dict[str, Any]] = {
    "createResourceTemplate": {"name": "x", "type": "CUSTOM", "content": NOTE},
    "createWorkflow": {"name": "x", "type": "CUSTOM", "definition": {"steps": [WAIT]}},
    "createConnection": {"name": "x", "provider": "postgres", "config": {}},
    "createUser": {"email": "x@acme.example", "displayName": "x", "role": "VIEWER"},
    "updateTenant": {"expectedVersion": 1, "name": "x"},
    "createWebhook": {"name": "x", "url": "https://hooks.example/x"},
    "createPlan": {"name": "x", "type": "IMMEDIATE"},
    "createRole": {"name": "x", "permissions": ["READ"]},
    "createPolicy": {"name": "x", "level": "ADVISORY", "subject": "PLAN", "require": "${true}"},
}


def test_every_mutation_says_what_it_requires() -> None:
    for permission, names in REQUIRED.items():
        # Of a token of one's own less is needed.
        assert {MUTATIONS[name] for name in names - {"createApiToken"}} == {permission}
    assert UNSEEN.union(*REQUIRED.values()) == mutations().keys() - APART
    assert sum(map(len, REQUIRED.values())) == len(mutations()) - len(UNSEEN) - len(APART)


async def _with_scopes(api: Api, scopes: list[str]) -> Access:
    """A second administrator, whose token may do only this."""
    email = f"{'-'.join(scopes).lower()}@acme.example"
    user = (await done(api, "createUser", email=email, displayName="x", role="ADMIN"))["user"]
    made = await done(api, "createApiToken", name="t", userId=user["id"], scopes=scopes)
    return Access(api.acme.tenant_id, api.acme.slug, made["text"], api.acme.principal, api.acme.rows)


async def test_who_lacks_the_permission_is_told_which_and_changes_nothing(api: Api, database_url: str) -> None:
    ours = await belongings(api.acme, "ours")
    tried = 0
    for permission, names in REQUIRED.items():
        others = [scope.value for scope in Permission if scope is not permission]
        access = await _with_scopes(api, others)
        before = await Contents.of(database_url)
        for name in sorted(names):
            given = dict(_MADE.get(name, {}))
            if name not in WITHOUT_ID:
                kind, more = GIVEN[name]
                given |= more | {
                    field: ours.gid(KIND_OF.get(field) or kind or "")
                    for field in ids_in(given_type(name))
                    if name != "createPlan"
                }
            (error,) = await refused(api, name, access, **given)
            assert (error["__typename"], error.get("required")) == ("PermissionError", permission.value), (name, error)
            tried += 1
        assert await Contents.of(database_url) == before
    assert tried == len(mutations()) - len(UNSEEN) - len(APART)


async def test_a_viewer_reads_and_nothing_else(api: Api) -> None:
    user = (await done(api, "createUser", email="v@acme.example", displayName="v", role="VIEWER"))["user"]
    text = (await done(api, "createApiToken", name="t", userId=user["id"]))["text"]
    viewer = Access(api.acme.tenant_id, api.acme.slug, text, api.acme.principal, api.acme.rows)
    plan = await api.acme.rows.plan("seen")
    async with api.acme.rows.write() as transaction:
        stored = await transaction.session.get_one(models.DeploymentPlan, plan.id)
        stored.description = "for everybody"
    gid = encode_id("DeploymentPlan", plan.id)
    seen = await api.data("query($id: ID!) { deploymentPlan(id: $id) { description } }", {"id": gid}, access=viewer)
    assert seen["deploymentPlan"] == {"description": "for everybody"}
    (error,) = await refused(api, "deletePlan", viewer, planId=gid)
    assert (error["__typename"], error["required"]) == ("PermissionError", "DELETE")
