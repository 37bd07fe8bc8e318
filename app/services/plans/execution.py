"""Carrying plans out: execute, cancel, retry, roll back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import or_, select

from app import clock
from app.auth.principal import Principal
from app.db import effects
from app.db.models import DeploymentPlan, OrchestrationJob, StepEffect, StepRun
from app.db.uow import Transaction
from app.domain.enums import (
    CancelMode,
    CancelOutcome,
    JobDirection,
    Permission,
    PlanType,
    RetryMode,
    StatusReason,
)
from app.domain.errors import (
    ApprovalRequired,
    Conflict,
    IllegalState,
    Invalid,
    NotFound,
    Required,
    StalePreview,
    UnknownReference,
)
from app.domain.naming import hint, nearest
from app.domain.operations import EffectState, OperationKind
from app.domain.planning import Deployment
from app.domain.policies import overridable
from app.domain.statuses import PlanStatus, StepStatus
from app.services import jobs, launching
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies
from app.services.plans import councils, passage, simulating
from app.services.plans.authoring import PlanAction, find, require
from app.services.plans.passage import job_context, keep_preview, start, work_out
from app.services.plans.pausing import give_up
from app.services.plans.scopes import RollbackPlan, require_scope
from app.services.reaching import require_connections
from app.services.records import same_version

# Steps that do something of which no resource tells.
_ACTING = (OperationKind.RUN, OperationKind.ACT)


@dataclass(frozen=True, slots=True)
class ExecutePlan:
    """Run a READY plan; refused when what it would do is no longer what `expected_preview_hash` stands for.

    `simulate`: only show what would happen, with failures at the steps of `simulate_failure_at` ("key" or "key:undo").
    """

    plan_id: int
    expected_preview_hash: str | None = None
    simulate: bool = False
    simulate_failure_at: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """Run a failed plan again: RESUME keeps what succeeded, RESTART begins anew."""

    plan_id: int
    mode: RetryMode
    # With RESUME: what is run again although it succeeded, together with all that needs it.
    step_keys: Sequence[str] = ()


async def execute(
    transaction: Transaction, principal: Principal, command: ExecutePlan, dependencies: Dependencies
) -> OrchestrationJob:
    """Make the job. The preview is computed again, against what is recorded now."""
    authorize(transaction, principal, Permission.EXECUTE)
    if command.simulate:
        plan = await find_unlocked(transaction, command.plan_id)
        expected, fail_at = command.expected_preview_hash, command.simulate_failure_at
        return await simulating.simulate(transaction, principal, plan, expected, fail_at, dependencies)
    if command.simulate_failure_at:
        message = "only a simulation can be asked to fail: simulate is needed"
        raise Invalid(message, path=("simulateFailureAt",))
    plan = await find(transaction, command.plan_id, None)
    require(plan, "execute")
    if plan.schedule is not None and plan.schedule.get("recurrence") is not None:
        message = "each run of a recurring plan is a plan of its own, made when it is time"
        raise IllegalState(message, status=plan.status, path=("planId",))
    if plan.valid_until is not None and plan.valid_until <= clock.utc_now():
        message = f"the plan was valid until {plan.valid_until:%Y-%m-%d %H:%M} UTC"
        raise IllegalState(message, status=plan.status, path=("planId",))
    if plan.plan_type is PlanType.MANUAL and command.expected_preview_hash is None:
        message = "a MANUAL plan is executed with the hash of the preview that was reviewed"
        raise Required(message, path=("expectedPreviewHash",))
    deployment = await work_out(transaction, principal, plan, dependencies)
    current = deployment.preview()["hash"]
    policy = councils.quorum_of(plan, deployment.findings)
    reviewed = {command.expected_preview_hash or current, plan.preview_hash if policy.required else current}
    if reviewed != {current}:
        message = "what the plan would do has changed since it was reviewed"
        await keep_preview(transaction, plan, deployment)
        raise StalePreview(message, current=plan.preview, path=("expectedPreviewHash",))
    await keep_preview(transaction, plan, deployment)
    if deployment.is_empty:
        message = "there is nothing left to do: the stack is as the plan wants it"
        raise IllegalState(message, status=plan.status, path=("planId",))
    require_connections(deployment)
    await start(transaction, principal, plan, deployment, dependencies)
    return await job_of(transaction, plan.last_job_id)


async def cancel(
    transaction: Transaction, principal: Principal, command: PlanAction, dependencies: Dependencies
) -> DeploymentPlan:
    """Cancel a plan: one that has not begun at once, a running one through its job, gracefully."""
    authorize(transaction, principal, Permission.CANCEL)
    plan = await find_unlocked(transaction, command.plan_id)
    if plan.active_job_id is not None:
        same_version(plan.version, command.expected_version, "plan")
        request = jobs.CancelJob(plan.active_job_id, CancelMode.GRACEFUL, CancelOutcome.KEEP, command.comment)
        try:
            await jobs.cancel(transaction, principal, request, dependencies)
        except IllegalState as error:
            raise IllegalState(error.message, status=error.status, path=("planId",)) from error
        await transaction.session.refresh(plan)
        return plan
    plan = await find(transaction, command.plan_id, command.expected_version)
    if plan.active_job_id is not None:
        # Its job must be locked before the plan is, and that is too late now.
        message = "the plan has just been started; cancel it again"
        raise Conflict(message, path=("planId",))
    require(plan, "cancel")
    await launching.move_plan(transaction, plan, "cancel", StatusReason.USER, command.comment)
    if plan.status is PlanStatus.CANCELLING:
        # It was paused while it waited: there is no job that would have to come to rest.
        await launching.move_plan(transaction, plan, "quiesced_keep", StatusReason.USER, command.comment)
    return plan


async def retry(
    transaction: Transaction, principal: Principal, command: RetryPlan, dependencies: Dependencies
) -> OrchestrationJob | None:
    """Run the plan again in a new job; there is none yet where what it would do has to be approved anew."""
    authorize(transaction, principal, Permission.EXECUTE)
    plan = await find(transaction, command.plan_id, None)
    event = "retry_resume" if command.mode is RetryMode.RESUME else "retry_restart"
    if command.step_keys and command.mode is RetryMode.RESTART:
        message = "RESTART runs every step again: leave out stepKeys, or RESUME"
        raise Invalid(message, path=("stepKeys",))
    require(plan, event)
    if plan.last_job_id is None:
        return await _begin_anew(transaction, principal, plan, dependencies)
    parent = await job_of(transaction, plan.last_job_id)
    await launching.move_plan(transaction, plan, event, StatusReason.USER)
    deployment = await work_out(transaction, principal, plan, dependencies)
    if command.mode is RetryMode.RESUME:
        _require_overruled(plan, deployment)
    await keep_preview(transaction, plan, deployment)
    done: dict[str, StepRun] = {}
    if command.mode is RetryMode.RESUME:
        done = await _kept_results(transaction, parent)
        for key in _run_again(deployment, command.step_keys):
            done.pop(key, None)
    else:
        if deployment.is_empty:
            message = "there is nothing to do: the stack is as the plan wants it"
            raise Conflict(message, path=("mode",))
        plan.submitted_by_id = principal.user_id
        if not await passage.agreed_or_asked(transaction, plan):
            return None
        await launching.move_plan(transaction, plan, "valid")
        await launching.move_plan(transaction, plan, "execute")
    context = await job_context(transaction, principal, plan)
    # Who names a step wants it run again, whatever has become of it.
    in_doubt = {
        key: effect
        for key, effect in (await effects.left_open(transaction, parent.id, _ACTING)).items()
        if key not in command.step_keys
    }
    return await launching.launch(
        transaction, plan, deployment, dependencies, context, parent=parent, done=done, in_doubt=in_doubt
    )


def _run_again(deployment: Deployment, keys: Sequence[str]) -> set[str]:
    """The steps of these keys and all that needs them. Raises UnknownReference for one that there is not."""
    known = deployment.graph.nodes
    for key in keys:
        if key not in known:
            message = f"the plan has no step '{key}'{hint(nearest(key, known))}"
            raise UnknownReference(message, path=("stepKeys",))
    return {*keys, *(later for key in keys for later in deployment.graph.descendants(key))}


def _require_overruled(plan: DeploymentPlan, deployment: Deployment) -> None:
    """Raises ApprovalRequired where what is left to do fails a policy that nobody has overruled for this plan."""
    agreed = set(overridable(councils.findings_of(plan)))
    failed = [found for found in overridable(deployment.findings) if found not in agreed]
    if failed:
        message = f"it fails {', '.join(failed)} by now, which somebody has to overrule: retry it with RESTART"
        raise ApprovalRequired(message, path=("planId",))


async def _begin_anew(
    transaction: Transaction, principal: Principal, plan: DeploymentPlan, dependencies: Dependencies
) -> OrchestrationJob | None:
    """Lead a plan that was cancelled before it ever ran the way that it went when it was submitted.

    What waits for a time, a condition or a trigger must not run because it is taken up again: it waits again.
    """
    plan.submitted_by_id = principal.user_id
    await launching.move_plan(transaction, plan, "retry_restart", StatusReason.USER)
    await passage.pass_on(transaction, principal, plan, dependencies, kept=())
    return None if plan.last_job_id is None else await job_of(transaction, plan.last_job_id)


async def rollback(
    transaction: Transaction, principal: Principal, command: RollbackPlan, dependencies: Dependencies
) -> OrchestrationJob:
    """Undo what the last forward job of a failed plan has left, in a new job; a paused job undoes its own work."""
    del dependencies
    authorize(transaction, principal, Permission.ROLLBACK)
    if (await find_unlocked(transaction, command.plan_id)).status is PlanStatus.PAUSED:
        given_up = await give_up(transaction, principal, command)
        return await job_of(transaction, given_up)
    plan = await find(transaction, command.plan_id, None)
    if plan.status is PlanStatus.PAUSED:
        # Its job must be locked before the plan is, and that is too late now.
        message = "the plan has just been paused; roll it back again"
        raise Conflict(message, path=("planId",))
    require(plan, "rollback")
    parent = await job_of(transaction, plan.last_job_id)
    if parent.direction is JobDirection.ROLLBACK:
        message = "the last job of the plan is a rollback already: continue that one"
        raise Conflict(message, path=("planId",))
    await require_scope(transaction, parent.id, command)
    await launching.move_plan(transaction, plan, "rollback", StatusReason.USER)
    return await launching.launch_rollback(
        transaction, plan, parent, scope=command.scope, checkpoint=command.checkpoint
    )


async def accept_current_state(
    transaction: Transaction, principal: Principal, command: PlanAction, dependencies: Dependencies
) -> DeploymentPlan:
    """Leave what a rollback could not take back as it is: the plan has FAILED, and the next one begins from there."""
    del dependencies
    authorize(transaction, principal, Permission.ROLLBACK)
    plan = await find(transaction, command.plan_id, command.expected_version)
    require(plan, "accept_current_state")
    await launching.move_plan(transaction, plan, "accept_current_state", StatusReason.USER, command.comment)
    return plan


async def job_of(transaction: Transaction, job_id: int | None) -> OrchestrationJob:
    """The plan's job by its id."""
    found = await transaction.session.execute(
        select(OrchestrationJob).where(
            OrchestrationJob.tenant_id == transaction.tenant_id, OrchestrationJob.id == job_id
        )
    )
    job = found.scalar_one_or_none()
    if job is None:
        message = "the plan has no job yet"
        raise Conflict(message, path=("planId",))
    return job


