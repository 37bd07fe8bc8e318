"""Filters: what they find, what they pass over, and what makes no sense."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from app.domain.statuses import JobStatus, PlanStatus
from schema.nodes import encode_id
from tests.schema.conftest import Api

START = datetime(2026, 1, 31, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({"tags": [{"key": "team"}]}, ["one", "two"]),
        ({"tags": [{"key": "team", "value": {"eq": "core"}}]}, ["one"]),
        ({"tags": [{"key": "team"}, {"key": "tier"}]}, ["one"]),
        ({"name": {"startsWith": "T"}}, ["two"]),
        ({"name": {"contains": "N"}}, ["none", "one"]),
        ({"name": {"contains": "_"}}, []),
        ({"name": {"in": ["one", "none"]}}, ["none", "one"]),
        ({"status": ["DRAFT"], "isPublic": False}, ["none", "one", "two"]),
        ({"status": []}, []),
        ({"type": ["NETWORK"]}, []),
    ],
)
async def test_templates_can_be_filtered(api: Api, wanted: dict[str, Any], names: list[str]) -> None:
    for name, tags in (("one", {"team": "core", "tier": "1"}), ("two", {"team": "web"}), ("none", None)):
        await api.acme.rows.template(name, tags=tags)
    query = """
    query ($filter: TemplateFilter) {
      resourceTemplates(filter: $filter, orderBy: {field: NAME, direction: ASC}) { nodes { name } }
    }
    """
    found = (await api.data(query, {"filter": wanted}))["resourceTemplates"]["nodes"]
    assert [node["name"] for node in found] == names


async def test_plans_and_jobs_can_be_filtered(api: Api) -> None:
    rows = api.acme.rows
    workflow = await rows.workflow()
    done = await rows.plan("done", status=PlanStatus.SUCCEEDED, workflow_id=workflow.id, scheduled_at=START)
    ready = await rows.plan("ready", stack="other")
    job = await rows.job(done, status=JobStatus.SUCCEEDED, started_at=START)
    resource = await rows.resource("role", done)
    await rows.step(job, "role", resource_id=resource.id)
    await rows.job(ready)
    plans = "query ($filter: PlanFilter) { deploymentPlans(filter: $filter) { nodes { name } } }"
    for wanted, names in (
        ({"stage": ["DONE"]}, ["done"]),
        ({"stage": ["GATED", "DONE"]}, ["ready", "done"]),
        ({"stage": ["DONE"], "status": ["READY"]}, []),
        ({"workflowId": encode_id("Workflow", workflow.id)}, ["done"]),
        ({"workflowId": encode_id("User", workflow.id)}, []),
        ({"userId": encode_id("User", api.acme.principal.user_id)}, ["ready", "done"]),
        ({"scheduled": {"from": "2026-01-31T08:00:00Z", "to": "2026-01-31T08:00:01Z"}}, ["done"]),
        ({"scheduled": {"to": "2026-01-31T09:00:00+01:00"}}, []),
        ({"stack": {"eq": "other"}}, ["ready"]),
        ({"type": ["MANUAL"]}, []),
    ):
        found = (await api.data(plans, {"filter": wanted}))["deploymentPlans"]["nodes"]
        assert [node["name"] for node in found] == names, wanted
    await rows.job(await rows.plan("rehearsed"), simulated=True)
    jobs = "query ($filter: JobFilter) { orchestrationJobs(filter: $filter) { nodes { plan { name } } } }"
    for searched, names in (
        ({"resourceId": encode_id("CloudResource", resource.id)}, ["done"]),
        ({"planId": encode_id("DeploymentPlan", ready.id)}, ["ready"]),
        ({"stage": ["ACTIVE"]}, ["rehearsed", "ready"]),
        ({"started": {"from": "2026-01-31T08:00:00Z"}}, ["done"]),
        ({"direction": "ROLLBACK"}, []),
        ({"simulated": True}, ["rehearsed"]),
        ({"simulated": False, "stage": ["ACTIVE"]}, ["ready"]),
    ):
        found = (await api.data(jobs, {"filter": searched}))["orchestrationJobs"]["nodes"]
        assert [node["plan"]["name"] for node in found] == names, searched


@pytest.mark.parametrize(
    "wanted",
    [
        {"name": {"contains": "x" * 201}},
        {"created": {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}},
        {"name": {"in": ["x"] * 101}},
    ],
)
async def test_a_senseless_filter_is_refused(api: Api, wanted: dict[str, Any]) -> None:
    answer = await api.ask("query ($f: PlanFilter) { deploymentPlans(filter: $f) { nodes { id } } }", {"f": wanted})
    assert answer["errors"][0]["extensions"]["code"] in {"INVALID", "LIMIT_EXCEEDED"}
    assert answer["errors"][0]["extensions"]["path"][:1] == ["filter"]


@pytest.mark.parametrize("nul", ["\\u0000", "\\u{0}", "\\u{000}", None])
async def test_a_filter_with_nul_is_refused_at_the_door(api: Api, nul: str | None) -> None:
    """PostgreSQL cannot hold it, so the request is refused before any field of it is looked at."""
    written = "$n" if nul is None else f'"a{nul}b"'
    head = "query ($n: String)" if nul is None else "query"
    document = f"{head} {{ deploymentPlans(filter: {{ name: {{ eq: {written} }} }}) {{ nodes {{ id }} }} }}"
    answer = await api.ask(document, {"n": "a\0b"} if nul is None else None)
    assert answer["errors"][0]["extensions"]["code"] == "BAD_REQUEST"
