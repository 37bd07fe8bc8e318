"""Plans that people have to agree to: who, to what, how many, and what voids it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.db import models
from app.domain.statuses import PlanStatus
from app.engine.ticking import tick
from schema.nodes import decode_id, encode_id
from tests.schema.conftest import Access, Api
from tests.schema.test_mutations import NOTE, revision
from tests.schema.verbs import done, refused, send

PENDING, QUEUED = "PENDING_APPROVAL", "QUEUED"
ACTIONS = """query($id: ID!) { deploymentPlan(id: $id) { blockedBy { reason }
  availableActions { action allowed reason message } } }"""
EVENTS = """query($id: ID!) { deploymentPlan(id: $id) { events { edges { node {
  ... on PlanStatusChanged { planStatus reason }
  ... on ReviewSubmitted { review { decision by { email } } } } } } } }"""
WAITING = "query($f: PlanFilter) { deploymentPlans(filter: $f) { nodes { name } } }"


async def person(api: Api, name: str, role: str = "APPROVER") -> Access:
    """One more person of the tenant, with a token."""
    user = (await done(api, "createUser", email=f"{name}@acme.example", displayName=name, role=role))["user"]
    text = (await done(api, "createApiToken", name="t", userId=user["id"]))["text"]
    return replace(api.acme, token=text)


async def pending(api: Api, kind: str = "MANUAL", /, access: Access | None = None, **approvals: Any) -> dict[str, Any]:
    """A plan that waits for approval."""
    pinned = await revision(api, NOTE)
    made = await done(
        api, "createPlan", access, name="p", type=kind, templateRevisionId=pinned,
        configuration={"approvals": approvals},
    )  # fmt: skip
    plan: dict[str, Any] = made["plan"]
    assert (plan["status"], plan["statusReason"]) == (PENDING, "APPROVAL_PENDING")
    return plan


def word(plan: dict[str, Any], decision: str = "APPROVE", **more: Any) -> dict[str, Any]:
    return {"planId": plan["id"], "previewHash": plan["preview"]["hash"], "decision": decision, **more}


async def approve(api: Api, access: Access, plan: dict[str, Any], **more: Any) -> dict[str, Any]:
    answered: dict[str, Any] = (await done(api, "reviewPlan", access, **word(plan, **more)))["plan"]
    return answered


async def disturb(api: Api, plan: dict[str, Any], key: str = "a") -> None:
    """Something else has come to the plan's stack since: what it would do is no longer the same."""
    await api.acme.rows.resource(
        key, stack=plan["stack"], type="core.note", provider="core", external_id=f"x-{key}",
        applied={"name": "other", "text": "other"}, outputs={},
    )  # fmt: skip


# ── agreeing ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_manual_plan_is_ready_once_enough_people_have_approved_it(api: Api) -> None:
    first, second = await person(api, "first"), await person(api, "second")
    plan = await pending(api, required=2)
    assert plan["approvals"] == {
        "required": 2, "granted": 0, "previewHash": plan["preview"]["hash"], "deadline": None, "reviews": [],
    }  # fmt: skip
    (error,) = await refused(api, "executePlan", planId=plan["id"], expectedPreviewHash=plan["preview"]["hash"])
    assert (error["__typename"], error["status"]) == ("IllegalStateError", PENDING)
    half = await approve(api, first, plan, comment="fine")
    assert (half["status"], half["approvals"]["granted"]) == (PENDING, 1)
    ready = await approve(api, second, plan)
    assert (ready["status"], ready["approvals"]["granted"]) == ("READY", 2)
    said = [(review["by"]["email"], review["decision"], review["comment"]) for review in ready["approvals"]["reviews"]]
    assert said == [("first@acme.example", "APPROVE", "fine"), ("second@acme.example", "APPROVE", None)]
    run = await done(api, "executePlan", planId=plan["id"], expectedPreviewHash=plan["preview"]["hash"])
    assert run["plan"]["status"] in (QUEUED, "RUNNING")


