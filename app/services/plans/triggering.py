"""What becomes of the triggers of standing plans: runs, or a reason why not; done by the clock, in nobody's name.

Everything is decided under the plan's lock, and a trigger's row is settled in the transaction that makes its run:
however many processes look at a plan at once, and whatever is killed meanwhile, a trigger is answered once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import func, null, select, text, true, update
from sqlalchemy.dialects.postgresql import insert

from app.db.away import DATABASE_AWAY
from app.db.evaluations import record_evaluation
from app.db.models import DeploymentPlan, PlanAutomation, PlanTrigger, ResourceTemplate, Tenant
from app.db.uow import Database, Transaction
from app.domain.automation import Automation, TriggerKind, instant, parameters_of
from app.domain.enums import PlanType, StatusReason
from app.domain.errors import DomainError
from app.domain.expressions import ExpressionError
from app.domain.firing import UNDER_WAY, Skip, Spawn, Standing, TriggerOutcome, Trip, Wait, decide, trip
from app.domain.identity import global_id
from app.domain.statuses import PlanStatus
from app.services import launching
from app.services.dependencies import Dependencies
from app.services.planning import revision_of
from app.services.plans import spawning
from app.services.plans.authoring import stored_parameters
from app.services.plans.firing import DuePlan
from app.services.plans.spawning import Clockwork

_ACTOR = "system:scheduler"
# How long a plan that met a fault of ours is left alone.
_PATIENCE = timedelta(seconds=30)
# Who waits for a run to end is told of it; this is for when that was lost.
_LOOK_AGAIN = timedelta(seconds=30)
_AT_ONCE = 100
_MOST_RUNS = 200
# Several of these say the same as one.
_ALIKE = frozenset({TriggerKind.DRIFT, TriggerKind.TEMPLATE_PUBLISHED, TriggerKind.RECURRENCE})
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(77080, hashtext(:key))")
_logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Case:
    """A standing plan under its lock."""

    transaction: Transaction
    plan: DeploymentPlan
    row: PlanAutomation
    automation: Automation
    clockwork: Clockwork
    now: datetime


async def fire(database: Database, due: DuePlan, dependencies: Dependencies) -> bool:
    """Decide about what the plan has heard; at most one run is made. Returns whether anybody had to look at it.

    A fault of ours is logged and the plan looked at again half a minute later, so that it keeps no other from firing.
    """
    correlation = f"automation-{due.plan_id}"
    try:
        async with database.write(due.tenant_id, actor=_ACTOR, correlation_id=correlation) as transaction:
            transaction.authorize("triggers fire what somebody submitted")
            case = await _open(transaction, due.plan_id)
            if case is not None:
                await _look(case, dependencies)
            return case is not None
    except DATABASE_AWAY:
        raise
    except Exception:
        _logger.exception("a plan could not be fired", tenant_id=due.tenant_id, plan_id=due.plan_id)
        await _postpone(database, due, correlation)
        return False


async def _open(transaction: Transaction, plan_id: int) -> _Case | None:
    found = await transaction.session.execute(
        select(DeploymentPlan, PlanAutomation, Tenant.slug, func.clock_timestamp())
        .join(Tenant, Tenant.id == DeploymentPlan.tenant_id)
        .join(
            PlanAutomation,
            (PlanAutomation.tenant_id == DeploymentPlan.tenant_id) & (PlanAutomation.plan_id == DeploymentPlan.id),
        )
        .where(
            DeploymentPlan.tenant_id == transaction.tenant_id,
            DeploymentPlan.id == plan_id,
            DeploymentPlan.plan_type == PlanType.AUTOMATED,
            DeploymentPlan.status.in_([PlanStatus.WAITING, PlanStatus.PAUSED]),
            ~DeploymentPlan.is_deleted,
            # One whose validity is over is the tick's to end.
            func.coalesce(DeploymentPlan.valid_until > func.clock_timestamp(), true()),
        )
        # Whoever holds it is at it, or changes it. What is heard meanwhile may refer to the plan all the same.
        .with_for_update(of=(DeploymentPlan, PlanAutomation), skip_locked=True, key_share=True)
    )
    one = found.one_or_none()
    if one is None:
        return None
    plan, row, slug, now = one
    return _Case(transaction, plan, row, Automation.of(row.automation), Clockwork(slug), now)


async def _look(case: _Case, dependencies: Dependencies) -> None:
    case.row.look_at = case.row.retry_at = None
    await _enter_times(case)
    await _enter_publication(case)
    # Runs of several plans may be counted together.
    key = f"{case.transaction.tenant_id}/{case.row.concurrency_key}"
    await case.transaction.session.execute(_ONE_AT_A_TIME, {"key": key})
    standing = await _standing(case)
    tripped = trip(standing, case.automation)
    if tripped is not None:
        standing = await _trip(case, standing, tripped)
    pending = await _pending(case)
    for trigger in pending:
        decision = decide(standing, case.automation, trigger.chain)
        if isinstance(decision, Spawn):
            if await _spawn(case, trigger, pending, dependencies):
                # One at a time: each takes its time to be worked out. What is left is looked at next.
                case.row.look_at = case.now
                break
        elif isinstance(decision, Wait):
            trigger.reason, trigger.message = decision.reason, decision.message
            trigger.retry_at = case.now + _LOOK_AGAIN
            standing = replace(standing, queued=standing.queued + 1)
        elif isinstance(decision, Skip):
            await _settle(case, trigger, TriggerOutcome.SKIPPED, decision.reason, decision.message)
    await case.transaction.session.flush()


async def _enter_times(case: _Case) -> None:
    """Enter the time that is due. Of several that passed unseen the last stands for all."""
    if case.row.fire_at is None or case.row.fire_at > case.now:
        return
    time = case.automation.last_time(case.now) or case.row.fire_at
    await _enter(case, TriggerKind.RECURRENCE, instant(time), {"at": instant(case.now), "time": instant(time)})
    case.row.fire_at = case.automation.next_time(case.now)


async def _enter_publication(case: _Case) -> None:
    """Follow the plan's template: runs are made of the revision that was published last."""
    row, session = case.row, case.transaction.session
    if row.template_id is None:
        return
    latest = await session.scalar(
        select(ResourceTemplate.latest_revision_id).where(
            ResourceTemplate.tenant_id == row.template_tenant_id, ResourceTemplate.id == row.template_id
        )
    )
    if latest is None or latest == row.seen_revision_id:
        return
    row.seen_revision_id = latest
    try:
        revision = await revision_of(session, case.transaction.tenant_id, latest)
    except DomainError:
        # It is not published for this tenant.
        return
    case.plan.template_revision_id = revision.id
    cause = {"at": instant(case.now), "revision": revision.number}
    await _enter(case, TriggerKind.TEMPLATE_PUBLISHED, str(revision.id), cause)


