"""The way of a plan from VALIDATING to its job: worked out, agreed to, and then whatever its type says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from app import clock
from app.db import watches
from app.db.models import DeploymentPlan
from app.db.uow import Transaction
from app.domain.approvals import ApprovalPolicy
from app.domain.conditions import Condition
from app.domain.enums import PlanType, RollbackScope, StatusReason
from app.domain.errors import ApprovalRequired, DomainError, Invalid, PolicyDenied
from app.domain.planning import Deployment
from app.domain.planning.deployment import diagnostic_document
from app.domain.scheduling import Schedule
from app.services import launching, limits, previews, upstream
from app.services.dependencies import Dependencies
from app.services.judging import Proposal, judged, require_permitted
from app.services.planning import deployment_of, intention_of, revision_of, workflow_of
from app.services.plans import automation, councils
from app.services.plans.changed import WHY, Agreement
from app.services.reaching import require_connections


class Asker(Protocol):
    """In whose tenant something is done: a person, or the clock."""

    @property
    def tenant_slug(self) -> str: ...


async def work_out(
    transaction: Transaction, asker: Asker, plan: DeploymentPlan, dependencies: Dependencies
) -> Deployment:
    """What the plan would do now, if it may: as `judged_deployment`, and raises PolicyDenied where a policy refuses."""
    deployment = await judged_deployment(transaction, asker, plan, dependencies)
    require_permitted(deployment)
    return deployment


async def judged_deployment(
    transaction: Transaction, asker: Asker, plan: DeploymentPlan, dependencies: Dependencies
) -> Deployment:
    """What the plan would do now, and what policies say of it.

    Raises Invalid where its rollback could not keep what its scope says, QuotaExceeded where the tenant would have more
    resources than it may.
    """
    intention = intention_of(plan, asker.tenant_slug, dependencies)
    deployment = await deployment_of(transaction.session, intention, dependencies)
    bound = deployment.indivisible if plan.rollback_scope is not RollbackScope.JOB else ()
    if bound:
        message = (
            f"a rollback takes back {', '.join(bound)} wholly or not at all, because of what is kept for it until the"
            " job has succeeded: use rollbackScope JOB"
        )
        raise Invalid(message, path=("rollbackScope",))
    await limits.refuse_more_resources(transaction, deployment.growth)
    return await judged(transaction.session, transaction.tenant_id, Proposal.of(plan), deployment)


async def keep_preview(transaction: Transaction, plan: DeploymentPlan, deployment: Deployment) -> None:
    """Store what was worked out with the plan. Raises Cyclic where a plan that it reads waits for it."""
    await upstream.keep(transaction, plan, deployment)
    plan.preview = previews.stamped(deployment)
    plan.preview_hash = plan.preview["hash"]
    plan.dependencies = deployment.graph_document()
    plan.resources = [
        {"key": change.key, "type": change.type, "action": change.action.value} for change in deployment.changes
    ]
    plan.diagnostics = [diagnostic_document(found) for found in deployment.diagnostics]
    plan.policy_results = [found.document() for found in deployment.findings]


async def pass_on(
    transaction: Transaction,
    asker: Asker,
    plan: DeploymentPlan,
    dependencies: Dependencies,
    *,
    kept: tuple[type[DomainError], ...],
    message: str | None = None,
    agreement: Agreement | None = None,
) -> None:
    """Lead a plan that is VALIDATING as far as it goes by itself.

    Faults of the kinds in `kept` make it INVALID and stay with it as diagnostics; others are raised. Where a policy
    refuses it, it is REJECTED, unless nothing is kept. `message` says why approval is asked for, where there is more to
    say than that it is. `agreement` is what was agreed to of the plan whose run this is.
    """
    try:
        deployment = await judged_deployment(transaction, asker, plan, dependencies)
        if plan.plan_type is PlanType.IMMEDIATE:
            require_connections(deployment)
        if plan.plan_type is PlanType.AUTOMATED:
            await automation.document_of(transaction, plan)
    except kept as error:
        plan.diagnostics = [diagnostic_document(found) for found in previews.diagnostics_of(error)]
        await launching.move_plan(transaction, plan, "invalid", StatusReason.NONE, error.message)
        return
    await keep_preview(transaction, plan, deployment)
    try:
        require_permitted(deployment)
    except PolicyDenied as error:
        if not kept:
            raise
        plan.completed_at = clock.utc_now()
        await launching.move_plan(transaction, plan, "policy_denied", StatusReason.POLICY, error.message)
        return
    if deployment.is_empty and not _is_judged_later(plan):
        plan.completed_at = clock.utc_now()
        await launching.move_plan(transaction, plan, "no_changes", StatusReason.NO_CHANGES)
        return
    if agreement is not None and agreement.calls_off(deployment):
        plan.completed_at = clock.utc_now()
        await launching.move_plan(transaction, plan, "valid")
        await launching.move_plan(transaction, plan, "cancel", StatusReason.PREVIEW_STALE, WHY)
        return
    covered = agreement is not None and agreement.covers(deployment)
    if covered or await agreed_or_asked(transaction, plan, message):
        await launching.move_plan(transaction, plan, "valid")
        await proceed(transaction, asker, plan, deployment, dependencies, agreed=covered)


def _is_judged_later(plan: DeploymentPlan) -> bool:
    """Whether there may be something to do when the plan's time comes, though there is nothing now."""
    if plan.plan_type is PlanType.AUTOMATED:
        return True
    if plan.plan_type is not PlanType.SCHEDULED:
        return plan.plan_type is PlanType.CONDITIONAL
    schedule = Schedule.of(plan.schedule or {})
    return schedule.at is None or schedule.at > clock.utc_now()