async def test_an_immediate_plan_runs_at_once_when_it_is_approved(api: Api) -> None:
    boss = await person(api, "boss")
    plan = await pending(api, "IMMEDIATE", required=1)
    assert (plan["activeJob"], plan["lastJob"]) == (None, None)
    running = await approve(api, boss, plan)
    assert running["activeJob"] is not None
    assert running["status"] in (QUEUED, "RUNNING")


async def test_the_same_person_counts_once(api: Api) -> None:
    boss = await person(api, "boss")
    plan = await pending(api, required=2)
    await approve(api, boss, plan)
    (error,) = await refused(api, "reviewPlan", boss, **word(plan))
    assert (error["__typename"], error["path"]) == ("ConflictError", ["planId"])
    shown = await api.data("query($id: ID!) { deploymentPlan(id: $id) { approvals { granted } } }", {"id": plan["id"]})
    assert shown["deploymentPlan"]["approvals"] == {"granted": 1}


async def test_authors_do_not_approve_unless_the_plan_says_so(api: Api) -> None:
    plan = await pending(api, required=1)
    (error,) = await refused(api, "reviewPlan", **word(plan))
    assert (error["__typename"], error["code"], error["path"]) == ("SimpleUserError", "POLICY_DENIED", ["planId"])
    given = {"id": plan["id"], "expectedVersion": plan["version"]}
    asked = {"approvals": {"required": 1, "authorMayApprove": True}}
    await done(api, "updatePlan", **given, configuration=asked)
    trusted = (await done(api, "submitPlan", planId=plan["id"]))["plan"]
    assert (await approve(api, api.acme, trusted))["status"] == "READY"


async def test_who_submitted_somebody_elses_plan_is_an_author_too(api: Api) -> None:
    other = await person(api, "other", "ADMIN")
    pinned = await revision(api, NOTE)
    asked = {"approvals": {"required": 1}}
    given = {"name": "p", "type": "MANUAL", "templateRevisionId": pinned, "configuration": asked, "submit": False}
    draft = (await done(api, "createPlan", **given))["plan"]
    plan = (await done(api, "submitPlan", other, planId=draft["id"]))["plan"]
    for author in (api.acme, other):
        (error,) = await refused(api, "reviewPlan", author, **word(plan))
        assert error["code"] == "POLICY_DENIED"
    assert (await approve(api, await person(api, "third"), plan))["status"] == "READY"


async def test_one_rejection_ends_the_plan(api: Api) -> None:
    first, second = await person(api, "first"), await person(api, "second")
    plan = await pending(api, required=2)
    await approve(api, first, plan)
    # Who has approved may think better of it.
    given = word(plan, "REJECT", comment="not today")
    rejected = (await done(api, "reviewPlan", first, **given))["plan"]
    found = (rejected["status"], rejected["statusReason"], rejected["statusMessage"])
    assert found == ("REJECTED", "USER", "not today")
    assert [review["decision"] for review in rejected["approvals"]["reviews"]] == ["APPROVE", "REJECT"]
    (error,) = await refused(api, "reviewPlan", second, **word(plan))
    assert (error["__typename"], error["status"], error["path"]) == ("IllegalStateError", "REJECTED", ["planId"])


async def test_a_review_names_what_it_is_about(api: Api) -> None:
    boss = await person(api, "boss")
    plan = await pending(api, required=1)
    (error,) = await refused(api, "reviewPlan", boss, **{**word(plan), "previewHash": "0" * 64})
    assert (error["__typename"], error["path"]) == ("StalePreviewError", ["previewHash"])
    assert error["current"]["hash"] == plan["preview"]["hash"]
    (error,) = await refused(api, "reviewPlan", boss, **word(plan, comment="x" * 2001))
    assert (error["code"], error["path"]) == ("INVALID", ["comment"])


