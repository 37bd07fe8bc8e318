"""What the clock makes of plans whose resources drifted or have lived long enough: child plans, led as far as they go.

A revert is a MANUAL copy of the plan that changed the resources last: worked out against what was found, it puts back
what differs, and somebody executes it. A teardown takes away what the stack has, by the plan's own rules.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from sqlalchemy import func, select, text, update

from app.db.away import DATABASE_AWAY
from app.db.models import CloudResource, DeploymentPlan, Tenant
from app.db.uow import Database, Transaction
from app.domain.drifting import DriftPolicy
from app.domain.enums import FailureStrategy, PlanType
from app.domain.statuses import PLAN, PlanStatus
from app.services.dependencies import Dependencies
from app.services.plans import spawning
from app.services.plans.firing import DuePlan
from app.services.plans.spawning import Clockwork

_ACTOR = "system:drift"
_logger = structlog.get_logger(__name__)

_Act = Callable[[Transaction, int, Dependencies], Awaitable[bool]]
# A fault of ours keeps neither the plan nor the others: it is looked at again later.
_POSTPONE_REVERT = text(
    "UPDATE cloud_resource SET revert_at = clock_timestamp() + interval '30 seconds'"
    " WHERE tenant_id = :tenant AND owner_plan_id = :plan AND revert_at <= clock_timestamp()"
)
_POSTPONE_END = text(
    "UPDATE deployment_plan SET ttl_at = clock_timestamp() + interval '30 seconds'"
    " WHERE tenant_id = :tenant AND id = :plan AND ttl_at <= clock_timestamp()"
)


async def revert(database: Database, due: DuePlan, dependencies: Dependencies) -> bool:
    """Make the plan that puts back what drifted, unless one is open already. Returns whether one was made."""
    return await _act(database, due, dependencies, _revert, _POSTPONE_REVERT)


async def tear_down(database: Database, due: DuePlan, dependencies: Dependencies) -> bool:
    """Make the plan that takes away what has lived long enough. Returns whether one was made."""
    return await _act(database, due, dependencies, _tear_down, _POSTPONE_END)


async def _act(database: Database, due: DuePlan, dependencies: Dependencies, act: _Act, postpone: object) -> bool:
    correlation = f"drift-{due.plan_id}"
    try:
        async with database.write(due.tenant_id, actor=_ACTOR, correlation_id=correlation) as transaction:
            transaction.authorize("the clock does what the plan's configuration says")
            return await act(transaction, due.plan_id, dependencies)
    except DATABASE_AWAY:
        raise
    except Exception:
        _logger.exception("a plan could not be followed up", tenant_id=due.tenant_id, plan_id=due.plan_id)
    async with database.write(due.tenant_id, actor=_ACTOR, correlation_id=correlation) as transaction:
        transaction.authorize("the clock looks again later")
        await transaction.session.execute(postpone, {"tenant": due.tenant_id, "plan": due.plan_id})  # type: ignore[call-overload]
    return False


async def _revert(transaction: Transaction, plan_id: int, dependencies: Dependencies) -> bool:
    # Resources before plans, as whoever records an observation locks them.
    asked = await transaction.session.execute(
        update(CloudResource)
        .where(
            CloudResource.tenant_id == transaction.tenant_id,
            CloudResource.owner_plan_id == plan_id,
            CloudResource.revert_at <= func.clock_timestamp(),
        )
        .values(revert_at=None, updated_at=CloudResource.updated_at)
        .returning(CloudResource.id)
    )
    drifted = asked.scalars().all()
    found = await _plan(transaction, plan_id)
    if not drifted:
        return False
    if found is None:
        # Somebody holds the plan, or it is deleted: nothing of this is kept.
        await transaction.session.rollback()
        return False
    plan, slug = found
    now = await transaction.session.scalar(select(func.clock_timestamp()))
    thaw = None if now is None else DriftPolicy.of(plan.configuration).thaw(now)
    if thaw is not None:
        # It was put off by something else until the next freeze had begun.
        again = {"revert_at": thaw, "updated_at": CloudResource.updated_at}
        await transaction.session.execute(update(CloudResource).where(CloudResource.id.in_(drifted)).values(again))
        return False
    if await _has_open_child(transaction, plan):
        return False
    await spawning.spawn(transaction, Clockwork(slug), plan, None, dependencies, plan_type=PlanType.MANUAL)
    return True


async def _tear_down(transaction: Transaction, plan_id: int, dependencies: Dependencies) -> bool:
    found = await _plan(transaction, plan_id)
    if found is None:
        return False
    plan, slug = found
    if plan.ttl_at is None or not await transaction.session.scalar(select(plan.ttl_at <= func.clock_timestamp())):
        return False
    ended, plan.ttl_at = plan.ttl_at, None
    if plan.status is not PlanStatus.SUCCEEDED or await _is_succeeded_by(transaction, plan):
        return False
    kept = {name: value for name, value in (plan.configuration or {}).items() if name not in ("ttl", "drift")}
    await spawning.spawn(
        transaction,
        Clockwork(slug),
        plan,
        ended,
        dependencies,
        teardown=True,
        workflow_id=None,
        template_tenant_id=None,
        template_id=None,
        template_revision_id=None,
        parameters={},
        configuration=kept,
        # A deletion cannot be rolled back.
        failure_strategy=FailureStrategy.CONTINUE,
        valid_until=None,
    )
    return True


async def _plan(transaction: Transaction, plan_id: int) -> tuple[DeploymentPlan, str] | None:
    found = await transaction.session.execute(
        select(DeploymentPlan, Tenant.slug)
        .join(Tenant, Tenant.id == DeploymentPlan.tenant_id)
        .where(
            DeploymentPlan.tenant_id == transaction.tenant_id,
            DeploymentPlan.id == plan_id,
            ~DeploymentPlan.is_deleted,
        )
        .with_for_update(of=DeploymentPlan, skip_locked=True)
    )
    row = found.one_or_none()
    return None if row is None else (row[0], row[1])


async def _has_open_child(transaction: Transaction, plan: DeploymentPlan) -> bool:
    """Whether a plan that puts things back waits for somebody already."""
    child = await transaction.session.scalar(
        select(DeploymentPlan.id)
        .where(
            DeploymentPlan.tenant_id == transaction.tenant_id,
            DeploymentPlan.parent_plan_id == plan.id,
            DeploymentPlan.created_by == _ACTOR,
            DeploymentPlan.status.not_in(PLAN.closed | PLAN.settled),
            ~DeploymentPlan.is_deleted,
        )
        .limit(1)
    )
    return child is not None


async def _is_succeeded_by(transaction: Transaction, plan: DeploymentPlan) -> bool:
    """Whether a later plan has brought the stack about: then that one says how long it lives."""
    later = await transaction.session.scalar(
        select(DeploymentPlan.id)
        .where(
            DeploymentPlan.tenant_id == transaction.tenant_id,
            DeploymentPlan.stack == plan.stack,
            DeploymentPlan.id != plan.id,
            DeploymentPlan.status == PlanStatus.SUCCEEDED,
            DeploymentPlan.last_job_id > plan.last_job_id,
        )
        .limit(1)
    )
    return later is not None
