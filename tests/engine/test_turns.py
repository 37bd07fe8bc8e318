"""Turns of many jobs in one statement: what does not hold or is locked is left out, and the others are written."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from app.db import tails, turns
from app.domain.statuses import JobStatus
from tests.engine.harness import Workshop, note
from tests.engine.mutants import planted
from tests.engine.test_pausing import test_a_worker_does_not_trust_what_it_remembers_of_a_job_that_was_paused as paused

NAMES = ("one", "two", "three", "four")


def tasks(*keys: str) -> list[dict[str, Any]]:
    """Tasks of which nobody can say that they touch nothing: they do not run ahead of what is written."""
    return [
        {
            "key": key,
            "type": "CUSTOM",
            "order": order,
            "configuration": {"task": "core.wait"},
            "inputs": {"seconds": 0},
        }
        for order, key in enumerate(keys)
    ]


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many turns went out in each statement."""
    found: list[int] = []
    bound = turns._bound

    def count(tenant_id: int, asked: Any) -> list[Any]:
        found.append(len(asked))
        return bound(tenant_id, asked)

    monkeypatch.setattr(turns, "_bound", count)
    return found


async def submitted(workshop: Workshop, *names: str) -> dict[str, int]:
    workflow = await workshop.workflow(*tasks("a", "b", "c"))
    return {name: await workshop.submit(None, workflow, stack=name) for name in names}


async def until(workshop: Workshop, jobs: list[int]) -> None:
    """Wait until all of them have succeeded."""
    for _ in range(1000):
        if all([(await workshop.job(job_id)).status is JobStatus.SUCCEEDED for job_id in jobs]):
            return
        await asyncio.sleep(0.02)
    pytest.fail("the others wait for the job that is locked")


async def test_jobs_that_run_side_by_side_are_written_together(workshop: Workshop, sizes: list[int]) -> None:
    jobs = await submitted(workshop, *NAMES)
    await workshop.answer()
    for job_id in jobs.values():
        assert (await workshop.job(job_id)).status is JobStatus.SUCCEEDED
        assert (await workshop.plan_of(job_id)).status == "SUCCEEDED"
        numbers = await workshop.rows(
            "SELECT array_agg(seq ORDER BY seq) AS seqs, count(*) FILTER (WHERE kind = 'JobStatusChanged') AS moves,"
            " (SELECT sum(last_seq - first_seq + 1) FROM job_log WHERE job_id = :job) AS lines"
            " FROM event_log WHERE stream = 'JOB' AND stream_id = :job",
            job=job_id,
        )
        assert (numbers[0].moves, numbers[0].lines) == (4, 3)
        # Events and lines have one sequence, without a gap.
        assert numbers[0].seqs[-1] == len(numbers[0].seqs) + numbers[0].lines
    counted = await workshop.rows("SELECT execution_count, success_count, failure_count FROM workflow")
    assert [tuple(row) for row in counted] == [(4, 4, 0)]
    assert not await workshop.rows("SELECT 1 FROM resource_lock")
    assert max(sizes) == len(NAMES)
    # Each of four jobs takes four turns: its first step, the two that follow, and its end.
    assert sum(sizes) == 4 * len(NAMES)


async def test_a_job_that_is_locked_is_not_waited_for(workshop: Workshop, database_url: str, sizes: list[int]) -> None:
    jobs = await submitted(workshop, *NAMES)
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("SELECT FROM orchestration_job WHERE id = $1 FOR UPDATE", jobs["two"])
            answering = asyncio.create_task(workshop.answer())
            await until(workshop, [jobs[name] for name in NAMES if name != "two"])
            assert (await workshop.job(jobs["two"])).status is JobStatus.DISPATCHED
        await answering
    finally:
        await other.close()
    assert sizes[0] == len(NAMES)
    assert (await workshop.settle(jobs["two"])).status is JobStatus.SUCCEEDED


async def test_the_column_of_logs_is_what_the_store_would_say(workshop: Workshop) -> None:
    jobs = await submitted(workshop, "one")
    template = await workshop.template({"resources": {"a": note("a")}})
    jobs["read"] = await workshop.submit(template, stack="read")
    for job_id in jobs.values():
        await workshop.settle(job_id)
        async with workshop.database.machine(workshop.tenant_id, actor="test", correlation_id="test") as transaction:
            transaction.authorize("test")
            told = await tails.tail(transaction, job_id)
        assert told["entries"]
        assert (await workshop.job(job_id)).logs == told


async def test_turns_that_hold_whatever_was_in_between_would_be_noticed(workshop: Workshop) -> None:
    with planted("turn-always-holds"), pytest.raises(AssertionError):
        await paused(workshop)