async def test_two_approvals_at_once_start_one_job(api: Api) -> None:
    people = [await person(api, f"p{number}") for number in range(4)]
    plan = await pending(api, "IMMEDIATE", required=2)
    answers = await asyncio.gather(*(send(api, "reviewPlan", word(plan), one) for one in people))
    taken = [answer["plan"] for answer in answers if answer["plan"] is not None]
    assert len(taken) == 2
    told = {answer["userErrors"][0]["__typename"] for answer in answers if answer["plan"] is None}
    assert told == {"IllegalStateError"}
    jobs = "query($id: ID!) { deploymentPlan(id: $id) { jobs { nodes { id } } approvals { granted } } }"
    found = (await api.data(jobs, {"id": plan["id"]}))["deploymentPlan"]
    assert (len(found["jobs"]["nodes"]), found["approvals"]["granted"]) == (1, 2)


async def test_one_person_twice_at_once_counts_once(api: Api) -> None:
    boss = await person(api, "boss")
    plan = await pending(api, "IMMEDIATE", required=2)
    answers = await asyncio.gather(*(send(api, "reviewPlan", word(plan), boss) for _ in range(4)))
    assert [answer["plan"] is not None for answer in answers].count(True) == 1
    assert (await approve(api, await person(api, "other"), plan))["activeJob"] is not None


# ── what voids it ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_edit_voids_what_was_approved_even_if_it_changes_nothing(api: Api) -> None:
    first, second = await person(api, "first"), await person(api, "second")
    plan = await pending(api, required=2)
    version = (await approve(api, first, plan))["version"]
    given = {"id": plan["id"], "expectedVersion": version, "description": "other"}
    assert (await done(api, "updatePlan", **given))["plan"]["status"] == "DRAFT"
    again = (await done(api, "submitPlan", planId=plan["id"]))["plan"]
    assert (again["status"], again["preview"]["hash"]) == (PENDING, plan["preview"]["hash"])
    assert (again["approvals"]["granted"], len(again["approvals"]["reviews"])) == (0, 1)
    assert (await approve(api, second, plan))["status"] == PENDING
    assert (await approve(api, first, plan))["status"] == "READY"


async def test_a_ready_plan_that_is_edited_has_to_be_approved_again(api: Api) -> None:
    boss = await person(api, "boss")
    ready = await approve(api, boss, await pending(api, required=1))
    await done(api, "updatePlan", id=ready["id"], expectedVersion=ready["version"], description="x")
    assert (await done(api, "submitPlan", planId=ready["id"]))["plan"]["status"] == PENDING


async def test_executing_what_is_no_longer_what_was_approved_is_refused_and_sent_back(api: Api) -> None:
    boss = await person(api, "boss")
    ready = await approve(api, boss, await pending(api, required=1))
    await disturb(api, ready)
    run = {"planId": ready["id"], "expectedPreviewHash": ready["preview"]["hash"]}
    (error,) = await refused(api, "executePlan", **run)
    assert (error["__typename"], error["code"]) == ("StalePreviewError", "STALE_PREVIEW")
    new = error["current"]["hash"]
    assert new != ready["preview"]["hash"]
    (error,) = await refused(api, "executePlan", planId=ready["id"], expectedPreviewHash=new)
    assert (error["__typename"], error["status"]) == ("IllegalStateError", PENDING)
    (stale,) = await refused(api, "reviewPlan", boss, **word(ready))
    assert stale["current"]["hash"] == new
    ready = await approve(api, boss, {**ready, "preview": {"hash": new}})
    assert (ready["status"], ready["approvals"]["granted"]) == ("READY", 1)
    assert (await done(api, "executePlan", planId=ready["id"], expectedPreviewHash=new))["job"] is not None


