"""How long things will take, as clients see it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.db import models
from app.domain.enums import ChangeAction
from app.domain.operations import OperationKind, Phase
from app.domain.statuses import JobStatus, PlanStatus, StepStatus
from schema.nodes import encode_id
from tests.schema.conftest import Access, Api

NOW = datetime.now(UTC)
JOB = "query($id: ID!) { orchestrationJob(id: $id) { estimatedCompletion blockedBy { estimatedStart node { id } } } }"
PLAN = """query($id: ID!) { deploymentPlan(id: $id) {
  preview { estimatedDuration } graph { nodes { key estimatedDuration } } } }"""
CHANGE = {"reversibility": "REVERSIBLE", "properties": []}


async def ran(
    access: Access, seconds: float, kind: str = "core.note", change: ChangeAction = ChangeAction.CREATE, **columns: Any
) -> None:
    """A job that has succeeded with one step that took so long."""
    plan = await access.rows.plan(f"{kind}-{change}-{seconds}", status=PlanStatus.SUCCEEDED)
    job = await access.rows.job(plan, status=JobStatus.SUCCEEDED, **columns)
    step = await access.rows.step(job, "a", spec={"type": kind}, change=change)
    began = NOW - timedelta(hours=1)
    await access.rows.attempt(step, started_at=began, ended_at=began + timedelta(seconds=seconds))


async def under_way(access: Access, *steps: dict[str, Any], **columns: Any) -> models.OrchestrationJob:
    plan = await access.rows.plan("under-way", status=PlanStatus.RUNNING)
    job = await access.rows.job(plan, **columns)
    for number, step in enumerate(steps):
        await access.rows.step(job, f"s{number}", **{"spec": {"type": "core.note"}, **step})
    return job


async def completion(api: Api, job: models.OrchestrationJob) -> float | None:
    """Seconds from now on."""
    found = (await api.data(JOB, {"id": encode_id("OrchestrationJob", job.id)}))["orchestrationJob"]
    told = found["estimatedCompletion"]
    return None if told is None else (datetime.fromisoformat(told) - datetime.now(UTC)).total_seconds()


async def preview(api: Api, *changes: tuple[str, str, str, int]) -> dict[str, Any]:
    plan = await api.acme.rows.plan(
        preview={
            "hash": "h",
            "computedAt": NOW.isoformat(),
            "summary": {},
            "changes": [
                {"key": key, "type": kind, "action": action, "wave": wave, **CHANGE}
                for key, kind, action, wave in changes
            ],
        },
        dependencies={
            "nodes": [
                {"key": key, "kind": "APPLY", "type": "RESOURCE_CREATE", "wave": wave} for key, _, _, wave in changes
            ]
        },
    )
    found: dict[str, Any] = (await api.data(PLAN, {"id": encode_id("DeploymentPlan", plan.id)}))["deploymentPlan"]
    return found


async def test_a_preview_takes_what_the_like_took_before(api: Api) -> None:
    for seconds in (10, 30, 1000):
        await ran(api.acme, seconds)
    await ran(api.acme, 5, change=ChangeAction.UPDATE)
    await ran(api.acme, 4000, simulated=True)
    await ran(api.rival, 3000)
    found = await preview(
        api,
        ("a", "core.note", "CREATE", 0),
        ("b", "core.note", "UPDATE", 0),
        ("c", "core.note", "UPDATE", 1),
        ("d", "core.role", "NO_CHANGE", 1),
    )
    # The longest of each wave.
    assert found["preview"]["estimatedDuration"] == "PT35S"
    assert {node["key"]: node["estimatedDuration"] for node in found["graph"]["nodes"]} == {
        "a": "PT30S",
        "b": "PT5S",
        "c": "PT5S",
        "d": "PT0S",
    }


async def test_what_was_never_done_has_no_estimate(api: Api) -> None:
    await ran(api.acme, 10)
    found = await preview(api, ("a", "core.note", "CREATE", 0), ("b", "core.note", "DELETE", 1))
    assert found["preview"]["estimatedDuration"] is None
    assert [node["estimatedDuration"] for node in found["graph"]["nodes"]] == ["PT10S", None]


async def test_a_job_is_over_when_the_rest_of_its_steps_are(api: Api) -> None:
    await ran(api.acme, 100)
    job = await under_way(
        api.acme,
        {},
        {"status": StepStatus.RUNNING, "started_at": datetime.now(UTC) - timedelta(seconds=40), "wave": 1},
        {"status": StepStatus.PENDING, "wave": 1},
        {"status": StepStatus.PENDING, "wave": 2},
        {"status": StepStatus.PENDING, "wave": 0, "phase": Phase.COMMIT},
    )
    seconds = await completion(api, job)
    assert seconds is not None
    assert 290 < seconds <= 300


async def test_a_step_that_takes_longer_than_usual_is_about_to_end(api: Api) -> None:
    await ran(api.acme, 100)
    late = {"status": StepStatus.RUNNING, "started_at": datetime.now(UTC) - timedelta(seconds=400)}
    seconds = await completion(api, await under_way(api.acme, late))
    assert seconds is not None
    assert -10 < seconds <= 0


@pytest.mark.parametrize(
    ("job", "step"),
    [
        ({"status": JobStatus.PAUSED}, {}),
        ({"status": JobStatus.ROLLING_BACK}, {}),
        ({"status": JobStatus.SUCCEEDED}, {}),
        ({}, {"operation": OperationKind.GATE}),
        ({}, {"spec": {"type": "core.never"}}),
    ],
)
async def test_nobody_knows_when_it_will_be_over(api: Api, job: dict[str, Any], step: dict[str, Any]) -> None:
    await ran(api.acme, 100)
    assert await completion(api, await under_way(api.acme, {"status": StepStatus.PENDING, **step}, **job)) is None


async def test_the_first_who_waits_for_a_stack_knows_for_whom_and_how_long(api: Api) -> None:
    await ran(api.acme, 100)
    holder = await under_way(api.acme, {"status": StepStatus.PENDING})
    await api.acme.rows.add(
        models.ResourceLock(tenant_id=api.acme.tenant_id, lock_key=f"stack/{holder.stack}", job_id=holder.id)
    )
    for place in (1, 2):
        plan = await api.acme.rows.plan(f"waits-{place}", stack=holder.stack, status=PlanStatus.QUEUED)
        job = await api.acme.rows.job(plan, status=JobStatus.QUEUED)
        (blocker,) = (await api.data(JOB, {"id": encode_id("OrchestrationJob", job.id)}))["orchestrationJob"][
            "blockedBy"
        ]
        assert blocker["node"] == {"id": encode_id("OrchestrationJob", holder.id)}
        assert (blocker["estimatedStart"] is not None) == (place == 1)
