"""What someone may do with orchestration jobs: cancel them, and go on with a rollback that got stuck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from app.auth.principal import Principal
from app.db import drift, losing
from app.db.ledger import Ledger
from app.db.models import DeploymentPlan, OrchestrationJob, StepRun
from app.db.statements import Statement, dumps
from app.db.step_rows import StepRow
from app.db.uow import Transaction
from app.domain.decisions import StepMove
from app.domain.enums import (
    CancelMode,
    CancelOutcome,
    DriftStatus,
    ErrorClass,
    Permission,
    RollbackResolution,
    StatusReason,
)
from app.domain.errors import IllegalState, Invalid, NotFound
from app.domain.resolving import resolutions
from app.domain.statuses import JOB, PLAN, RESOURCE, STEP, JobStatus, ResourceStatus, StepStatus
from app.services import launching
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies
from app.services.records import locked, same_version, store

_REQUEST = Statement(
    "UPDATE orchestration_job SET cancel_mode = :mode, cancel_outcome = :outcome,"
    " cancel_requested_at = clock_timestamp() WHERE tenant_id = :tenant AND id = :id"
)
_BLAME = Statement(
    "UPDATE step_run SET error = :error::jsonb, status_message = :message WHERE tenant_id = :tenant AND id = :id"
)
_TAKE_AWAY = Statement(
    "UPDATE step_run SET worker_id = NULL, fence = fence + 1, status = :status, status_reason = 'FORCED',"
    " due_at = NULL, deadline_at = NULL WHERE tenant_id = :tenant AND id = :id"
)
_SKIPPED = Statement(
    "SELECT r.id, r.resource_key, r.status, r.owner_plan_id FROM cloud_resource r WHERE r.tenant_id = :tenant"
    " AND r.id = ANY(ARRAY(SELECT resource_id FROM step_run WHERE tenant_id = :tenant AND job_id = :job"
    "   AND step_key = ANY(:keys::text[]) AND resource_id IS NOT NULL)) ORDER BY r.id FOR UPDATE"
)
# Once the rollback is over, they are looked at.
_LEAVE = Statement(
    "UPDATE cloud_resource SET status = :status, drift_status = :drift, is_deleted = :gone, version = version + 1,"
    " updated_at = now(), updated_by = :actor, drift = CASE WHEN NOT :gone THEN drift END,"
    " revert_at = CASE WHEN NOT :gone THEN revert_at END,"
    " in_doubt_step_id = CASE WHEN NOT :gone THEN in_doubt_step_id END"
    " WHERE tenant_id = :tenant AND id = :id"
)


@dataclass(frozen=True, slots=True)
class CancelJob:
    """GRACEFUL lets running steps finish, INTERRUPT asks their providers to stop, FORCE does not wait for them.

    FORCE also ends a rollback, as it is.
    """

    job_id: int
    mode: CancelMode = CancelMode.GRACEFUL
    outcome: CancelOutcome = CancelOutcome.KEEP
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ContinueRollback:
    """How to go on, per step whose undoing failed, by its key. Others are retried."""

    job_id: int
    resolutions: tuple[tuple[str, RollbackResolution], ...] = ()


@dataclass(frozen=True, slots=True)
class UpdateJob:
    """Changes to what people note about a job; None leaves a field as it is."""

    id: int
    expected_version: int
    description: str | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """A job to be hidden."""

    id: int
    expected_version: int | None = None


async def update(transaction: Transaction, principal: Principal, command: UpdateJob) -> OrchestrationJob:
    """Change a job's notes. Raises IllegalState once it has ended: then it is history."""
    authorize(transaction, principal, Permission.WRITE)
    job = await _locked(transaction, command.id, command.expected_version)
    if job.status in JOB.closed:
        message = f"a job that is {job.status} does not change any more"
        raise IllegalState(message, status=job.status, path=("id",))
    if command.description is not None:
        job.description = command.description
    if command.metadata is not None:
        job.metadata_ = dict(command.metadata)
    job.updated_by = transaction.actor
    await store(transaction, job)
    return job


async def delete(transaction: Transaction, principal: Principal, command: DeleteJob) -> OrchestrationJob:
    """Hide a job that has ended."""
    authorize(transaction, principal, Permission.DELETE)
    job = await _locked(transaction, command.id, command.expected_version)
    if job.status not in JOB.closed:
        message = f"a job that is {job.status} cannot be deleted; cancel it first"
        raise IllegalState(message, status=job.status, path=("id",))
    job.is_deleted = True
    job.updated_by = transaction.actor
    await store(transaction, job)
    return job