async def test_knowing_the_new_hash_does_not_make_up_for_the_approval_of_the_old_one(api: Api) -> None:
    boss = await person(api, "boss")
    ready = await approve(api, boss, await pending(api, required=1))
    await disturb(api, ready)
    pinned = "query($id: ID!) { deploymentPlan(id: $id) { template { id } } }"
    template = (await api.data(pinned, {"id": ready["id"]}))["deploymentPlan"]["template"]["id"]
    dry = "query($i: PreviewPlanInput!) { previewPlan(input: $i) { preview { hash } } }"
    given = {"templateRevisionId": template, "stack": ready["stack"]}
    new = (await api.data(dry, {"i": given}))["previewPlan"]["preview"]["hash"]
    (error,) = await refused(api, "executePlan", planId=ready["id"], expectedPreviewHash=new)
    assert (error["__typename"], error["current"]["hash"]) == ("StalePreviewError", new)


async def test_an_immediate_plan_whose_world_changed_meanwhile_goes_round_again(api: Api) -> None:
    boss = await person(api, "boss")
    plan = await pending(api, "IMMEDIATE", required=1)
    await disturb(api, plan)
    again = await approve(api, boss, plan)
    assert (again["status"], again["activeJob"], again["approvals"]["granted"]) == (PENDING, None, 0)
    assert again["statusMessage"] == "what it would do has changed since it was approved"
    assert again["preview"]["hash"] != plan["preview"]["hash"]
    found = (await api.data(EVENTS, {"id": plan["id"]}))["deploymentPlan"]["events"]["edges"]
    assert [edge["node"] for edge in found[-4:]] == [
        {"review": {"decision": "APPROVE", "by": {"email": "boss@acme.example"}}},
        {"planStatus": "READY", "reason": "NONE"},
        {"planStatus": "VALIDATING", "reason": "PREVIEW_STALE"},
        {"planStatus": PENDING, "reason": "APPROVAL_PENDING"},
    ]
    assert (await approve(api, boss, again))["activeJob"] is not None


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_nobody_approves_in_time_expires(api: Api) -> None:
    boss = await person(api, "boss")
    before = datetime.now(UTC)
    plan = await pending(api, required=1, deadline="PT24H")
    deadline = datetime.fromisoformat(plan["approvals"]["deadline"])
    assert timedelta(0) <= deadline - before - timedelta(hours=24) < timedelta(minutes=1)
    async with api.acme.rows.write() as transaction:
        stored = await transaction.session.get_one(models.DeploymentPlan, decode_id(plan["id"])[1])
        stored.approval_deadline = before
    (error,) = await refused(api, "reviewPlan", boss, **word(plan))
    assert (error["__typename"], error["status"]) == ("IllegalStateError", PENDING)
    assert (await tick(api.services.database, ring_again_seconds=10)).expired == 1
    (error,) = await refused(api, "reviewPlan", boss, **word(plan))
    assert (error["__typename"], error["status"]) == ("IllegalStateError", "EXPIRED")


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_who_can_approve_is_told_and_who_cannot_is_told_why(api: Api) -> None:
    boss, viewer = await person(api, "boss"), await person(api, "viewer", "VIEWER")
    plan = await pending(api, required=2)

    async def seen(access: Access) -> dict[str, tuple[bool, str]]:
        answer = (await api.data(ACTIONS, {"id": plan["id"]}, access=access))["deploymentPlan"]
        assert answer["blockedBy"] == [{"reason": "APPROVAL_PENDING"}]
        return {one["action"]: (one["allowed"], one["reason"]) for one in answer["availableActions"]}

    assert (await seen(boss))["APPROVE"] == (await seen(boss))["REJECT"] == (True, "NONE")
    mine = await seen(api.acme)
    assert (mine["APPROVE"], mine["REJECT"]) == ((False, "POLICY"), (True, "NONE"))
    assert (mine["EXECUTE"], mine["EDIT"], mine["CANCEL"]) == ((False, "APPROVAL_PENDING"), (True, "NONE"),
                                                               (True, "NONE"))  # fmt: skip
    assert (await seen(viewer))["APPROVE"] == (False, "POLICY")
    await approve(api, boss, plan)
    told = await seen(boss)
    assert (told["APPROVE"], told["REJECT"]) == ((False, "ALREADY_DONE"), (True, "NONE"))


