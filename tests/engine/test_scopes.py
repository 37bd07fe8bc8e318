"""Rollbacks that keep a part: of the branch that did not fail, or up to a checkpoint."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.enums import FailureStrategy, RollbackScope
from app.domain.errors import Conflict, Invalid
from app.domain.statuses import JobStatus, PlanStatus
from app.services import plans
from app.services.plans import RollbackPlan
from tests.engine.harness import Workshop, note
from tests.engine.test_rollback import FAILING

RESOURCES = {"a": note("a"), "b": note("b", needs=["a"]), "c": note("c", needs=["a"])}


def _apply(key: str, order: int, **more: Any) -> dict[str, Any]:
    return {"key": f"make-{key}", "type": "RESOURCE_CREATE", "order": order, "configuration": {"resource": key}, **more}


async def _submit(workshop: Workshop, steps: list[dict[str, Any]], resources: dict[str, Any], **more: Any) -> int:
    template = await workshop.template({"resources": resources})
    return await workshop.submit(template, await workshop.workflow(*steps), **more)


async def test_only_the_failed_branch_is_taken_back(workshop: Workshop) -> None:
    steps = [
        _apply("a", 1),
        _apply("b", 2),
        _apply("c", 2),
        {**FAILING, "dependsOn": ["make-c"]},
    ]
    job = await workshop.settle(await _submit(workshop, steps, RESOURCES, scope=RollbackScope.FAILED_BRANCH))
    assert job.status is JobStatus.ROLLED_BACK
    # `c` is needed by nothing but the step that failed; `a` is what `b` stands on.
    assert workshop.notes() == {"a": "x", "b": "x"}
    assert await workshop.steps(job.id) == {
        "make-a": "SUCCEEDED", "make-b": "SUCCEEDED", "make-c": "COMPENSATED", "fail": "FAILED",
    }  # fmt: skip


async def test_what_a_checkpoint_has_passed_stays(workshop: Workshop) -> None:
    steps = [_apply("a", 1), _apply("b", 2, checkpoint=True), _apply("c", 3), FAILING]
    job = await workshop.settle(await _submit(workshop, steps, RESOURCES, scope=RollbackScope.TO_CHECKPOINT))
    assert job.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {"a": "x", "b": "x"}
    assert (await workshop.plan_of(job.id)).status is PlanStatus.ROLLED_BACK


async def test_a_rollback_that_is_asked_for_names_its_checkpoint(workshop: Workshop) -> None:
    steps = [_apply("a", 1, checkpoint=True), _apply("b", 2, checkpoint=True), _apply("c", 3), FAILING]
    job = await workshop.settle(await _submit(workshop, steps, RESOURCES, strategy=FailureStrategy.HALT))
    plan = await workshop.plan_of(job.id)

    async def ask(checkpoint: str | None, scope: RollbackScope = RollbackScope.TO_CHECKPOINT) -> int:
        async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
            command = RollbackPlan(plan.id, scope, checkpoint)
            return (await plans.rollback(transaction, workshop.principal, command, workshop.dependencies)).id

    with pytest.raises(Invalid, match="no checkpoint 'make-d'; did you mean"):
        await ask("make-d")
    with pytest.raises(Invalid, match="with the scope TO_CHECKPOINT only"):
        await ask("make-a", RollbackScope.JOB)
    undo = await workshop.settle(await ask("make-a"))
    assert undo.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {"a": "x"}


async def test_a_paused_job_is_given_up_as_far_as_is_said(workshop: Workshop) -> None:
    steps = [_apply("a", 1, checkpoint=True), _apply("b", 2), _apply("c", 3), FAILING]
    job_id = await _submit(workshop, steps, RESOURCES, strategy=FailureStrategy.PAUSE)
    await workshop.answer()
    plan = await workshop.plan_of(job_id)
    assert plan.status is PlanStatus.PAUSED
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = RollbackPlan(plan.id, RollbackScope.TO_CHECKPOINT)
        await plans.rollback(transaction, workshop.principal, command, workshop.dependencies)
    assert (await workshop.settle(job_id)).status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {"a": "x"}


async def test_what_keeps_a_predecessor_is_taken_back_wholly(workshop: Workshop) -> None:
    await workshop.settle(await _submit(workshop, [_apply("a", 1)], {"a": note("old")}))
    replacing = await workshop.template({"resources": {"a": note("new")}}, "replacing")
    flow = await workshop.workflow(_apply("a", 1), FAILING, name="replacing")
    with pytest.raises(Invalid, match="takes back make-a wholly or not at all") as refused:
        await workshop.submit(replacing, flow, scope=RollbackScope.FAILED_BRANCH)
    assert refused.value.path == ("rollbackScope",)
    job = await workshop.settle(await workshop.submit(replacing, flow, strategy=FailureStrategy.HALT))
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = RollbackPlan(job.plan_id, RollbackScope.FAILED_BRANCH)
        with pytest.raises(Conflict, match="is still kept"):
            await plans.rollback(transaction, workshop.principal, command, workshop.dependencies)
