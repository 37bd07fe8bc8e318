"""Pauses: what runs finishes, nothing starts, and whoever waits holds nothing but the lock of the stack."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.domain.enums import FailureStrategy
from app.domain.errors import IllegalState
from app.domain.events import EventKind
from app.domain.statuses import JobStatus, PlanStatus
from app.engine.ticking import tick
from app.services import jobs, plans
from app.services.plans import PlanAction, RollbackPlan
from tests.engine.harness import Workshop, note
from tests.engine.mutants import planted

CHAIN = {"resources": {"a": note("a"), "b": note("b", needs=["a"]), "c": note("c", needs=["b"])}}


async def act(workshop: Workshop, verb: Any, command: Any) -> Any:
    """Carry out a verb of the services, as the door would."""
    async with workshop.database.write(
        workshop.tenant_id, actor=workshop.principal.actor, correlation_id="test"
    ) as transaction:
        return await verb(transaction, workshop.principal, command, workshop.dependencies)


async def until(workshop: Workshop, job_id: int, status: JobStatus, *, ticks: int = 60) -> None:
    """Work until the job has this status."""
    for _ in range(ticks):
        if (await workshop.job(job_id)).status is status:
            return
        await workshop.answer()
        if (await workshop.job(job_id)).status is status:
            return
        await workshop.skip_time()
        await tick(workshop.database, ring_again_seconds=0)
    pytest.fail(f"the job is {(await workshop.job(job_id)).status}, not {status}: {await workshop.steps(job_id)}")


async def begun(workshop: Workshop, key: str, strategy: FailureStrategy = FailureStrategy.ROLLBACK) -> tuple[int, Any]:
    """A job of the chain whose step `key` is in a worker's hands; the job, and what ends the step."""
    template = await workshop.template(CHAIN)
    job_id = await workshop.submit(template, strategy=strategy)
    gate, reached = asyncio.Event(), asyncio.Event()
    original = workshop.provider.notes.create

    async def create(context: Any, desired: Any) -> Any:
        if desired["name"] == key:
            reached.set()
            await gate.wait()
        return await original(context, desired)

    workshop.provider.notes.create = create  # type: ignore[method-assign,assignment]
    working = asyncio.create_task(workshop.answer())
    async with asyncio.timeout(10):
        await reached.wait()

    async def finish() -> None:
        gate.set()
        await working

    return job_id, finish


async def locks(workshop: Workshop) -> list[int]:
    return [row.job_id for row in await workshop.rows("SELECT job_id FROM resource_lock")]


async def test_what_runs_finishes_and_nothing_starts_before_the_resumption(workshop: Workshop) -> None:
    job_id, finish = await begun(workshop, "a")
    plan = await workshop.plan_of(job_id)
    paused = await act(workshop, plans.pause, PlanAction(plan.id))
    assert (paused.status, (await workshop.job(job_id)).status) == (PlanStatus.RUNNING, JobStatus.PAUSING)
    with pytest.raises(IllegalState):
        await act(workshop, plans.resume, PlanAction(plan.id))
    await finish()
    assert (await workshop.job(job_id)).status is JobStatus.PAUSED
    assert (await workshop.plan_of(job_id)).status is PlanStatus.PAUSED
    for _ in range(3):
        await workshop.skip_time()
        await tick(workshop.database, ring_again_seconds=0)
        await workshop.answer()
    assert await workshop.steps(job_id) == {"a": "SUCCEEDED", "b": "PENDING", "c": "PENDING"}
    held = await workshop.rows("SELECT 1 FROM step_run WHERE worker_id IS NOT NULL OR due_at IS NOT NULL")
    assert (held, await locks(workshop)) == ([], [job_id])
    resumed = await act(workshop, plans.resume, PlanAction(plan.id))
    assert resumed.status is PlanStatus.QUEUED
    job = await workshop.settle(job_id)
    assert (job.status, await locks(workshop), set(workshop.notes())) == (JobStatus.SUCCEEDED, [], {"a", "b", "c"})
    moves = await workshop.rows(
        "SELECT data->>'status' AS status FROM event_log WHERE stream = 'JOB' AND stream_id = :job AND kind = :kind"
        " ORDER BY seq",
        job=job_id,
        kind=EventKind.JOB_STATUS_CHANGED.value,
    )
    told = ["QUEUED", "DISPATCHED", "RUNNING", "PAUSING", "PAUSED", "QUEUED", "DISPATCHED", "RUNNING", "SUCCEEDED"]
    assert [row.status for row in moves] == told


