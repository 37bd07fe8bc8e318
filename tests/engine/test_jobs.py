"""Jobs that go well, and jobs that are cancelled, retried or wait."""

from __future__ import annotations

import asyncio

import pytest

from app.db.models import OrchestrationJob
from app.db.uow import Rings
from app.domain.enums import CancelMode, CancelOutcome, ErrorClass, FailureStrategy, RetryMode
from app.domain.statuses import JobStatus, PlanStatus
from app.providers.faults import Fault, FaultKind
from app.services import jobs, plans
from app.services.plans import RetryPlan
from tests.engine.conftest import Open
from tests.engine.harness import Workshop, note


async def test_resources_are_made_in_order_and_their_outputs_passed_on(workshop: Workshop) -> None:
    template = await workshop.template(
        {
            "resources": {
                "first": note("first", "hello"),
                "second": note("second", "${resources.first.outputs.checksum}"),
            },
            "outputs": {"sum": {"value": "${resources.second.outputs.checksum}"}},
        }
    )
    job = await workshop.settle(await workshop.submit(template))
    assert job.status is JobStatus.SUCCEEDED
    notes = workshop.notes()
    assert notes["first"] == "hello"
    assert len(notes["second"]) == 64
    assert set(job.outputs or {}) == {"sum"}
    plan = await workshop.plan_of(job.id)
    assert (plan.status, plan.active_job_id) == (PlanStatus.SUCCEEDED, None)
    resources = await workshop.rows("SELECT resource_key, status, depends_on FROM cloud_resource ORDER BY id")
    assert [tuple(row) for row in resources] == [("first", "ACTIVE", []), ("second", "ACTIVE", ["first"])]


async def test_the_journal_has_no_gap_and_ends_once(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a"), "b": note("b", needs=["a"])}})
    job = await workshop.settle(await workshop.submit(template))
    rows = await workshop.rows(
        "SELECT seq, seq AS last FROM event_log WHERE stream = 'JOB' AND stream_id = :job"
        " UNION ALL SELECT first_seq, last_seq FROM job_log WHERE job_id = :job ORDER BY 1",
        job=job.id,
    )
    numbers = [number for row in rows for number in range(row.seq, row.last + 1)]
    assert numbers == list(range(1, job.event_seq + 1))
    ends = await workshop.rows(
        "SELECT 1 FROM event_log WHERE stream = 'JOB' AND data->>'status' = 'SUCCEEDED' AND kind = 'JobStatusChanged'"
    )
    assert len(ends) == 1


async def test_a_second_plan_on_the_stack_changes_what_the_first_made(workshop: Workshop) -> None:
    content = {
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}},
        "resources": {"a": note("a", "${parameters.text}"), "b": note("b", "same")},
    }
    template = await workshop.template(content)
    await workshop.settle(await workshop.submit(template, text="one"))
    job = await workshop.settle(await workshop.submit(template, text="two"))
    assert await workshop.steps(job.id) == {"a": "SUCCEEDED", "b": "NO_CHANGE"}
    assert workshop.notes() == {"a": "two", "b": "same"}
    revisions = await workshop.rows("SELECT number FROM resource_revision ORDER BY id")
    assert [row.number for row in revisions] == [1, 1, 2]


async def test_what_the_template_no_longer_names_is_deleted_and_what_is_replaced_retired(workshop: Workshop) -> None:
    before = await workshop.template({"resources": {"a": note("a"), "b": note("b")}}, "before")
    await workshop.settle(await workshop.submit(before))
    after = await workshop.template({"resources": {"a": note("renamed")}}, "after")
    job = await workshop.settle(await workshop.submit(after))
    assert job.status is JobStatus.SUCCEEDED
    assert workshop.notes() == {"renamed": "x"}
    assert await workshop.steps(job.id) == {"a": "SUCCEEDED", "b": "SUCCEEDED", "retire:a": "SUCCEEDED"}
    left = await workshop.rows("SELECT resource_key FROM cloud_resource WHERE NOT is_deleted")
    assert [row.resource_key for row in left] == ["a"]


