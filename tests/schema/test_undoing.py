"""Undoing through the API: foretold for a plan that may fail, and as a plan of its own for one that succeeded."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select

from app.db import models
from app.domain.enums import ChangeAction, JobDirection
from app.domain.operations import EffectState
from app.domain.statuses import JobStatus, PlanStatus
from schema.nodes import encode_id
from tests.schema.conftest import Api
from tests.schema.verbs import done, refused

FORETOLD = """query($id: ID!, $at: String) { rollbackPreview(planId: $id, failAt: $at) {
  failAt estimatedDuration residual compensations { key order action reversibility detail } notReversible { key } } }"""
PLAN = """query($id: ID!) { deploymentPlan(id: $id) { status type stack rollbackOf { id } parameters
  preview { pointsOfNoReturn changes { key action } } diagnostics { code path }
  availableActions { action allowed message } } }"""
NOTE = {"type": "core.note", "properties": {"name": "a", "text": "one"}}


async def _planned(api: Api, resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    made = await done(api, "createResourceTemplate", name=uuid4().hex, type="CUSTOM", content={"resources": resources})
    pinned = await done(api, "publishResourceTemplate", id=made["resourceTemplate"]["id"], expectedVersion=1)
    given = {"name": "plan", "type": "MANUAL", "templateRevisionId": pinned["revision"]["id"], **more}
    answered = await done(api, "createPlan", **given)
    found: dict[str, Any] = answered["plan"]
    return found


async def _succeeded(api: Api) -> models.DeploymentPlan:
    """A plan that has made the note `a`, and written down that it has."""
    rows = api.acme.rows
    plan = await rows.plan("made", status=PlanStatus.SUCCEEDED, configuration={"approvals": {"required": 1}})
    job = await rows.job(plan, status=JobStatus.SUCCEEDED)
    state = {"name": "a", "text": "one", "size": 1}
    note = await rows.resource("a", plan, type="core.note", provider="core", external_id="a", applied=state)
    step = await rows.step(job, "a", resource_id=note.id, spec={"type": "core.note", "resourceKey": "a"})
    await rows.add(
        models.StepEffect(
            tenant_id=api.acme.tenant_id, job_id=job.id, step_run_id=step.id, direction=JobDirection.FORWARD,
            resource_id=note.id, action=ChangeAction.CREATE, state=EffectState.DONE, operation_id=uuid4(),
            after={"id": "a", "properties": state, "outputs": {}, "private": {}, "version": 1},
        )
    )  # fmt: skip
    return plan


async def test_a_rollback_is_foretold_in_the_order_in_which_it_would_go(api: Api) -> None:
    other = {"type": "core.note", "properties": {"name": "b"}, "dependsOn": ["a"]}
    plan = await _planned(api, {"a": NOTE, "b": other})
    found = (await api.data(FORETOLD, {"id": plan["id"], "at": None}))["rollbackPreview"]
    told = {"action": "DELETE", "reversibility": "REVERSIBLE", "detail": "what was created is deleted"}
    assert found == {
        "failAt": "b",
        "estimatedDuration": None,
        "residual": [],
        "compensations": [{"key": "b", "order": 1, **told}, {"key": "a", "order": 2, **told}],
        "notReversible": [],
    }
    found = (await api.data(FORETOLD, {"id": plan["id"], "at": "a"}))["rollbackPreview"]
    assert [one["key"] for one in found["compensations"]] == ["a"]


@pytest.mark.parametrize("strategy", ["HALT", "CONTINUE"])
async def test_where_nothing_is_rolled_back_everything_stays(api: Api, strategy: str) -> None:
    plan = await _planned(api, {"a": NOTE}, failureStrategy=strategy)
    found = (await api.data(FORETOLD, {"id": plan["id"], "at": "a"}))["rollbackPreview"]
    assert (found["compensations"], found["residual"]) == ([], ["a"])


async def test_a_step_that_there_is_not_is_an_error_with_the_nearest_name(api: Api) -> None:
    plan = await _planned(api, {"first": NOTE})
    (error,) = (await api.ask(FORETOLD, {"id": plan["id"], "at": "frist"}))["errors"]
    assert error["extensions"]["code"] == "INVALID"
    assert "did you mean 'first'" in error["message"]


async def test_a_plan_that_succeeded_is_undone_by_a_plan_that_is_reviewed_like_it(api: Api) -> None:
    made = await _succeeded(api)
    plan_id = encode_id("DeploymentPlan", made.id)
    shown = (await api.data(PLAN, {"id": plan_id}))["deploymentPlan"]
    offered = {item["action"]: item for item in shown["availableActions"]}["ROLLBACK"]
    assert offered["allowed"] is True
    assert "createRollbackPlan" in offered["message"]
    undo = (await done(api, "createRollbackPlan", planId=plan_id))["plan"]
    assert undo["status"] == "PENDING_APPROVAL"
    shown = (await api.data(PLAN, {"id": undo["id"]}))["deploymentPlan"]
    assert (shown["type"], shown["stack"], shown["rollbackOf"]) == ("MANUAL", "made", {"id": plan_id})
    assert shown["preview"] == {"pointsOfNoReturn": ["a"], "changes": [{"key": "a", "action": "DELETE"}]}
    assert shown["diagnostics"] == []
    # What succeeded stays as it is: the undoing is a plan of its own.
    assert (await api.data(PLAN, {"id": plan_id}))["deploymentPlan"]["status"] == "SUCCEEDED"


async def test_what_cannot_be_undone_by_a_plan_is_refused_with_the_reason(api: Api) -> None:
    rows = api.acme.rows
    running = await rows.plan("running", status=PlanStatus.RUNNING)
    (error,) = await refused(api, "createRollbackPlan", planId=encode_id("DeploymentPlan", running.id))
    assert (error["__typename"], error["status"], error["path"]) == ("IllegalStateError", "RUNNING", ["planId"])
    assert "PARTIALLY_SUCCEEDED or SUCCEEDED" in error["message"]
    idle = await rows.plan("idle", status=PlanStatus.SUCCEEDED)
    (error,) = await refused(api, "createRollbackPlan", planId=encode_id("DeploymentPlan", idle.id))
    assert (error["code"], "nothing to undo" in error["message"]) == ("CONFLICT", True)
    made = await _succeeded(api)
    async with rows.write() as transaction:
        note = (await transaction.session.scalars(select(models.CloudResource))).one()
        note.applied = {"name": "a", "text": "two", "size": 1}
    (error,) = await refused(api, "createRollbackPlan", planId=encode_id("DeploymentPlan", made.id))
    assert (error["code"], error["message"][:2]) == ("CONFLICT", "a ")
    (error,) = await refused(
        api, "createRollbackPlan", planId=encode_id("DeploymentPlan", made.id), scope="FAILED_BRANCH"
    )
    assert (error["code"], error["path"]) == ("INVALID", ["scope"])


async def test_a_plan_that_runs_at_once_needs_its_connections_at_once(api: Api) -> None:
    role = {"type": "postgres.role", "properties": {"name": "r"}}
    plan = await _planned(api, {"role": role})
    assert plan["diagnostics"] == [{"code": "NO_CONNECTION", "path": ["resources", "role", "connection"]}]
    (error,) = await refused(api, "executePlan", planId=plan["id"], expectedPreviewHash=plan["preview"]["hash"])
    assert (error["__typename"], error["path"]) == ("ValidationError", ["resources", "role", "connection"])
    assert [found["severity"] for found in error["diagnostics"]] == ["ERROR"]
    await done(
        api, "createConnection", name="pg", provider="postgres", isDefault=True,
        config={"url": "postgresql://u:p@db.example/app"},
    )  # fmt: skip
    await done(api, "executePlan", planId=plan["id"], expectedPreviewHash=plan["preview"]["hash"])
