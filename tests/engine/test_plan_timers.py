"""Plans that nobody acted on in time: the tick ends them, once, and says why."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.db.models import DeploymentPlan
from app.db.statements import Statement
from app.db.uow import SystemRole
from app.domain.enums import PlanType
from app.domain.statuses import PlanStatus
from app.engine import plan_timers, watches
from app.engine.ticking import tick
from tests.engine.harness import Workshop

PAST = datetime(2026, 1, 31, 8, tzinfo=UTC)
WAITING = (PlanStatus.PENDING_APPROVAL, PlanStatus.READY, PlanStatus.SCHEDULED, PlanStatus.WAITING)


async def planted(workshop: Workshop, status: PlanStatus, **columns: Any) -> int:
    """A plan as it is when its moment comes."""
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        plan = DeploymentPlan(
            tenant_id=workshop.tenant_id,
            plan_name="p",
            plan_type=PlanType.MANUAL,
            stack="s",
            status=status,
            **columns,
        )
        transaction.session.add(plan)
        await transaction.session.flush()
        return plan.id


async def found(workshop: Workshop, plan_id: int) -> DeploymentPlan:
    async with workshop.database.read(workshop.tenant_id) as session:
        return await session.get_one(DeploymentPlan, plan_id)


async def told(workshop: Workshop, plan_id: int) -> list[tuple[str, str, str]]:
    rows = await workshop.rows(
        "SELECT data->>'previous', data->>'status', data->>'reason' FROM event_log WHERE stream = 'PLAN'"
        " AND stream_id = :id ORDER BY seq",
        id=plan_id,
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("status", WAITING)
async def test_a_plan_whose_validity_is_over_expires(workshop: Workshop, status: PlanStatus) -> None:
    plan_id = await planted(workshop, status, valid_until=PAST)
    assert (await tick(workshop.database, ring_again_seconds=0)).expired == 1
    plan = await found(workshop, plan_id)
    reason = "APPROVAL_TIMEOUT" if status is PlanStatus.PENDING_APPROVAL else "NONE"
    assert (plan.status, plan.status_reason, plan.version) == (PlanStatus.EXPIRED, reason, 2)
    assert plan.status_message == "it was valid until 2026-01-31 08:00 UTC"
    assert plan.completed_at is not None
    assert await told(workshop, plan_id) == [(status.value, "EXPIRED", reason)]
    assert (await tick(workshop.database, ring_again_seconds=0)).expired == 0


@pytest.mark.parametrize("status", sorted(set(PlanStatus) - set(WAITING)))
async def test_validity_means_nothing_to_a_plan_that_is_elsewhere(workshop: Workshop, status: PlanStatus) -> None:
    plan_id = await planted(workshop, status, valid_until=PAST, approval_deadline=PAST, fire_at=PAST)
    assert (await tick(workshop.database, ring_again_seconds=0)).expired == 0
    plan = await found(workshop, plan_id)
    assert (plan.status, plan.version) == (status, 1)
    assert await told(workshop, plan_id) == []


async def test_what_is_still_valid_or_deleted_is_left_alone(workshop: Workshop) -> None:
    later = datetime.now(UTC) + timedelta(minutes=5)
    left = [
        await planted(workshop, PlanStatus.READY, valid_until=later),
        await planted(workshop, PlanStatus.READY, valid_until=None),
        await planted(workshop, PlanStatus.READY, approval_deadline=PAST),
        await planted(workshop, PlanStatus.READY, valid_until=PAST, is_deleted=True),
        await planted(workshop, PlanStatus.PENDING_APPROVAL, valid_until=later, approval_deadline=later),
    ]
    assert (await tick(workshop.database, ring_again_seconds=0)).expired == 0
    assert {(await found(workshop, plan_id)).version for plan_id in left} == {1}


async def test_a_plan_that_nobody_approved_in_time_expires_for_that_reason(workshop: Workshop) -> None:
    plan_id = await planted(workshop, PlanStatus.PENDING_APPROVAL, approval_deadline=PAST)
    both = await planted(workshop, PlanStatus.PENDING_APPROVAL, approval_deadline=PAST, valid_until=PAST)
    assert (await tick(workshop.database, ring_again_seconds=0)).expired == 2
    plan = await found(workshop, plan_id)
    assert (plan.status, plan.status_reason) == (PlanStatus.EXPIRED, "APPROVAL_TIMEOUT")
    assert plan.status_message == "it was not approved until 2026-01-31 08:00 UTC"
    assert await told(workshop, both) == [("PENDING_APPROVAL", "EXPIRED", "APPROVAL_TIMEOUT")]


async def test_many_ticks_at_once_expire_each_plan_once(workshop: Workshop) -> None:
    plans = [await planted(workshop, PlanStatus.READY, valid_until=PAST) for _ in range(20)]
    ticked = await asyncio.gather(*(tick(workshop.database, ring_again_seconds=0) for _ in range(5)))
    assert sum(done.expired for done in ticked) == len(plans)
    for plan_id in plans:
        assert await told(workshop, plan_id) == [("READY", "EXPIRED", "NONE")]


async def test_a_plan_that_somebody_holds_is_left_for_the_next_tick(workshop: Workshop) -> None:
    plan_id = await planted(workshop, PlanStatus.READY, valid_until=PAST)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        await transaction.session.get_one(DeploymentPlan, plan_id, with_for_update=True)
        assert (await tick(workshop.database, ring_again_seconds=0)).expired == 0
    assert (await tick(workshop.database, ring_again_seconds=0)).expired == 1


async def test_finding_what_is_due_reads_only_what_is_due(workshop: Workshop) -> None:
    """A timer that were compared with a clock that goes on would be read for every plan there is."""
    later = datetime.now(UTC) + timedelta(days=1)
    for status in (PlanStatus.PENDING_APPROVAL, PlanStatus.SCHEDULED):
        await planted(workshop, status, valid_until=later, approval_deadline=later, fire_at=later)
    async with workshop.database.system(SystemRole.TICK) as transaction:
        await transaction.session.execute(text("SET LOCAL enable_seqscan = off"))
        for statement in (*plan_timers.TIMERS, *watches.TIMERS):
            explained = await transaction.fetch(Statement(f"EXPLAIN {statement.sql.replace('$1', '5')}"), {})
            plan = "\n".join(row["QUERY PLAN"] for row in explained)
            assert "Index Cond: " in plan, plan
            assert "statement_timestamp()" in plan.split("Index Cond: ")[1].splitlines()[0]
