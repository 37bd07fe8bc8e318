"""What a plan's schedule asks for when its time has come; done by the clock, in nobody's name.

A plan that runs once makes its job. A recurring one never runs itself: each of its times becomes a row under a unique
key, and a child plan that is worked out then. Everything is decided anew under the plan's lock and against the
database's clock, so that several processes that find the same plan due do it once.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import ColumnElement, func, select, true, update
from sqlalchemy.dialects.postgresql import insert

from app.db.away import DATABASE_AWAY
from app.db.models import DeploymentPlan, PlanFiring, Tenant
from app.db.uow import Database, Transaction
from app.domain.enums import CancelMode, CancelOutcome, FiringOutcome, OverlapPolicy, StatusReason
from app.domain.errors import DomainError, IllegalState
from app.domain.scheduling import Schedule
from app.domain.statuses import PLAN, PlanStatus
from app.services import jobs, launching
from app.services.dependencies import Dependencies
from app.services.plans import councils, passage, spawning
from app.services.plans.authoring import find
from app.services.plans.changed import WHY, Agreement
from app.services.plans.spawning import Clockwork

_ACTOR = "system:scheduler"
_PATIENCE = timedelta(seconds=30)
_logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DuePlan:
    """A plan whose time seems to have come."""

    tenant_id: int
    plan_id: int


async def fire(database: Database, due: DuePlan, dependencies: Dependencies) -> bool:
    """Do what the plan's schedule asks for now. Returns whether there was anything to do.

    A fault of ours is logged and the plan looked at again half a minute later, so that it keeps no other from its time.
    """
    try:
        async with database.write(due.tenant_id, actor=_ACTOR, correlation_id=f"schedule-{due.plan_id}") as transaction:
            transaction.authorize("the clock fires what somebody submitted")
            return await _fire(transaction, due.plan_id, dependencies)
    except DATABASE_AWAY:
        raise
    except Exception:
        _logger.exception("a plan could not be fired", tenant_id=due.tenant_id, plan_id=due.plan_id)
        await _postpone(database, due)
        return False


async def _fire(transaction: Transaction, plan_id: int, dependencies: Dependencies) -> bool:
    found = await transaction.session.execute(
        select(DeploymentPlan, Tenant.slug, func.clock_timestamp())
        .join(Tenant, Tenant.id == DeploymentPlan.tenant_id)
        .where(
            DeploymentPlan.tenant_id == transaction.tenant_id,
            DeploymentPlan.id == plan_id,
            DeploymentPlan.status == PlanStatus.SCHEDULED,
            ~DeploymentPlan.is_deleted,
            # One whose validity is over is the tick's to end.
            func.coalesce(DeploymentPlan.valid_until > func.clock_timestamp(), true()),
        )
        # Whoever holds it is at it, or changes it: the next tick sees what became of it.
        .with_for_update(of=DeploymentPlan, skip_locked=True)
    )
    row = found.one_or_none()
    if row is None:
        return False
    plan, slug, now = row
    schedule, clockwork = Schedule.of(plan.schedule), Clockwork(slug)
    is_due = plan.fire_at is not None and plan.fire_at <= now
    if schedule.recurrence is None:
        if is_due:
            await _run(transaction, clockwork, plan, schedule, now, dependencies)
        return is_due
    if is_due:
        await _fall_due(transaction, plan, schedule, now)
    spawned = await _spawn_next(transaction, clockwork, plan, schedule, now, dependencies)
    return is_due or spawned


async def _run(
    transaction: Transaction,
    clockwork: Clockwork,
    plan: DeploymentPlan,
    schedule: Schedule,
    now: datetime,
    dependencies: Dependencies,
) -> None:
    """Run a plan that runs once, unless it is too late for it, or has to be looked at again first."""
    time = plan.scheduled_at or now
    if not schedule.is_in_time(schedule.starts_at(plan.id, time), now):
        plan.completed_at = now
        message = f"it could not begin in time; it was to run at {time:%Y-%m-%d %H:%M} UTC"
        await launching.move_plan(transaction, plan, "missed_window", StatusReason.NONE, message)
        return
    agreement = Agreement.of(plan)
    try:
        deployment = await passage.work_out(transaction, clockwork, plan, dependencies)
    except DomainError:
        await passage.revalidate(transaction, clockwork, plan, dependencies)
        return
    if agreement.calls_off(deployment):
        plan.completed_at = now
        await launching.move_plan(transaction, plan, "cancel", StatusReason.PREVIEW_STALE, WHY)
        return
    agreed = agreement.covers(deployment) or await councils.is_agreed_to(transaction, plan, deployment)
    if deployment.is_empty or not agreed:
        await passage.revalidate(transaction, clockwork, plan, dependencies)
        return
    await passage.keep_preview(transaction, plan, deployment)
    await passage.start(transaction, clockwork, plan, deployment, dependencies, "due", agreed=True)


async def _fall_due(transaction: Transaction, plan: DeploymentPlan, schedule: Schedule, now: datetime) -> None:
    """Enter the time that is due, and set the clock to the next one.

    When several have passed, the last of them stands for all: the first is entered as missed, those between are not.
    """
    first = plan.scheduled_at or now
    time = _last_due(plan, schedule, first, now)
    if time != first:
        await _enter(transaction, plan, first, FiringOutcome.MISSED)
    queued = await _queued(transaction, plan)
    running = await _under_way(transaction, plan)
    outcome = FiringOutcome.MISSED
    if schedule.is_in_time(schedule.starts_at(plan.id, time), now):
        admitted = schedule.admits(busy=bool(running), queued=len(queued))
        outcome = FiringOutcome.QUEUED if admitted else FiringOutcome.OVERLAPPED
    entered = await _enter(transaction, plan, time, outcome)
    if entered and outcome is FiringOutcome.QUEUED and schedule.overlap is OverlapPolicy.CANCEL_RUNNING:
        for earlier in queued:
            earlier.outcome = FiringOutcome.OVERLAPPED
        for child in running:
            await _cancel(transaction, child)
    passage.set_clock(plan, schedule, schedule.after(time))
    await transaction.session.flush()


def _last_due(plan: DeploymentPlan, schedule: Schedule, first: datetime, now: datetime) -> datetime:
    """The last time from `first` on whose start has come; jitter may have put off the very last."""
    time = schedule.latest(now)
    while time is not None and time > first:
        if schedule.starts_at(plan.id, time) <= now:
            return time
        time = schedule.latest(time - timedelta(seconds=1))
    return first


async def _enter(transaction: Transaction, plan: DeploymentPlan, time: datetime, outcome: FiringOutcome) -> bool:
    """Whether this is the first that is said of the time. A clock that was set anew may come by it again."""
    row = {"tenant_id": transaction.tenant_id, "plan_id": plan.id, "fire_at": time, "outcome": outcome}
    statement = insert(PlanFiring).values(row).on_conflict_do_nothing().returning(PlanFiring.fire_at)
    return (await transaction.session.execute(statement)).one_or_none() is not None


async def _spawn_next(
    transaction: Transaction,
    clockwork: Clockwork,
    plan: DeploymentPlan,
    schedule: Schedule,
    now: datetime,
    dependencies: Dependencies,
) -> bool:
    """Make the child of the time that has waited longest, once no earlier child is under way."""
    if await _under_way(transaction, plan):
        return False
    for firing in await _queued(transaction, plan):
        if schedule.window is not None and now > schedule.starts_at(plan.id, firing.fire_at) + schedule.window:
            firing.outcome = FiringOutcome.MISSED
            continue
        child = await spawning.spawn(transaction, clockwork, plan, firing.fire_at, dependencies)
        firing.outcome, firing.child_plan_id = FiringOutcome.SPAWNED, child.id
        return True
    return False


async def _queued(transaction: Transaction, plan: DeploymentPlan) -> list[PlanFiring]:
    found = await transaction.session.execute(
        select(PlanFiring).where(*_of(transaction, plan.id)).order_by(PlanFiring.fire_at)
    )
    return list(found.scalars())


def _of(transaction: Transaction, plan_id: int) -> tuple[ColumnElement[bool], ...]:
    return (
        PlanFiring.tenant_id == transaction.tenant_id,
        PlanFiring.plan_id == plan_id,
        PlanFiring.outcome == FiringOutcome.QUEUED,
    )


async def _under_way(transaction: Transaction, plan: DeploymentPlan) -> list[DeploymentPlan]:
    """The plan's children that are not over; those that wait for approval are not."""
    found = await transaction.session.execute(
        select(DeploymentPlan).where(
            DeploymentPlan.tenant_id == transaction.tenant_id,
            DeploymentPlan.parent_plan_id == plan.id,
            DeploymentPlan.status.not_in(PLAN.closed | PLAN.settled),
            ~DeploymentPlan.is_deleted,
        )
    )
    return list(found.scalars())