async def _enter(case: _Case, kind: TriggerKind, key: str, cause: Mapping[str, Any]) -> None:
    values = {
        "tenant_id": case.transaction.tenant_id,
        "plan_id": case.plan.id,
        "kind": kind,
        "key": key,
        "chain": [],
        "cause": dict(cause),
    }
    await case.transaction.session.execute(insert(PlanTrigger).values(values).on_conflict_do_nothing())


async def _standing(case: _Case) -> Standing:
    paused = None
    if case.plan.status is PlanStatus.PAUSED:
        is_open = case.plan.status_reason is StatusReason.CIRCUIT_OPEN
        paused = StatusReason.CIRCUIT_OPEN if is_open else StatusReason.USER
    return Standing(case.plan.id, paused, await _runs(case), await _busy(case), await _recent(case))


async def _runs(case: _Case) -> Sequence[PlanStatus]:
    found = await case.transaction.session.scalars(
        select(DeploymentPlan.status)
        .where(
            DeploymentPlan.tenant_id == case.transaction.tenant_id,
            DeploymentPlan.parent_plan_id == case.plan.id,
            DeploymentPlan.id > case.row.counts_after,
        )
        .order_by(DeploymentPlan.id.desc())
        .limit(_MOST_RUNS)
    )
    return found.all()


async def _busy(case: _Case) -> int:
    ours = (
        select(PlanTrigger.id)
        .where(
            PlanTrigger.tenant_id == case.transaction.tenant_id,
            PlanTrigger.child_plan_id == DeploymentPlan.id,
            PlanTrigger.concurrency_key == case.row.concurrency_key,
        )
        .exists()
    )
    found = await case.transaction.session.scalar(
        select(func.count())
        .select_from(DeploymentPlan)
        .where(
            DeploymentPlan.tenant_id == case.transaction.tenant_id,
            DeploymentPlan.status.in_(UNDER_WAY),
            ~DeploymentPlan.is_deleted,
            ours,
        )
    )
    return found or 0


