"""Undoing a plan that succeeded, by a new plan."""

from __future__ import annotations

from typing import Any

import pytest

from app.db.models import DeploymentPlan
from app.domain.enums import JobType, PlanType
from app.domain.errors import Conflict, IllegalState
from app.domain.statuses import JobStatus, PlanStatus
from app.services import plans
from app.services.plans import ExecutePlan, RollbackPlan
from tests.engine.harness import Workshop, note
from tests.engine.test_rollback import ALL, FAILING


async def _deploy(workshop: Workshop, resources: dict[str, Any], name: str) -> int:
    job = await workshop.settle(await workshop.submit(await workshop.template({"resources": resources}, name)))
    assert job.status is JobStatus.SUCCEEDED, job.error_message
    return job.plan_id


async def _revert(workshop: Workshop, plan_id: int) -> Any:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        return await plans.create_rollback_plan(
            transaction, workshop.principal, RollbackPlan(plan_id), workshop.dependencies
        )


async def _execute(workshop: Workshop, plan: Any) -> Any:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = ExecutePlan(plan.id, expected_preview_hash=plan.preview_hash)
        job = await plans.execute(transaction, workshop.principal, command, workshop.dependencies)
    return await workshop.settle(job.id)


async def test_everything_the_plan_did_is_put_back_by_a_reviewed_plan(workshop: Workshop) -> None:
    before = {
        "changed": note("changed", "before"),
        "renamed": note("old", "kept"),
        "dropped": note("dropped", "gone", needs=["changed"]),
        "other": note("other"),
    }
    await _deploy(workshop, before, "before")
    was = workshop.notes()
    after = {
        "changed": note("changed", "after"),
        "renamed": note("new", "kept"),
        "made": note("made", needs=["changed"]),
        "other": note("other"),
    }
    done = await _deploy(workshop, after, "after")
    assert workshop.notes() != was
    undo = await _revert(workshop, done)
    assert (undo.plan_type, undo.status, undo.rollback_of_id) == (PlanType.MANUAL, PlanStatus.READY, done)
    changes = {change["key"]: change["action"] for change in undo.preview["changes"]}
    assert changes == {"changed": "UPDATE", "renamed": "REPLACE", "dropped": "CREATE", "made": "DELETE"}
    job = await _execute(workshop, undo)
    assert job.status is JobStatus.SUCCEEDED
    assert workshop.notes() == was
    # And that can be taken back in its turn.
    again = await _revert(workshop, undo.id)
    assert (await _execute(workshop, again)).status is JobStatus.SUCCEEDED
    assert workshop.notes() == {"changed": "after", "new": "kept", "made": "x", "other": "x"}


async def test_text_that_looks_like_an_expression_is_put_back_as_it_was(workshop: Workshop) -> None:
    await _deploy(workshop, {"a": note("a", "$${parameters.x}")}, "before")
    assert workshop.notes() == {"a": "${parameters.x}"}
    done = await _deploy(workshop, {"a": note("a", "after")}, "after")
    assert (await _execute(workshop, await _revert(workshop, done))).status is JobStatus.SUCCEEDED
    assert workshop.notes() == {"a": "${parameters.x}"}


async def test_what_was_made_is_deleted_dependents_first(workshop: Workshop) -> None:
    done = await _deploy(workshop, {"a": note("a"), "b": note("b", needs=["a"])}, "made")
    job = await _execute(workshop, await _revert(workshop, done))
    assert (job.status, job.job_type) == (JobStatus.SUCCEEDED, JobType.DELETE)
    assert workshop.notes() == {}
    gone = await workshop.rows(
        "SELECT data->>'stepKey' AS key FROM event_log WHERE stream_id = :job AND kind = 'StepStatusChanged'"
        " AND data->>'status' = 'SUCCEEDED' ORDER BY seq",
        job=job.id,
    )
    assert [row.key for row in gone] == ["b", "a"]


async def test_what_others_have_changed_since_is_not_overwritten(workshop: Workshop) -> None:
    done = await _deploy(workshop, {"a": note("a", "one"), "b": note("b")}, "first")
    await _deploy(workshop, {"a": note("a", "two"), "b": note("b")}, "second")
    with pytest.raises(Conflict, match="a is no longer recorded as this plan left it"):
        await _revert(workshop, done)
    assert workshop.notes() == {"a": "two", "b": "x"}


async def test_a_plan_that_did_nothing_or_is_not_done_has_nothing_to_undo(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a")}}, "failing")
    job = await workshop.settle(await workshop.submit(template, await workshop.workflow(ALL, FAILING)))
    with pytest.raises(IllegalState, match="this one is ROLLED_BACK"):
        await _revert(workshop, job.plan_id)
    task = {"key": "say", "type": "CUSTOM", "configuration": {"task": "core.log"}, "inputs": {"message": "x"}}
    job = await workshop.settle(await workshop.submit(None, await workshop.workflow(task, name="saying")))
    assert job.status is JobStatus.SUCCEEDED
    with pytest.raises(Conflict, match="nothing to undo"):
        await _revert(workshop, job.plan_id)


async def test_how_the_plan_was_agreed_to_holds_for_its_undoing(workshop: Workshop) -> None:
    done = await _deploy(workshop, {"a": note("a")}, "made")
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        plan = await transaction.session.get_one(DeploymentPlan, done)
        plan.configuration = {"approvals": {"required": 1}, "verification": {"checks": [{"resource": "a"}]}}
        transaction.authorize("test")
    undo = await _revert(workshop, done)
    assert undo.status is PlanStatus.PENDING_APPROVAL
    assert undo.configuration == {"approvals": {"required": 1}}


async def test_secrets_are_put_back_without_being_seen(workshop: Workshop) -> None:
    """A plan of secrets: the target holds them sealed, and so does what its steps are told."""
    template = await workshop.template(
        {
            "parameters": {"type": "object", "properties": {"word": {"type": "string", "x-sensitive": True}}},
            "resources": {"a": note("a", "${parameters.word}")},
        },
        "secret",
    )
    job = await workshop.settle(await workshop.submit(template, word="hunter2-canary"))
    assert job.status is JobStatus.SUCCEEDED
    done = await _deploy(workshop, {"a": note("a", "open")}, "after")
    undo = await _revert(workshop, done)
    for table in ("deployment_plan", "cloud_resource", "resource_revision", "step_effect", "step_run", "event_log"):
        stored = await workshop.rows(f"SELECT {table}::text AS text FROM {table}")
        assert not any("hunter2" in row.text for row in stored), table
    assert (await _execute(workshop, undo)).status is JobStatus.SUCCEEDED
    assert workshop.notes() == {"a": "hunter2-canary"}
