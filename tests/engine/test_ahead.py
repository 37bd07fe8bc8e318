"""Steps that touch nothing outside run ahead of what is written of them, and are written together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import asyncpg
import pytest

from app.db import turns
from app.domain.statuses import STEP, JobStatus, StepStatus
from app.engine import ahead
from app.providers.base import Context, JsonObject
from app.providers.core.tasks import PassTask
from tests.engine.harness import Workshop


def step(key: str, order: int, **inputs: Any) -> dict[str, Any]:
    return {
        "key": key,
        "type": "CUSTOM",
        "order": order,
        "configuration": {"task": "core.pass"},
        "inputs": {"outputs": inputs},
    }


def wait(key: str, order: int) -> dict[str, Any]:
    """A task of which nobody can say that it touches nothing."""
    return {**step(key, order), "configuration": {"task": "core.wait"}, "inputs": {"seconds": 0}}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """How many steps had run ahead in each turn of each statement."""
    found: list[list[int]] = []
    bound = turns._bound

    def count(tenant_id: int, asked: Any) -> list[Any]:
        found.append([len(turn.values["passed_steps"]) for turn in asked])
        return bound(tenant_id, asked)

    monkeypatch.setattr(turns, "_bound", count)
    return found


@contextmanager
def running(run: Any) -> Iterator[None]:
    """`core.pass` does `run` instead."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PassTask, "run", run)
        yield


async def moves_of(workshop: Workshop, job_id: int) -> list[Any]:
    return await workshop.rows(
        "SELECT data->>'stepKey' AS key, data->>'previous' AS previous, data->>'status' AS status FROM event_log"
        " WHERE stream = 'JOB' AND stream_id = :job AND kind = 'StepStatusChanged' ORDER BY seq",
        job=job_id,
    )


async def test_a_job_of_them_is_one_statement_and_everything_is_written(
    workshop: Workshop, written: list[list[int]]
) -> None:
    workflow = await workshop.workflow(
        step("a", 1, n=1), step("b", 2, n="${steps.a.outputs.n + 1}"), step("c", 3, n="${steps.b.outputs.n + 1}")
    )
    job_id = await workshop.submit(None, workflow)
    await workshop.answer()
    job = await workshop.job(job_id)
    assert job.status is JobStatus.SUCCEEDED
    assert written == [[3]]

    rows = await workshop.rows(
        "SELECT s.step_key, s.status, s.attempt, s.fence, s.worker_id, s.outputs, s.touched, s.due_at, s.started_at,"
        " s.completed_at, a.number, a.worker, a.fence AS tried, a.started_at AS began, a.ended_at AS ended, a.error"
        " FROM step_run s JOIN step_attempt a ON a.step_run_id = s.id WHERE s.job_id = :job ORDER BY s.id",
        job=job_id,
    )
    assert [(row.step_key, row.status, row.outputs) for row in rows] == [
        ("a", "SUCCEEDED", {"n": 1}), ("b", "SUCCEEDED", {"n": 2}), ("c", "SUCCEEDED", {"n": 3}),
    ]  # fmt: skip
    for row in rows:
        assert (row.attempt, row.fence, row.worker_id, row.due_at, row.touched) == (1, 1, None, None, False)
        assert (row.number, row.worker, row.tried, row.error) == (1, "worker-1", 1, None)
        assert job.started_at <= row.started_at == row.began <= row.ended == row.completed_at <= job.completed_at
    assert all(one.completed_at <= other.started_at for one, other in pairwise(rows))
    # There is nothing that would have to be taken back.
    assert not await workshop.rows("SELECT 1 FROM step_effect")
    assert {row.step_key: row.lines for row in await _lines(workshop, job_id)} == {"a": 1, "b": 1, "c": 1}


async def _lines(workshop: Workshop, job_id: int) -> list[Any]:
    return await workshop.rows(
        "SELECT step_key, sum(last_seq - first_seq + 1) AS lines FROM job_log WHERE job_id = :job GROUP BY 1",
        job=job_id,
    )


async def test_each_move_is_told_once_and_is_one_that_the_machine_has(workshop: Workshop) -> None:
    workflow = await workshop.workflow(*(step(key, order) for order, key in enumerate("abc")))
    job_id = await workshop.submit(None, workflow)
    await workshop.answer()
    moves = await moves_of(workshop, job_id)
    for key in "abc":
        way = [(move.previous, move.status) for move in moves if move.key == key]
        assert way == [("PENDING", "READY"), ("READY", "RUNNING"), ("RUNNING", "SUCCEEDED")]
        assert all(STEP.connects(StepStatus(one), StepStatus(other)) for one, other in way)
    # What follows has not begun before what it needs was over.
    ended = [(move.key, move.status) for move in moves if move.status in ("RUNNING", "SUCCEEDED")]
    assert ended == [(key, status) for key in "abc" for status in ("RUNNING", "SUCCEEDED")]


