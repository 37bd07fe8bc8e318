"""Plans that wait for each other's stack, and jobs that are stopped at awkward moments."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from app.domain.enums import CancelMode, CancelOutcome
from app.domain.statuses import JobStatus
from app.providers.faults import Fault, FaultKind
from app.services import jobs
from tests.engine.conftest import Open
from tests.engine.harness import Workshop, note
from tests.engine.mutants import planted
from tests.engine.test_rollback import ALL, FAILING


async def two_notes(workshop: Workshop, text: str) -> int:
    return await workshop.template({"resources": {"a": note("a", text), "b": note("b", text, needs=["a"])}}, text)


async def cancel(workshop: Workshop, job_id: int, mode: CancelMode, outcome: CancelOutcome) -> None:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = jobs.CancelJob(job_id, mode, outcome)
        await jobs.cancel(transaction, workshop.principal, command, workshop.dependencies)


async def until_asked(workshop: Workshop) -> None:
    """Wait until the provider is asked to create something."""
    for _ in range(500):
        if workshop.provider.notes.calls == ["create"]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(workshop.provider.notes.calls)


async def test_a_plan_that_waited_makes_anew_what_the_one_before_it_took_back(workshop: Workshop) -> None:
    """It was worked out while the resources of the first were still there."""
    first = await workshop.submit(await two_notes(workshop, "one"), await workshop.workflow(ALL, FAILING))
    second = await workshop.submit(await two_notes(workshop, "two"))
    third = await workshop.submit(await two_notes(workshop, "three"))
    assert (await workshop.settle(first)).status is JobStatus.ROLLED_BACK
    assert (await workshop.settle(second)).status is JobStatus.SUCCEEDED
    assert (await workshop.settle(third)).status is JobStatus.SUCCEEDED
    assert workshop.notes() == {"a": "three", "b": "three"}
    rows = await workshop.rows("SELECT resource_key, status FROM cloud_resource WHERE NOT is_deleted ORDER BY 1")
    assert [tuple(row) for row in rows] == [("a", "ACTIVE"), ("b", "ACTIVE")]


async def test_a_plan_that_waited_knows_what_it_makes_after_a_cancelled_one(workshop: Workshop) -> None:
    """The first ends before it has made anything; what it would have made is given up, and the second makes it."""
    first = await workshop.submit(await two_notes(workshop, "one"))
    second = await workshop.submit(await two_notes(workshop, "two"))
    await cancel(workshop, first, CancelMode.GRACEFUL, CancelOutcome.KEEP)
    assert (await workshop.settle(second)).status is JobStatus.SUCCEEDED
    rows = await workshop.rows("SELECT resource_key, status FROM cloud_resource WHERE NOT is_deleted ORDER BY 1")
    assert [tuple(row) for row in rows] == [("a", "ACTIVE"), ("b", "ACTIVE")]


async def test_a_plan_that_works_on_what_is_deleted_would_be_noticed(workshop: Workshop) -> None:
    with planted("closed-resource-kept"), pytest.raises(AssertionError):
        await test_a_plan_that_waited_knows_what_it_makes_after_a_cancelled_one(workshop)


async def test_a_job_that_nobody_had_begun_leaves_no_step_due(workshop: Workshop) -> None:
    job_id = await workshop.submit(await two_notes(workshop, "one"))
    await cancel(workshop, job_id, CancelMode.GRACEFUL, CancelOutcome.KEEP)
    assert (await workshop.job(job_id)).status is JobStatus.CANCELLED
    assert await workshop.steps(job_id) == {"a": "CANCELLED", "b": "CANCELLED"}
    due = await workshop.rows("SELECT 1 FROM step_run WHERE due_at IS NOT NULL")
    assert due == []


async def test_what_comes_into_being_after_a_forced_rollback_is_removed(open_workshop: Open) -> None:
    """The provider is slow; somebody forces the job back meanwhile; then the note is made after all."""
    workshop = await open_workshop({"create": [Fault(FaultKind.DELAY, seconds=0.5)]})
    job_id = await workshop.submit(await two_notes(workshop, "one"))
    ring = workshop.rung.pop(0)
    slow = asyncio.create_task(workshop.runners[0].run(ring))
    await until_asked(workshop)
    await cancel(workshop, job_id, CancelMode.FORCE, CancelOutcome.ROLLBACK)
    assert (await workshop.settle(job_id)).status is JobStatus.ROLLED_BACK
    await slow
    assert workshop.notes() == {}
    (step,) = await workshop.rows("SELECT status FROM step_run WHERE step_key = 'a'")
    assert step.status == "COMPENSATED"


async def test_what_was_under_way_when_a_job_was_forced_to_stop_is_in_doubt(open_workshop: Open) -> None:
    workshop = await open_workshop({"create": [Fault(FaultKind.DELAY, seconds=0.3)]})
    job_id = await workshop.submit(await two_notes(workshop, "one"))
    slow = asyncio.create_task(workshop.runners[0].run(workshop.rung.pop(0)))
    await until_asked(workshop)
    await cancel(workshop, job_id, CancelMode.FORCE, CancelOutcome.KEEP)
    await slow
    assert workshop.notes() == {"a": "one"}
    rows = await workshop.rows("SELECT resource_key, status FROM cloud_resource ORDER BY resource_key")
    assert [tuple(row) for row in rows] == [("a", "UNKNOWN"), ("b", "DELETED")]
    (event,) = await workshop.rows(
        "SELECT data FROM event_log WHERE kind = 'ResourceChanged' AND data->>'status' = 'UNKNOWN'"
    )
    assert (event.data["key"], event.data["previous"]) == ("a", "CREATING")


async def test_a_row_is_not_made_anew_while_somebody_enters_the_same_resource(
    workshop: Workshop, database_url: str
) -> None:
    """A plan is being handed in for a resource whose row an earlier job has closed, and a worker comes to that row."""
    job_id = await workshop.submit(await workshop.template({"resources": {"a": note("a")}}))
    await workshop.rows_written("UPDATE cloud_resource SET status = 'DELETED', is_deleted = true")
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock(77078, hashtext($1))", f"{workshop.tenant_id}/stack")
            working = asyncio.create_task(workshop.answer())
            done, _ = await asyncio.wait({working}, timeout=0.5)
            assert not done, "the worker does not wait for whoever enters resources"
            await other.execute(
                "INSERT INTO cloud_resource (tenant_id, stack, resource_key, name, type, provider, status, depends_on,"
                " retain, prevent_destroy, created_by) SELECT tenant_id, stack, resource_key, name, type, provider,"
                " 'PLANNED', '{}', retain, prevent_destroy, created_by FROM cloud_resource"
            )
        await working
    finally:
        await other.close()
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    rows = await workshop.rows("SELECT status FROM cloud_resource ORDER BY id")
    assert [row.status for row in rows] == ["DELETED", "ACTIVE"]
