"""Looks at the conditions of plans that wait, and runs them when it is so; done by the clock, in nobody's name.

What changes is told by the tenant's feed: `notice` goes through what is new there and marks the plans that read it.
`look` then evaluates one plan's condition under the plan's lock. So several processes may do both: a plan is looked at
by one of them at a time, and what was committed before it looked, it sees; what is committed later, marks it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import exists, func, select

from app import clock
from app.db import feed, watches
from app.db.away import DATABASE_AWAY
from app.db.evaluations import record_evaluation
from app.db.feed import FedEvent, Position
from app.db.models import CloudResource, DeploymentPlan, Tenant
from app.db.uow import Database, Transaction
from app.db.watches import Watch
from app.domain import conditions
from app.domain.conditions import Act, Condition, Decision, FireMode, Root, Verdict
from app.domain.enums import StatusReason
from app.domain.errors import DomainError
from app.domain.events import EventKind, Stream
from app.domain.statuses import PLAN, PlanStatus
from app.reads import conditions as reads
from app.services import launching
from app.services.dependencies import Dependencies
from app.services.plans import councils, passage, spawning
from app.services.plans.spawning import Clockwork

_ACTOR = "system:scheduler"
_PATIENCE = timedelta(seconds=30)
_SOON = timedelta(seconds=10)
# More news than this are not gone through one by one.
_MOST_NEWS = 1000
_POLL = "it was time"
_logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DueWatch:
    """A plan whose condition has to be looked at."""

    tenant_id: int
    plan_id: int


async def notice(database: Database, tenant_id: int) -> bool:
    """Mark the plans that read what the tenant's feed has to tell. Returns whether there was something new.

    The marks and the place up to which the feed was read are one transaction: nothing is passed over. A fault of ours
    is logged; it keeps no other tenant from its news.
    """
    try:
        return await _notice(database, tenant_id)
    except DATABASE_AWAY:
        raise
    except Exception:
        _logger.exception("a tenant's news could not be gone through", tenant_id=tenant_id)
        return False


async def _notice(database: Database, tenant_id: int) -> bool:
    async with database.write(tenant_id, actor=_ACTOR, correlation_id=f"feed-{tenant_id}") as transaction:
        transaction.authorize("the clock tells who waits that something has happened")
        place = await watches.take_cursor(transaction)
        if place is None:
            return False
        # Taken first: what is settled after it is read now, or again the next time.
        head = await feed.head(transaction)
        news = await feed.read(transaction, Position(place + 1, "", 0, 0), _MOST_NEWS)
        if len(news) == _MOST_NEWS:
            await watches.mark_all(transaction)
        else:
            await _mark(transaction, news)
        await watches.advance_cursor(transaction, max(place, head.feed - 1))
        return bool(news)


async def _mark(transaction: Transaction, news: Iterable[FedEvent]) -> None:
    plans = {event.stream_id for event in news if event.stream is Stream.PLAN}
    ran = {event.data["planId"] for event in news if event.kind is EventKind.JOB_STATUS_CHANGED}
    changed = {event.data["resourceId"] for event in news if event.kind is EventKind.RESOURCE_CHANGED}
    subjects: set[str] = set()
    parents: set[int] = set()
    if plans | ran:
        found = await transaction.session.execute(
            select(DeploymentPlan.id, DeploymentPlan.plan_name, DeploymentPlan.parent_plan_id).where(
                DeploymentPlan.tenant_id == transaction.tenant_id, DeploymentPlan.id.in_(plans | ran)
            )
        )
        for plan_id, name, parent in found:
            if plan_id in plans:
                subjects.add(conditions.subject(Root.PLANS, name))
                parents |= set() if parent is None else {parent}
            # The plan takes what its job goes through in the same transaction, and names its last job.
            subjects.add(conditions.subject(Root.JOBS, name))
    if changed:
        rows = await transaction.session.execute(
            select(CloudResource.stack, CloudResource.resource_key).where(
                CloudResource.tenant_id == transaction.tenant_id, CloudResource.id.in_(changed)
            )
        )
        subjects |= {conditions.subject(Root.RESOURCES, f"{stack}/{key}") for stack, key in rows}
    if subjects or parents:
        await watches.mark_readers(transaction, subjects, parents)


async def look(database: Database, due: DueWatch, dependencies: Dependencies) -> bool:
    """Evaluate a plan's condition if it is time to, and do what follows. Returns whether it was evaluated.

    A fault of ours is logged and the plan looked at again half a minute later, so that it keeps no other from its turn.
    """
    try:
        async with database.write(
            due.tenant_id, actor=_ACTOR, correlation_id=f"condition-{due.plan_id}"
        ) as transaction:
            transaction.authorize("the clock looks at what somebody submitted")
            return await _look(transaction, due.plan_id, dependencies)
    except DATABASE_AWAY:
        raise
    except Exception:
        _logger.exception("a condition could not be evaluated", tenant_id=due.tenant_id, plan_id=due.plan_id)
        await _postpone(database, due)
        return False


async def _look(transaction: Transaction, plan_id: int, dependencies: Dependencies) -> bool:
    found = await transaction.session.execute(
        select(DeploymentPlan, Tenant.slug, func.clock_timestamp())
        .join(Tenant, Tenant.id == DeploymentPlan.tenant_id)
        .where(DeploymentPlan.tenant_id == transaction.tenant_id, DeploymentPlan.id == plan_id)
        # Whoever holds it is at it, or changes it: the next tick sees what became of it.
        .with_for_update(of=DeploymentPlan, skip_locked=True)
    )
    row = found.one_or_none()
    if row is None:
        return False
    plan, slug, now = row
    if not await _is_waiting(transaction, plan):
        return False
    watch = await watches.read(transaction, plan.id)
    if watch is None or watch.look_at is None or watch.look_at > now:
        return False
    if plan.valid_until is not None and plan.valid_until <= now:
        # The tick's to end.
        return False
    await _evaluate(transaction, Clockwork(slug), plan, watch, now, dependencies)
    return True


async def _is_waiting(transaction: Transaction, plan: DeploymentPlan) -> bool:
    """Whether the plan waits; if not, it is watched no more. Only under its lock can anybody be sure."""
    if plan.status is PlanStatus.WAITING and not plan.is_deleted:
        return True
    if plan.status is PlanStatus.PAUSED:
        await watches.rest(transaction, plan.id)
    else:
        await watches.end(transaction, plan.id)
    return False


async def _evaluate(
    transaction: Transaction,
    clockwork: Clockwork,
    plan: DeploymentPlan,
    watch: Watch,
    now: datetime,
    dependencies: Dependencies,
) -> None:
    condition = Condition.of(plan.condition)
    scope = await reads.scope(transaction.session, transaction.tenant_id, plan, condition, now)
    verdict = condition.judge(scope)
    decision = conditions.decide(condition, watch.seen, now, result=verdict.result)
    reason = None if verdict.result else StatusReason.CONDITION_FALSE
    message, ran = _said(decision, verdict), None
    if decision.act is Act.FIRE and condition.fire is FireMode.EACH:
        if await _is_busy(transaction, plan):
            # It has not fired: it does when the run is over, if it is still true then.
            seen = replace(decision.seen, armed=True, fired_at=watch.seen.fired_at)
            decision = Decision(Act.FIRE, seen, min(decision.due, now + _SOON))
            reason, message = StatusReason.CONCURRENCY_LIMIT, "its earlier run is not over"
        else:
            child = await spawning.spawn(transaction, clockwork, plan, now, dependencies)
            await watches.forget_signals(transaction, plan.id)
            decision = replace(decision, due=now)
            ran = child.id
    elif decision.act is Act.FIRE:
        reason = await _run(transaction, clockwork, plan, dependencies)
        ran = plan.id if reason is None else None
    await record_evaluation(
        transaction,
        plan.id,
        verdict.result,
        watch.because,
        condition.inputs(scope),
        reason,
        ran,
        message=message,
    )
    if decision.act is Act.FIRE and condition.fire is FireMode.ONCE:
        # It may wait again already, when it had to be worked out anew; then its watch has begun anew, too.
        await _is_waiting(transaction, plan)
        return
    await watches.settle(transaction, plan.id, watch, decision.seen, decision.due, _POLL)


def _said(decision: Decision, verdict: Verdict) -> str | None:
    """What a person is told about it."""
    since = decision.seen.true_since
    match decision.act:
        case Act.REST:
            return verdict.fault
        case Act.HOLD:
            return f"true since {since:%Y-%m-%d %H:%M:%S} UTC, and not for long enough"
        case Act.COOL:
            return f"it ran at {decision.seen.fired_at:%Y-%m-%d %H:%M:%S} UTC, and waits for its cool-down"
        case Act.SPENT:
            return "it has to become false before it can run again"
        case Act.FIRE:
            return None


async def _run(
    transaction: Transaction, clockwork: Clockwork, plan: DeploymentPlan, dependencies: Dependencies
) -> StatusReason | None:
    """Run the plan itself. Returns why it did not, where it has to be looked at again first, or has nothing to do."""
    try:
        deployment = await passage.work_out(transaction, clockwork, plan, dependencies)
    except DomainError:
        await passage.revalidate(transaction, clockwork, plan, dependencies)
        return StatusReason.PREVIEW_STALE
    if deployment.is_empty:
        await passage.keep_preview(transaction, plan, deployment)
        await launching.move_plan(transaction, plan, "preview_stale", StatusReason.PREVIEW_STALE)
        plan.completed_at = clock.utc_now()
        await launching.move_plan(transaction, plan, "no_changes", StatusReason.NO_CHANGES)
        return StatusReason.NO_CHANGES
    if not await councils.is_agreed_to(transaction, plan, deployment):
        await passage.revalidate(transaction, clockwork, plan, dependencies)
        return StatusReason.APPROVAL_PENDING
    await passage.keep_preview(transaction, plan, deployment)
    await passage.start(transaction, clockwork, plan, deployment, dependencies, "condition_met")
    return None


async def _is_busy(transaction: Transaction, plan: DeploymentPlan) -> bool:
    """Whether a run that the plan has spawned is not over; one that waits for approval is not."""
    under_way = exists().where(
        DeploymentPlan.tenant_id == transaction.tenant_id,
        DeploymentPlan.parent_plan_id == plan.id,
        DeploymentPlan.status.not_in(PLAN.closed | PLAN.settled),
        ~DeploymentPlan.is_deleted,
    )
    return bool(await transaction.session.scalar(select(under_way)))


async def _postpone(database: Database, due: DueWatch) -> None:
    async with database.write(due.tenant_id, actor=_ACTOR, correlation_id=f"condition-{due.plan_id}") as transaction:
        transaction.authorize("the clock looks again later")
        watch = await watches.read(transaction, due.plan_id)
        if watch is not None:
            later = clock.utc_now() + _PATIENCE
            await watches.settle(transaction, due.plan_id, watch, watch.seen, later, "it is tried again")
