"""Where no provider can tell what became of something, people decide: adopt, abandon, retry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.db.models import StepRun
from app.domain.enums import DriftStatus, FailureStrategy, Permission, PlanType, ResourceDecision, RetryMode, StepAction
from app.domain.errors import Conflict, DomainError, IllegalState, Invalid, Locked
from app.domain.statuses import JobStatus, ResourceStatus
from app.engine.ticking import tick
from app.providers.base import ErrorKind, Idempotency, ProviderError
from app.providers.faults import Fault, FaultKind
from app.services import attention, availability, plans, resources, steps
from app.services.attention import ResolveResource
from app.services.plans import RetryPlan, RollbackPlan
from app.services.resources import DetachResource
from app.services.steps import DecideStep
from tests.engine.conftest import Open
from tests.engine.harness import Workshop, note
from tests.engine.observing import change, resource
from tests.engine.test_in_doubt import again, events_of, forced, settled

TASK = {"key": "send", "type": "CUSTOM", "order": 1, "configuration": {"task": "core.pass"}}


async def resolve(workshop: Workshop, action: ResourceDecision, external_id: str | None = None) -> Any:
    row = await resource(workshop)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = ResolveResource(row.id, row.version, action, external_id)
        return await attention.resolve(transaction, workshop.principal, command, workshop.dependencies)


async def silent(workshop: Workshop, *, lands: bool) -> int:
    """A resource that an operation was to make of which nobody can ever tell whether it did."""
    notes = workshop.provider.notes
    notes.idempotency = Idempotency.NONE  # type: ignore[misc]

    async def recover(*_: Any) -> Any:
        raise ProviderError(ErrorKind.OUTCOME_UNKNOWN, "nobody can tell")

    notes.recover = recover  # type: ignore[assignment,method-assign]
    return await forced(workshop, await workshop.template({"resources": {"a": note("a")}}), lands=lands)


async def test_what_is_there_is_adopted_by_its_identity(workshop: Workshop) -> None:
    job_id = await silent(workshop, lands=True)
    await resolve(workshop, ResourceDecision.ADOPT, "a")
    row = await settled(workshop)
    assert (row.status, row.drift_status, row.external_id) == (ResourceStatus.ACTIVE, DriftStatus.IN_SYNC, "a")
    assert ((row.applied or {})["text"], row.adopt_id, row.in_doubt_step_id) == ("x", None, None)
    assert (await events_of(workshop))[-1] == ("UNKNOWN", "ACTIVE")
    with pytest.raises(Conflict):
        await again(workshop, job_id, RetryMode.RESTART)
    assert workshop.provider.notes.calls == ["import_"]


async def test_an_identity_of_nothing_is_said_to_be_one(workshop: Workshop) -> None:
    await silent(workshop, lands=False)
    await resolve(workshop, ResourceDecision.ADOPT, "b")
    row = await settled(workshop)
    assert (row.status, row.adopt_id, (row.observe_error or {})["code"]) == (ResourceStatus.UNKNOWN, None, "NOT_FOUND")


async def test_what_is_abandoned_is_no_longer_ours_and_nobody_removes_it(workshop: Workshop) -> None:
    await silent(workshop, lands=True)
    await resolve(workshop, ResourceDecision.ABANDON)
    row = await resource(workshop)
    assert (row.status, row.in_doubt_step_id, row.observe_at) == (ResourceStatus.DETACHED, None, None)
    assert (await events_of(workshop))[-1] == ("UNKNOWN", "DETACHED")
    (effect,) = await workshop.rows("SELECT state FROM step_effect")
    assert effect.state == "UNDONE"
    empty = await workshop.template({"resources": {}}, "empty")
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = plans.CreatePlan(name="empty", type=PlanType.IMMEDIATE, template_revision_id=empty, stack="stack")
        plan = await plans.create(transaction, workshop.principal, command, workshop.dependencies)
    assert (plan.last_job_id, workshop.notes()) == (None, {"a": "x"})


async def test_who_says_retry_lets_it_be_made_once_more(workshop: Workshop) -> None:
    job_id = await silent(workshop, lands=False)
    job = await again(workshop, job_id, RetryMode.RESTART)
    assert (job.status, workshop.provider.notes.calls) == (JobStatus.ROLLBACK_FAILED, [])
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        plan = await workshop.plan_of(job_id)
        await plans.accept_current_state(
            transaction, workshop.principal, plans.PlanAction(plan.id, None), workshop.dependencies
        )
    await resolve(workshop, ResourceDecision.RETRY)
    row = await resource(workshop)
    assert (row.status, row.in_doubt_step_id) == (ResourceStatus.FAILED, None)
    job = await again(workshop, job_id, RetryMode.RESTART)
    assert (job.status, workshop.provider.notes.calls) == (JobStatus.SUCCEEDED, ["create"])
    assert workshop.notes() == {"a": "x"}


async def test_what_is_known_is_not_decided_about(workshop: Workshop) -> None:
    await workshop.settle(await workshop.submit(await workshop.template({"resources": {"a": note("a")}})))
    for action in ResourceDecision:
        with pytest.raises(IllegalState):
            await resolve(workshop, action)
    row = await resource(workshop)
    assert [item.allowed for item in availability.resource_actions(row, workshop.principal)] == [False] * 3


async def test_a_decision_waits_for_the_stack_and_has_no_more_than_it_needs(workshop: Workshop) -> None:
    await silent(workshop, lands=True)
    with pytest.raises(Invalid):
        await resolve(workshop, ResourceDecision.RETRY, "a")
    with pytest.raises(Invalid):
        await resolve(workshop, ResourceDecision.ADOPT, " ")
    await change(
        workshop,
        "INSERT INTO resource_lock (tenant_id, lock_key, job_id) SELECT tenant_id, 'stack/stack', id"
        " FROM orchestration_job",
    )
    for action in ResourceDecision:
        with pytest.raises(Locked):
            await resolve(workshop, action)
    row = await resource(workshop)
    viewer = replace(workshop.principal, permissions=frozenset({Permission.READ, Permission.EXECUTE}))
    allowed = {item.action: item.allowed for item in availability.resource_actions(row, viewer)}
    assert allowed == {"ADOPT": True, "ABANDON": False, "RETRY": True}


async def test_what_is_managed_already_is_not_adopted_twice(workshop: Workshop) -> None:
    await workshop.settle(await workshop.submit(await workshop.template({"resources": {"c": note("c")}}, "c")))
    await silent(workshop, lands=False)
    with pytest.raises(Conflict, match="'c'"):
        await resolve(workshop, ResourceDecision.ADOPT, "c")


async def test_what_is_detached_in_doubt_is_not_taken_back_later(workshop: Workshop) -> None:
    await forced(workshop, await workshop.template({"resources": {"a": note("a")}}))
    row = await resource(workshop)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        await resources.detach(transaction, workshop.principal, DetachResource(row.id))
    (effect,) = await workshop.rows("SELECT state FROM step_effect")
    assert effect.state == "UNDONE"


async def test_what_a_change_has_broken_is_let_go_and_stays(open_workshop: Open) -> None:
    workshop = await open_workshop({"update": [Fault(FaultKind.ERROR, error=ErrorKind.ACCESS_DENIED)]})
    await workshop.settle(await workshop.submit(await workshop.template({"resources": {"a": note("a", "one")}}, "one")))
    two = await workshop.template({"resources": {"a": note("a", "two")}}, "two")
    job = await workshop.settle(await workshop.submit(two, strategy=FailureStrategy.HALT))
    row = await resource(workshop)
    assert (job.status, row.status) == (JobStatus.FAILED, ResourceStatus.FAILED)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        await resources.detach(transaction, workshop.principal, DetachResource(row.id, row.version))
    row = await resource(workshop)
    assert (row.status, row.observe_at, row.drift_status) == (ResourceStatus.DETACHED, None, DriftStatus.NOT_CHECKED)
    assert (await events_of(workshop))[-1] == ("FAILED", "DETACHED")
    # What is not ours is not removed by a plan that wants nothing to be there.
    empty = await workshop.template({"resources": {}}, "empty")
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = plans.CreatePlan(name="empty", type=PlanType.IMMEDIATE, template_revision_id=empty, stack="stack")
        plan = await plans.create(transaction, workshop.principal, command, workshop.dependencies)
    assert (plan.last_job_id, workshop.notes()) == (None, {"a": "one"})


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def unrepeatable(workshop: Workshop, *, unclear: int = 1) -> list[int]:
    """A task that must not be run twice; the answers of its first runs are lost. How often it was run."""
    task = workshop.registry.task("core.pass")
    runs: list[int] = []

    async def run(*_: Any) -> Any:
        runs.append(len(runs))
        if len(runs) <= unclear:
            raise ProviderError(ErrorKind.OUTCOME_UNKNOWN, "the answer is lost")
        return {}

    task.run = run  # type: ignore[assignment,method-assign]
    task.can_repeat = lambda *_: False  # type: ignore[method-assign]
    task.pure = False  # type: ignore[misc]  # what it does is not what its class says
    return runs


async def the_step(workshop: Workshop, job_id: int) -> Any:
    async with workshop.database.read(workshop.tenant_id) as session:
        (row,) = await workshop.rows("SELECT id FROM step_run WHERE job_id = :job", job=job_id)
        return await session.get_one(StepRun, row.id)


async def decide(workshop: Workshop, job_id: int, action: StepAction) -> None:
    step = await the_step(workshop, job_id)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        await steps.decide(transaction, workshop.principal, DecideStep(step.id, action), workshop.dependencies)


async def unclear_task(workshop: Workshop) -> tuple[int, list[int]]:
    runs = unrepeatable(workshop)
    workflow = await workshop.workflow(TASK)
    job = await workshop.settle(await workshop.submit(workflow=workflow, strategy=FailureStrategy.HALT))
    assert (job.status, len(runs)) == (JobStatus.FAILED, 1)
    step = await the_step(workshop, job.id)
    assert job.error is not None
    assert (step.status_reason, job.error["class"]) == ("NEEDS_ATTENTION", "INDETERMINATE")
    return job.id, runs


async def test_a_task_that_may_have_been_carried_out_is_not_run_again_by_going_on(workshop: Workshop) -> None:
    job_id, runs = await unclear_task(workshop)
    job = await again(workshop, job_id, RetryMode.RESUME)
    assert (job.status, len(runs)) == (JobStatus.FAILED, 1)
    job = await again(workshop, job.id, RetryMode.RESTART)
    assert (job.status, len(runs)) == (JobStatus.FAILED, 1)
    operations = await workshop.rows("SELECT DISTINCT operation_id FROM step_run")
    assert len(operations) == 1
    allowed = availability.step_actions(await the_step(workshop, job.id), job, workshop.principal)
    assert {item.action: item.allowed for item in allowed} == {
        "RETRY": True, "SKIP": False, "ADOPT": True, "ABANDON": True,
    }  # fmt: skip


async def test_what_somebody_says_was_done_is_kept(workshop: Workshop) -> None:
    job_id, runs = await unclear_task(workshop)
    await decide(workshop, job_id, StepAction.ADOPT)
    step = await the_step(workshop, job_id)
    assert (step.status, step.status_reason, step.status_message) == ("FAILED", "USER", "adopt: user:1")
    with pytest.raises(IllegalState):
        await decide(workshop, job_id, StepAction.ABANDON)
    job = await again(workshop, job_id, RetryMode.RESUME)
    assert (job.status, len(runs)) == (JobStatus.SUCCEEDED, 1)


@pytest.mark.parametrize("action", [StepAction.RETRY, StepAction.ABANDON])
async def test_what_somebody_says_does_not_count_is_run_again(workshop: Workshop, action: StepAction) -> None:
    job_id, runs = await unclear_task(workshop)
    await decide(workshop, job_id, action)
    job = await again(workshop, job_id, RetryMode.RESUME)
    assert (job.status, len(runs)) == (JobStatus.SUCCEEDED, 2)


async def test_who_names_the_step_wants_it_run_again(workshop: Workshop) -> None:
    job_id, runs = await unclear_task(workshop)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        plan = await workshop.plan_of(job_id)
        command = RetryPlan(plan.id, RetryMode.RESUME, ("send",))
        job = await plans.retry(transaction, workshop.principal, command, workshop.dependencies)
        assert job is not None
        again_id = job.id
    assert (await workshop.settle(again_id)).status is JobStatus.SUCCEEDED
    assert len(runs) == 2


async def test_a_rollback_does_not_undo_what_was_abandoned(workshop: Workshop) -> None:
    job_id, _ = await unclear_task(workshop)
    await decide(workshop, job_id, StepAction.ABANDON)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        plan = await workshop.plan_of(job_id)
        back = await plans.rollback(transaction, workshop.principal, RollbackPlan(plan.id), workshop.dependencies)
        back_id = back.id
    assert (await workshop.settle(back_id)).status is JobStatus.ROLLED_BACK
    assert await workshop.steps(back_id) == {"send": "COMPENSATED"}


@pytest.mark.parametrize(("action", "state"), [(StepAction.ADOPT, "DONE"), (StepAction.ABANDON, "UNDONE")])
async def test_a_paused_job_goes_past_what_was_decided_about(
    workshop: Workshop, action: StepAction, state: str
) -> None:
    runs = unrepeatable(workshop)
    job_id = await workshop.submit(workflow=await workshop.workflow(TASK), strategy=FailureStrategy.PAUSE)
    for _ in range(20):
        await workshop.answer()
        await workshop.skip_time()
        if (await workshop.job(job_id)).status is JobStatus.PAUSED:
            break
        await tick(workshop.database, ring_again_seconds=0)
    await decide(workshop, job_id, action)
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    assert (await workshop.steps(job_id), len(runs)) == ({"send": "SKIPPED"}, 1)
    (effect,) = await workshop.rows("SELECT state FROM step_effect")
    assert effect.state == state


async def test_a_step_that_simply_failed_is_not_adopted(workshop: Workshop) -> None:
    failing = {**TASK, "configuration": {"task": "core.assert"}, "inputs": {"that": False, "message": "no"}}
    job_id = await workshop.submit(workflow=await workshop.workflow(failing), strategy=FailureStrategy.HALT)
    await workshop.settle(job_id)
    for action in StepAction:
        with pytest.raises(DomainError):
            await decide(workshop, job_id, action)
