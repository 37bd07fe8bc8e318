"""The four timeouts: of an attempt, of all attempts, of silence, and of waiting to begin."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from app.db.uow import SystemRole
from app.domain.enums import FailureStrategy
from app.domain.statuses import JobStatus, PlanStatus
from app.engine.ticking import tick
from app.providers.base import ErrorKind, Pending, ProviderError, ResourceState
from app.providers.core.tasks import WaitTask
from app.services import plans
from app.services.plans import PlanAction
from tests.engine.harness import Workshop, note
from tests.engine.test_pausing import act, begun, locks, until

ONE = {"resources": {"a": note("a")}}


async def passes(workshop: Workshop, table: str, column: str) -> None:
    """The timer runs out wherever it runs."""
    async with workshop.database.system(SystemRole.TICK) as transaction:
        await transaction.session.execute(
            text(f"UPDATE {table} SET {column} = clock_timestamp() - interval '1 minute' WHERE {column} IS NOT NULL")
        )


async def moves(workshop: Workshop, stream: str, stream_id: int, kind: str) -> list[tuple[str, str]]:
    rows = await workshop.rows(
        "SELECT data->>'status', data->>'reason' FROM event_log WHERE stream = :stream AND stream_id = :id"
        " AND kind = :kind ORDER BY seq",
        stream=stream,
        id=stream_id,
        kind=kind,
    )
    return [tuple(row) for row in rows]


def never_done(workshop: Workshop) -> None:
    """From now on whoever makes a note is told to come back, again and again."""

    async def pending(_context: Any, _subject: Any) -> Pending:
        return Pending({"id": "x"}, 0.1, "still at it")

    workshop.provider.notes.create = pending  # type: ignore[method-assign,assignment]
    workshop.provider.notes.poll = pending  # type: ignore[method-assign,assignment]


def out_of_reach(workshop: Workshop) -> None:
    """From now on no note can be made, for the time being."""

    async def create(_context: Any, _desired: Any) -> Any:
        message = "not now"
        raise ProviderError(ErrorKind.UNAVAILABLE, message)

    workshop.provider.notes.create = create  # type: ignore[method-assign,assignment]


async def test_a_provider_that_always_answers_pending_is_not_polled_for_ever(workshop: Workshop) -> None:
    never_done(workshop)
    configuration = {"timeouts": {"total": "PT20M"}}
    job_id = await workshop.submit(
        await workshop.template(ONE), strategy=FailureStrategy.HALT, configuration=configuration
    )
    for _ in range(3):
        await workshop.answer()
        await workshop.skip_time()
        await tick(workshop.database, ring_again_seconds=0)
    before = (await workshop.rows("SELECT status, total_seconds, expires_at, started_at FROM step_run"))[0]
    assert (before.status, before.total_seconds, before.expires_at > before.started_at) == ("WAITING", 1200, True)
    await passes(workshop, "step_run", "expires_at")
    job = await workshop.settle(job_id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert (job.error["code"], job.error["class"]) == ("TOTAL_TIMEOUT", "TIMEOUT")
    assert job.error_message == "a: not done within 1200 s"
    told = await moves(workshop, "JOB", job_id, "StepStatusChanged")
    assert told[-1] == ("FAILED", "STEP_TIMEOUT")
    assert [status for status, _ in told].count("FAILED") == 1
    assert [row.status for row in await workshop.rows("SELECT status FROM cloud_resource")] == ["UNKNOWN"]


async def test_what_was_begun_before_all_time_was_over_is_undone(workshop: Workshop) -> None:
    job_id = await workshop.submit(
        await workshop.template({"resources": {"a": note("a"), "b": note("b", needs=["a"])}})
    )
    create = workshop.provider.notes.create

    async def forever(_context: Any, _subject: Any) -> Pending:
        return Pending({"id": "x"}, 0.1)

    async def made(context: Any, desired: Any) -> Any:
        state = await create(context, desired)
        assert isinstance(state, ResourceState)
        return state if desired["name"] == "a" else Pending({"id": "x"}, 0.1, partial=state)

    workshop.provider.notes.create = made  # type: ignore[method-assign,assignment]
    workshop.provider.notes.poll = forever  # type: ignore[method-assign,assignment]
    await workshop.answer()
    assert set(workshop.notes()) == {"a", "b"}
    await passes(workshop, "step_run", "expires_at")
    assert (await workshop.settle(job_id)).status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {}


async def test_retries_come_to_an_end_with_the_time_of_all_attempts(workshop: Workshop) -> None:
    out_of_reach(workshop)
    workflow = await workshop.workflow(
        {
            "key": "a",
            "type": "RESOURCE_CREATE",
            "configuration": {"resource": "a"},
            "timeoutSeconds": 5,
            "totalTimeoutSeconds": 7,
            "retry": {"maxAttempts": 100, "initialSeconds": 3600, "maxSeconds": 3600},
        }
    )
    job_id = await workshop.submit(await workshop.template(ONE), workflow, strategy=FailureStrategy.HALT)
    await workshop.answer()
    row = (await workshop.rows("SELECT status, total_seconds FROM step_run"))[0]
    assert tuple(row) == ("RETRY_WAIT", 7)
    await passes(workshop, "step_run", "expires_at")
    await workshop.skip_time()
    # A worker that is rung for now leaves it to the tick.
    await tick(workshop.database, ring_again_seconds=0)
    await workshop.answer()
    job = await workshop.job(job_id)
    assert (job.status, (await workshop.steps(job_id))["a"]) == (JobStatus.FAILED, "FAILED")
    assert (await workshop.rows("SELECT attempt FROM step_run"))[0].attempt == 1


async def test_an_error_whose_code_is_named_is_not_tried_again(workshop: Workshop) -> None:
    out_of_reach(workshop)
    step = {"key": "a", "type": "RESOURCE_CREATE", "configuration": {"resource": "a"}}
    attempts = []
    for number, codes in enumerate((["UNAVAILABLE"], ["QUOTA"])):
        workflow = await workshop.workflow(
            {**step, "retry": {"maxAttempts": 3, "nonRetryableCodes": codes}}, name=f"workflow-{number}"
        )
        template = await workshop.template(ONE, f"template-{number}")
        job_id = await workshop.submit(template, workflow, strategy=FailureStrategy.HALT)
        assert (await workshop.settle(job_id)).status is JobStatus.FAILED
        attempts += await workshop.rows("SELECT attempt FROM step_run WHERE job_id = :job", job=job_id)
    assert [row.attempt for row in attempts] == [1, 3]


async def test_who_has_a_step_is_waited_for_although_its_time_is_over(workshop: Workshop) -> None:
    job_id, finish = await begun(workshop, "a")
    await passes(workshop, "step_run", "expires_at")
    await tick(workshop.database, ring_again_seconds=0)
    assert (await workshop.steps(job_id))["a"] == "RUNNING"
    await finish()
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED


async def test_a_pause_costs_no_step_its_time(workshop: Workshop) -> None:
    out_of_reach(workshop)
    job_id = await workshop.submit(await workshop.template(ONE))
    await workshop.answer()
    assert (await workshop.rows("SELECT status FROM step_run WHERE expires_at IS NOT NULL"))[0].status == "RETRY_WAIT"
    plan = await workshop.plan_of(job_id)
    await act(workshop, plans.pause, PlanAction(plan.id))
    await until(workshop, job_id, JobStatus.PAUSED)
    assert [row.expires_at for row in await workshop.rows("SELECT expires_at FROM step_run WHERE attempt > 0")] == [
        None
    ]


async def test_a_job_that_waits_too_long_for_its_stack_ends_and_its_plan_with_it(workshop: Workshop) -> None:
    first, finish = await begun(workshop, "a")
    late = {"timeouts": {"queue": "PT5M"}}
    second = await workshop.submit(await workshop.template(ONE, "second"), configuration=late)
    third = await workshop.submit(await workshop.template(ONE, "third"), configuration=late)
    assert (await workshop.job(second)).status is JobStatus.QUEUED
    async with workshop.database.system(SystemRole.TICK) as transaction:
        await transaction.session.execute(
            text("UPDATE orchestration_job SET queue_until = clock_timestamp() WHERE id = :id"), {"id": second}
        )
    await tick(workshop.database, ring_again_seconds=0)
    job, plan = await workshop.job(second), await workshop.plan_of(second)
    assert (job.status, job.status_reason) == (JobStatus.FAILED, "QUEUE_TIMEOUT")
    assert job.error is not None
    assert job.error["code"] == "QUEUE_TIMEOUT"
    assert (plan.status, plan.status_reason) == (PlanStatus.EXPIRED, "QUEUE_TIMEOUT")
    assert plan.error_message == "no worker began with it in time"
    assert await moves(workshop, "JOB", second, "JobStatusChanged") == [
        ("QUEUED", "NONE"),
        ("FAILED", "QUEUE_TIMEOUT"),
    ]
    assert (await moves(workshop, "PLAN", plan.id, "PlanStatusChanged"))[-1] == ("EXPIRED", "QUEUE_TIMEOUT")
    assert set((await workshop.steps(second)).values()) == {"CANCELLED"}
    # Neither who holds the stack nor who waits behind is concerned.
    assert ((await workshop.job(third)).status, await locks(workshop)) == (JobStatus.QUEUED, [first])
    await finish()
    assert (await workshop.settle(first)).status is JobStatus.SUCCEEDED
    assert (await workshop.settle(third)).status is JobStatus.SUCCEEDED


async def test_a_job_that_no_worker_begins_with_gives_its_stack_back(workshop: Workshop) -> None:
    job_id = await workshop.submit(await workshop.template(ONE), configuration={"timeouts": {"queue": "PT5M"}})
    assert ((await workshop.job(job_id)).status, await locks(workshop)) == (JobStatus.DISPATCHED, [job_id])
    await passes(workshop, "orchestration_job", "queue_until")
    await tick(workshop.database, ring_again_seconds=0)
    assert (await workshop.plan_of(job_id)).status is PlanStatus.EXPIRED
    assert await moves(workshop, "JOB", job_id, "JobStatusChanged") == [
        ("QUEUED", "NONE"),
        ("DISPATCHED", "NONE"),
        ("QUEUED", "NO_WORKER"),
        ("FAILED", "QUEUE_TIMEOUT"),
    ]
    # The bell that was rung for its step finds nothing to do.
    await workshop.answer()
    assert (await workshop.steps(job_id), await locks(workshop), workshop.notes()) == ({"a": "CANCELLED"}, [], {})


async def test_a_job_that_has_begun_waits_for_nobody_any_more(workshop: Workshop) -> None:
    job_id = await workshop.submit(await workshop.template(ONE), configuration={"timeouts": {"queue": "PT5M"}})
    never_done(workshop)
    await workshop.answer()
    await passes(workshop, "orchestration_job", "queue_until")
    await tick(workshop.database, ring_again_seconds=0)
    assert (await workshop.job(job_id)).status is JobStatus.RUNNING


async def test_a_provider_that_falls_silent_is_given_up(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_self: WaitTask, context: Any, _inputs: Any) -> dict[str, Any]:
        context.progress(1, "a word")
        await context.sleep(3600)
        return {}

    monkeypatch.setattr(WaitTask, "run", silent)
    job_id = await waiting(workshop)
    assert (await workshop.settle(job_id)).status is JobStatus.ROLLED_BACK
    told = await moves(workshop, "JOB", job_id, "StepStatusChanged")
    assert told[:4] == [("READY", "NONE"), ("RUNNING", "NONE"), ("UNKNOWN", "STEP_TIMEOUT"), ("FAILED", "STEP_FAILED")]
    lost = (await workshop.rows("SELECT error FROM step_attempt WHERE direction = 'FORWARD'"))[0].error
    assert (lost["class"], lost["message"]) == ("TIMEOUT", "not a word within 1 s")


@pytest.mark.parametrize("said", ["progress", "log"])
async def test_who_says_something_is_not_silent(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    began, speak, end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def talking(_self: WaitTask, context: Any, _inputs: Any) -> dict[str, Any]:
        began.set()
        await speak.wait()
        context.progress(50, "half") if said == "progress" else context.log("a line")
        await end.wait()
        return {}

    monkeypatch.setattr(WaitTask, "run", talking)
    job_id = await waiting(workshop, heartbeat=600)
    working = asyncio.create_task(workshop.answer())
    await began.wait()
    first = (await workshop.rows("SELECT silent_at FROM step_run"))[0].silent_at
    speak.set()
    async with asyncio.timeout(10):
        while (await workshop.rows("SELECT silent_at FROM step_run"))[0].silent_at == first:
            pass
    assert (await workshop.rows("SELECT silent_at FROM step_run"))[0].silent_at > first
    end.set()
    await working
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED


async def test_a_stuck_worker_loses_a_step_that_fell_silent(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, end = asyncio.Event(), asyncio.Event()

    async def stuck(_self: WaitTask, _context: Any, _inputs: Any) -> dict[str, Any]:
        began.set()
        await end.wait()
        return {}

    monkeypatch.setattr(WaitTask, "run", stuck)
    job_id = await waiting(workshop, heartbeat=600)
    working = asyncio.create_task(workshop.answer())
    await began.wait()
    await tick(workshop.database, ring_again_seconds=0)
    assert (await workshop.steps(job_id))["wait"] == "RUNNING"
    await passes(workshop, "step_run", "silent_at")
    assert (await tick(workshop.database, ring_again_seconds=0)).reaped == 1
    row = (await workshop.rows("SELECT status, status_reason, crashes FROM step_run"))[0]
    assert tuple(row) == ("UNKNOWN", "WORKER_LOST", 1)
    end.set()
    await working
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED


async def waiting(workshop: Workshop, heartbeat: float = 1) -> int:
    """A job whose only step waits and is to say something meanwhile."""
    workflow = await workshop.workflow(
        {
            "key": "wait",
            "type": "CUSTOM",
            "configuration": {"task": "core.wait"},
            "inputs": {"seconds": 3600},
            "heartbeatSeconds": heartbeat,
            "retry": {"maxAttempts": 1},
        }
    )
    return await workshop.submit(workflow=workflow)
