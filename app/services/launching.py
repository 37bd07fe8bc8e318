"""Makes jobs out of plans: the steps are frozen, the resources named, the stack's lock taken if it is free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from app.db import effects, jobs, journal, stacks
from app.db.following import plan_event
from app.db.ledger import Ledger
from app.db.models import (
    CloudResource,
    DeploymentPlan,
    OrchestrationJob,
    PlanResource,
    StepEffect,
    StepRun,
    WorkflowStep,
)
from app.db.uow import Transaction
from app.domain.concurrency import width_of
from app.domain.conflicts import conflict_policy_of
from app.domain.drifting import ttl_of
from app.domain.enums import (
    ChangeAction,
    JobDirection,
    JobType,
    RollbackResolution,
    RollbackScope,
    StatusReason,
    WorkflowType,
)
from app.domain.events import Event, EventKind, Stream
from app.domain.operations import OperationKind
from app.domain.pausing import patience_of
from app.domain.planning import Deployment, PlannedStep
from app.domain.planning.steps import references
from app.domain.statuses import PLAN, RESOURCE, JobStatus, ResourceStatus, StepStatus
from app.domain.timeouts import Timeouts, timeouts_of
from app.services import limits
from app.services.dependencies import Dependencies

_BY_WORKFLOW = {
    WorkflowType.SCALING: JobType.SCALE,
    WorkflowType.BACKUP: JobType.BACKUP,
    WorkflowType.RESTORE: JobType.RESTORE,
    WorkflowType.MIGRATION: JobType.MIGRATE,
    WorkflowType.MAINTENANCE: JobType.CUSTOM,
    WorkflowType.CUSTOM: JobType.CUSTOM,
}


@dataclass(frozen=True, slots=True)
class JobContext:
    """What a job needs beside its steps: the tenant's name, the outputs to evaluate, the kind of its workflow."""

    tenant_slug: str
    outputs: Mapping[str, Any]
    workflow_type: WorkflowType | None


async def move_plan(
    transaction: Transaction,
    plan: DeploymentPlan,
    event: str,
    reason: StatusReason = StatusReason.NONE,
    message: str | None = None,
) -> None:
    """Let the plan take `event`, and tell. Raises IllegalState when its status does not."""
    previous = plan.status
    plan.status = PLAN.after(previous, event)
    plan.status_reason = reason
    plan.status_message = message
    plan.updated_by = transaction.actor
    await transaction.session.flush()
    await journal.append(transaction, Stream.PLAN, plan.id, [plan_event(plan.id, previous, plan.status, reason)])


async def launch(
    transaction: Transaction,
    plan: DeploymentPlan,
    deployment: Deployment,
    dependencies: Dependencies,
    context: JobContext,
    *,
    parent: OrchestrationJob | None = None,
    done: dict[str, StepRun] | None = None,
    in_doubt: Mapping[str, StepEffect] | None = None,
) -> OrchestrationJob:
    """Make the forward job of a plan that has become QUEUED, and start it if its stack is free.

    `done` are step runs of an earlier job whose results stand: they are taken over, not run again. `in_doubt` are
    effects of an earlier job's steps, by key, that may have been carried out: they are gone on with.
    """
    job = forward_job(transaction, plan, deployment, dependencies, context)
    if parent is not None:
        job.parent_job_id, job.retry_count = parent.id, parent.retry_count + 1
    elif (queue := timeouts_of(plan.configuration).queue) is not None:
        # Of the first job only: after that a plan has done something, and must not end as if it never had.
        job.queue_until = func.clock_timestamp() + timedelta(seconds=queue)
    ttl = ttl_of(plan.configuration)
    plan.ttl_seconds = None if ttl is None else int(ttl.total_seconds())
    transaction.session.add(job)
    await transaction.session.flush()
    resources = await _resources(transaction, plan, deployment.steps)
    await add_steps(transaction, plan, job, deployment, dependencies, resources, done or {}, in_doubt or {})
    await begin(transaction, plan, job)
    return job


def forward_job(
    transaction: Transaction,
    plan: DeploymentPlan,
    deployment: Deployment,
    dependencies: Dependencies,
    context: JobContext,
) -> OrchestrationJob:
    """The row, not yet added, of a job that carries `deployment` out."""
    job = OrchestrationJob(
        tenant_id=transaction.tenant_id,
        plan_id=plan.id,
        job_name=plan.plan_name,
        description=plan.description,
        job_type=job_type_of(deployment, context.workflow_type),
        stack=plan.stack,
        inputs=dependencies.sealer.seal(dict(deployment.parameters), transaction.tenant_id),
        configuration={
            "plan": {"name": plan.plan_name, "stack": plan.stack},
            "tenant": {"slug": context.tenant_slug},
            "pause": patience_of(plan.configuration).document(),
            "width": width_of(plan.configuration),
            "onConflict": conflict_policy_of(plan.configuration).value,
            "outputs": dict(context.outputs),
            "outputReferences": references({"inputs": context.outputs}),
            # Whose outputs they are stays as it was agreed to; what has succeeded is never another.
            "plans": {found.name: found.plan_id for found in deployment.upstream},
        },
        failure_strategy=plan.failure_strategy,
        rollback_scope=plan.rollback_scope,
        retry_count=0,
        metadata_=plan.metadata_,
    )
    _sign(job, transaction)
    return job