async def test_a_false_condition_skips_and_what_only_waits_for_it_still_runs(workshop: Workshop) -> None:
    workflow = await workshop.workflow(
        {"key": "maybe", "type": "CUSTOM", "configuration": {"task": "core.pass"}, "when": "${1 > 2}"},
        {"key": "after", "type": "CUSTOM", "configuration": {"task": "core.pass"}, "dependsOn": ["maybe"]},
    )
    job = await workshop.settle(await workshop.submit(workflow=workflow))
    assert job.status is JobStatus.SUCCEEDED
    assert await workshop.steps(job.id) == {"maybe": "SKIPPED", "after": "SUCCEEDED"}


async def test_a_passing_failure_is_tried_again(open_workshop: Open) -> None:
    workshop = await open_workshop({"create": [Fault(FaultKind.THROTTLE), Fault(FaultKind.THROTTLE)]})
    template = await workshop.template({"resources": {"a": note("a")}})
    job = await workshop.settle(await workshop.submit(template))
    assert job.status is JobStatus.SUCCEEDED
    attempts = await workshop.rows("SELECT number, error->>'class' AS class FROM step_attempt ORDER BY number")
    assert [tuple(row) for row in attempts] == [
        (1, ErrorClass.TRANSIENT), (2, ErrorClass.TRANSIENT), (3, None),
    ]  # fmt: skip


async def test_continue_blocks_only_what_depends_on_the_failure(workshop: Workshop) -> None:
    workflow = await workshop.workflow(
        {"key": "bad", "type": "CUSTOM", "configuration": {"task": "core.assert"},
         "inputs": {"that": False, "message": "no"}, "order": 1},
        {"key": "child", "type": "CUSTOM", "configuration": {"task": "core.pass"}, "dependsOn": ["bad"]},
        {"key": "other", "type": "CUSTOM", "configuration": {"task": "core.pass"}, "order": 1},
    )  # fmt: skip
    job = await workshop.settle(await workshop.submit(workflow=workflow, strategy=FailureStrategy.CONTINUE))
    assert job.status is JobStatus.PARTIALLY_SUCCEEDED
    assert await workshop.steps(job.id) == {"bad": "FAILED", "child": "BLOCKED", "other": "SUCCEEDED"}
    (blocked,) = await workshop.rows("SELECT not_run_because FROM step_run WHERE step_key = 'child'")
    assert blocked.not_run_because == "bad"


