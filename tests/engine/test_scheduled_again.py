"""Recurring plans: each of their times becomes a plan of its own, once, whatever happens around it."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs

from app.db.models import DeploymentPlan, PlanFiring
from app.domain.enums import ChangedPolicy, FiringOutcome, MissedPolicy, OverlapPolicy, PlanType
from app.domain.errors import IllegalState
from app.domain.statuses import PlanStatus
from app.engine.ticking import tick
from app.services import plans
from app.services.plans import ExecutePlan, PlanAction, UpdatePlan, spawning
from app.services.plans.firing import DuePlan, fire
from tests.engine.harness import Workshop, note
from tests.engine.mutants import planted
from tests.engine.schedules import (
    DAY,
    WAIT,
    approve,
    children,
    daily,
    finish,
    firings,
    found,
    half_an_hour_ago,
    scheduled,
    set_time,
    somebody_else,
    tick_and_fire,
)

QUEUED, SPAWNED, OVERLAPPED, MISSED = "QUEUED", "SPAWNED", "OVERLAPPED", "MISSED"


async def recurring(workshop: Workshop, **more: Any) -> int:
    """A plan that waits a moment every day, and is due now."""
    approvals = more.pop("approvals", None)
    plan_id = await scheduled(
        workshop, daily(**more), workflow=await workshop.workflow(WAIT), approvals=approvals, stack="s"
    )
    if approvals is None:
        assert (await found(workshop, plan_id)).status is PlanStatus.SCHEDULED
        await set_time(workshop, plan_id, half_an_hour_ago())
    return plan_id


async def test_each_time_becomes_a_plan_of_its_own(workshop: Workshop) -> None:
    plan_id, time = await recurring(workshop), half_an_hour_ago()
    assert await tick_and_fire(workshop) == 1
    plan, (child,) = await found(workshop, plan_id), await children(workshop, plan_id)
    assert (plan.status, plan.scheduled_at, plan.last_job_id) == (PlanStatus.SCHEDULED, time + DAY, None)
    assert (child.plan_type, child.scheduled_at, child.created_by) == (PlanType.IMMEDIATE, time, "system:scheduler")
    assert (child.user_id, child.plan_name, child.schedule) == (plan.user_id, plan.plan_name, None)
    assert child.preview_hash == plan.preview_hash
    assert await firings(workshop, plan_id) == [(time, SPAWNED)]
    assert (await finish(workshop, child)).status is PlanStatus.SUCCEEDED
    assert await tick_and_fire(workshop) == 0
    await set_time(workshop, plan_id, time - DAY)
    # The time of yesterday is entered as missed; that of today has been, and is not run again.
    assert await tick_and_fire(workshop) == 1
    assert await firings(workshop, plan_id) == [(time - DAY, MISSED), (time, SPAWNED)]
    assert len(await children(workshop, plan_id)) == 1


@pytest.mark.parametrize("bug", ["time-left-out", "time-run-twice"])
async def test_a_time_that_is_left_out_or_run_twice_would_be_noticed(
    workshop: Workshop, bug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)
    with planted(bug), pytest.raises((AssertionError, ValueError), match=r"too many values|At index 1 diff"):
        await test_each_time_becomes_a_plan_of_its_own(workshop)


async def test_many_clocks_at_once_fire_each_time_once(workshop: Workshop) -> None:
    plan_id = await recurring(workshop)
    due = DuePlan(workshop.tenant_id, plan_id)
    with capture_logs() as logs:
        fired = await asyncio.gather(*(fire(workshop.database, due, workshop.dependencies) for _ in range(5)))
    assert (fired.count(True), logs) == (1, [])
    rounds = await asyncio.gather(*(tick_and_fire(workshop) for _ in range(3)))
    assert sum(rounds) == 0
    assert len(await children(workshop, plan_id)) == 1
    assert len(await workshop.rows("SELECT 1 FROM orchestration_job")) == 1


async def test_the_key_of_a_firing_is_what_keeps_it_from_happening_twice(workshop: Workshop) -> None:
    plan_id = await recurring(workshop)
    await tick_and_fire(workshop)
    row = PlanFiring(
        tenant_id=workshop.tenant_id, plan_id=plan_id, fire_at=half_an_hour_ago(), outcome=FiringOutcome.QUEUED
    )
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        transaction.session.add(row)
        with pytest.raises(IntegrityError, match="pk_plan_firing"):
            await transaction.session.flush()
        await transaction.session.rollback()


async def test_times_that_passed_unseen_run_once(workshop: Workshop) -> None:
    plan_id, time = await recurring(workshop), half_an_hour_ago()
    await set_time(workshop, plan_id, time - 5 * DAY)
    assert await tick_and_fire(workshop) == 1
    assert await firings(workshop, plan_id) == [(time - 5 * DAY, MISSED), (time, SPAWNED)]
    assert (await found(workshop, plan_id)).scheduled_at == time + DAY


async def test_times_that_passed_unseen_are_skipped_if_so_wanted(workshop: Workshop) -> None:
    plan_id, time = await recurring(workshop, missed=MissedPolicy.SKIP), half_an_hour_ago()
    await set_time(workshop, plan_id, time - 5 * DAY)
    assert await tick_and_fire(workshop) == 1
    assert await firings(workshop, plan_id) == [(time - 5 * DAY, MISSED), (time, MISSED)]
    assert await children(workshop, plan_id) == []
    plan = await found(workshop, plan_id)
    assert (plan.status, plan.scheduled_at) == (PlanStatus.SCHEDULED, time + DAY)


async def again(workshop: Workshop, plan_id: int, *, after: int) -> None:
    """Let it be due once more, though an earlier run is not over: `after` days later by the calendar of the test."""
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        for table, column, owner in (
            ("plan_firing", "fire_at", "plan_id"),
            ("deployment_plan", "scheduled_at", "parent_plan_id"),
        ):
            earlier = f"UPDATE {table} SET {column} = {column} - make_interval(days => :days) WHERE {owner} = :id"
            await transaction.session.execute(text(earlier), {"days": after, "id": plan_id})
    await set_time(workshop, plan_id, half_an_hour_ago())
    assert await tick_and_fire(workshop) == 1


@pytest.mark.parametrize(
    ("overlap", "outcomes"),
    [
        (OverlapPolicy.SKIP, [SPAWNED, OVERLAPPED, OVERLAPPED]),
        (OverlapPolicy.QUEUE_ONE, [SPAWNED, QUEUED, OVERLAPPED]),
        (OverlapPolicy.QUEUE_ALL, [SPAWNED, QUEUED, QUEUED]),
    ],
)
async def test_what_is_due_while_an_earlier_run_is_not_over(
    workshop: Workshop, overlap: OverlapPolicy, outcomes: list[str]
) -> None:
    plan_id = await recurring(workshop, overlap=overlap)
    await tick_and_fire(workshop)
    for _ in outcomes[1:]:
        await again(workshop, plan_id, after=1)
    assert [outcome for _, outcome in await firings(workshop, plan_id)] == outcomes
    assert await tick_and_fire(workshop) == 0
    # What waits is run when the earlier run is over, one at a time and the oldest first.
    for done in range(1, 1 + outcomes.count(QUEUED)):
        made = await children(workshop, plan_id)
        assert len(made) == done
        await finish(workshop, made[-1])
        assert await tick_and_fire(workshop) == 1
    expected = [SPAWNED if outcome == QUEUED else outcome for outcome in outcomes]
    assert [outcome for _, outcome in await firings(workshop, plan_id)] == expected
    made = await children(workshop, plan_id)
    times = [child.scheduled_at for child in made]
    assert times == [time for time, outcome in await firings(workshop, plan_id) if outcome == SPAWNED]


async def test_a_running_one_is_cancelled_for_the_next_if_so_wanted(workshop: Workshop) -> None:
    plan_id = await recurring(workshop, overlap=OverlapPolicy.CANCEL_RUNNING)
    await tick_and_fire(workshop)
    await again(workshop, plan_id, after=1)
    first = (await children(workshop, plan_id))[0]
    assert first.last_job_id is not None
    await workshop.settle(first.last_job_id)
    await tick_and_fire(workshop)
    first, second = await children(workshop, plan_id)
    assert first.status is PlanStatus.CANCELLED
    assert (await finish(workshop, second)).status is PlanStatus.SUCCEEDED
    assert [outcome for _, outcome in await firings(workshop, plan_id)] == [SPAWNED, SPAWNED]


async def test_one_that_waits_for_approval_is_cancelled_for_the_next(workshop: Workshop) -> None:
    approvals = {"required": 1}
    plan_id = await recurring(workshop, overlap=OverlapPolicy.CANCEL_RUNNING, approvals=approvals)
    await approve(workshop, await somebody_else(workshop), plan_id)
    await _change_what_it_does(workshop, plan_id)
    await set_time(workshop, plan_id, half_an_hour_ago())
    await tick_and_fire(workshop)
    assert [child.status for child in await children(workshop, plan_id)] == [PlanStatus.PENDING_APPROVAL]
    await again(workshop, plan_id, after=1)
    statuses = [child.status for child in await children(workshop, plan_id)]
    assert statuses == [PlanStatus.CANCELLED, PlanStatus.PENDING_APPROVAL]


async def test_what_waited_longer_than_its_window_is_missed(workshop: Workshop) -> None:
    plan_id = await recurring(workshop, overlap=OverlapPolicy.QUEUE_ALL, window=timedelta(hours=2))
    await tick_and_fire(workshop)
    await again(workshop, plan_id, after=1)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        await transaction.session.execute(
            text("UPDATE plan_firing SET fire_at = fire_at - interval '3 hours' WHERE outcome = 'QUEUED'")
        )
    await finish(workshop, (await children(workshop, plan_id))[0])
    assert await tick_and_fire(workshop) == 0
    assert [outcome for _, outcome in await firings(workshop, plan_id)] == [SPAWNED, MISSED]


async def test_what_was_approved_of_a_plan_counts_for_each_run_that_does_the_same(workshop: Workshop) -> None:
    other = await somebody_else(workshop)
    plan_id = await recurring(workshop, approvals={"required": 1})
    assert await tick_and_fire(workshop) == 0
    assert (await approve(workshop, other, plan_id)).status is PlanStatus.SCHEDULED
    await set_time(workshop, plan_id, half_an_hour_ago())
    await tick_and_fire(workshop)
    (child,) = await children(workshop, plan_id)
    assert (await finish(workshop, child)).status is PlanStatus.SUCCEEDED
    inherited = await workshop.rows("SELECT user_id, approved FROM approval WHERE plan_id = :id", id=child.id)
    assert [tuple(row) for row in inherited] == [(other.user_id, True)]


async def test_a_run_that_does_something_else_is_approved_by_itself(workshop: Workshop) -> None:
    other = await somebody_else(workshop)
    plan_id = await recurring(workshop, approvals={"required": 1})
    await approve(workshop, other, plan_id)
    await _change_what_it_does(workshop, plan_id)
    await set_time(workshop, plan_id, half_an_hour_ago())
    await tick_and_fire(workshop)
    (child,) = await children(workshop, plan_id)
    assert (child.status, child.last_job_id) == (PlanStatus.PENDING_APPROVAL, None)
    assert child.status_message == "what it would do is not what was approved of its plan"
    assert (await found(workshop, plan_id)).status is PlanStatus.SCHEDULED
    await approve(workshop, other, child.id)
    assert (await finish(workshop, await found(workshop, child.id))).status is PlanStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("changed", "status"),
    [(ChangedPolicy.PROCEED, PlanStatus.SUCCEEDED), (ChangedPolicy.CANCEL, PlanStatus.CANCELLED)],
)
async def test_a_run_that_does_something_else_may_go_on_or_be_called_off(
    workshop: Workshop, changed: ChangedPolicy, status: PlanStatus
) -> None:
    plan_id = await recurring(workshop, approvals={"required": 1}, changed=changed)
    await approve(workshop, await somebody_else(workshop), plan_id)
    await _change_what_it_does(workshop, plan_id)
    await set_time(workshop, plan_id, half_an_hour_ago())
    await tick_and_fire(workshop)
    (child,) = await children(workshop, plan_id)
    done = child if child.last_job_id is None else await finish(workshop, child)
    assert done.status is status
    assert (await found(workshop, plan_id)).status is PlanStatus.SCHEDULED


async def test_a_run_that_cannot_be_worked_out_is_invalid_and_the_next_is_made_all_the_same(workshop: Workshop) -> None:
    plan_id = await recurring(workshop)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        await transaction.session.execute(text("UPDATE workflow SET is_active = false"))
    await tick_and_fire(workshop)
    (child,) = await children(workshop, plan_id)
    assert child.status is PlanStatus.INVALID
    assert [fault["path"] for fault in child.diagnostics or ()] == [["workflowId"]]
    assert (await found(workshop, plan_id)).status is PlanStatus.SCHEDULED


async def test_a_run_is_not_edited_and_its_plan_never_runs_itself(workshop: Workshop) -> None:
    plan_id = await recurring(workshop)
    await tick_and_fire(workshop)
    (child,) = await children(workshop, plan_id)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = UpdatePlan(child.id, child.version, description="x")
        with pytest.raises(IllegalState, match="one run of a recurring plan"):
            await plans.update(transaction, workshop.principal, command, workshop.dependencies)
        with pytest.raises(IllegalState, match="a plan of its own"):
            await plans.execute(transaction, workshop.principal, ExecutePlan(plan_id), workshop.dependencies)


async def test_a_cancelled_plan_forgets_what_waited(workshop: Workshop) -> None:
    plan_id = await recurring(workshop, overlap=OverlapPolicy.QUEUE_ONE)
    await tick_and_fire(workshop)
    await again(workshop, plan_id, after=1)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        await plans.cancel(transaction, workshop.principal, PlanAction(plan_id), workshop.dependencies)
    (child,) = await children(workshop, plan_id)
    assert (await finish(workshop, child)).status is PlanStatus.SUCCEEDED
    assert await tick_and_fire(workshop) == 0
    assert [outcome for _, outcome in await firings(workshop, plan_id)] == [SPAWNED, MISSED]
    assert (await found(workshop, plan_id)).status is PlanStatus.CANCELLED


async def test_a_plan_that_meets_a_fault_of_ours_keeps_no_other_from_its_time(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await recurring(workshop), await _another(workshop)
    spawn = spawning.spawn

    async def failing(transaction: Any, clockwork: Any, plan: DeploymentPlan, *rest: Any) -> DeploymentPlan:
        if plan.id == bad:
            message = "a fault of ours"
            raise RuntimeError(message)
        return await spawn(transaction, clockwork, plan, *rest)

    monkeypatch.setattr(spawning, "spawn", failing)
    assert await tick_and_fire(workshop) == 1
    assert (await children(workshop, bad), len(await children(workshop, good))) == ([], 1)
    plan = await found(workshop, bad)
    assert plan.status is PlanStatus.SCHEDULED
    assert plan.scheduled_at == half_an_hour_ago()
    assert await tick_and_fire(workshop) == 0, "it is not tried again at once"
    monkeypatch.undo()
    await set_time(workshop, bad, half_an_hour_ago())
    assert await tick_and_fire(workshop) == 1
    assert len(await children(workshop, bad)) == 1


async def test_what_waits_and_meets_a_fault_of_ours_is_tried_again_later(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_id = await recurring(workshop, overlap=OverlapPolicy.QUEUE_ONE)
    await tick_and_fire(workshop)
    await again(workshop, plan_id, after=1)
    await finish(workshop, (await children(workshop, plan_id))[0])

    async def failing(*_: Any) -> DeploymentPlan:
        message = "a fault of ours"
        raise RuntimeError(message)

    monkeypatch.setattr(spawning, "spawn", failing)
    with capture_logs() as logs:
        assert await tick_and_fire(workshop) == 0
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["a plan could not be fired"]
    monkeypatch.undo()
    assert list((await tick(workshop.database, ring_again_seconds=0)).due_plans) == []
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        await transaction.session.execute(text("UPDATE plan_firing SET retry_at = clock_timestamp()"))
    assert await tick_and_fire(workshop) == 1
    assert [outcome for _, outcome in await firings(workshop, plan_id)] == [SPAWNED, SPAWNED]


async def _another(workshop: Workshop) -> int:
    plan_id = await scheduled(workshop, daily(), workflow=await workshop.workflow(WAIT, name="other"), stack="other")
    await set_time(workshop, plan_id, half_an_hour_ago())
    return plan_id


async def _change_what_it_does(workshop: Workshop, plan_id: int) -> None:
    """Let the plan's stack hold something by then that its template does not name."""
    template = await workshop.template({"resources": {"a": note("a")}})
    await workshop.settle(await workshop.submit(template, stack="s"))
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        more = await workshop.workflow(WAIT, {**WAIT, "key": "more"}, name="more")
        await transaction.session.execute(
            text("UPDATE deployment_plan SET workflow_id = :flow WHERE id = :id"), {"flow": more, "id": plan_id}
        )