async def cancel(
    transaction: Transaction, principal: Principal, command: CancelJob, dependencies: Dependencies
) -> OrchestrationJob:
    """Ask a job to stop. While it is stopping only a stronger request counts; what is to be undone stays so."""
    del dependencies
    authorize(transaction, principal, Permission.CANCEL)
    return await stop(transaction, command)


async def stop(transaction: Transaction, command: CancelJob) -> OrchestrationJob:
    """The same for whoever has seen to the permission."""
    # The machinery knows deleted jobs, too; nobody else does.
    await _job(transaction, command.job_id)
    ledger = await Ledger.open(transaction, command.job_id)
    if ledger is None:
        message = "there is no such job"
        raise NotFound(message, path=("jobId",))
    back = ledger.status is JobStatus.ROLLING_BACK and command.mode is CancelMode.FORCE
    stopping = ledger.status is JobStatus.CANCELLING
    if not (stopping or back or JOB.permits(ledger.status, "cancel")):
        message = f"a job that is {ledger.status} cannot be cancelled"
        if ledger.status is JobStatus.ROLLING_BACK:
            message += " but with FORCE, which leaves what is not undone yet as it is"
        raise IllegalState(message, status=ledger.status, path=("jobId",))
    mode, outcome = _strongest(ledger, command)
    if stopping and (mode, outcome) == (ledger.row["cancel_mode"], ledger.row["cancel_outcome"]):
        return await _job(transaction, command.job_id)
    key = {"tenant": transaction.tenant_id, "id": command.job_id}
    await transaction.fetch(_REQUEST, {**key, "mode": mode.value, "outcome": outcome.value})
    ledger = await Ledger.open(transaction, command.job_id) or ledger
    await ledger.read_steps()
    if back:
        await _end_rollback(ledger)
        return await _job(transaction, command.job_id)
    if not stopping:
        ledger.apply("cancel", StatusReason.USER)
    if mode is CancelMode.FORCE:
        for step in list(ledger.steps.values()):
            await _take_away(ledger, step)
    ledger.advance()
    await ledger.write()
    return await _job(transaction, command.job_id)


def _strongest(ledger: Ledger, command: CancelJob) -> tuple[CancelMode, CancelOutcome]:
    """What is asked for by now: nobody takes back, by asking for less, what another has asked for."""
    asked = [CancelMode(mode) for mode in (ledger.row["cancel_mode"], command.mode) if mode is not None]
    wanted = [CancelOutcome(one) for one in (ledger.row["cancel_outcome"], command.outcome) if one is not None]
    return max(asked, key=list(CancelMode).index), max(wanted, key=list(CancelOutcome).index)


async def _end_rollback(ledger: Ledger) -> None:
    """Somebody does not wait any longer: what is not undone yet is an issue of the rollback, which can be continued."""
    message = "the rollback was ended by force before this was undone"
    error = {"class": ErrorClass.CANCELLED.value, "code": "FORCED", "message": message, "retryable": False}
    for step in list(ledger.steps.values()):
        await _take_away(ledger, step)
        if step.status is not StepStatus.COMPENSATING:
            continue
        key = {"tenant": ledger.transaction.tenant_id, "id": step.id}
        await ledger.transaction.fetch(_BLAME, {**key, "error": dumps(error), "message": message})
        await losing.lose(ledger, step.id)
        failed = STEP.after(step.status, "exhausted")
        ledger.move_step(StepMove(step.key, "exhausted", failed, StatusReason.FORCED))
    ledger.apply("force", StatusReason.FORCED)
    await ledger.write()


async def continue_rollback(
    transaction: Transaction, principal: Principal, command: ContinueRollback, dependencies: Dependencies
) -> OrchestrationJob:
    """Go on with a rollback that failed, in a new job.

    Raises Invalid for a step that did not fail to be undone, and for a resolution that makes no sense for it.
    """
    authorize(transaction, principal, Permission.ROLLBACK)
    job = await _job(transaction, command.job_id)
    if job.simulated:
        message = "it was only simulated: there is nothing to take back"
        raise IllegalState(message, status=job.status, path=("jobId",))
    if job.status is not JobStatus.ROLLBACK_FAILED:
        message = f"a job that is {job.status} has no rollback to continue"
        raise IllegalState(message, status=job.status, path=("jobId",))
    plan = await transaction.session.get_one(DeploymentPlan, job.plan_id, with_for_update=True)
    if plan.last_job_id != job.id or not PLAN.permits(plan.status, "continue_rollback"):
        message = "a later job of the plan has taken over"
        raise IllegalState(message, status=plan.status, path=("jobId",))
    decided = await _resolutions(transaction, job, command, dependencies)
    for key, resolution in decided.items():
        if resolution in _LEFT:
            await _leave(transaction, job, key, *_LEFT[resolution])
    await launching.move_plan(transaction, plan, "continue_rollback", StatusReason.USER)
    return await launching.launch_rollback(transaction, plan, job, decided)


