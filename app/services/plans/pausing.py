"""Pausing plans that run: hold them, let them go on, or undo what they have done so far."""

from __future__ import annotations

from app.auth.principal import Principal
from app.db import jobs, watches
from app.db.ledger import Ledger
from app.db.models import DeploymentPlan
from app.db.uow import Transaction
from app.domain.enums import FailureStrategy, Permission, StatusReason
from app.domain.errors import Conflict, IllegalState
from app.domain.statuses import JOB, JobStatus
from app.services import launching
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies
from app.services.plans import automation
from app.services.plans.authoring import PlanAction, find, require
from app.services.plans.scopes import RollbackPlan, require_scope


async def pause(
    transaction: Transaction, principal: Principal, command: PlanAction, dependencies: Dependencies
) -> DeploymentPlan:
    """Let what runs finish and start nothing more. The job keeps the lock of its stack."""
    del dependencies
    authorize(transaction, principal, Permission.EXECUTE)
    plan, ledger = await locked_with_job(transaction, command)
    if ledger is None:
        require(plan, "pause")
        await launching.move_plan(transaction, plan, "pause", StatusReason.USER, command.comment)
        return plan
    if not JOB.permits(ledger.status, "pause"):
        raise _refusal(plan, ledger, "paused")
    await ledger.read_steps()
    ledger.apply("pause", StatusReason.USER)
    ledger.advance()
    await ledger.write()
    await transaction.session.refresh(plan)
    return plan


async def resume(
    transaction: Transaction, principal: Principal, command: PlanAction, dependencies: Dependencies
) -> DeploymentPlan:
    """Let a paused plan go on. One that waits for an answer or for a decision goes on when it has that."""
    del dependencies
    authorize(transaction, principal, Permission.EXECUTE)
    plan, ledger = await locked_with_job(transaction, command)
    if ledger is None:
        require(plan, "resume_waiting")
        await launching.move_plan(transaction, plan, "resume_waiting", StatusReason.USER, command.comment)
        await watches.go_on(transaction, plan.id)
        await automation.close_circuit(transaction, plan)
        return plan
    if not JOB.permits(ledger.status, "resume"):
        raise _refusal(plan, ledger, "resumed")
    await ledger.read_steps()
    if ledger.row["status_reason"] == StatusReason.GATE:
        gates = [step.key for step in ledger.steps.values() if step.gate and step.status == "WAITING"]
        message = f"the plan goes on by itself when {', '.join(gates)} is answered"
        raise IllegalState(message, status=plan.status, path=("planId",))
    undecided = ledger.undecided()
    if undecided:
        message = f"somebody has to decide first what becomes of {', '.join(undecided)}: use stepAction"
        raise IllegalState(message, status=plan.status, path=("planId",))
    await jobs.resume(ledger)
    await transaction.session.refresh(plan)
    return plan


async def give_up(transaction: Transaction, principal: Principal, command: RollbackPlan) -> int:
    """Undo, in the same job, what a paused plan has done. Returns the id of the job."""
    authorize(transaction, principal, Permission.ROLLBACK)
    plan, ledger = await locked_with_job(transaction, PlanAction(command.plan_id))
    if ledger is None or not JOB.permits(ledger.status, "rollback"):
        message = f"a plan that is {plan.status} does not take 'rollback'"
        raise IllegalState(message, status=plan.status, path=("planId",))
    await require_scope(transaction, ledger.job_id, command)
    await ledger.limit_rollback(command.scope, command.checkpoint)
    await ledger.read_steps()
    ledger.fallback = FailureStrategy.ROLLBACK
    ledger.advance()
    await ledger.write()
    return ledger.job_id


async def locked_with_job(transaction: Transaction, command: PlanAction) -> tuple[DeploymentPlan, Ledger | None]:
    """The plan and its active job, locked in the order in which everybody locks them: the job first."""
    plan = await find(transaction, command.plan_id, command.expected_version, lock=False)
    active = plan.active_job_id
    ledger = None if active is None else await Ledger.open(transaction, active)
    plan = await find(transaction, command.plan_id, command.expected_version)
    if plan.active_job_id != active:
        message = "the plan has just gone on; try again"
        raise Conflict(message, path=("planId",))
    return plan, ledger


def _refusal(plan: DeploymentPlan, ledger: Ledger, verb: str) -> IllegalState:
    state = "still pausing" if ledger.status is JobStatus.PAUSING else plan.status
    message = f"a plan that is {state} cannot be {verb}"
    return IllegalState(message, status=plan.status, path=("planId",))