async def test_what_may_touch_something_is_written_before_it_runs(workshop: Workshop, written: list[list[int]]) -> None:
    workflow = await workshop.workflow(step("a", 1), step("b", 2), wait("c", 3), step("d", 4))
    job_id = await workshop.submit(None, workflow)
    await workshop.answer()
    assert (await workshop.job(job_id)).status is JobStatus.SUCCEEDED
    assert written == [[2], [1]]
    effects = await workshop.rows("SELECT s.step_key FROM step_effect e JOIN step_run s ON s.id = e.step_run_id")
    assert [row.step_key for row in effects] == ["c"]


async def test_one_that_is_to_be_compensated_is_journalled_as_any_other(
    workshop: Workshop, written: list[list[int]]
) -> None:
    undone = {"task": "core.pass", "inputs": {"outputs": {}}}
    failing = {**step("b", 2), "configuration": {"task": "core.assert"}, "inputs": {"that": False}}
    workflow = await workshop.workflow({**step("a", 1), "errorHandling": {"compensate": undone}}, failing)
    job_id = await workshop.submit(None, workflow)
    assert (await workshop.settle(job_id)).status is JobStatus.ROLLED_BACK
    assert (await workshop.steps(job_id))["a"] == "COMPENSATED"
    assert not any(ahead for statement in written for ahead in statement)


async def test_a_failure_is_found_as_by_any_other_step(workshop: Workshop) -> None:
    async def run(self: PassTask, context: Context, inputs: JsonObject) -> JsonObject:  # noqa: ARG001
        message = "a bug"
        raise ValueError(message)

    workflow = await workshop.workflow(step("a", 1))
    job_id = await workshop.submit(None, workflow)
    with running(run):
        job = await workshop.settle(job_id)
    assert job.status is JobStatus.ROLLED_BACK
    rows = await workshop.rows("SELECT status, error->>'code' AS code, attempt FROM step_run")
    assert [tuple(row) for row in rows] == [("FAILED", "PROVIDER_BUG", 1)]
    assert [row.worker for row in await workshop.rows("SELECT worker FROM step_attempt")] == ["worker-1"]


async def test_one_that_waits_is_held_by_a_worker_that_can_be_seen(
    workshop: Workshop, written: list[list[int]]
) -> None:
    held: list[str] = []

    async def run(self: PassTask, context: Context, inputs: JsonObject) -> JsonObject:  # noqa: ARG001
        await asyncio.sleep(0)
        held.extend(row.worker for row in await workshop.rows("SELECT worker FROM step_attempt"))
        return {}

    workflow = await workshop.workflow(step("a", 1))
    job_id = await workshop.submit(None, workflow)
    with running(run):
        job = await workshop.settle(job_id)
    assert job.status is JobStatus.SUCCEEDED
    assert held == ["worker-1"]
    assert not any(ahead for statement in written for ahead in statement)


async def test_whoever_is_overtaken_begins_again_and_nothing_is_there_twice(
    workshop: Workshop, database_url: str
) -> None:
    runs: list[str] = []

    async def write() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            "UPDATE orchestration_job SET event_seq = event_seq + 1, feed = feed WHERE id = $1", job_id
        )
        await connection.close()

    async def run(self: PassTask, context: Context, inputs: JsonObject) -> JsonObject:  # noqa: ARG001
        runs.append(context.operation_id)
        if len(runs) == 2:
            # Somebody writes about the job meanwhile, while this waits for nothing.
            with ThreadPoolExecutor(1) as elsewhere:
                elsewhere.submit(asyncio.run, write()).result()
        return {}

    workflow = await workshop.workflow(step("a", 1), step("b", 2))
    job_id = await workshop.submit(None, workflow)
    with running(run):
        job = await workshop.settle(job_id)
    assert job.status is JobStatus.SUCCEEDED
    # Both ran ahead, and both again under the lock.
    assert len(runs) == 4
    assert len(set(runs)) == 2
    rows = await workshop.rows("SELECT attempt, fence FROM step_run")
    assert [tuple(row) for row in rows] == [(1, 1), (1, 1)]
    assert [move.status for move in await moves_of(workshop, job_id)].count("SUCCEEDED") == 2
    assert {row.step_key: row.lines for row in await _lines(workshop, job_id)} == {"a": 1, "b": 1}


async def test_many_of_them_are_written_in_portions(workshop: Workshop, written: list[list[int]]) -> None:
    keys = [f"s{number}" for number in range(40)]
    workflow = await workshop.workflow(*(step(key, order) for order, key in enumerate(keys)))
    job_id = await workshop.submit(None, workflow)
    await workshop.answer()
    assert (await workshop.job(job_id)).status is JobStatus.SUCCEEDED
    assert max(portion for statement in written for portion in statement) <= ahead._STEPS
    assert set((await workshop.steps(job_id)).values()) == {"SUCCEEDED"}
