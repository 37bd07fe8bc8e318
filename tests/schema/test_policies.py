"""Policies: who is refused, who has to be asked, and that nothing gets around them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.db import models
from app.services.plans.firing import DuePlan, fire
from schema.nodes import decode_id
from tests.schema.conftest import Api
from tests.schema.test_approvals import approve, person, word
from tests.schema.test_mutations import NOTE, revision
from tests.schema.verbs import done, refused, send

HARD, SOFT = "HARD_MANDATORY", "SOFT_MANDATORY"
PREVIEW = """query($input: PreviewPlanInput!) { previewPlan(input: $input) {
  preview { hash } policyResults { policy level passed message path } } }"""
LIST = "query($f: PolicyFilter) { policies(filter: $f) { nodes { name level } totalCount { value } } }"


async def policy(api: Api, name: str = "no notes", level: str = HARD, require: str = "${false}", **more: Any) -> Any:
    given = {"subject": "CHANGE", "message": "not ${change.key}", **more}
    return (await done(api, "createPolicy", name=name, level=level, require=require, **given))["policy"]


async def plan(api: Api, **more: Any) -> dict[str, Any]:
    pinned = await revision(api, NOTE)
    return await send(api, "createPlan", {"name": "p", "type": "MANUAL", "templateRevisionId": pinned, **more})


def failed(level: str, name: str = "no notes") -> dict[str, Any]:
    return {"policy": name, "level": level, "passed": False, "message": "not a", "path": ["changes", "a"]}


async def test_a_policy_is_made_changed_found_and_removed(api: Api) -> None:
    made = await policy(api, "one", SOFT, when="${change.action == 'DELETE'}", description="d", timeZone="Asia/Tokyo")
    assert (made["when"], made["timeZone"], made["enabled"]) == ("${change.action == 'DELETE'}", "Asia/Tokyo", True)
    await policy(api, "two")
    changed = await done(
        api, "updatePolicy", id=made["id"], expectedVersion=made["version"], level=HARD, when="", enabled=False
    )
    assert (changed["policy"]["when"], changed["policy"]["level"], changed["policy"]["enabled"]) == (None, HARD, False)
    listed = (await api.data(LIST))["policies"]
    assert [node["name"] for node in listed["nodes"]] == ["one", "two"]
    only = (await api.data(LIST, {"f": {"enabled": True, "level": [HARD]}}))["policies"]
    assert [node["name"] for node in only["nodes"]] == ["two"]
    (stale,) = await refused(api, "deletePolicy", id=made["id"], expectedVersion=made["version"])
    assert stale["code"] == "STALE_VERSION"
    await done(api, "deletePolicy", id=made["id"])
    assert [node["name"] for node in (await api.data(LIST))["policies"]["nodes"]] == ["two"]
    await policy(api, "one")


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ({"name": " "}, [["name"]]),
        ({"require": "x", "message": "${nobody}"}, [["require"], ["message"]]),
        ({"timeZone": "Middle/Earth"}, [["timeZone"]]),
        ({"description": "x" * 2001}, [["description"]]),
    ],
)
async def test_faults_are_named_and_nothing_is_stored(api: Api, given: dict[str, Any], paths: list[list[str]]) -> None:
    base = {"name": "x", "level": HARD, "subject": "PLAN", "require": "${true}"}
    assert [error["path"] for error in await refused(api, "createPolicy", **{**base, **given})] == paths
    assert (await api.data(LIST))["policies"]["totalCount"]["value"] == 0


async def test_names_are_unique_and_there_are_not_too_many(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await policy(api)
    (error,) = await refused(api, "createPolicy", name="no notes", level=HARD, subject="PLAN", require="${true}")
    assert (error["code"], error["path"]) == ("CONFLICT", ["name"])
    monkeypatch.setattr("app.services.policies.MOST_POLICIES", 1)
    (error,) = await refused(api, "createPolicy", name="more", level=HARD, subject="PLAN", require="${true}")
    assert error["code"] == "QUOTA_EXCEEDED"
    await done(api, "updatePolicy", id=made["id"], expectedVersion=made["version"], description="still")


# ── refusing ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_plan_that_a_hard_policy_forbids_is_refused_and_not_stored(api: Api) -> None:
    await policy(api)
    made = await plan(api)
    (error,) = made["userErrors"]
    assert (made["plan"], error["code"], error["message"]) == (None, "POLICY_DENIED", "no notes (a): not a")


async def test_a_draft_that_a_policy_forbids_is_rejected_and_says_why(api: Api) -> None:
    await policy(api)
    draft = (await plan(api, submit=False))["plan"]
    rejected = (await done(api, "submitPlan", planId=draft["id"]))["plan"]
    assert (rejected["status"], rejected["statusReason"]) == ("REJECTED", "POLICY")
    assert rejected["statusMessage"] == "no notes (a): not a"
    assert rejected["policyResults"] == [failed(HARD)]


async def test_one_that_only_advises_hinders_nobody(api: Api) -> None:
    await policy(api, level="ADVISORY")
    made = (await plan(api))["plan"]
    assert (made["status"], made["policyResults"]) == ("READY", [failed("ADVISORY")])


async def test_one_that_is_set_aside_says_nothing(api: Api) -> None:
    await policy(api, enabled=False)
    assert (await plan(api))["plan"]["policyResults"] == []


async def test_a_preview_shows_what_policies_would_say(api: Api) -> None:
    pinned = await revision(api, NOTE)
    given = {"input": {"templateRevisionId": pinned}}
    before = (await api.data(PREVIEW, given))["previewPlan"]
    await policy(api, level=SOFT)
    after = (await api.data(PREVIEW, given))["previewPlan"]
    assert (before["policyResults"], after["policyResults"]) == ([], [failed(SOFT)])
    assert before["preview"]["hash"] != after["preview"]["hash"]


async def test_a_policy_made_later_holds_for_a_plan_that_was_ready(api: Api) -> None:
    ready = (await plan(api))["plan"]
    made = await policy(api)
    (error,) = await refused(api, "executePlan", planId=ready["id"], expectedPreviewHash=ready["preview"]["hash"])
    assert error["code"] == "POLICY_DENIED"
    # Nothing has happened to the plan: once the policy is gone it runs.
    await done(api, "deletePolicy", id=made["id"])
    ran = await done(api, "executePlan", planId=ready["id"], expectedPreviewHash=ready["preview"]["hash"])
    assert ran["job"]["status"] == "DISPATCHED"


async def test_no_tenant_is_judged_by_anothers_policies(api: Api) -> None:
    await done(api, "createPolicy", api.rival, name="theirs", level=HARD, subject="PLAN", require="${false}")
    assert (await plan(api))["plan"]["policyResults"] == []


# ── overruling ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_soft_policy_is_overruled_by_somebody_else_who_says_why(api: Api) -> None:
    await policy(api, level=SOFT)
    other = await person(api, "other")
    # The plan itself would be content with its author, or with nobody.
    waiting = (await plan(api, configuration={"approvals": {"required": 1, "authorMayApprove": True}}))["plan"]
    assert (waiting["status"], waiting["approvals"]["required"]) == ("PENDING_APPROVAL", 1)
    assert waiting["statusMessage"] == "1 person has to approve it, because it fails no notes"
    (own,) = await refused(api, "reviewPlan", **word(waiting, comment="mine"))
    assert own["code"] == "POLICY_DENIED"
    (silent,) = await refused(api, "reviewPlan", other, **word(waiting))
    assert (silent["code"], silent["path"]) == ("REQUIRED", ["comment"])
    ready = await approve(api, other, waiting, comment="it is for the audit")
    assert ready["status"] == "READY"
    ran = await done(api, "executePlan", planId=ready["id"], expectedPreviewHash=ready["preview"]["hash"])
    assert ran["job"]["status"] == "DISPATCHED"


async def test_an_immediate_plan_waits_too_and_runs_when_it_is_overruled(api: Api) -> None:
    await policy(api, level=SOFT)
    waiting = (await plan(api, type="IMMEDIATE"))["plan"]
    assert waiting["status"] == "PENDING_APPROVAL"
    assert (await approve(api, await person(api, "other"), waiting, comment="go"))["status"] == "QUEUED"


async def test_what_was_overruled_is_void_when_it_fails_another_policy(api: Api) -> None:
    await policy(api, level=SOFT)
    other = await person(api, "other")
    waiting = (await plan(api))["plan"]
    ready = await approve(api, other, waiting, comment="fine")
    await policy(api, "another", SOFT)
    (error,) = await refused(api, "executePlan", planId=ready["id"], expectedPreviewHash=ready["preview"]["hash"])
    assert error["code"] == "STALE_PREVIEW"
    query = "query($id: ID!) { deploymentPlan(id: $id) { status preview { hash } approvals { granted } } }"
    again = (await api.data(query, {"id": ready["id"]}))["deploymentPlan"]
    assert (again["status"], again["approvals"]["granted"]) == ("PENDING_APPROVAL", 0)
    assert again["preview"]["hash"] != ready["preview"]["hash"]


async def test_a_ready_plan_that_nobody_had_to_approve_has_to_be_once_a_soft_policy_comes(api: Api) -> None:
    ready = (await plan(api))["plan"]
    await policy(api, level=SOFT)
    (error,) = await refused(api, "executePlan", planId=ready["id"], expectedPreviewHash=ready["preview"]["hash"])
    assert error["code"] == "STALE_PREVIEW"


# ── when the clock decides ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("level", "status"), [(HARD, "REJECTED"), (SOFT, "PENDING_APPROVAL")])
async def test_a_scheduled_plan_is_judged_again_when_its_time_has_come(api: Api, level: str, status: str) -> None:
    at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = (await plan(api, type="SCHEDULED", schedule={"at": at, "timeZone": "UTC"}))["plan"]
    assert made["status"] == "SCHEDULED"
    await policy(api, level=level)
    async with api.acme.rows.write() as transaction:
        row = await transaction.session.get_one(models.DeploymentPlan, decode_id(made["id"])[1])
        row.fire_at = row.scheduled_at = datetime.now(UTC) - timedelta(seconds=1)
    due = DuePlan(api.acme.tenant_id, decode_id(made["id"])[1])
    context = api.services.context(api.acme.principal, "test")
    assert await fire(api.services.database, due, context.dependencies)
    query = "query($id: ID!) { deploymentPlan(id: $id) { status policyResults { passed } } }"
    found = (await api.data(query, {"id": made["id"]}))["deploymentPlan"]
    assert found == {"status": status, "policyResults": [{"passed": False}]}


async def test_a_simulation_of_a_forbidden_plan_is_allowed(api: Api) -> None:
    ready = (await plan(api))["plan"]
    await policy(api)
    ran = await done(api, "executePlan", planId=ready["id"], simulate=True)
    assert ran["job"]["simulated"]