async def find_unlocked(transaction: Transaction, plan_id: int) -> DeploymentPlan:
    """The plan, unlocked: whoever will lock its job must lock that first."""
    found = await transaction.session.execute(
        select(DeploymentPlan).where(
            DeploymentPlan.tenant_id == transaction.tenant_id,
            DeploymentPlan.id == plan_id,
            ~DeploymentPlan.is_deleted,
        )
    )
    plan = found.scalar_one_or_none()
    if plan is None:
        message = "there is no such plan"
        raise NotFound(message, path=("planId",))
    return plan


async def _kept_results(transaction: Transaction, parent: OrchestrationJob) -> dict[str, StepRun]:
    """Steps whose results a resumed job takes over. Resources are compared anew, so only the others are kept.

    What somebody has said was done, though no provider could tell, was done.
    """
    adopted = (StepRun.status.in_([StepStatus.FAILED, StepStatus.UNKNOWN])) & (StepEffect.state == EffectState.DONE)
    found = await transaction.session.execute(
        select(StepRun)
        .outerjoin(
            StepEffect,
            (StepEffect.tenant_id == StepRun.tenant_id)
            & (StepEffect.step_run_id == StepRun.id)
            & (StepEffect.direction == JobDirection.FORWARD),
        )
        .where(
            StepRun.tenant_id == transaction.tenant_id,
            StepRun.job_id == parent.id,
            or_(StepRun.status == StepStatus.SUCCEEDED, adopted),
            StepRun.operation.in_([*_ACTING, OperationKind.GATE]),
        )
    )
    return {step.step_key: step for step in found.scalars()}