async def agreed_or_asked(transaction: Transaction, plan: DeploymentPlan, message: str | None = None) -> bool:
    """Whether enough people agreed to the preview of a plan that is VALIDATING; if not, a round of review begins.

    What was said in earlier rounds counts no more.
    """
    policy = councils.quorum_of(plan)
    if await councils.has_agreed(transaction, plan, policy):
        return True
    plan.review_round += 1
    plan.approval_deadline = None if policy.deadline is None else clock.utc_now() + policy.deadline
    await launching.move_plan(
        transaction, plan, "valid_needs_approval", StatusReason.APPROVAL_PENDING, message or _awaited(plan, policy)
    )
    return False


def _awaited(plan: DeploymentPlan, policy: ApprovalPolicy) -> str:
    failed = {found.policy for found in councils.findings_of(plan) if not found.passed and found.is_mandatory}
    why = f", because it fails {', '.join(sorted(failed))}" if failed else ""
    return f"{policy.required} {'person has' if policy.required == 1 else 'people have'} to approve it{why}"


async def proceed(
    transaction: Transaction,
    asker: Asker,
    plan: DeploymentPlan,
    deployment: Deployment,
    dependencies: Dependencies,
    *,
    agreed: bool = False,
) -> None:
    """What a READY plan does by itself: begin, or wait for what it waits for; a MANUAL one stays.

    `agreed`: nobody has to be asked whether enough people have.
    """
    if plan.plan_type is PlanType.IMMEDIATE:
        await start(transaction, asker, plan, deployment, dependencies, agreed=agreed)
    elif plan.plan_type in (PlanType.SCHEDULED, PlanType.CONDITIONAL):
        await _arm(transaction, plan)
    elif plan.plan_type is PlanType.AUTOMATED:
        await _listen(transaction, plan)


async def _arm(transaction: Transaction, plan: DeploymentPlan) -> None:
    """Set the plan's clock, or watch its condition. A time that passed while people looked at it is due at once."""
    if plan.plan_type is PlanType.CONDITIONAL:
        await launching.move_plan(transaction, plan, "arm_condition")
        await watches.begin(transaction, plan.id, Condition.of(plan.condition).subjects(plan.stack))
        return
    schedule = Schedule.of(plan.schedule or {})
    set_clock(plan, schedule, schedule.at or schedule.after(clock.utc_now()))
    await launching.move_plan(transaction, plan, "arm_schedule")


