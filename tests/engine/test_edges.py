"""Ways through the machines that few jobs go: each is taken here, and told of once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.domain.enums import (
    CancelMode,
    DriftStatus,
    FailureStrategy,
    RetryMode,
    Reversibility,
    RollbackResolution,
    StepType,
)
from app.domain.errors import IllegalState
from app.domain.statuses import JobStatus, PlanStatus, ResourceStatus
from app.engine.ticking import tick
from app.providers.base import NO_PROPERTIES, ActionResult, ActionSpec, ErrorKind, ProviderError
from app.providers.faults import Fault, FaultKind
from app.services import gates, jobs, plans
from app.services.gates import AnswerGate
from app.services.jobs import CancelJob, ContinueRollback
from app.services.plans import PlanAction, RetryPlan, RollbackPlan
from tests import transitions
from tests.engine.conftest import Open
from tests.engine.harness import Workshop, note
from tests.engine.observing import resource
from tests.engine.test_gates import ask, asked, made, step_id
from tests.engine.test_in_doubt import events_of
from tests.engine.test_pausing import act, begun, locks
from tests.engine.test_recovery import die_at
from tests.engine.test_rollback import failing
from tests.engine.test_timeouts import moves

ONE = {"resources": {"a": note("a", "one")}}
FAILS = {
    "key": "fails",
    "type": "CUSTOM",
    "order": 9,
    "configuration": {"task": "core.assert"},
    "inputs": {"that": False, "message": "no"},
}
DENIED = Fault(FaultKind.ERROR, error=ErrorKind.ACCESS_DENIED)
ACTIONS = {
    "backup": StepType.RESOURCE_BACKUP,
    "restore": StepType.RESOURCE_RESTORE,
    "migrate": StepType.RESOURCE_MIGRATE,
}


async def acting(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes can be backed up, restored and migrated from now on; what was done and undone is in the list."""
    done: list[str] = []
    specs = {name: ActionSpec(name, NO_PROPERTIES, kind, Reversibility.REVERSIBLE) for name, kind in ACTIONS.items()}

    async def act(_context: Any, action: str, _prior: Any, _arguments: Any) -> ActionResult:
        done.append(action)
        return ActionResult(undo={"of": action})

    async def undo(_context: Any, action: str, _prior: Any, _undo: Any) -> None:
        done.append(f"undo {action}")

    for name, value in {"actions": specs, "act": act, "undo_action": undo}.items():
        monkeypatch.setattr(workshop.provider.notes, name, value)
    await workshop.settle(await workshop.submit(await workshop.template(ONE)))
    return done


