"""What is refused, and that a refusal writes nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.db import models
from app.domain.statuses import PlanStatus
from schema.nodes import encode_id
from tests.schema.conftest import Api
from tests.schema.verbs import refused

CREATE_TEMPLATE = """mutation($input: CreateTemplateInput!) { createResourceTemplate(input: $input) {
  resourceTemplate { id version } replayed userErrors { __typename code message path
    ... on ValidationError { diagnostics { code path } }
    ... on CycleError { cycle { from to path expression } } } } }"""
PUBLISH = """mutation($input: PublishTemplateInput!) { publishResourceTemplate(input: $input) {
  revision { id number } userErrors { __typename code path ... on ConflictError { currentVersion } } } }"""
CREATE_PLAN = """mutation($input: CreatePlanInput!) { createPlan(input: $input) {
  plan { id status version preview { hash } }
  replayed userErrors { __typename code message path ... on ValidationError { diagnostics { code path } } } } }"""
EXECUTE = """mutation($input: ExecutePlanInput!) { executePlan(input: $input) {
  job { id } userErrors { __typename code path
  ... on IllegalStateError { status } ... on StalePreviewError { current { hash } } } } }"""


def key() -> str:
    return uuid4().hex


def template(content: Any, **more: Any) -> dict[str, Any]:
    return {"input": {"idempotencyKey": key(), "name": f"t-{key()}", "type": "CUSTOM", "content": content, **more}}


def note(name: str) -> dict[str, Any]:
    return {"type": "core.note", "properties": {"name": name}}


async def revision(api: Api, content: Any, **more: Any) -> str:
    made = (await api.data(CREATE_TEMPLATE, template(content, **more)))["createResourceTemplate"]["resourceTemplate"]
    given = {"idempotencyKey": key(), "id": made["id"], "expectedVersion": made["version"]}
    published = (await api.data(PUBLISH, {"input": given}))["publishResourceTemplate"]
    return str(published["revision"]["id"])


async def counted(api: Api) -> dict[str, int]:
    """How many rows every table has that a mutation could write."""
    tables = ("resource_template", "template_revision", "workflow", "workflow_step", "deployment_plan", "step_run",
              "orchestration_job", "cloud_resource", "event_log", "idempotency_key", "app_user")  # fmt: skip
    async with api.services.database.read(api.acme.tenant_id) as session:
        return {name: await session.scalar(text(f"SELECT count(*) FROM {name}")) or 0 for name in tables}


@pytest.mark.parametrize(
    ("content", "code", "kind", "path"),
    [
        (
            {"resources": {"a": note("${resources.b.id}"), "b": note("${resources.a.id}")}},
            "CYCLE", "CycleError", None,
        ),
        (
            {"resources": {"a": note("${resources.nothing.id}")}},
            "UNKNOWN_REFERENCE", "ValidationError", ["content", "resources", "a", "properties", "name"],
        ),
        (
            {"resources": {"a": {"type": "core.nothing", "properties": {}}}},
            None, "ValidationError", ["content", "resources", "a", "type"],
        ),
        (
            {"resources": {"a": {"type": "core.note", "properties": {"name": 7}}}},
            "TYPE_MISMATCH", "ValidationError", ["content", "resources", "a", "properties", "name"],
        ),
        (
            {"resources": {"a": {"type": "core.note", "properties": {}}}},
            "REQUIRED", "ValidationError", ["content", "resources", "a", "properties", "name"],
        ),
        ("no object", "TYPE_MISMATCH", "ValidationError", ["content"]),
    ],
)  # fmt: skip
async def test_a_template_that_makes_no_sense_is_refused_with_its_path(
    api: Api, content: Any, code: str | None, kind: str, path: list[str] | None
) -> None:
    before = await counted(api)
    answer = (await api.data(CREATE_TEMPLATE, template(content)))["createResourceTemplate"]
    assert answer["resourceTemplate"] is None
    (error,) = answer["userErrors"]
    assert error["__typename"] == kind
    assert code is None or error["code"] == code
    assert error["path"] == path
    if kind == "CycleError":
        assert {(edge["from"], edge["to"]) for edge in error["cycle"]} == {("a", "b"), ("b", "a")}
        assert {edge["expression"] for edge in error["cycle"]} == {"${resources.a.id}", "${resources.b.id}"}
    assert await counted(api) == before


async def test_a_plan_without_a_parameter_it_needs_is_refused(api: Api) -> None:
    content = {
        "parameters": {"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]},
        "resources": {"a": note("${parameters.n}")},
    }
    pinned = await revision(api, content)
    before = await counted(api)
    given = {"idempotencyKey": key(), "name": "p", "type": "IMMEDIATE", "templateRevisionId": pinned}
    answer = (await api.data(CREATE_PLAN, {"input": given}))["createPlan"]
    assert [(e["code"], e["path"]) for e in answer["userErrors"]] == [("REQUIRED", ["parameters", "n"])]
    wrong = {**given, "idempotencyKey": key(), "parameters": {"n": 7}}
    answer = (await api.data(CREATE_PLAN, {"input": wrong}))["createPlan"]
    assert [(e["code"], e["path"]) for e in answer["userErrors"]] == [("TYPE_MISMATCH", ["parameters", "n"])]
    assert await counted(api) == before


async def test_every_wrong_field_of_a_form_is_named(api: Api) -> None:
    given = {"idempotencyKey": key(), "name": " ", "type": "CONDITIONAL",
             "configuration": {"pause": {"deadline": "soon"}}}  # fmt: skip
    errors = (await api.data(CREATE_PLAN, {"input": given}))["createPlan"]["userErrors"]
    assert [e["path"] for e in errors] == [
        ["name"],
        ["templateRevisionId"],
        ["condition"],
        ["configuration", "pause", "deadline"],
    ]


async def test_a_stale_version_and_a_wrong_status_are_refused(api: Api) -> None:
    made = (await api.data(CREATE_TEMPLATE, template({"resources": {"a": note("a")}})))["createResourceTemplate"]
    given = {"idempotencyKey": key(), "id": made["resourceTemplate"]["id"], "expectedVersion": 99}
    (error,) = (await api.data(PUBLISH, {"input": given}))["publishResourceTemplate"]["userErrors"]
    assert error == {"__typename": "ConflictError", "code": "STALE_VERSION", "path": ["expectedVersion"],
                     "currentVersion": 1}  # fmt: skip
    pinned = await revision(api, {"resources": {"b": note("b")}})
    plan = {"idempotencyKey": key(), "name": "p", "type": "MANUAL", "templateRevisionId": pinned, "submit": False}
    draft = (await api.data(CREATE_PLAN, {"input": plan}))["createPlan"]["plan"]
    run = {"idempotencyKey": key(), "planId": draft["id"]}
    (error,) = (await api.data(EXECUTE, {"input": run}))["executePlan"]["userErrors"]
    assert (error["__typename"], error["status"]) == ("IllegalStateError", "DRAFT")


async def test_a_manual_plan_runs_only_with_the_hash_of_what_was_reviewed(api: Api) -> None:
    pinned = await revision(api, {"resources": {"c": note("c")}})
    given = {"idempotencyKey": key(), "name": "m", "type": "MANUAL", "templateRevisionId": pinned}
    plan = (await api.data(CREATE_PLAN, {"input": given}))["createPlan"]["plan"]
    assert plan["status"] == "READY"
    run = {"planId": plan["id"]}
    (missing,) = (await api.data(EXECUTE, {"input": {**run, "idempotencyKey": key()}}))["executePlan"]["userErrors"]
    assert (missing["code"], missing["path"]) == ("REQUIRED", ["expectedPreviewHash"])
    other = {**run, "idempotencyKey": key(), "expectedPreviewHash": "0" * 64}
    (stale,) = (await api.data(EXECUTE, {"input": other}))["executePlan"]["userErrors"]
    assert (stale["__typename"], stale["current"]["hash"]) == ("StalePreviewError", plan["preview"]["hash"])
    good = {**run, "idempotencyKey": key(), "expectedPreviewHash": plan["preview"]["hash"]}
    answer = (await api.data(EXECUTE, {"input": good}))["executePlan"]
    assert (answer["userErrors"], answer["job"] is not None) == ([], True)


async def test_a_mutation_sent_twice_is_carried_out_once(api: Api) -> None:
    same = template({"resources": {"a": note("a")}})
    answers = await asyncio.gather(*(api.data(CREATE_TEMPLATE, same) for _ in range(4)))
    found = [answer["createResourceTemplate"] for answer in answers]
    assert len({answer["resourceTemplate"]["id"] for answer in found}) == 1
    assert sorted(answer["replayed"] for answer in found) == [False, True, True, True]
    other = {"input": {**same["input"], "name": "another"}}
    (error,) = (await api.data(CREATE_TEMPLATE, other))["createResourceTemplate"]["userErrors"]
    assert (error["code"], error["path"]) == ("IDEMPOTENCY_MISMATCH", ["idempotencyKey"])


@pytest.mark.parametrize("name", ["x" * 201, "nul\x00", "\ud800", ""])
async def test_odd_names_are_never_a_fault_of_ours(api: Api, name: str) -> None:
    body = json.dumps({"query": CREATE_TEMPLATE, "variables": template({"resources": {"a": note("a")}}, name=name)})
    headers = {"authorization": f"Bearer {api.acme.token}", "content-type": "application/json"}
    response = await api.client.post("/graphql", content=body.encode(), headers=headers)
    answer = response.json()
    assert response.status_code < 500
    codes = {error["extensions"]["code"] for error in answer.get("errors", ())}
    assert "INTERNAL" not in codes
    refused = answer.get("errors") or answer["data"]["createResourceTemplate"]["userErrors"]
    assert refused


@pytest.mark.parametrize(
    ("mutation", "field", "more"),
    [
        ("createPlan", "name", {"type": "MANUAL"}),
        ("createPlan", "stack", {"type": "MANUAL", "name": "p"}),
        ("createWorkflow", "name", {"type": "CUSTOM", "definition": {"steps": []}}),
        ("createResourceTemplate", "name", {"type": "CUSTOM", "content": {}}),
        ("updateTenant", "name", {"expectedVersion": 1}),
        ("createServiceAccount", "name", {"role": "VIEWER"}),
        ("createUser", "displayName", {"email": "ann@acme.example", "role": "VIEWER"}),
        ("createUser", "email", {"displayName": "Ann", "role": "VIEWER"}),
        ("createApiToken", "name", {}),
        ("createRole", "name", {"permissions": ["READ"]}),
    ],
)
async def test_a_name_that_would_steer_a_terminal_is_refused(
    api: Api, mutation: str, field: str, more: dict[str, Any]
) -> None:
    errors = await refused(api, mutation, **{**more, field: "a\x1b[2J@b.c"})
    assert ("INVALID", [field]) in [(error["code"], error["path"]) for error in errors]


async def test_who_is_refused_learns_what_can_be_done_instead(api: Api) -> None:
    plan = await api.acme.rows.plan(status=PlanStatus.RUNNING)
    gid = encode_id("DeploymentPlan", plan.id)
    (error,) = await refused(api, "executePlan", planId=gid)
    allowed = {action["action"] for action in error["availableActions"] if action["allowed"]}
    assert allowed == {"PAUSE", "CANCEL"}
    (error,) = await refused(api, "updatePlan", id=gid, expectedVersion=plan.version + 1, name="n")
    assert (error["__typename"], error["currentVersion"], error["node"]) == ("ConflictError", plan.version, {"id": gid})


async def test_who_finds_something_locked_learns_by_which_job(api: Api) -> None:
    plan = await api.acme.rows.plan(status=PlanStatus.RUNNING)
    job = await api.acme.rows.job(plan)
    resource = await api.acme.rows.resource("r", plan)
    lock = models.ResourceLock(tenant_id=api.acme.tenant_id, lock_key=f"stack/{plan.stack}", job_id=job.id)
    await api.acme.rows.add(lock)
    (error,) = await refused(api, "detachCloudResource", id=encode_id("CloudResource", resource.id))
    (blocker,) = error["blockers"]
    assert (error["__typename"], blocker["reason"]) == ("LockedError", "LOCK_HELD")
    assert blocker["node"] == {"id": encode_id("OrchestrationJob", job.id)}
