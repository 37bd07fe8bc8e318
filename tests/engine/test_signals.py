"""Signals to jobs: said while a step waits for them, or before it does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from app.domain.enums import Permission
from app.domain.errors import Forbidden, IllegalState, Invalid, LimitExceeded, NotFound, UnknownReference
from app.domain.statuses import JobStatus
from app.engine.ticking import tick
from app.services import signals
from app.services.signals import SignalJob
from tests.engine.harness import Workshop
from tests.engine.test_gates import FORM, ask, asked, made, pass_deadlines
from tests.engine.test_pausing import act, until


def wait_for(key: str = "paid", **gate: Any) -> dict[str, Any]:
    return {**ask("SIGNAL", inputSchema=FORM, **gate), "key": key}


PAID = made("${string(steps.paid.outputs.size)}")


async def tell(workshop: Workshop, job_id: int, size: object = 3, name: str = "paid") -> None:
    await act(workshop, signals.signal, SignalJob(job_id, name, {"size": size}))


async def test_a_signal_becomes_the_outputs_of_the_step_that_waits(workshop: Workshop) -> None:
    job_id = await asked(workshop, wait_for(), PAID)
    with pytest.raises(Invalid) as refused:
        await tell(workshop, job_id, 0)
    assert refused.value.path == ("payload", "size")
    await tell(workshop, job_id)
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    assert workshop.notes() == {"made": "3"}
    with pytest.raises(IllegalState):
        await tell(workshop, job_id)


async def test_a_signal_that_comes_early_is_there_when_it_is_waited_for(workshop: Workshop) -> None:
    job_id = await asked(workshop, {**wait_for("first"), "order": 1}, {**wait_for(), "order": 2}, {**PAID, "order": 3})
    await tell(workshop, job_id, 1)
    # The newest counts.
    await tell(workshop, job_id, 7)
    told = await workshop.rows(
        "SELECT data->>'message' AS message FROM event_log WHERE kind = 'StepProgressed' AND data->>'stepKey' = 'paid'"
    )
    assert [row.message for row in told] == ["signalled", "signalled"]
    await tell(workshop, job_id, 2, "first")
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    assert workshop.notes() == {"made": "7"}
    (gate,) = await workshop.rows("SELECT answered_by, answer FROM gate g JOIN step_run s ON s.id = g.step_run_id"
                                  " WHERE s.step_key = 'paid'")  # fmt: skip
    assert tuple(gate) == (workshop.principal.actor, {"size": 7})


async def test_signals_that_race_with_the_worker_are_not_lost(workshop: Workshop) -> None:
    """Each job's gate is reached, by a worker that remembers the job, while somebody signals it."""
    flow = await workshop.workflow(
        {**made("x"), "key": "before", "order": 1, "inputs": {"name": "before-${plan.stack}", "text": "x"}},
        {**wait_for(), "order": 2},
    )
    jobs = [await workshop.submit(workflow=flow, stack=f"s{number}") for number in range(12)]
    await asyncio.gather(workshop.answer(), *(tell(workshop, job_id) for job_id in jobs))
    for job_id in jobs:
        assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED


async def test_what_a_job_cannot_be_told(workshop: Workshop) -> None:
    job_id = await asked(workshop, {**wait_for(), "order": 1}, {**ask(), "order": 2})
    for name in ("ask", "payed", "nothing"):
        with pytest.raises(UnknownReference) as unknown:
            await tell(workshop, job_id, name=name)
        assert unknown.value.path == ("name",)
    with pytest.raises(LimitExceeded):
        await act(workshop, signals.signal, SignalJob(job_id, "paid", {"text": "x" * 20_000}))
    with pytest.raises(NotFound):
        await tell(workshop, job_id + 1)
    workshop.principal = replace(workshop.principal, permissions=frozenset({Permission.READ, Permission.APPROVE}))
    with pytest.raises(Forbidden):
        await tell(workshop, job_id)


async def test_only_who_is_named_may_signal(workshop: Workshop) -> None:
    (mine,) = await workshop.rows("SELECT email FROM app_user WHERE id = :id", id=workshop.principal.user_id)
    job_id = await asked(workshop, {**wait_for("first"), "order": 1}, {**wait_for(approvers=[mine.email]), "order": 2})
    await tell(workshop, job_id)
    workshop.principal = replace(workshop.principal, user_id=workshop.principal.user_id + 1)
    with pytest.raises(Forbidden):
        await tell(workshop, job_id)


async def test_a_job_that_was_stopped_waits_for_nothing(workshop: Workshop) -> None:
    job_id = await asked(workshop, wait_for(onTimeout="HALT"))
    await pass_deadlines(workshop)
    await tick(workshop.database, ring_again_seconds=0)
    await until(workshop, job_id, JobStatus.FAILED)
    with pytest.raises(IllegalState) as refused:
        await tell(workshop, job_id)
    assert refused.value.path == ("jobId",)