async def _recent(case: _Case) -> int:
    if case.automation.rate is None:
        return 0
    found = await case.transaction.session.scalar(
        select(func.count(func.distinct(PlanTrigger.child_plan_id))).where(
            PlanTrigger.tenant_id == case.transaction.tenant_id,
            PlanTrigger.plan_id == case.plan.id,
            PlanTrigger.outcome == TriggerOutcome.SPAWNED,
            PlanTrigger.decided_at > case.now - case.automation.rate.per,
        )
    )
    return found or 0


async def _pending(case: _Case) -> Sequence[PlanTrigger]:
    found = await case.transaction.session.scalars(
        select(PlanTrigger)
        .where(
            PlanTrigger.tenant_id == case.transaction.tenant_id,
            PlanTrigger.plan_id == case.plan.id,
            PlanTrigger.outcome == TriggerOutcome.PENDING,
        )
        .order_by(PlanTrigger.id)
        .limit(_AT_ONCE)
    )
    return found.all()


async def _trip(case: _Case, standing: Standing, tripped: Trip) -> Standing:
    """Let nothing fire until somebody has looked."""
    reason = StatusReason.CIRCUIT_OPEN
    await launching.move_plan(case.transaction, case.plan, "circuit_open", reason, tripped.message)
    return replace(standing, paused=reason)


async def _spawn(case: _Case, trigger: PlanTrigger, pending: Sequence[PlanTrigger], dependencies: Dependencies) -> bool:
    """Make the run of a trigger, unless its parameters cannot be had. Others that say the same are answered with it."""
    plan, transaction = case.plan, case.transaction
    try:
        changes = await _changes(case, trigger, dependencies)
    except DomainError as error:
        reason = StatusReason.CONDITION_FALSE if isinstance(error, ExpressionError) else StatusReason.DEPENDENCY_FAILED
        await _settle(case, trigger, TriggerOutcome.SKIPPED, reason, error.message)
        return False
    child = await spawning.spawn(transaction, case.clockwork, plan, case.now, dependencies, **changes)
    for answered in pending:
        if answered is trigger or (answered.kind is trigger.kind and trigger.kind in _ALIKE):
            answered.child_plan_id = child.id
            answered.concurrency_key = case.row.concurrency_key
            # The chain that the run goes on is that of what was first.
            await _settle(case, answered, TriggerOutcome.SPAWNED, StatusReason.NONE, None)
    return True


async def _changes(case: _Case, trigger: PlanTrigger, dependencies: Dependencies) -> dict[str, Any]:
    """In what the run differs from its plan: it listens to nothing, and has the parameters that the trigger gives."""
    plan = case.plan
    own = {name: value for name, value in (plan.configuration or {}).items() if name != "automation"}
    changes: dict[str, Any] = {"configuration": own or None}
    if case.automation.parameters:
        said = {**trigger.cause, "on": trigger.kind.value, "payload": trigger.payload or {}}
        given = parameters_of(case.automation, said)
        schema: Mapping[str, Any] = {}
        if plan.template_revision_id is not None:
            revision = await revision_of(case.transaction.session, plan.tenant_id, plan.template_revision_id)
            schema = revision.content.get("parameters") or {}
        sealed = stored_parameters(given, schema, dependencies, plan.tenant_id)
        changes["parameters"] = {**(plan.parameters or {}), **sealed}
    return changes


async def _settle(
    case: _Case, trigger: PlanTrigger, outcome: TriggerOutcome, reason: StatusReason, message: str | None
) -> None:
    chain = [global_id("DeploymentPlan", number) for number in trigger.chain]
    # When it was is no difference: the same reason for the same thing is counted.
    cause = {name: value for name, value in trigger.cause.items() if name != "at"}
    await record_evaluation(
        case.transaction,
        case.plan.id,
        result=True,
        trigger=trigger.kind.value,
        inputs={"time": trigger.cause.get("at"), "cause": cause, "chain": chain},
        skip_reason=None if outcome is TriggerOutcome.SPAWNED else reason,
        spawned_plan_id=trigger.child_plan_id,
        message=message,
    )
    trigger.outcome, trigger.reason, trigger.message = outcome, reason, message
    trigger.decided_at, trigger.retry_at = case.now, None
    # What was sent may be anything, and is needed no more.
    trigger.payload = null()


async def _postpone(database: Database, due: DuePlan, correlation: str) -> None:
    async with database.write(due.tenant_id, actor=_ACTOR, correlation_id=correlation) as transaction:
        transaction.authorize("triggers are looked at again later")
        await transaction.session.execute(
            update(PlanAutomation)
            .where(PlanAutomation.tenant_id == transaction.tenant_id, PlanAutomation.plan_id == due.plan_id)
            .values(retry_at=func.clock_timestamp() + _PATIENCE)
        )
