"""What can be done with a plan or a job now, and if not, why: asked by clients instead of copying the machines."""

from __future__ import annotations

from dataclasses import dataclass

from app.auth.principal import Principal
from app.db.models import DeploymentPlan, OrchestrationJob
from app.domain.enums import Permission, PlanType, StatusReason
from app.domain.statuses import JOB, PLAN, JobStatus, PlanStatus


@dataclass(frozen=True, slots=True)
class Availability:
    """One action: whether it is allowed now, and what stands against it."""

    action: str
    allowed: bool
    reason: StatusReason = StatusReason.NONE
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
)


# Why a paused plan cannot simply be resumed.
_UNDECIDED = {
    StatusReason.GATE: "goes on by itself when its gate is answered",
    StatusReason.STEP_FAILED: "somebody has to decide first about each failed step",
}


def plan_actions(plan: DeploymentPlan, principal: Principal, job: OrchestrationJob | None = None) -> list[Availability]:
    """Every action on the plan; `job` is its active one."""
    found = []
    for action, events, permission in _PLAN_ACTIONS:
        possible = any(PLAN.permits(plan.status, event) for event in events)
        if action == "EDIT":
            possible = possible or plan.status is PlanStatus.DRAFT
        if action == "PAUSE" and job is not None and job.status is JobStatus.PAUSING:
            found.append(Availability(action, allowed=False, message="not while it is PAUSING"))
            continue
        if action == "RESUME" and possible and plan.status_reason in _UNDECIDED:
            reason = plan.status_reason
            found.append(Availability(action, allowed=False, reason=reason, message=_UNDECIDED[reason]))
            continue
        found.append(_judge(action, possible, plan.status, principal, permission))
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
    return [
        _judge("CANCEL", cancellable, job.status, principal, Permission.CANCEL),
        _judge("CONTINUE_ROLLBACK", stuck, job.status, principal, Permission.ROLLBACK),
    ]


def _judge(action: str, possible: bool, status: str, principal: Principal, permission: Permission) -> Availability:
    if not possible:
        return Availability(action, allowed=False, message=f"not while it is {status}")
    if not principal.may(permission):
        return Availability(action, allowed=False, reason=StatusReason.POLICY, message=f"needs {permission}")
    return Availability(action, allowed=True)


def _with_hash(item: Availability) -> Availability:
    if not item.allowed:
        return item
    return Availability(item.action, allowed=True, message="needs the hash of the reviewed preview")
