"""Ways through the machines that few jobs go: each is taken here, and told of once."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.enums import FailureStrategy, Reversibility, StepType
from app.domain.statuses import JobStatus, PlanStatus
from app.engine.ticking import tick
from app.providers.base import NO_PROPERTIES, ActionResult, ActionSpec, ErrorKind, ProviderError
from tests import transitions
from tests.engine.harness import Workshop, note
from tests.engine.test_recovery import die_at
from tests.engine.test_timeouts import moves

ONE = {"resources": {"a": note("a", "one")}}
FAILS = {
    "key": "fails",
    "type": "CUSTOM",
    "order": 9,
    "configuration": {"task": "core.assert"},
    "inputs": {"that": False, "message": "no"},
}
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