async def test_a_rollback_leaves_a_backup_alone(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    done = await acting(workshop, monkeypatch)
    step = {"key": "save", "type": "RESOURCE_BACKUP", "order": 1, "configuration": {"resource": "a"}}
    job_id = await workshop.submit(workflow=await workshop.workflow(step, FAILS))
    assert (await workshop.settle(job_id)).status is JobStatus.ROLLED_BACK
    assert ((await workshop.steps(job_id))["save"], done) == ("COMPENSATION_SKIPPED", ["backup"])
    assert (await moves(workshop, "JOB", job_id, "StepStatusChanged")).count(
        ("COMPENSATION_SKIPPED", "STEP_FAILED")
    ) == 1


@pytest.mark.parametrize("action", ["restore", "migrate"])
async def test_what_else_was_done_to_a_resource_is_undone(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    done = await acting(workshop, monkeypatch)
    step = {"key": "act", "type": ACTIONS[action].value, "order": 1, "configuration": {"resource": "a"}}
    job_id = await workshop.submit(workflow=await workshop.workflow(step, FAILS))
    assert (await workshop.settle(job_id)).status is JobStatus.ROLLED_BACK
    assert ((await workshop.steps(job_id))["act"], done) == ("COMPENSATED", [action, f"undo {action}"])
    assert ("resource", "ACTIVE", action) in transitions.taken


async def test_a_half_done_change_is_seen_as_one_and_finished(workshop: Workshop) -> None:
    await workshop.settle(await workshop.submit(await workshop.template(ONE)))
    update, calls = workshop.provider.notes.update, []

    async def half(context: Any, prior: Any, desired: Any, difference: Any) -> Any:
        calls.append(desired["text"])
        if len(calls) > 1:
            return await update(context, prior, desired, difference)
        await update(context, prior, {**desired, "text": "half"}, difference)
        message = "the line is cut"
        raise ProviderError(ErrorKind.OUTCOME_UNKNOWN, message)

    workshop.provider.notes.update = half  # type: ignore[method-assign,assignment]
    job_id = await workshop.submit(await workshop.template({"resources": {"a": note("a", "two")}}, "second"))
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    assert (calls, workshop.notes()) == (["two", "two"], {"a": "two"})
    assert ("step", "UNKNOWN", "observed_partial") in transitions.taken


@pytest.mark.parametrize(
    ("strategy", "event", "status", "plan_status"),
    [
        (FailureStrategy.HALT, "recoveries_exhausted_halt", JobStatus.FAILED, PlanStatus.FAILED),
        (FailureStrategy.ROLLBACK, "recoveries_exhausted_rollback", JobStatus.ROLLED_BACK, PlanStatus.ROLLED_BACK),
    ],
)
async def test_a_job_that_costs_worker_after_worker_ends_for_that(
    workshop: Workshop,
    monkeypatch: pytest.MonkeyPatch,
    strategy: FailureStrategy,
    event: str,
    status: JobStatus,
    plan_status: PlanStatus,
) -> None:
    job_id = await workshop.submit(await workshop.template(ONE), strategy=strategy)
    for _ in range(3):
        await die_at(workshop, monkeypatch, "before", workshop.rung.pop(0))
        await tick(workshop.database, ring_again_seconds=0)
        runner = workshop.runners[0]
        runner.draining = True
        await runner.run(workshop.rung.pop(0))
        runner.draining = False
        workshop.workers[:] = workshop.workers[-1:]
    assert (await workshop.settle(job_id)).status is status
    assert (await workshop.plan_of(job_id)).status is plan_status
    lost = [reason for _, reason in await moves(workshop, "JOB", job_id, "JobStatusChanged")].count("WORKER_LOST")
    assert (lost, workshop.notes()) == (1, {})
    assert ("job", "RUNNING", event) in transitions.taken


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_job_that_comes_to_rest_for_a_pause_is_cancelled_instead(workshop: Workshop) -> None:
    job_id, finish = await begun(workshop, "a")
    plan = await workshop.plan_of(job_id)
    await act(workshop, plans.pause, PlanAction(plan.id))
    assert (await workshop.job(job_id)).status is JobStatus.PAUSING
    await act(workshop, plans.cancel, PlanAction(plan.id))
    assert (await workshop.job(job_id)).status is JobStatus.CANCELLING
    assert (await workshop.plan_of(job_id)).status is PlanStatus.CANCELLING
    await finish()
    assert (await workshop.job(job_id)).status is JobStatus.CANCELLED
    assert (await workshop.plan_of(job_id)).status is PlanStatus.CANCELLED
    assert await workshop.steps(job_id) == {"a": "SUCCEEDED", "b": "CANCELLED", "c": "CANCELLED"}
    assert (set(workshop.notes()), await locks(workshop)) == ({"a"}, [])
    told = [status for status, _ in await moves(workshop, "JOB", job_id, "JobStatusChanged")]
    assert told[-3:] == ["PAUSING", "CANCELLING", "CANCELLED"]
    assert ("job", "PAUSING", "cancel") in transitions.taken


async def test_a_question_is_over_when_its_job_is_cancelled(workshop: Workshop) -> None:
    job_id = await asked(workshop, ask(), made())
    await act(workshop, plans.cancel, PlanAction((await workshop.plan_of(job_id)).id))
    assert (await workshop.job(job_id)).status is JobStatus.CANCELLED
    assert await workshop.steps(job_id) == {"ask": "CANCELLED", "made": "CANCELLED"}
    with pytest.raises(IllegalState):
        await act(workshop, gates.answer, AnswerGate(await step_id(workshop, job_id), answer={"size": 3}))
    assert (workshop.notes(), await locks(workshop)) == ({}, [])
    assert ("step", "WAITING", "cancel") in transitions.taken


async def test_a_check_that_waits_for_its_next_try_is_cancelled_and_leaves_nothing_to_undo(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has only looked, so that it need not stay open to compensation like a step that has acted."""

    async def read(*_: Any) -> Any:
        message = "nobody answers"
        raise ProviderError(ErrorKind.UNAVAILABLE, message)

    monkeypatch.setattr(workshop.provider.notes, "read", read)
    checks = {"checks": [{"resource": "a"}]}
    job_id = await workshop.submit(await workshop.template(ONE), configuration={"verification": checks})
    await workshop.answer()
    assert await workshop.steps(job_id) == {"a": "SUCCEEDED", "verify:a": "RETRY_WAIT"}
    await act(workshop, jobs.cancel, CancelJob(job_id))
    assert (await workshop.job(job_id)).status is JobStatus.CANCELLED
    assert await workshop.steps(job_id) == {"a": "SUCCEEDED", "verify:a": "CANCELLED"}
    due = await workshop.rows("SELECT 1 FROM step_run WHERE due_at IS NOT NULL OR worker_id IS NOT NULL")
    assert (due, workshop.notes(), await locks(workshop)) == ([], {"a": "one"}, [])
    assert ("step", "RETRY_WAIT", "cancel") in transitions.taken


async def test_a_resource_that_was_only_planned_is_dropped_with_its_job_and_told_of(workshop: Workshop) -> None:
    job_id = await workshop.submit(await workshop.template(ONE))
    assert (await resource(workshop)).status is ResourceStatus.PLANNED
    await act(workshop, jobs.cancel, CancelJob(job_id))
    row = await resource(workshop)
    assert (row.status, row.is_deleted, row.in_doubt_step_id) == (ResourceStatus.DELETED, True, None)
    assert await events_of(workshop) == [("PLANNED", "DELETED")]
    assert ("resource", "PLANNED", "abandon") in transitions.taken


# ── what was done in part ────────────────────────────────────────────────────────────────────────────────────


async def partly(workshop: Workshop) -> int:
    """A job that has made `b` and not `a`."""
    template = await workshop.template({"resources": {"a": note("a"), "b": note("b")}})
    job = await workshop.settle(await workshop.submit(template, strategy=FailureStrategy.CONTINUE))
    plan = await workshop.plan_of(job.id)
    assert (job.status, plan.status) == (JobStatus.PARTIALLY_SUCCEEDED, PlanStatus.PARTIALLY_SUCCEEDED)
    assert len(workshop.notes()) == 1
    return int(job.id)


async def test_what_succeeded_in_part_is_resumed_for_the_rest(open_workshop: Open) -> None:
    workshop = await open_workshop({"create": [DENIED]})
    first = await partly(workshop)
    plan = await workshop.plan_of(first)
    again = await act(workshop, plans.retry, RetryPlan(plan.id, RetryMode.RESUME))
    assert (await workshop.settle(again.id)).status is JobStatus.SUCCEEDED
    ended = await workshop.plan_of(first)
    assert (ended.status, ended.last_job_id) == (PlanStatus.SUCCEEDED, again.id)
    assert workshop.notes() == {"a": "x", "b": "x"}
    # The one that there was already is not made once more.
    assert workshop.provider.notes.calls.count("create") == 3
    assert ("plan", "PARTIALLY_SUCCEEDED", "retry_resume") in transitions.taken


async def test_what_succeeded_in_part_is_taken_back(open_workshop: Open) -> None:
    workshop = await open_workshop({"create": [DENIED]})
    first = await partly(workshop)
    plan = await workshop.plan_of(first)
    undoing = await act(workshop, plans.rollback, RollbackPlan(plan.id))
    job = await workshop.settle(undoing.id)
    assert (job.status, job.parent_job_id, workshop.notes()) == (JobStatus.ROLLED_BACK, first, {})
    assert (await workshop.plan_of(first)).status is PlanStatus.ROLLED_BACK
    assert ("plan", "PARTIALLY_SUCCEEDED", "rollback") in transitions.taken


async def test_what_nobody_began_to_undo_and_nobody_will_is_doubted(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only worker hangs with the one note when the rollback is ended by force, and has not looked at the other."""
    remove, reached, goes_on, begun_with = workshop.provider.notes.delete, asyncio.Event(), asyncio.Event(), list[str]()

    async def delete(context: Any, state: Any) -> Any:
        begun_with.append(state.properties["name"])
        reached.set()
        await goes_on.wait()
        return await remove(context, state)

    async def alone() -> None:
        while workshop.rung:
            await workshop.runners[0].run(workshop.rung.pop(0))

    monkeypatch.setattr(workshop.provider.notes, "delete", delete)
    job_id = await failing(workshop, {"a": note("a"), "b": note("b")})
    working = asyncio.create_task(alone())
    async with asyncio.timeout(10):
        await reached.wait()
    (other,) = {"a", "b"} - set(begun_with)
    await act(workshop, jobs.cancel, CancelJob(job_id, CancelMode.FORCE))
    goes_on.set()
    await working
    steps = await workshop.steps(job_id)
    assert (steps["a"], steps["b"]) == ("COMPENSATION_FAILED", "COMPENSATION_FAILED")
    assert (begun_with, (await resource(workshop, other)).status) == ([*({"a", "b"} - {other})], ResourceStatus.ACTIVE)
    left = ((other, RollbackResolution.SKIP_KEEP_UNKNOWN),)
    again = await act(workshop, jobs.continue_rollback, ContinueRollback(job_id, left))
    row = await resource(workshop, other)
    assert (row.status, row.drift_status) == (ResourceStatus.UNKNOWN, DriftStatus.MODIFIED)
    assert (await events_of(workshop, other))[-1] == ("ACTIVE", "UNKNOWN")
    assert (await workshop.settle(again.id)).status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {other: "x"}
    assert ("resource", "ACTIVE", "doubt") in transitions.taken