async def test_the_list_of_what_waits_for_me(api: Api) -> None:
    rows, author = api.acme.rows, api.acme.principal.user_id
    boss = await person(api, "boss")
    common = {"status": PlanStatus.PENDING_APPROVAL, "preview_hash": "a" * 64}
    own = await rows.plan("own", review_round=1, **common)
    await rows.plan("trusted", configuration={"approvals": {"authorMayApprove": True}}, **common)
    await rows.plan("nobody's", user_id=None, **common)
    await rows.plan("submitted", user_id=None, submitted_by_id=author, **common)
    await rows.plan("ready", status=PlanStatus.READY)

    async def names(access: Access, *, wanted: bool) -> set[str]:
        found = await api.data(WAITING, {"f": {"needsMyApproval": wanted}}, access=access)
        return {node["name"] for node in found["deploymentPlans"]["nodes"]}

    everything = {"own", "trusted", "nobody's", "submitted", "ready"}
    assert await names(boss, wanted=True) == everything - {"ready"}
    assert await names(api.acme, wanted=True) == {"trusted", "nobody's"}
    assert await names(api.acme, wanted=False) == {"own", "submitted", "ready"}
    assert await names(await person(api, "viewer", "VIEWER"), wanted=True) == set()
    assert await names(api.rival, wanted=True) == set()
    given = {"planId": encode_id("DeploymentPlan", own.id), "previewHash": "a" * 64, "decision": "APPROVE"}
    async with rows.write() as transaction:
        stored = await transaction.session.get_one(models.DeploymentPlan, own.id)
        stored.configuration = {"approvals": {"required": 2}}
    await done(api, "reviewPlan", boss, **given)
    assert await names(boss, wanted=True) == everything - {"ready", "own"}
    async with rows.write() as transaction:
        stored = await transaction.session.get_one(models.DeploymentPlan, own.id)
        stored.review_round = 2
    assert await names(boss, wanted=True) == everything - {"ready"}


async def test_a_safeguard_that_is_misspelt_is_refused(api: Api) -> None:
    given = {"name": "p", "type": "MANUAL", "configuration": {"aprovals": {"required": 2}}}
    errors = await refused(api, "createPlan", **given, templateRevisionId=await revision(api, NOTE))
    assert [(error["code"], error["path"]) for error in errors] == [("INVALID", ["configuration", "aprovals"])]
    plan = await api.acme.rows.plan("old", configuration={"mine": 1})
    edit = {"id": encode_id("DeploymentPlan", plan.id), "expectedVersion": plan.version}
    (error,) = await refused(api, "updatePlan", **edit, configuration={"tll": "PT1H"})
    assert error["path"] == ["configuration", "tll"]
    await done(api, "updatePlan", **edit, name="what was there before may stay")


@pytest.mark.parametrize("name", ["createPlan", "updatePlan"])
async def test_a_configuration_that_asks_for_nonsense_is_refused(api: Api, name: str) -> None:
    given: dict[str, Any] = {"configuration": {"approvals": {"required": 99, "deadlin": "PT1H"}}}
    if name == "createPlan":
        given |= {"name": "p", "type": "MANUAL", "templateRevisionId": await revision(api, NOTE)}
    else:
        plan = await api.acme.rows.plan()
        given |= {"id": encode_id("DeploymentPlan", plan.id), "expectedVersion": 1}
    errors = await refused(api, name, **given)
    assert {(error["code"], tuple(error["path"])) for error in errors} == {
        ("INVALID", ("configuration", "approvals", "required")),
        ("INVALID", ("configuration", "approvals", "deadlin")),
    }