async def _cancel(transaction: Transaction, child: DeploymentPlan) -> None:
    """Ask a child to stop. One that cannot be stopped any more is waited for."""
    if child.active_job_id is not None:
        reason = "the next run of its plan is due"
        request = jobs.CancelJob(child.active_job_id, CancelMode.GRACEFUL, CancelOutcome.KEEP, reason)
        with suppress(IllegalState):
            await jobs.stop(transaction, request)
        await transaction.session.refresh(child)
        return
    child = await find(transaction, child.id, None)
    if child.active_job_id is None and PLAN.permits(child.status, "cancel"):
        await launching.move_plan(transaction, child, "cancel", StatusReason.NONE, "the next run of its plan is due")


async def _postpone(database: Database, due: DuePlan) -> None:
    async with database.write(due.tenant_id, actor=_ACTOR, correlation_id=f"schedule-{due.plan_id}") as transaction:
        transaction.authorize("the clock looks again later")
        later = func.clock_timestamp() + _PATIENCE
        await transaction.session.execute(
            update(DeploymentPlan)
            .where(
                DeploymentPlan.tenant_id == transaction.tenant_id,
                DeploymentPlan.id == due.plan_id,
                DeploymentPlan.status == PlanStatus.SCHEDULED,
                DeploymentPlan.fire_at <= func.clock_timestamp(),
            )
            .values(fire_at=later)
        )
        await transaction.session.execute(
            update(PlanFiring).where(*_of(transaction, due.plan_id)).values(retry_at=later)
        )