def allowed_resolutions(step: StepRun, dependencies: Dependencies) -> tuple[RollbackResolution, ...]:
    """What may be decided about a step whose undoing failed."""
    type_name, code = step.spec.get("type"), (step.error or {}).get("code")
    readable = type_name is not None and dependencies.catalogue.is_observable(type_name)
    return resolutions(step.operation, step.change, code, readable=readable)


# How the resources are left that nobody puts back: the events of which the first possible one happens, and the drift.
_LEFT = {
    RollbackResolution.SKIP_KEEP_UNKNOWN: (("doubt", "lost"), DriftStatus.MODIFIED),
    RollbackResolution.MARK_DELETED: (("vanished", "observed_absent"), DriftStatus.NOT_CHECKED),
}


async def _leave(
    transaction: Transaction, job: OrchestrationJob, key: str, events: tuple[str, ...], drifted: DriftStatus
) -> None:
    """The resource of a step that nobody undoes is said to be what it is taken for, and its plan is told."""
    for row in await transaction.fetch(_SKIPPED, {"tenant": transaction.tenant_id, "job": job.id, "keys": [key]}):
        before = ResourceStatus(row["status"])
        event = next((name for name in events if RESOURCE.permits(before, name)), None)
        if event is None and before is not ResourceStatus.UNKNOWN:
            continue
        after = before if event is None else RESOURCE.after(before, event)
        await transaction.fetch(
            _LEAVE,
            {
                "tenant": transaction.tenant_id,
                "id": row["id"],
                "status": after.value,
                "drift": drifted.value,
                "gone": after in RESOURCE.closed,
                "actor": transaction.actor,
            },
        )
        await drift.tell(transaction, row, after, drifted)


async def _resolutions(
    transaction: Transaction, job: OrchestrationJob, command: ContinueRollback, dependencies: Dependencies
) -> dict[str, RollbackResolution]:
    found = await transaction.session.execute(
        select(StepRun).where(
            StepRun.tenant_id == transaction.tenant_id,
            StepRun.job_id == job.id,
            StepRun.status == StepStatus.COMPENSATION_FAILED,
        )
    )
    failed = {step.step_key: step for step in found.scalars()}
    for position, (key, action) in enumerate(command.resolutions):
        path = ("resolutions", str(position))
        if key not in failed:
            message = f"'{key}' is not a step whose undoing failed; those are {sorted(failed)}"
            raise Invalid(message, path=(*path, "stepKey"))
        allowed = allowed_resolutions(failed[key], dependencies)
        if action not in allowed:
            message = f"{action} makes no sense for '{key}': use {' or '.join(allowed)}"
            raise Invalid(message, path=(*path, "action"))
    return dict(command.resolutions)


async def _take_away(ledger: Ledger, step: StepRow) -> None:
    """Stop waiting for the worker that has the step. What it did is unknown from now on."""
    if step.worker_id is None and step.status is not StepStatus.UNKNOWN:
        return
    status = STEP.after(step.status, "force_cancel") if step.status is StepStatus.RUNNING else step.status
    await ledger.transaction.fetch(
        _TAKE_AWAY, {"tenant": ledger.transaction.tenant_id, "id": step.id, "status": status.value}
    )
    if status is not step.status:
        ledger.step_event(step.id, step.key, step.status, status, step.attempt, StatusReason.FORCED)
    await losing.lose(ledger, step.id)
    step.let_go(status)


async def _locked(transaction: Transaction, job_id: int, expected_version: int | None) -> OrchestrationJob:
    query = select(OrchestrationJob).where(
        OrchestrationJob.tenant_id == transaction.tenant_id,
        OrchestrationJob.id == job_id,
        ~OrchestrationJob.is_deleted,
    )
    job = await locked(transaction, query, "job")
    same_version(job.version, expected_version, "job")
    return job


async def _job(transaction: Transaction, job_id: int) -> OrchestrationJob:
    found = await transaction.session.execute(
        select(OrchestrationJob)
        .where(
            OrchestrationJob.tenant_id == transaction.tenant_id,
            OrchestrationJob.id == job_id,
            ~OrchestrationJob.is_deleted,
        )
        .execution_options(populate_existing=True)
    )
    job = found.scalar_one_or_none()
    if job is None:
        message = "there is no such job"
        raise NotFound(message, path=("jobId",))
    return job