async def add_steps(
    transaction: Transaction,
    plan: DeploymentPlan,
    job: OrchestrationJob,
    deployment: Deployment,
    dependencies: Dependencies,
    resources: Mapping[str, int],
    done: Mapping[str, StepRun],
    in_doubt: Mapping[str, StepEffect],
) -> None:
    """Freeze the steps of `deployment`; `resources` are the ids of those that they work on, by key."""
    definitions, timeouts = await _workflow_steps(transaction, plan), timeouts_of(plan.configuration)
    rows = [_row(job, step, resources, definitions, dependencies, done, timeouts) for step in deployment.steps]
    transaction.session.add_all(rows)
    unclear = [(row, in_doubt[row.step_key]) for row in rows if row.step_key in in_doubt and row.step_key not in done]
    for row, effect in unclear:
        row.operation_id, row.touched = effect.operation_id, True
    if unclear:
        await transaction.session.flush()
        transaction.session.add_all(effects.moved(effect, job.id, row.id) for row, effect in unclear)


async def begin(transaction: Transaction, plan: DeploymentPlan, job: OrchestrationJob) -> None:
    """Tell of a new job, and start it if its stack is free; otherwise the tick will."""
    plan.active_job_id = plan.last_job_id = job.id
    plan.completed_at = None
    plan.error_message = None
    await announce(transaction, job)
    # The engine writes past the session: what it holds of these rows is out of date.
    await transaction.session.refresh(plan)
    # What was done can always be taken back; what fires by itself has bounds of its own, and nobody to be told.
    asked_for = not transaction.actor.startswith("system:")
    if asked_for and job.status is JobStatus.QUEUED and job.direction is JobDirection.FORWARD:
        await limits.refuse_beyond(transaction)


async def announce(transaction: Transaction, job: OrchestrationJob) -> None:
    """Tell of a job that was added with its steps, and start it if it need not wait; the plan is not told."""
    await transaction.session.flush()
    created = {
        "jobId": job.id,
        "planId": job.plan_id,
        "previous": None,
        "status": job.status.value,
        "reason": StatusReason.NONE.value,
    }
    await journal.append(transaction, Stream.JOB, job.id, [Event(EventKind.JOB_STATUS_CHANGED, created)])
    ledger = await Ledger.open(transaction, job.id)
    if ledger is not None:
        await jobs.start(ledger)
    # The engine writes past the session: what it holds of the row is out of date.
    await transaction.session.refresh(job)


def job_type_of(deployment: Deployment, workflow_type: WorkflowType | None) -> JobType:
    """What the operation is, as a whole."""
    if workflow_type in _BY_WORKFLOW:
        return _BY_WORKFLOW[workflow_type]
    actions = {change.action for change in deployment.changes} - {ChangeAction.NO_CHANGE}
    if actions and actions <= {ChangeAction.DELETE, ChangeAction.DETACH}:
        return JobType.DELETE
    return JobType.UPDATE if actions and ChangeAction.CREATE not in actions else JobType.DEPLOY


def _sign(job: OrchestrationJob, transaction: Transaction) -> None:
    job.created_by = job.updated_by = transaction.actor


async def _resources(transaction: Transaction, plan: DeploymentPlan, steps: Sequence[PlannedStep]) -> dict[str, int]:
    """The ids of the resources that the steps work on; those that do not exist yet are entered as PLANNED."""
    await stacks.enter_alone(transaction, plan.stack)
    # Several steps may work on one resource; the one that brings it about says what it is.
    by_weight = sorted(steps, key=lambda step: step.operation is OperationKind.APPLY)
    wanted = {step.resource_key: step for step in by_weight if step.resource_key is not None}
    found = await transaction.session.execute(
        select(CloudResource).where(
            CloudResource.tenant_id == transaction.tenant_id,
            CloudResource.stack == plan.stack,
            CloudResource.resource_key.in_(wanted),
            CloudResource.status.not_in(RESOURCE.closed),
        )
    )
    rows = {row.resource_key: row for row in found.scalars()}
    for key, step in wanted.items():
        if key not in rows and step.operation is OperationKind.APPLY:
            rows[key] = CloudResource(
                tenant_id=transaction.tenant_id,
                stack=plan.stack,
                resource_key=key,
                name=key,
                type=step.spec["type"],
                provider=step.spec["provider"],
                connection=step.spec.get("connection"),
                status=ResourceStatus.PLANNED,
                retain=bool(step.spec.get("retain")),
                prevent_destroy=bool(step.spec.get("preventDestroy")),
                depends_on=[],
                owner_plan_id=plan.id,
                created_by=transaction.actor,
            )
            transaction.session.add(rows[key])
    await transaction.session.flush()
    if rows:
        links = [{"tenant_id": transaction.tenant_id, "plan_id": plan.id, "resource_id": r.id} for r in rows.values()]
        await transaction.session.execute(insert(PlanResource).values(links).on_conflict_do_nothing())
    return {key: row.id for key, row in rows.items()}


