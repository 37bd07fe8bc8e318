"""Plans that run once, by themselves, when it is time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.db import uow
from app.db.models import DeploymentPlan
from app.domain.enums import ChangedPolicy, MissedPolicy
from app.domain.errors import IllegalState
from app.domain.scheduling import Schedule
from app.domain.statuses import PlanStatus
from app.engine.ticking import tick
from app.services import plans
from app.services.plans import ExecutePlan, PlanAction, UpdatePlan
from app.services.plans.firing import DuePlan, fire
from tests.engine.harness import Workshop, note
from tests.engine.schedules import (
    DAY,
    approve,
    finish,
    found,
    half_an_hour_ago,
    once,
    scheduled,
    set_time,
    somebody_else,
    tick_and_fire,
)
from tests.engine.test_pausing import act
from workers.tick import keep_ticking


async def noted(workshop: Workshop, *names: str) -> int:
    return await workshop.template({"resources": {name: note(name) for name in names}}, "-".join(names))


async def test_it_waits_for_its_time_and_then_runs_by_itself(workshop: Workshop) -> None:
    schedule = once()
    plan_id = await scheduled(workshop, schedule, template=await noted(workshop, "a"))
    plan = await found(workshop, plan_id)
    assert (plan.status, plan.scheduled_at, plan.fire_at) == (PlanStatus.SCHEDULED, schedule.at, schedule.at)
    assert await tick_and_fire(workshop) == 0
    await set_time(workshop, plan_id, half_an_hour_ago())
    assert await tick_and_fire(workshop) == 1
    plan = await finish(workshop, await found(workshop, plan_id))
    assert plan.status is PlanStatus.SUCCEEDED
    assert workshop.notes() == {"a": "x"}
    assert await tick_and_fire(workshop) == 0
    told = await workshop.rows(
        "SELECT data->>'status' AS status, actor FROM event_log WHERE stream = 'PLAN' AND stream_id = :id ORDER BY seq",
        id=plan_id,
    )
    assert [row.status for row in told][:6] == ["DRAFT", "VALIDATING", "READY", "SCHEDULED", "QUEUED", "RUNNING"]
    assert [row.actor for row in told][4] == "system:scheduler"


async def test_many_clocks_at_once_run_it_once(workshop: Workshop) -> None:
    plan_id = await scheduled(workshop, once(), template=await noted(workshop, "a"))
    await set_time(workshop, plan_id, half_an_hour_ago())
    due = DuePlan(workshop.tenant_id, plan_id)
    ticked = await asyncio.gather(*(tick(workshop.database, ring_again_seconds=0) for _ in range(3)))
    assert {plan for done in ticked for plan in done.due_plans} == {(workshop.tenant_id, plan_id)}
    with capture_logs() as logs:
        fired = await asyncio.gather(*(fire(workshop.database, due, workshop.dependencies) for _ in range(5)))
    assert (fired.count(True), logs) == (1, [])
    assert len(await workshop.rows("SELECT 1 FROM orchestration_job")) == 1


async def test_jitter_puts_it_off_by_a_time_that_stays(workshop: Workshop) -> None:
    schedule = once(jitter=timedelta(hours=6))
    plan_id = await scheduled(workshop, schedule, template=await noted(workshop, "a"))
    plan = await found(workshop, plan_id)
    assert plan.scheduled_at == schedule.at
    assert schedule.at is not None
    assert plan.fire_at == schedule.starts_at(plan_id, schedule.at)
    assert plan.fire_at != plan.scheduled_at


@pytest.mark.parametrize(
    ("late", "window", "missed", "status"),
    [
        (timedelta(days=3), None, MissedPolicy.RUN_NOW, PlanStatus.QUEUED),
        (timedelta(seconds=20), None, MissedPolicy.SKIP, PlanStatus.QUEUED),
        (timedelta(minutes=2), None, MissedPolicy.SKIP, PlanStatus.EXPIRED),
        (timedelta(minutes=50), timedelta(hours=1), MissedPolicy.SKIP, PlanStatus.QUEUED),
        (timedelta(minutes=70), timedelta(hours=1), MissedPolicy.RUN_NOW, PlanStatus.EXPIRED),
    ],
)
async def test_what_follows_when_nobody_was_there(
    workshop: Workshop, late: timedelta, window: timedelta | None, missed: MissedPolicy, status: PlanStatus
) -> None:
    plan_id = await scheduled(workshop, once(window=window, missed=missed), template=await noted(workshop, "a"))
    await set_time(workshop, plan_id, datetime.now(UTC) - late)
    assert await tick_and_fire(workshop) == 1
    plan = await found(workshop, plan_id)
    assert (plan.status is PlanStatus.EXPIRED) == (status is PlanStatus.EXPIRED)
    assert (plan.last_job_id is None) == (status is PlanStatus.EXPIRED)
    assert await tick_and_fire(workshop) == 0
    if status is PlanStatus.EXPIRED:
        assert (plan.status_message or "").startswith("it could not begin in time")
        assert plan.completed_at is not None


async def test_what_nobody_had_to_approve_does_what_is_right_when_it_is_due(workshop: Workshop) -> None:
    plan_id = await scheduled(workshop, once(), template=await noted(workshop, "a", "b"))
    before = (await found(workshop, plan_id)).preview_hash
    await workshop.settle(await workshop.submit(await noted(workshop, "b")))
    await set_time(workshop, plan_id, half_an_hour_ago())
    assert await tick_and_fire(workshop) == 1
    plan = await finish(workshop, await found(workshop, plan_id))
    assert (plan.status, plan.preview_hash != before) == (PlanStatus.SUCCEEDED, True)
    assert workshop.notes() == {"a": "x", "b": "x"}


async def test_what_changed_since_it_was_approved_is_approved_again(workshop: Workshop) -> None:
    other = await somebody_else(workshop)
    approvals = {"required": 1}
    plan_id = await scheduled(workshop, once(), template=await noted(workshop, "a", "b"), approvals=approvals)
    assert (await found(workshop, plan_id)).status is PlanStatus.PENDING_APPROVAL
    assert (await approve(workshop, other, plan_id)).status is PlanStatus.SCHEDULED
    await workshop.settle(await workshop.submit(await noted(workshop, "b")))
    await set_time(workshop, plan_id, half_an_hour_ago())
    assert await tick_and_fire(workshop) == 1
    plan = await found(workshop, plan_id)
    assert (plan.status, plan.last_job_id) == (PlanStatus.PENDING_APPROVAL, None)
    assert plan.status_message == "what it would do has changed since it was approved"
    assert await tick_and_fire(workshop) == 0
    # Its time is the one of the schedule, which still lies ahead here: it is set anew.
    plan = await approve(workshop, other, plan_id)
    assert (plan.status, plan.scheduled_at) == (PlanStatus.SCHEDULED, Schedule.of(plan.schedule or {}).at)
    await set_time(workshop, plan_id, half_an_hour_ago())
    await tick_and_fire(workshop)
    assert (await finish(workshop, await found(workshop, plan_id))).status is PlanStatus.SUCCEEDED


async def changed_since(workshop: Workshop, changed: ChangedPolicy | None, approvals: dict[str, Any] | None) -> Any:
    """A plan that is due and would do something else than what it was let go with."""
    schedule = once(changed=changed)
    plan_id = await scheduled(workshop, schedule, template=await noted(workshop, "a", "b"), approvals=approvals)
    if approvals is not None:
        await approve(workshop, await somebody_else(workshop), plan_id)
    await workshop.settle(await workshop.submit(await noted(workshop, "b")))
    await set_time(workshop, plan_id, half_an_hour_ago())
    assert await tick_and_fire(workshop) == 1
    return await found(workshop, plan_id)


@pytest.mark.parametrize(
    ("changed", "required", "status"),
    [
        (None, 1, PlanStatus.PENDING_APPROVAL),
        (None, 0, PlanStatus.SUCCEEDED),
        (ChangedPolicy.REAPPROVE, 1, PlanStatus.PENDING_APPROVAL),
        (ChangedPolicy.PROCEED, 1, PlanStatus.SUCCEEDED),
        (ChangedPolicy.PROCEED, 0, PlanStatus.SUCCEEDED),
        (ChangedPolicy.CANCEL, 1, PlanStatus.CANCELLED),
        (ChangedPolicy.CANCEL, 0, PlanStatus.CANCELLED),
    ],
)
async def test_what_follows_a_change_is_a_setting(
    workshop: Workshop, changed: ChangedPolicy | None, required: int, status: PlanStatus
) -> None:
    plan = await changed_since(workshop, changed, {"required": required} if required else None)
    if status is PlanStatus.SUCCEEDED:
        plan = await finish(workshop, plan)
    assert plan.status is status
    assert set(workshop.notes()) == ({"a", "b"} if status is PlanStatus.SUCCEEDED else {"b"})
    if status is PlanStatus.CANCELLED:
        assert (plan.status_reason, plan.last_job_id) == ("PREVIEW_STALE", None)
        assert plan.status_message == "what it would do is not what was agreed to any more"
        assert plan.completed_at is not None


async def test_what_is_the_same_runs_whatever_is_to_follow_a_change(workshop: Workshop) -> None:
    schedule = once(changed=ChangedPolicy.CANCEL)
    plan_id = await scheduled(workshop, schedule, template=await noted(workshop, "a"))
    await set_time(workshop, plan_id, half_an_hour_ago())
    await tick_and_fire(workshop)
    assert (await finish(workshop, await found(workshop, plan_id))).status is PlanStatus.SUCCEEDED


async def test_what_was_approved_and_is_the_same_runs(workshop: Workshop) -> None:
    other = await somebody_else(workshop)
    plan_id = await scheduled(workshop, once(), template=await noted(workshop, "a"), approvals={"required": 1})
    await approve(workshop, other, plan_id)
    await set_time(workshop, plan_id, half_an_hour_ago())
    await tick_and_fire(workshop)
    assert (await finish(workshop, await found(workshop, plan_id))).status is PlanStatus.SUCCEEDED


async def test_when_there_is_nothing_left_to_do_no_job_is_made(workshop: Workshop) -> None:
    template = await noted(workshop, "a")
    plan_id = await scheduled(workshop, once(), template=template)
    await workshop.settle(await workshop.submit(template))
    await _let_be_due(workshop, plan_id)
    assert await tick_and_fire(workshop) == 1
    plan = await found(workshop, plan_id)
    assert (plan.status, plan.status_reason, plan.last_job_id) == (PlanStatus.SUCCEEDED, "NO_CHANGES", None)


async def test_when_there_is_nothing_to_do_yet_it_waits_all_the_same(workshop: Workshop) -> None:
    template = await noted(workshop, "a")
    await workshop.settle(await workshop.submit(template))
    plan_id = await scheduled(workshop, once(), template=template)
    assert (await found(workshop, plan_id)).status is PlanStatus.SCHEDULED


async def invalid(workshop: Workshop) -> DeploymentPlan:
    """A plan whose template was withdrawn before its time came."""
    plan_id = await scheduled(workshop, once(), template=await noted(workshop, "a"))
    await _set_revisions(workshop, "ARCHIVED")
    await set_time(workshop, plan_id, half_an_hour_ago())
    assert await tick_and_fire(workshop) == 1
    plan = await found(workshop, plan_id)
    assert plan.status is PlanStatus.INVALID
    return plan


async def _set_revisions(workshop: Workshop, status: str) -> None:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        await transaction.session.execute(text("UPDATE template_revision SET status = :status"), {"status": status})


async def test_what_cannot_be_worked_out_any_more_is_invalid_and_says_why(workshop: Workshop) -> None:
    plan = await invalid(workshop)
    assert [fault["path"] for fault in plan.diagnostics or ()] == [["templateRevisionId"]]


async def test_what_is_invalid_is_mended_by_an_edit(workshop: Workshop) -> None:
    plan = await invalid(workshop)
    await _set_revisions(workshop, "PUBLISHED")
    later = once()
    await act(workshop, plans.update, UpdatePlan(plan.id, plan.version, schedule=later))
    edited = await found(workshop, plan.id)
    assert (edited.status, edited.status_message, edited.diagnostics) == (PlanStatus.DRAFT, None, None)
    await act(workshop, plans.submit, PlanAction(plan.id))
    again = await found(workshop, plan.id)
    assert (again.status, again.scheduled_at) == (PlanStatus.SCHEDULED, later.at)


async def test_what_is_invalid_can_be_given_up(workshop: Workshop) -> None:
    plan = await invalid(workshop)
    await act(workshop, plans.cancel, PlanAction(plan.id, plan.version, "no longer needed"))
    given_up = await found(workshop, plan.id)
    assert (given_up.status, given_up.status_reason, given_up.status_message, given_up.last_job_id) == (
        PlanStatus.CANCELLED,
        "USER",
        "no longer needed",
        None,
    )
    with pytest.raises(IllegalState):
        await act(workshop, plans.submit, PlanAction(plan.id))
    # It is not due any more.
    await set_time(workshop, plan.id, half_an_hour_ago())
    assert await tick_and_fire(workshop) == 0


async def test_it_may_be_run_before_its_time(workshop: Workshop) -> None:
    plan_id = await scheduled(workshop, once(), template=await noted(workshop, "a"))
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        await plans.execute(transaction, workshop.principal, ExecutePlan(plan_id), workshop.dependencies)
    await set_time(workshop, plan_id, half_an_hour_ago())
    assert await tick_and_fire(workshop) == 0
    assert (await finish(workshop, await found(workshop, plan_id))).status is PlanStatus.SUCCEEDED


async def test_an_edit_takes_it_from_the_clock_until_it_is_submitted_again(workshop: Workshop) -> None:
    plan_id = await scheduled(workshop, once(), template=await noted(workshop, "a"))
    version = (await found(workshop, plan_id)).version
    later = once().at
    assert later is not None
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = UpdatePlan(plan_id, version, schedule=Schedule("UTC", at=later + DAY))
        await plans.update(transaction, workshop.principal, command, workshop.dependencies)
    plan = await found(workshop, plan_id)
    assert (plan.status, plan.scheduled_at, plan.fire_at) == (PlanStatus.DRAFT, None, None)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        await plans.submit(transaction, workshop.principal, plans.PlanAction(plan_id), workshop.dependencies)
    plan = await found(workshop, plan_id)
    assert (plan.status, plan.scheduled_at) == (PlanStatus.SCHEDULED, later + DAY)


async def test_the_loop_of_a_process_fires_what_its_tick_finds(workshop: Workshop) -> None:
    plan_id = await scheduled(workshop, once(), template=await noted(workshop, "a"))
    await set_time(workshop, plan_id, half_an_hour_ago())
    ticking = asyncio.create_task(keep_ticking(workshop.database, workshop.dependencies, None, 0.02, 10))
    try:
        async with asyncio.timeout(10):
            while (await found(workshop, plan_id)).last_job_id is None:  # noqa: ASYNC110  only the database tells
                await asyncio.sleep(0.02)
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)


async def test_a_plan_that_waits_in_vain_keeps_no_other_from_its_time(
    workshop: Workshop, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds the resources of its stack, and the statement that waits for them is ended."""
    monkeypatch.setattr(uow, "WRITE_TIMEOUT", "300ms")
    revision = await noted(workshop, "a")
    stuck, other = [await scheduled(workshop, once(), template=revision, stack=stack) for stack in ("held", "free")]
    for plan_id, hours in ((stuck, 2), (other, 1)):
        await set_time(workshop, plan_id, datetime.now(UTC) - timedelta(hours=hours))
    holder = await asyncpg.connect(database_url)
    await holder.execute("SELECT pg_advisory_lock(77078, hashtext($1))", f"{workshop.tenant_id}/held")
    ticking = asyncio.create_task(keep_ticking(workshop.database, workshop.dependencies, None, 0.02, 10))
    try:
        async with asyncio.timeout(20):
            while (await found(workshop, other)).last_job_id is None:  # noqa: ASYNC110  only the database tells
                await asyncio.sleep(0.02)
            assert (await found(workshop, stuck)).last_job_id is None
            await holder.close()
            while (await found(workshop, stuck)).last_job_id is None:  # noqa: ASYNC110  only the database tells
                await asyncio.sleep(0.02)
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)


async def _let_be_due(workshop: Workshop, plan_id: int) -> None:
    """As `set_time`, and in the schedule itself."""
    time = half_an_hour_ago()
    await set_time(workshop, plan_id, time)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        await transaction.session.execute(
            text(
                "UPDATE deployment_plan SET schedule = jsonb_set(schedule, '{at}', to_jsonb(:at ::text)) WHERE id = :id"
            ),
            {"at": time.isoformat(), "id": plan_id},
        )


async def test_what_is_not_valid_any_more_is_not_fired(workshop: Workshop) -> None:
    """Also where the tick that ends it was not there in time."""
    plan_id = await scheduled(workshop, once(), template=await noted(workshop, "a"))
    await set_time(workshop, plan_id, half_an_hour_ago())
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        await transaction.session.execute(text("UPDATE deployment_plan SET valid_until = now() - interval '1 second'"))
    assert not await fire(workshop.database, DuePlan(workshop.tenant_id, plan_id), workshop.dependencies)
    assert await tick_and_fire(workshop) == 0
    plan = await found(workshop, plan_id)
    assert (plan.status, plan.last_job_id) == (PlanStatus.EXPIRED, None)
