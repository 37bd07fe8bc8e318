"""Workers that are lost, answers that are lost, and what is found out afterwards."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.db.ledger import Ledger
from app.db.uow import SystemRole
from app.domain.enums import CancelMode, CancelOutcome
from app.domain.statuses import JobStatus
from app.engine import recovery
from app.engine.runner import Runner
from app.engine.ticking import tick
from app.engine.work import Outcome, Work
from app.messages import StepDue
from app.providers.faults import Fault, FaultKind
from app.services import jobs
from tests.engine.conftest import Open
from tests.engine.harness import Workshop, note


class Killed(BaseException):
    """The process is gone, here and now."""


async def die_at(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, place: str, ring: StepDue) -> None:
    """Let the first worker answer `ring` and die: before the provider is called, or after it."""
    victim = workshop.runners[0]
    executed = victim._executor.execute

    async def before(_work: Work, _context: object) -> Outcome:
        raise Killed

    async def after(work: Work, context: object) -> Outcome:
        await executed(work, context)  # type: ignore[arg-type]
        raise Killed

    executor = type("Dying", (), {"execute": staticmethod(before if place == "before" else after)})()
    monkeypatch.setattr(victim, "_executor", executor)
    with pytest.raises(Killed):
        await victim.run(ring)
    await workshop.lose(workshop.workers[0])
    workshop.runners[:] = [await workshop.hire()]


async def notice(workshop: Workshop, job_id: int, key: str) -> None:
    """The tick finds out that the worker of this step is lost; not at once while its last transaction still ends."""
    for _ in range(100):
        await tick(workshop.database, ring_again_seconds=0)
        if (await workshop.steps(job_id))[key] == "UNKNOWN":
            return
        await asyncio.sleep(0.02)
    pytest.fail("nobody noticed that the worker is lost")


async def test_whoever_is_missing_is_looked_at_until_they_are_lost_or_back(workshop: Workshop) -> None:
    """Also by those who were not the first to notice, so that all of them hurry."""
    nobody = (
        "INSERT INTO worker (name, host, pid, app_version, started_at, lease_until)"
        " VALUES ('x', 'x', 1, 'x', now() - interval '1 hour', now() + interval '1 hour')"
    )
    for worker in workshop.workers:
        await workshop.lose(worker)
    await recovery.reap(workshop.database)
    assert not (await recovery.reap(workshop.database)).is_anyone_missing
    async with workshop.database.system(SystemRole.TICK) as transaction:
        await transaction.session.execute(text(nobody))
    assert [(await recovery.reap(workshop.database)).is_anyone_missing for _ in range(2)] == [True, True]
    await asyncio.sleep(1.6)
    await recovery.reap(workshop.database)
    assert not (await recovery.reap(workshop.database)).is_anyone_missing
    lost = await workshop.rows("SELECT dead_at - missing_since AS after FROM worker WHERE name = 'x'")
    assert timedelta(seconds=1.5) <= lost[0].after


@pytest.mark.parametrize("place", ["before", "after"])
async def test_a_lost_workers_step_is_found_out_and_done_exactly_once(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    template = await workshop.template({"resources": {"a": note("a"), "b": note("b", needs=["a"])}})
    job_id = await workshop.submit(template)
    await die_at(workshop, monkeypatch, place, workshop.rung.pop(0))
    assert (await workshop.steps(job_id))["a"] == "RUNNING"
    await notice(workshop, job_id, "a")
    job = await workshop.settle(job_id)
    assert job.status is JobStatus.SUCCEEDED
    assert job.recoveries == 1
    assert workshop.notes() == {"a": "x", "b": "x"}
    created = workshop.provider.notes.calls.count("create")
    assert created == 2, "each note is made once, whatever happened to the worker"
    lost = await workshop.rows("SELECT counts FROM step_attempt WHERE error->>'class' = 'WORKER_LOST'")
    assert [row.counts for row in lost] == [False]


async def test_what_was_rung_for_is_rung_for_again_when_a_worker_is_lost(workshop: Workshop) -> None:
    job_id = await workshop.submit(await workshop.template({"resources": {"a": note("a")}}))
    (bell,) = workshop.rung
    workshop.rung.clear()
    # Somebody else may be about to answer.
    await tick(workshop.database, ring_again_seconds=60)
    assert workshop.rung == []
    await workshop.lose(workshop.workers[0])
    workshop.runners[:] = [await workshop.hire()]
    await tick(workshop.database, ring_again_seconds=60)
    assert workshop.rung == [bell]
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED


async def test_a_worker_lost_while_undoing_is_replaced(open_workshop: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = await open_workshop()
    template = await workshop.template({"resources": {"a": note("a")}})
    workflow = await workshop.workflow(
        {"key": "all", "type": "RESOURCE_CREATE", "order": 1, "configuration": {"resource": "*"}},
        {"key": "fail", "type": "CUSTOM", "order": 2, "configuration": {"task": "core.assert"},
         "inputs": {"that": False, "message": "no"}},
    )  # fmt: skip
    job_id = await workshop.submit(template, workflow)
    runner: Runner = workshop.runners[0]
    runner.draining = True
    while (await workshop.steps(job_id))["a"] != "COMPENSATING":
        await runner.run(workshop.rung.pop(0))
    await die_at(workshop, monkeypatch, "after", workshop.rung.pop(0))
    job = await workshop.settle(job_id)
    assert job.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {}


@pytest.mark.parametrize("kind", [FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER])
async def test_a_lost_answer_is_asked_for_and_never_repeated_blindly(open_workshop: Open, kind: FaultKind) -> None:
    workshop = await open_workshop({"create": [Fault(kind)], "update": [Fault(kind)]})
    first = await workshop.template({"resources": {"a": note("a", "one")}}, "first")
    assert (await workshop.settle(await workshop.submit(first))).status is JobStatus.SUCCEEDED
    second = await workshop.template({"resources": {"a": note("a", "two")}}, "second")
    assert (await workshop.settle(await workshop.submit(second))).status is JobStatus.SUCCEEDED
    assert workshop.notes() == {"a": "two"}
    calls = workshop.provider.notes.calls
    expected = 1 if kind is FaultKind.DROP_AFTER else 2
    assert (calls.count("create"), calls.count("update")) == (expected, expected)


async def test_a_ring_for_a_step_that_is_not_to_be_had_changes_nothing(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a")}})
    job_id = await workshop.submit(template)
    ring = workshop.rung[0]
    workshop.rung.extend([ring, ring, StepDue(workshop.tenant_id, job_id, 999_999), StepDue(999, job_id, 1)])
    job = await workshop.settle(job_id)
    before = job.event_seq
    await workshop.runners[0].run(ring)
    assert (await workshop.job(job_id)).event_seq == before
    assert workshop.provider.notes.calls.count("create") == 1


async def test_a_ring_that_is_lost_is_repeated(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a")}})
    job_id = await workshop.submit(template)
    workshop.rung.clear()
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED


async def test_a_step_that_was_rung_for_in_vain_for_days_is_rung_for_again(workshop: Workshop) -> None:
    job_id = await workshop.submit(await workshop.template({"resources": {"a": note("a")}}))
    workshop.rung.clear()
    async with workshop.database.system(SystemRole.TICK) as transaction:
        await transaction.session.execute(
            text("UPDATE step_run SET dispatches = 5000, dispatched_at = clock_timestamp()")
        )
    assert (await tick(workshop.database, ring_again_seconds=10)).rung == 0
    assert (await tick(workshop.database, ring_again_seconds=0)).rung == 1
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED


async def test_a_step_that_kills_every_worker_fails(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    template = await workshop.template({"resources": {"a": note("a")}})
    job_id = await workshop.submit(template)
    for _ in range(3):
        await die_at(workshop, monkeypatch, "before", workshop.rung.pop(0))
        await tick(workshop.database, ring_again_seconds=0)
        # The next worker asks first, finds nothing, and makes the step due again.
        runner = workshop.runners[0]
        runner.draining = True
        await runner.run(workshop.rung.pop(0))
        runner.draining = False
        workshop.workers[:] = workshop.workers[-1:]
    job = await workshop.settle(job_id)
    assert job.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {}


async def test_a_claim_that_the_worker_never_heard_of_is_given_up(workshop: Workshop) -> None:
    """The answer to the claiming commit is lost: the worker has the step, and does not know."""
    template = await workshop.template({"resources": {"a": note("a")}})
    job_id = await workshop.submit(template)
    worker, runner = workshop.workers[0], workshop.runners[0]
    worker.working = lambda: runner.running
    assert await runner._claim(workshop.rung.pop(0)) is not None
    await worker._renew()
    await tick(workshop.database, ring_again_seconds=0)
    assert (await workshop.steps(job_id))["a"] == "RUNNING", "a claim may be younger than what the process knows"
    await worker._renew()
    await tick(workshop.database, ring_again_seconds=0)
    assert (await workshop.steps(job_id))["a"] == "UNKNOWN"
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    assert workshop.provider.notes.calls.count("create") == 1


async def test_what_is_made_after_its_step_was_given_up_is_taken_back(workshop: Workshop) -> None:
    job_id = await workshop.submit(await workshop.template({"resources": {"a": note("a")}}))
    arriving, reached = asyncio.Event(), asyncio.Event()
    create = workshop.provider.notes.create

    async def late(context: Any, desired: Any) -> Any:
        reached.set()
        await arriving.wait()
        return await create(context, desired)

    workshop.provider.notes.create = late  # type: ignore[method-assign,assignment]
    lost = asyncio.create_task(workshop.answer())
    async with asyncio.timeout(10):
        await reached.wait()
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as write:
        command = jobs.CancelJob(job_id, CancelMode.GRACEFUL, CancelOutcome.KEEP)
        await jobs.cancel(write, workshop.principal, command, workshop.dependencies)
    await workshop.lose(workshop.workers[0])
    workshop.runners[:] = [await workshop.hire()]
    await notice(workshop, job_id, "a")
    job = await workshop.settle(job_id)
    # Whoever asked the provider was told that there is nothing; so says the record.
    assert (job.status, await workshop.steps(job_id)) == (JobStatus.CANCELLED, {"a": "FAILED"})
    arriving.set()
    await lost
    assert workshop.notes() == {}
    assert [row.external_id for row in await workshop.rows("SELECT external_id FROM cloud_resource")] == [None]


async def test_the_tick_waits_for_no_job_when_it_rings_again_for_a_lost_worker(workshop: Workshop) -> None:
    job_id = await workshop.submit(await workshop.template({"resources": {"a": note("a")}}))
    (bell,) = workshop.rung
    workshop.rung.clear()
    await workshop.lose(workshop.workers[0])
    workshop.runners[:] = [await workshop.hire()]
    async with workshop.database.machine(workshop.tenant_id, actor="test", correlation_id="test") as transaction:
        transaction.authorize("test")
        # Whoever has it is about to claim the step, which the tick has touched: neither may wait for the other.
        await Ledger.open(transaction, job_id)
        async with asyncio.timeout(10):
            await tick(workshop.database, ring_again_seconds=60)
    assert workshop.rung == [bell]
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
