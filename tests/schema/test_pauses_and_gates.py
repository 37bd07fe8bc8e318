"""Gates and pauses as clients see them: what waits, for whom, and what can be done about it."""

from __future__ import annotations

from typing import Any

from app.db import models
from app.domain.enums import StatusReason
from app.domain.statuses import JobStatus, PlanStatus, StepStatus
from schema.nodes import encode_id
from tests.schema.conftest import Api
from tests.schema.verbs import done, refused

SEEN = """query($id: ID!) { deploymentPlan(id: $id) { status blockedBy { reason message queuePosition }
  availableActions { action allowed reason message }
  activeJob { blockedBy { reason queuePosition } steps { key gate { kind } notRunBecause { key } } } } }"""


def step(**gate: Any) -> dict[str, Any]:
    return {"key": "ask", "type": "CUSTOM", "gate": gate}


async def test_every_fault_of_a_gate_is_told_where_it_stands(api: Api) -> None:
    wrong = step(
        kind="INPUT", inputSchema={"type": "nothing"}, approvers=["nobody"], deadline="P1Y", onTimeout="NEVER", more=1
    )
    given = {"name": "w", "type": "CUSTOM", "definition": {"steps": [{**wrong, "inputs": {"a": 1}}]}}
    (error,) = await refused(api, "createWorkflow", **given)
    told = {".".join(found["path"][3:]) for found in error["diagnostics"]}
    assert told >= {"gate.prompt", "gate.approvers.0", "gate.deadline", "gate.onTimeout", "gate.more", "inputs"}
    assert any(place.startswith("gate.inputSchema") for place in told)
    timer = step(kind="TIMER", approvers=["a@acme.example"])
    (error,) = await refused(api, "createWorkflow", name="w", type="CUSTOM", definition={"steps": [timer]})
    told = {".".join(found["path"][3:]) for found in error["diagnostics"]}
    assert told == {"gate.deadline", "gate.approvers"}


async def test_a_plan_that_does_not_run_is_neither_paused_nor_resumed(api: Api) -> None:
    plan = await api.acme.rows.plan(status=PlanStatus.READY)
    for name in ("pausePlan", "resumePlan"):
        (error,) = await refused(api, name, planId=encode_id("DeploymentPlan", plan.id))
        assert (error["__typename"], error["status"], error["path"]) == ("IllegalStateError", "READY", ["planId"])


async def test_a_running_plan_is_paused_by_who_knows_its_version(api: Api) -> None:
    plan = await api.acme.rows.plan(status=PlanStatus.RUNNING)
    job = await api.acme.rows.job(plan, status=JobStatus.RUNNING)
    await api.acme.rows.step(job, "later", status=StepStatus.PENDING)
    await _activate(api, plan.id, job.id)
    gid = encode_id("DeploymentPlan", plan.id)
    (error,) = await refused(api, "pausePlan", planId=gid, expectedVersion=99)
    assert (error["code"], error["path"]) == ("STALE_VERSION", ["expectedVersion"])
    paused = (await done(api, "pausePlan", planId=gid, expectedVersion=error["currentVersion"]))["plan"]
    assert (paused["status"], paused["statusReason"]) == ("PAUSED", "USER")
    seen = (await api.data(SEEN, {"id": gid}))["deploymentPlan"]
    allowed = {item["action"]: item["allowed"] for item in seen["availableActions"]}
    found = {name: allowed[name] for name in ("PAUSE", "RESUME", "CANCEL", "ROLLBACK", "EXECUTE")}
    assert found == {"PAUSE": False, "RESUME": True, "CANCEL": True, "ROLLBACK": True, "EXECUTE": False}
    assert [item["reason"] for item in seen["blockedBy"]] == ["USER"]
    resumed = (await done(api, "resumePlan", planId=gid))["plan"]
    assert resumed["status"] == "QUEUED"


async def test_what_waits_for_a_decision_cannot_just_be_resumed(api: Api) -> None:
    plan = await api.acme.rows.plan(status=PlanStatus.PAUSED, status_reason=StatusReason.STEP_FAILED)
    job = await api.acme.rows.job(plan, status=JobStatus.PAUSED, status_reason=StatusReason.STEP_FAILED)
    failed = await api.acme.rows.step(
        job, "bad", status=StepStatus.FAILED, spec={"strategy": "PAUSE", "task": "core.wait", "inputs": {"seconds": 0}}
    )
    await _activate(api, plan.id, job.id)
    gid, number = encode_id("DeploymentPlan", plan.id), encode_id("StepRun", failed.id)
    seen = (await api.data(SEEN, {"id": gid}))["deploymentPlan"]
    (resume,) = [item for item in seen["availableActions"] if item["action"] == "RESUME"]
    assert (resume["allowed"], resume["reason"]) == (False, "STEP_FAILED")
    (error,) = await refused(api, "resumePlan", planId=gid)
    assert (error["__typename"], error["path"]) == ("IllegalStateError", ["planId"])
    (error,) = await refused(api, "answerGate", stepRunId=number, approve=True)
    assert (error["__typename"], error["status"], error["path"]) == ("IllegalStateError", "FAILED", ["stepRunId"])
    (error,) = await refused(api, "stepAction", stepRunId=number, action="SKIP", inputs={})
    assert (error["code"], error["path"]) == ("INVALID", ["inputs"])
    answer = await done(api, "stepAction", stepRunId=number, action="SKIP")
    assert answer["job"]["steps"] == [{"key": "bad", "status": "SKIPPED"}]
    (error,) = await refused(api, "stepAction", stepRunId=number, action="RETRY")
    assert (error["__typename"], error["path"]) == ("IllegalStateError", ["stepRunId"])


async def _activate(api: Api, plan_id: int, job_id: int) -> None:
    async with api.acme.rows.write() as transaction:
        stored = await transaction.session.get_one(models.DeploymentPlan, plan_id)
        stored.active_job_id = stored.last_job_id = job_id
