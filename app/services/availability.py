"""What can be done with a plan or a job now, and if not, why: asked by clients instead of copying the machines."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.auth.principal import Principal
from app.db.models import Approval, CloudResource, DeploymentPlan, OrchestrationJob, StepRun
from app.domain.enums import ActionReason, Permission, PlanType, ResourceDecision, StatusReason, StepAction
from app.domain.errors import DomainError
from app.domain.statuses import JOB, PLAN, JobStatus, PlanStatus, StepStatus
from app.services import attention, steps
from app.services.plans.councils import bars, council, quorum_of


@dataclass(frozen=True, slots=True)
class Availability:
    """One action: whether it is allowed now, and what stands against it."""

    action: str
    allowed: bool
    reason: ActionReason = ActionReason.NONE
    message: str | None = None


# Each action with the events that carry it out and the permission it needs.
_PLAN_ACTIONS = (
    ("EDIT", ("edit",), Permission.WRITE),
    ("SUBMIT", ("submit",), Permission.WRITE),
    ("EXECUTE", ("execute",), Permission.EXECUTE),
    ("PAUSE", ("pause_or_gate", "pause"), Permission.EXECUTE),
    ("RESUME", ("resume_run", "resume_waiting"), Permission.EXECUTE),
    ("CANCEL", ("cancel",), Permission.CANCEL),
    ("RETRY", ("retry_resume", "retry_restart"), Permission.EXECUTE),
    ("ROLLBACK", ("rollback",), Permission.ROLLBACK),
    ("CONTINUE_ROLLBACK", ("continue_rollback",), Permission.ROLLBACK),
    ("ACCEPT_CURRENT_STATE", ("accept_current_state",), Permission.ROLLBACK),
)


def _never(_plan: DeploymentPlan, _job: OrchestrationJob | None) -> Refusal | None:
    return None


def _refuses_edit(plan: DeploymentPlan, _job: OrchestrationJob | None) -> Refusal | None:
    if plan.parent_plan_id is None:
        return None
    return ActionReason.NOT_APPLICABLE, "it is one run of a recurring plan: edit that one"


def _refuses_execution(plan: DeploymentPlan, _job: OrchestrationJob | None) -> Refusal | None:
    if plan.schedule is None or plan.schedule.get("recurrence") is None:
        return None
    return ActionReason.NOT_APPLICABLE, "each of its runs is a plan of its own, made when it is time"


def _refuses_pause(_plan: DeploymentPlan, job: OrchestrationJob | None) -> Refusal | None:
    pausing = job is not None and job.status is JobStatus.PAUSING
    return (ActionReason.ILLEGAL_STATE, "not while it is PAUSING") if pausing else None


def _refuses_rollback(plan: DeploymentPlan, job: OrchestrationJob | None) -> Refusal | None:
    waits = plan.status is PlanStatus.PAUSED and job is None
    return (ActionReason.ILLEGAL_STATE, "it has done nothing yet: it waited when it was paused") if waits else None


def _refuses_resumption(plan: DeploymentPlan, _job: OrchestrationJob | None) -> Refusal | None:
    return _UNDECIDED.get(plan.status_reason)


Refusal = tuple[ActionReason, str]
# Why a paused plan cannot simply be resumed.
_UNDECIDED: dict[StatusReason, Refusal] = {
    StatusReason.GATE: (ActionReason.GATE, "goes on by itself when its gate is answered"),
    StatusReason.STEP_FAILED: (ActionReason.STEP_FAILED, "somebody has to decide first about each failed step"),
}
# What FORCE does to a job of this status; others are cancelled.
_FORCED: dict[str, str] = {
    JobStatus.CANCELLING: "does not wait for what is under way",
    JobStatus.ROLLING_BACK: "ends the rollback, which can be continued",
}
_FORCE_AT = [action for action, _, _ in _PLAN_ACTIONS].index("CANCEL") + 1
# What stands against an action although the plan's status permits it.
_REFUSALS = {
    "EDIT": _refuses_edit,
    "EXECUTE": _refuses_execution,
    "PAUSE": _refuses_pause,
    "RESUME": _refuses_resumption,
    "ROLLBACK": _refuses_rollback,
}


def plan_actions(
    plan: DeploymentPlan, principal: Principal, reviews: list[Approval], job: OrchestrationJob | None = None
) -> list[Availability]:
    """Every action on the plan; `reviews` are what has been said of it, `job` is its active one."""
    found = []
    for action, events, permission in _PLAN_ACTIONS:
        possible = any(PLAN.permits(plan.status, event) for event in events)
        if action == "EDIT":
            possible = possible or plan.status is PlanStatus.DRAFT
        reverts = action == "ROLLBACK" and plan.status is PlanStatus.SUCCEEDED
        possible = possible or reverts
        judged = _judge(action, possible, plan.status, principal, permission)
        if judged.allowed and (refusal := _REFUSALS.get(action, _never)(plan, job)):
            judged = Availability(action, allowed=False, reason=refusal[0], message=refusal[1])
        if action == "EXECUTE" and plan.plan_type is PlanType.AUTOMATED and not judged.allowed:
            message = "each of its runs is a plan of its own, made by what it listens to"
            judged = replace(judged, reason=ActionReason.NOT_APPLICABLE, message=message)
        if judged.allowed and reverts:
            judged = replace(judged, message="makes a new plan, which is reviewed: createRollbackPlan")
        if action == "EXECUTE" and plan.status is PlanStatus.PENDING_APPROVAL:
            judged = replace(judged, reason=ActionReason.APPROVAL_PENDING)
        found.append(judged)
    found.insert(_FORCE_AT, _force(plan.status, principal))
    found[2:2] = [_review_action(action, plan, principal, reviews) for action in ("APPROVE", "REJECT")]
    resting = plan.status in PLAN.closed | PLAN.settled or plan.status in (
        PlanStatus.DRAFT,
        PlanStatus.INVALID,
        PlanStatus.READY,
    )
    found.append(_judge("DELETE", resting, plan.status, principal, Permission.DELETE))
    if plan.plan_type is PlanType.MANUAL and plan.status is PlanStatus.READY:
        found = [_with_hash(item) if item.action == "EXECUTE" else item for item in found]
    return found


def job_actions(job: OrchestrationJob, principal: Principal) -> list[Availability]:
    """Every action on the job."""
    cancellable = JOB.permits(job.status, "cancel") or job.status is JobStatus.CANCELLING
    stuck = job.status is JobStatus.ROLLBACK_FAILED
    continuation = _judge("CONTINUE_ROLLBACK", stuck, job.status, principal, Permission.ROLLBACK)
    if job.simulated:
        reason, message = ActionReason.NOT_APPLICABLE, "it is only simulated"
        continuation = Availability("CONTINUE_ROLLBACK", allowed=False, reason=reason, message=message)
    cancellation = _judge("CANCEL", cancellable, job.status, principal, Permission.CANCEL)
    return [cancellation, _force(job.status, principal), continuation]


def _force(status: str, principal: Principal) -> Availability:
    """What stops, or is undone, need not be waited for; a plan and its job have the same status then."""
    judged = _judge("FORCE_CANCEL", status in _FORCED, status, principal, Permission.CANCEL)
    return replace(judged, message=f"{_FORCED[status]}: cancelJob with the mode FORCE") if judged.allowed else judged


def resource_actions(resource: CloudResource, principal: Principal) -> list[Availability]:
    """Every decision about a resource in doubt."""
    doubt = attention.is_in_doubt(resource)
    needs = {ResourceDecision.ABANDON: Permission.DELETE}
    return [
        _judge(action, doubt, resource.status, principal, needs.get(action, Permission.EXECUTE))
        for action in ResourceDecision
    ]


def step_actions(step: StepRun, job: OrchestrationJob, principal: Principal) -> list[Availability]:
    """Every decision about a step that failed, or of which nobody can tell whether it was carried out."""
    paused, over = job.status is JobStatus.PAUSED, job.status in JOB.closed
    failed, unclear = step.status is StepStatus.FAILED, steps.needs_attention(step)
    possible = {
        StepAction.RETRY: (paused and failed) or (over and unclear),
        StepAction.SKIP: paused and failed,
        StepAction.ADOPT: unclear and (over or (paused and failed)),
        StepAction.ABANDON: unclear and (over or (paused and failed)),
    }
    return [_judge(action, able, step.status, principal, Permission.EXECUTE) for action, able in possible.items()]


def _review_action(action: str, plan: DeploymentPlan, principal: Principal, reviews: list[Approval]) -> Availability:
    pending = plan.status is PlanStatus.PENDING_APPROVAL
    judged = _judge(action, pending, plan.status, principal, Permission.APPROVE)
    if not judged.allowed or action == "REJECT":
        return judged
    try:
        policy = quorum_of(plan)
    except DomainError as error:
        return Availability(action, allowed=False, reason=ActionReason.POLICY, message=error.message)
    members = council(plan, policy, reviews)
    if bars(members, principal):
        return Availability(action, allowed=False, reason=ActionReason.POLICY, message="authors do not approve")
    if members.has_spoken(principal.user_id):
        reason, message = ActionReason.ALREADY_DONE, "you have approved it already"
        return Availability(action, allowed=False, reason=reason, message=message)
    return judged


def _judge(action: str, possible: bool, status: str, principal: Principal, permission: Permission) -> Availability:
    if not possible:
        reason, message = ActionReason.ILLEGAL_STATE, f"not while it is {status}"
        return Availability(action, allowed=False, reason=reason, message=message)
    if not principal.may(permission):
        return Availability(action, allowed=False, reason=ActionReason.POLICY, message=f"needs {permission}")
    return Availability(action, allowed=True)


def _with_hash(item: Availability) -> Availability:
    if not item.allowed:
        return item
    return Availability(item.action, allowed=True, message="needs the hash of the reviewed preview")