async def test_a_worker_does_not_trust_what_it_remembers_of_a_job_that_was_paused(workshop: Workshop) -> None:
    tasks = [
        {
            "key": key, "type": "CUSTOM", "order": order, "configuration": {"task": "core.wait"},
            "inputs": {"seconds": 0},
        }
        for order, key in enumerate("abc")
    ]  # fmt: skip
    job_id = await workshop.submit(None, await workshop.workflow(*tasks))
    (runner,) = workshop.runners
    hand = await runner._claim(workshop.rung.pop(0))
    assert hand is not None
    for key in "ab":
        assert (hand.work.key, hand.ledger is not None) == (key, True), "the worker remembers nothing"
        if key == "b":
            await act(workshop, plans.pause, PlanAction((await workshop.plan_of(job_id)).id))
        log = runner._log(hand.work)
        following = await runner._record(hand, await runner._act(hand.work, log), log, stay=True)
        hand = hand if following is None else following
    assert following is None
    assert await workshop.steps(job_id) == {"a": "SUCCEEDED", "b": "SUCCEEDED", "c": "PENDING"}
    assert (await workshop.job(job_id)).status is JobStatus.PAUSED


async def test_a_worker_that_trusts_its_memory_would_be_noticed(workshop: Workshop) -> None:
    with planted("memory-trusted"), pytest.raises(AssertionError):
        await test_a_worker_does_not_trust_what_it_remembers_of_a_job_that_was_paused(workshop)


async def test_a_worker_lost_while_its_job_pauses_is_asked_after_first(workshop: Workshop) -> None:
    job_id, finish = await begun(workshop, "a")
    plan = await workshop.plan_of(job_id)
    await act(workshop, plans.pause, PlanAction(plan.id))
    await workshop.lose(workshop.workers[0])
    await workshop.hire()
    workshop.runners = workshop.runners[1:]
    await tick(workshop.database, ring_again_seconds=0)
    assert (await workshop.steps(job_id))["a"] == "UNKNOWN"
    await finish()
    await until(workshop, job_id, JobStatus.PAUSED)
    assert (await workshop.steps(job_id))["b"] == "PENDING"
    await act(workshop, plans.resume, PlanAction(plan.id))
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    assert set(workshop.notes()) == {"a", "b", "c"}


async def test_only_one_of_two_resumptions_is_carried_out(workshop: Workshop) -> None:
    job_id, finish = await begun(workshop, "a")
    plan = await workshop.plan_of(job_id)
    await act(workshop, plans.pause, PlanAction(plan.id))
    await finish()
    answers = await asyncio.gather(
        *(act(workshop, plans.resume, PlanAction(plan.id)) for _ in range(2)), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["DeploymentPlan", "IllegalState"]
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED


async def test_a_paused_plan_is_undone_in_its_own_job(workshop: Workshop) -> None:
    job_id, finish = await begun(workshop, "b")
    plan = await workshop.plan_of(job_id)
    await act(workshop, plans.pause, PlanAction(plan.id))
    await finish()
    job = await act(workshop, plans.rollback, RollbackPlan(plan.id))
    assert job.id == job_id
    assert (await workshop.settle(job_id)).status is JobStatus.ROLLED_BACK
    assert (await workshop.plan_of(job_id)).status is PlanStatus.ROLLED_BACK
    assert (workshop.notes(), await locks(workshop)) == ({}, [])


async def test_a_paused_plan_is_cancelled_and_keeps_what_it_has(workshop: Workshop) -> None:
    job_id, finish = await begun(workshop, "a")
    plan = await workshop.plan_of(job_id)
    await act(workshop, plans.pause, PlanAction(plan.id))
    await finish()
    await act(workshop, plans.cancel, PlanAction(plan.id))
    job = await workshop.job(job_id)
    assert (job.status, job.pause_until, set(workshop.notes())) == (JobStatus.CANCELLED, None, {"a"})
    assert (await workshop.plan_of(job_id)).status is PlanStatus.CANCELLED
    assert await locks(workshop) == []


async def test_another_job_of_the_stack_waits_for_a_paused_one(workshop: Workshop) -> None:
    job_id, finish = await begun(workshop, "a")
    plan = await workshop.plan_of(job_id)
    await act(workshop, plans.pause, PlanAction(plan.id))
    await finish()
    other = await workshop.submit(await workshop.template({"resources": {"z": note("z")}}, "second"))
    await tick(workshop.database, ring_again_seconds=0)
    assert (await workshop.job(other)).status is JobStatus.QUEUED
    await act(workshop, jobs.cancel, jobs.CancelJob(job_id))
    assert (await workshop.settle(other)).status is JobStatus.SUCCEEDED