async def _workflow_steps(transaction: Transaction, plan: DeploymentPlan) -> dict[str, int]:
    if plan.workflow_id is None:
        return {}
    found = await transaction.session.execute(
        select(WorkflowStep.step_key, WorkflowStep.id).where(
            WorkflowStep.tenant_id == transaction.tenant_id,
            WorkflowStep.workflow_id == plan.workflow_id,
            ~WorkflowStep.is_deleted,
        )
    )
    return {row.step_key: row.id for row in found}


def _row(
    job: OrchestrationJob,
    step: PlannedStep,
    resources: Mapping[str, int],
    definitions: Mapping[str, int],
    dependencies: Dependencies,
    done: Mapping[str, StepRun],
    timeouts: Timeouts,
) -> StepRun:
    spec = {
        "onConflict": (job.configuration or {}).get("onConflict"),
        **step.spec,
        "retry": step.retry.document(),
        "strategy": step.strategy.value if step.strategy else None,
    }
    earlier = done.get(step.key)
    return StepRun(
        tenant_id=job.tenant_id,
        job_id=job.id,
        step_key=step.key,
        name=step.name,
        step_type=step.type,
        operation=step.operation,
        phase=step.phase,
        change=step.change,
        status=StepStatus.SUCCEEDED if earlier else StepStatus.PENDING,
        outputs=earlier.outputs if earlier else None,
        wave=step.wave,
        needs=list(step.needs),
        spec=dependencies.sealer.seal(spec, job.tenant_id),
        workflow_step_id=definitions.get(step.workflow_step_key or ""),
        resource_id=resources.get(step.resource_key or ""),
        max_attempts=step.retry.max_attempts,
        timeout_seconds=step.timeout_seconds,
        total_seconds=timeouts.total_of(step.operation, step.timeout_seconds, step.total_seconds),
        heartbeat_seconds=step.heartbeat_seconds,
        operation_id=uuid4(),
    )


async def launch_rollback(
    transaction: Transaction,
    plan: DeploymentPlan,
    parent: OrchestrationJob,
    resolutions: Mapping[str, RollbackResolution] | None = None,
    *,
    scope: RollbackScope | None = None,
    checkpoint: str | None = None,
) -> OrchestrationJob:
    """Make a job that undoes what `parent` has done and not undone; `resolutions`, by step key, say how where that
    failed before.

    Its scope is that of `parent` unless one is given.
    """
    configuration = {**(parent.configuration or {}), "outputs": {}}
    if scope is not None:
        configuration["checkpoint"] = checkpoint
    job = OrchestrationJob(
        tenant_id=transaction.tenant_id,
        plan_id=plan.id,
        job_name=f"{plan.plan_name} rollback",
        description=plan.description,
        job_type=parent.job_type,
        direction=JobDirection.ROLLBACK,
        stack=plan.stack,
        inputs=parent.inputs,
        configuration=configuration,
        failure_strategy=plan.failure_strategy,
        rollback_scope=scope or parent.rollback_scope,
        parent_job_id=parent.id,
        retry_count=parent.retry_count + 1,
    )
    _sign(job, transaction)
    transaction.session.add(job)
    await transaction.session.flush()
    found = await transaction.session.execute(
        select(StepRun).where(StepRun.tenant_id == transaction.tenant_id, StepRun.job_id == parent.id)
    )
    transaction.session.add_all(
        _undo_row(job, step, (resolutions or {}).get(step.step_key, RollbackResolution.RETRY))
        for step in found.scalars()
        if step.operation is not OperationKind.RETIRE
    )
    await begin(transaction, plan, job)
    return job


# A step whose undoing failed is undone anew; one that was undone or skipped stays so.
_AGAIN = {
    StepStatus.COMPENSATION_FAILED: StepStatus.FAILED,
    StepStatus.COMPENSATING: StepStatus.FAILED,
}


_SKIPPING = frozenset({RollbackResolution.SKIP_KEEP_UNKNOWN, RollbackResolution.MARK_DELETED})


def _undo_row(job: OrchestrationJob, step: StepRun, resolution: RollbackResolution) -> StepRun:
    skip = resolution in _SKIPPING
    status = StepStatus.COMPENSATION_SKIPPED if skip else _AGAIN.get(step.status, step.status)
    return StepRun(
        tenant_id=job.tenant_id,
        job_id=job.id,
        step_key=step.step_key,
        name=step.name,
        step_type=step.step_type,
        operation=step.operation,
        phase=step.phase,
        change=step.change,
        status=status,
        wave=step.wave,
        needs=step.needs,
        spec={**step.spec, "resolution": resolution.value},
        inputs=step.inputs,
        outputs=step.outputs,
        workflow_step_id=step.workflow_step_id,
        resource_id=step.resource_id,
        undo_of_id=step.undo_of_id or step.id,
        touched=step.touched,
        max_attempts=step.max_attempts,
        timeout_seconds=step.timeout_seconds,
        operation_id=step.operation_id,
    )