async def _listen(transaction: Transaction, plan: DeploymentPlan) -> None:
    """Let the plan wait for its triggers."""
    await launching.move_plan(transaction, plan, "arm_condition")
    await automation.arm(transaction, plan)


def set_clock(plan: DeploymentPlan, schedule: Schedule, time: datetime | None) -> None:
    """Let the plan's next run be that of `time`; none is to come for None."""
    plan.scheduled_at = time
    plan.fire_at = None if time is None else schedule.starts_at(plan.id, time)


async def revalidate(transaction: Transaction, asker: Asker, plan: DeploymentPlan, dependencies: Dependencies) -> None:
    """Work a plan out anew that is no longer what was reviewed, and have it approved again where it has to be."""
    await launching.move_plan(transaction, plan, "preview_stale", StatusReason.PREVIEW_STALE)
    message = "what it would do has changed since it was approved" if plan.review_round else None
    await pass_on(transaction, asker, plan, dependencies, kept=(DomainError,), message=message)


async def unchanged(
    transaction: Transaction, asker: Asker, plan: DeploymentPlan, dependencies: Dependencies
) -> Deployment | None:
    """What the plan would do, if that still is what its preview says; None when it is not."""
    try:
        deployment = await work_out(transaction, asker, plan, dependencies)
    except DomainError:
        return None
    return None if deployment.is_empty or deployment.preview()["hash"] != plan.preview_hash else deployment


async def go_on(transaction: Transaction, asker: Asker, plan: DeploymentPlan, dependencies: Dependencies) -> None:
    """Let a plan that has become READY proceed, unless it is no longer what was agreed to."""
    if plan.plan_type is PlanType.MANUAL:
        return
    if plan.plan_type in (PlanType.SCHEDULED, PlanType.CONDITIONAL):
        # Whether it still is what was agreed to is asked when its time has come.
        await _arm(transaction, plan)
        return
    if plan.plan_type is PlanType.AUTOMATED:
        # Nor is it asked of what makes runs of its own: each of them is worked out by itself.
        await _listen(transaction, plan)
        return
    deployment = await unchanged(transaction, asker, plan, dependencies)
    if deployment is None:
        await revalidate(transaction, asker, plan, dependencies)
    else:
        await proceed(transaction, asker, plan, deployment, dependencies)


async def start(
    transaction: Transaction,
    asker: Asker,
    plan: DeploymentPlan,
    deployment: Deployment,
    dependencies: Dependencies,
    event: str = "execute",
    *,
    agreed: bool = False,
) -> None:
    """Make the job of a plan that waits for nothing but `event`. Raises ApprovalRequired when it was not agreed to.

    `agreed`: the caller has seen to that.
    """
    if not agreed:
        await require_agreement(transaction, plan)
    await launching.move_plan(transaction, plan, event)
    context = await job_context(transaction, asker, plan)
    await launching.launch(transaction, plan, deployment, dependencies, context)


async def require_agreement(transaction: Transaction, plan: DeploymentPlan) -> None:
    """Raises ApprovalRequired when not enough people agreed to what the plan says that it will do."""
    if not await councils.has_agreed(transaction, plan, councils.quorum_of(plan)):
        message = "not enough people have approved what the plan would do"
        raise ApprovalRequired(message, path=("planId",))


async def job_context(transaction: Transaction, asker: Asker, plan: DeploymentPlan) -> launching.JobContext:
    """What a job of the plan takes from its definitions."""
    outputs: Mapping[str, Any] = {}
    workflow_type = None
    if plan.template_revision_id is not None:
        revision = await revision_of(transaction.session, transaction.tenant_id, plan.template_revision_id)
        outputs = revision.content.get("outputs") or {}
    if plan.workflow_id is not None:
        workflow = await workflow_of(transaction.session, transaction.tenant_id, plan.workflow_id)
        workflow_type = workflow.workflow_type
    return launching.JobContext(asker.tenant_slug, outputs, workflow_type)
