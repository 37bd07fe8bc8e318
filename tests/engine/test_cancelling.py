"""Whoever cancels gets an end, of what runs and of what is undone; nobody takes back what another has asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.domain.enums import CancelMode, CancelOutcome, FailureStrategy
from app.domain.errors import IllegalState
from app.domain.statuses import JobStatus, PlanStatus
from app.engine.ticking import tick
from app.providers.base import ErrorKind, ProviderError
from app.services import jobs, plans
from app.services.plans import PlanAction
from tests.engine.harness import Workshop, note
from tests.engine.test_jobs import until_running, waiting_job
from tests.engine.test_pausing import act, begun, locks
from tests.engine.test_timeouts import moves

GRACEFUL, INTERRUPT, FORCE = CancelMode
KEEP, ROLLBACK = CancelOutcome


async def cancel(workshop: Workshop, job_id: int, mode: CancelMode, outcome: CancelOutcome = KEEP) -> Any:
    return await act(workshop, jobs.cancel, jobs.CancelJob(job_id, mode, outcome))


async def undoing(workshop: Workshop) -> tuple[int, Callable[[], Awaitable[None]]]:
    """A job of three notes, the last of which fails, whose undoing of `b` hangs; the job, and what lets it go on."""
    declared = {"a": note("a"), "b": note("b", needs=["a"]), "c": note("c", needs=["b"])}
    template = await workshop.template({"resources": declared})
    job_id = await workshop.submit(template, strategy=FailureStrategy.ROLLBACK)
    reached, goes_on = asyncio.Event(), asyncio.Event()
    make, remove = workshop.provider.notes.create, workshop.provider.notes.delete

    async def create(context: Any, desired: Any) -> Any:
        if desired["name"] == "c":
            message = "no"
            raise ProviderError(ErrorKind.INVALID, message)
        return await make(context, desired)

    async def delete(context: Any, state: Any) -> Any:
        reached.set()
        await goes_on.wait()
        return await remove(context, state)

    workshop.provider.notes.create = create  # type: ignore[method-assign,assignment]
    workshop.provider.notes.delete = delete  # type: ignore[method-assign,assignment]
    working = asyncio.create_task(workshop.answer())
    async with asyncio.timeout(10):
        await reached.wait()

    async def let_go() -> None:
        goes_on.set()
        await working

    return job_id, let_go


async def test_a_job_that_waits_for_its_stack_is_over_at_once(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a")}})
    first, second = [await workshop.submit(template) for _ in range(2)]
    assert (await workshop.job(second)).status is JobStatus.QUEUED
    assert (await cancel(workshop, second, GRACEFUL)).status is JobStatus.CANCELLED
    assert (await workshop.settle(first)).status is JobStatus.SUCCEEDED
    told = await moves(workshop, "JOB", second, "JobStatusChanged")
    assert [status for status, _ in told] == ["QUEUED", "CANCELLED"]


async def test_a_rollback_that_hangs_is_ended_by_force_and_continued(workshop: Workshop) -> None:
    job_id, let_go = await undoing(workshop)
    assert (await workshop.job(job_id)).status is JobStatus.ROLLING_BACK
    assert (await workshop.steps(job_id))["b"] == "COMPENSATING"
    job = await cancel(workshop, job_id, FORCE)
    assert (job.status, job.status_reason) == (JobStatus.ROLLBACK_FAILED, "FORCED")
    plan = await workshop.plan_of(job_id)
    assert (plan.status, plan.status_reason, plan.active_job_id) == (PlanStatus.ROLLBACK_FAILED, "FORCED", None)
    assert (await moves(workshop, "JOB", job_id, "JobStatusChanged"))[-1] == ("ROLLBACK_FAILED", "FORCED")
    assert (await moves(workshop, "PLAN", plan.id, "PlanStatusChanged"))[-1] == ("ROLLBACK_FAILED", "FORCED")
    steps = await workshop.steps(job_id)
    assert (steps["a"], steps["b"]) == ("SUCCEEDED", "COMPENSATION_FAILED")
    issue = (await workshop.rows("SELECT error, worker_id, due_at FROM step_run WHERE step_key = 'b'"))[0]
    assert (issue.error["code"], issue.worker_id, issue.due_at) == ("FORCED", None, None)
    statuses = await workshop.rows("SELECT resource_key, status FROM cloud_resource WHERE NOT is_deleted")
    assert {row.resource_key: row.status for row in statuses}["b"] == "UNKNOWN"
    assert await locks(workshop) == []
    # What the worker says of it afterwards counts no more.
    await let_go()
    assert (await workshop.job(job_id)).status is JobStatus.ROLLBACK_FAILED
    again = await act(workshop, jobs.continue_rollback, jobs.ContinueRollback(job_id))
    assert (await workshop.settle(again.id)).status is JobStatus.ROLLED_BACK
    assert ((await workshop.plan_of(job_id)).status, workshop.notes()) == (PlanStatus.ROLLED_BACK, {})


@pytest.mark.parametrize("mode", [GRACEFUL, INTERRUPT])
async def test_a_rollback_takes_nothing_less_than_force(workshop: Workshop, mode: CancelMode) -> None:
    job_id, let_go = await undoing(workshop)
    with pytest.raises(IllegalState, match="but with FORCE"):
        await cancel(workshop, job_id, mode)
    plan = await workshop.plan_of(job_id)
    with pytest.raises(IllegalState):
        await act(workshop, plans.cancel, PlanAction(plan.id))
    await let_go()
    assert (await workshop.settle(job_id)).status is JobStatus.ROLLED_BACK


async def test_only_a_stronger_request_counts(workshop: Workshop) -> None:
    job_id, finish = await begun(workshop, "b")

    async def wanted() -> tuple[str, str, int]:
        job = await workshop.job(job_id)
        assert job.cancel_mode is not None
        assert job.cancel_outcome is not None
        # Lines of the log have numbers, too, and may still come: only what was told counts.
        told = await workshop.rows(
            "SELECT count(*) AS number FROM event_log WHERE stream = 'JOB' AND stream_id = :job", job=job_id
        )
        return job.cancel_mode.value, job.cancel_outcome.value, told[0].number

    await cancel(workshop, job_id, INTERRUPT, ROLLBACK)
    asked = await wanted()
    assert asked[:2] == ("INTERRUPT", "ROLLBACK")
    await cancel(workshop, job_id, GRACEFUL, KEEP)
    plan = await workshop.plan_of(job_id)
    await act(workshop, plans.cancel, PlanAction(plan.id))
    # Not a word was said, and nothing was changed.
    assert await wanted() == asked
    await cancel(workshop, job_id, FORCE, KEEP)
    assert (await wanted())[:2] == ("FORCE", "ROLLBACK")
    await finish()
    assert (await workshop.settle(job_id)).status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {}


async def test_what_is_to_be_kept_may_still_be_undone(workshop: Workshop) -> None:
    job_id, finish = await begun(workshop, "b")
    await cancel(workshop, job_id, GRACEFUL, KEEP)
    await cancel(workshop, job_id, GRACEFUL, ROLLBACK)
    await finish()
    assert (await workshop.settle(job_id)).status is JobStatus.ROLLED_BACK


async def test_a_job_that_stops_is_ended_by_force(workshop: Workshop) -> None:
    job_id = await waiting_job(workshop, seconds=1)
    working = asyncio.create_task(workshop.answer())
    await until_running(workshop, job_id, "wait")
    stopping = await cancel(workshop, job_id, GRACEFUL)
    assert stopping.status is JobStatus.CANCELLING
    await tick(workshop.database, ring_again_seconds=0)
    job = await cancel(workshop, job_id, FORCE)
    assert (job.status, job.status_reason) == (JobStatus.CANCELLED, "FORCED")
    assert (await workshop.plan_of(job_id)).status is PlanStatus.CANCELLED
    assert await locks(workshop) == []
    await working
    with pytest.raises(IllegalState):
        await cancel(workshop, job_id, FORCE)