async def test_one_job_at_a_time_works_on_a_stack(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    template = await workshop.template({"resources": {"a": note("a")}})
    other = await workshop.template({"resources": {"a": note("a", "y")}}, "other")
    first = await workshop.submit(template)
    second = await workshop.submit(other)
    assert (await workshop.job(second)).status is JobStatus.QUEUED
    freed: list[bool] = []
    tell = workshop.database._tell

    def note_freed(rings: Rings) -> None:
        freed.append(rings.freed)
        tell(rings)

    monkeypatch.setattr(workshop.database, "_tell", note_freed)
    await workshop.settle(first)
    # The scheduler is told at once when somebody waits for the stack, and not when nobody does.
    assert freed.count(True) == 1
    assert (await workshop.settle(second)).status is JobStatus.SUCCEEDED
    assert freed.count(True) == 1
    assert workshop.notes() == {"a": "y"}


async def cancel(workshop: Workshop, job_id: int, mode: CancelMode, outcome: CancelOutcome) -> OrchestrationJob:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        return await jobs.cancel(
            transaction, workshop.principal, jobs.CancelJob(job_id, mode, outcome), workshop.dependencies
        )


async def waiting_job(workshop: Workshop, seconds: float = 30) -> int:
    """A job whose second step is in a worker's hands."""
    template = await workshop.template({"resources": {"a": note("a")}})
    workflow = await workshop.workflow(
        {"key": "make", "type": "RESOURCE_CREATE", "order": 1, "configuration": {"resource": "a"}},
        {"key": "wait", "type": "CUSTOM", "order": 2, "configuration": {"task": "core.wait"},
         "inputs": {"seconds": seconds}},
        {"key": "never", "type": "CUSTOM", "order": 3, "configuration": {"task": "core.pass"}},
    )  # fmt: skip
    return await workshop.submit(template, workflow)


async def until_running(workshop: Workshop, job_id: int, key: str) -> None:
    async with asyncio.timeout(10):
        while (await workshop.steps(job_id))[key] != "RUNNING":  # noqa: ASYNC110  the worker tells only the database
            await asyncio.sleep(0.02)


async def test_a_job_that_is_cancelled_before_it_begins_does_nothing(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a")}})
    job_id = await workshop.submit(template)
    job = await cancel(workshop, job_id, CancelMode.GRACEFUL, CancelOutcome.KEEP)
    assert job.status is JobStatus.CANCELLED
    assert workshop.notes() == {}


async def test_interrupt_stops_the_running_step_and_rolls_back_if_asked(workshop: Workshop) -> None:
    job_id = await waiting_job(workshop)
    working = asyncio.create_task(workshop.answer())
    await until_running(workshop, job_id, "wait")
    await cancel(workshop, job_id, CancelMode.INTERRUPT, CancelOutcome.ROLLBACK)
    for worker, runner in zip(workshop.workers, workshop.runners, strict=True):
        worker.on_cancel = runner.cancel
        await worker._renew()
    await working
    job = await workshop.settle(job_id)
    assert job.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {}
    assert (await workshop.steps(job_id))["never"] == "CANCELLED"


async def test_force_does_not_wait_and_the_late_outcome_is_refused(workshop: Workshop) -> None:
    job_id = await waiting_job(workshop, seconds=1)
    working = asyncio.create_task(workshop.answer())
    await until_running(workshop, job_id, "wait")
    job = await cancel(workshop, job_id, CancelMode.FORCE, CancelOutcome.KEEP)
    assert job.status is JobStatus.CANCELLED
    await working
    assert await workshop.steps(job_id) == {"make": "SUCCEEDED", "wait": "UNKNOWN", "never": "CANCELLED"}
    assert (await workshop.job(job_id)).status is JobStatus.CANCELLED


async def test_resume_keeps_what_succeeded(workshop: Workshop) -> None:
    workflow = await workshop.workflow(
        {"key": "once", "type": "CUSTOM", "order": 1, "configuration": {"task": "core.pass"},
         "inputs": {"outputs": {"n": 1}}},
        {"key": "check", "type": "CUSTOM", "order": 2, "configuration": {"task": "core.assert"},
         "inputs": {"that": "${parameters.ok}", "message": "not yet"}},
        name="resumable",
    )  # fmt: skip
    template = await workshop.template(
        {"parameters": {"type": "object", "properties": {"ok": {"type": "boolean"}}}, "resources": {"a": note("a")}}
    )
    first = await workshop.submit(template, workflow, strategy=FailureStrategy.HALT, ok=False)
    assert (await workshop.settle(first)).status is JobStatus.FAILED
    plan = await workshop.plan_of(first)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        again = await plans.retry(
            transaction, workshop.principal, RetryPlan(plan.id, RetryMode.RESUME), workshop.dependencies
        )
        assert again is not None
    job = await workshop.settle(again.id)
    assert job.parent_job_id == first
    assert await workshop.steps(job.id) == {"once": "SUCCEEDED", "check": "FAILED"}
    tries = await workshop.rows("SELECT 1 FROM step_attempt a JOIN step_run s ON s.id = a.step_run_id"
                                " WHERE s.job_id = :job AND s.step_key = 'once'", job=job.id)  # fmt: skip
    assert tries == []


async def test_a_resource_that_is_made_and_then_worked_on_is_one_resource(workshop: Workshop) -> None:
    template = await workshop.template(
        {"resources": {"a": note("a"), "b": note("b", "${resources.a.outputs.checksum}")}}
    )
    workflow = await workshop.workflow(
        {"key": "all", "type": "RESOURCE_CREATE", "order": 1, "configuration": {"resource": "*"}},
        {
            "key": "grow",
            "type": "RESOURCE_SCALE",
            "order": 2,
            "configuration": {"resource": "a"},
            "inputs": {"size": 3},
        },
    )
    job = await workshop.settle(await workshop.submit(template, workflow))
    assert job.status is JobStatus.SUCCEEDED
    rows = await workshop.rows("SELECT resource_key, applied->>'size' AS size FROM cloud_resource ORDER BY 1")
    assert [tuple(row) for row in rows] == [("a", "3"), ("b", "1")]
