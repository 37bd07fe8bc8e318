"""The machines of Plan, Job, Step and Resource, declared as tables and checked when this module is loaded.

Drawn in docs/states.md. `docs/decisions/0004-state-machines.md` says which edges the engine takes today.
"""

from __future__ import annotations

from enum import StrEnum

from app.domain.enums import Stage
from app.domain.lifecycle import Lifecycle


class PlanStatus(StrEnum):
    """Of a DeploymentPlan."""

    DRAFT = "DRAFT"
    VALIDATING = "VALIDATING"
    INVALID = "INVALID"
    PENDING_APPROVAL = "PENDING_APPROVAL"
    READY = "READY"
    SCHEDULED = "SCHEDULED"
    WAITING = "WAITING"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"
    ROLLING_BACK = "ROLLING_BACK"
    SUCCEEDED = "SUCCEEDED"
    PARTIALLY_SUCCEEDED = "PARTIALLY_SUCCEEDED"
    FAILED = "FAILED"
    ROLLED_BACK = "ROLLED_BACK"
    ROLLBACK_FAILED = "ROLLBACK_FAILED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


class JobStatus(StrEnum):
    """Of an OrchestrationJob; the six terminal ones never change again."""

    QUEUED = "QUEUED"
    DISPATCHED = "DISPATCHED"
    RUNNING = "RUNNING"
    PAUSING = "PAUSING"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"
    ROLLING_BACK = "ROLLING_BACK"
    SUCCEEDED = "SUCCEEDED"
    PARTIALLY_SUCCEEDED = "PARTIALLY_SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    ROLLED_BACK = "ROLLED_BACK"
    ROLLBACK_FAILED = "ROLLBACK_FAILED"


class StepStatus(StrEnum):
    """Of a step run."""

    PENDING = "PENDING"
    READY = "READY"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    RETRY_WAIT = "RETRY_WAIT"
    UNKNOWN = "UNKNOWN"
    SUCCEEDED = "SUCCEEDED"
    NO_CHANGE = "NO_CHANGE"
    SKIPPED = "SKIPPED"
    BLOCKED = "BLOCKED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    COMPENSATING = "COMPENSATING"
    COMPENSATED = "COMPENSATED"
    COMPENSATION_SKIPPED = "COMPENSATION_SKIPPED"
    COMPENSATION_FAILED = "COMPENSATION_FAILED"


class ResourceStatus(StrEnum):
    """Of a CloudResource; drift is a separate axis."""

    PLANNED = "PLANNED"
    IMPORTING = "IMPORTING"
    CREATING = "CREATING"
    ACTIVE = "ACTIVE"
    UPDATING = "UPDATING"
    DELETING = "DELETING"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
    DELETED = "DELETED"
    DETACHED = "DETACHED"


PLAN: Lifecycle[PlanStatus] = Lifecycle(
    "plan",
    initial=PlanStatus.DRAFT,
    closed={PlanStatus.SUCCEEDED, PlanStatus.REJECTED, PlanStatus.EXPIRED},
    settled={
        PlanStatus.PARTIALLY_SUCCEEDED,
        PlanStatus.FAILED,
        PlanStatus.ROLLED_BACK,
        PlanStatus.ROLLBACK_FAILED,
        PlanStatus.CANCELLED,
    },
    edges=[
        (PlanStatus.DRAFT, "submit", PlanStatus.VALIDATING),
        (PlanStatus.VALIDATING, "invalid", PlanStatus.INVALID),
        (PlanStatus.VALIDATING, "no_changes", PlanStatus.SUCCEEDED),
        (PlanStatus.VALIDATING, "policy_denied", PlanStatus.REJECTED),
        (PlanStatus.VALIDATING, "valid_needs_approval", PlanStatus.PENDING_APPROVAL),
        (PlanStatus.VALIDATING, "valid", PlanStatus.READY),
        (PlanStatus.INVALID, "edit", PlanStatus.DRAFT),
        (PlanStatus.INVALID, "cancel", PlanStatus.CANCELLED),
        (PlanStatus.DRAFT, "cancel", PlanStatus.CANCELLED),
        (PlanStatus.PENDING_APPROVAL, "quorum_reached", PlanStatus.READY),
        (PlanStatus.PENDING_APPROVAL, "reject", PlanStatus.REJECTED),
        (PlanStatus.PENDING_APPROVAL, "approval_timeout", PlanStatus.EXPIRED),
        (PlanStatus.PENDING_APPROVAL, "edit", PlanStatus.DRAFT),
        (PlanStatus.PENDING_APPROVAL, "preview_stale", PlanStatus.VALIDATING),
        (PlanStatus.PENDING_APPROVAL, "cancel", PlanStatus.CANCELLED),
        (PlanStatus.READY, "execute", PlanStatus.QUEUED),
        (PlanStatus.READY, "arm_schedule", PlanStatus.SCHEDULED),
        (PlanStatus.READY, "arm_condition", PlanStatus.WAITING),
        (PlanStatus.READY, "edit", PlanStatus.DRAFT),
        (PlanStatus.READY, "preview_stale", PlanStatus.VALIDATING),
        (PlanStatus.READY, "cancel", PlanStatus.CANCELLED),
        (PlanStatus.READY, "valid_until_passed", PlanStatus.EXPIRED),
        (PlanStatus.SCHEDULED, "due", PlanStatus.QUEUED),
        (PlanStatus.SCHEDULED, "execute", PlanStatus.QUEUED),
        (PlanStatus.SCHEDULED, "preview_stale", PlanStatus.VALIDATING),
        (PlanStatus.SCHEDULED, "missed_window", PlanStatus.EXPIRED),
        (PlanStatus.SCHEDULED, "edit", PlanStatus.DRAFT),
        (PlanStatus.SCHEDULED, "cancel", PlanStatus.CANCELLED),
        (PlanStatus.WAITING, "condition_met", PlanStatus.QUEUED),
        (PlanStatus.WAITING, "preview_stale", PlanStatus.VALIDATING),
        (PlanStatus.WAITING, "expired", PlanStatus.EXPIRED),
        (PlanStatus.WAITING, "circuit_open", PlanStatus.PAUSED),
        (PlanStatus.WAITING, "pause", PlanStatus.PAUSED),
        (PlanStatus.WAITING, "edit", PlanStatus.DRAFT),
        (PlanStatus.WAITING, "cancel", PlanStatus.CANCELLED),
        (PlanStatus.QUEUED, "job_started", PlanStatus.RUNNING),
        (PlanStatus.QUEUED, "rollback_job_started", PlanStatus.ROLLING_BACK),
        (PlanStatus.QUEUED, "cancel", PlanStatus.CANCELLED),
        (PlanStatus.QUEUED, "queue_timeout", PlanStatus.EXPIRED),
        (PlanStatus.RUNNING, "pause_or_gate", PlanStatus.PAUSED),
        (PlanStatus.RUNNING, "cancel", PlanStatus.CANCELLING),
        (PlanStatus.RUNNING, "all_ok", PlanStatus.SUCCEEDED),
        (PlanStatus.RUNNING, "failed_continue", PlanStatus.PARTIALLY_SUCCEEDED),
        (PlanStatus.RUNNING, "failed_halt", PlanStatus.FAILED),
        (PlanStatus.RUNNING, "failed_rollback", PlanStatus.ROLLING_BACK),
        (PlanStatus.RUNNING, "verification_failed", PlanStatus.ROLLING_BACK),
        (PlanStatus.RUNNING, "worker_lost", PlanStatus.QUEUED),
        (PlanStatus.PAUSED, "resume_run", PlanStatus.QUEUED),
        (PlanStatus.PAUSED, "resume_waiting", PlanStatus.WAITING),
        (PlanStatus.PAUSED, "cancel", PlanStatus.CANCELLING),
        (PlanStatus.PAUSED, "rollback", PlanStatus.ROLLING_BACK),
        (PlanStatus.PAUSED, "pause_timeout", PlanStatus.FAILED),
        (PlanStatus.CANCELLING, "quiesced_keep", PlanStatus.CANCELLED),
        (PlanStatus.CANCELLING, "quiesced_rollback", PlanStatus.ROLLING_BACK),
        (PlanStatus.ROLLING_BACK, "all_compensated", PlanStatus.ROLLED_BACK),
        (PlanStatus.ROLLING_BACK, "compensation_failed", PlanStatus.ROLLBACK_FAILED),
        (PlanStatus.ROLLBACK_FAILED, "continue_rollback", PlanStatus.QUEUED),
        (PlanStatus.ROLLBACK_FAILED, "accept_current_state", PlanStatus.FAILED),
        (PlanStatus.FAILED, "retry_resume", PlanStatus.QUEUED),
        (PlanStatus.FAILED, "retry_restart", PlanStatus.VALIDATING),
        (PlanStatus.FAILED, "rollback", PlanStatus.QUEUED),
        (PlanStatus.PARTIALLY_SUCCEEDED, "retry_resume", PlanStatus.QUEUED),
        (PlanStatus.PARTIALLY_SUCCEEDED, "rollback", PlanStatus.QUEUED),
        (PlanStatus.ROLLED_BACK, "retry_restart", PlanStatus.VALIDATING),
        (PlanStatus.CANCELLED, "retry_restart", PlanStatus.VALIDATING),
    ],
)

JOB: Lifecycle[JobStatus] = Lifecycle(
    "job",
    initial=JobStatus.QUEUED,
    closed={
        JobStatus.SUCCEEDED,
        JobStatus.PARTIALLY_SUCCEEDED,
        JobStatus.FAILED,
        JobStatus.CANCELLED,
        JobStatus.ROLLED_BACK,
        JobStatus.ROLLBACK_FAILED,
    },
    settled=set(),
    edges=[
        (JobStatus.QUEUED, "granted", JobStatus.DISPATCHED),
        (JobStatus.QUEUED, "cancel", JobStatus.CANCELLED),
        (JobStatus.QUEUED, "queue_timeout", JobStatus.FAILED),
        (JobStatus.DISPATCHED, "claimed_forward", JobStatus.RUNNING),
        (JobStatus.DISPATCHED, "claimed_rollback", JobStatus.ROLLING_BACK),
        (JobStatus.DISPATCHED, "claim_timeout", JobStatus.QUEUED),
        (JobStatus.DISPATCHED, "cancel", JobStatus.CANCELLED),
        (JobStatus.RUNNING, "lease_lost", JobStatus.QUEUED),
        (JobStatus.RUNNING, "recoveries_exhausted_halt", JobStatus.FAILED),
        (JobStatus.RUNNING, "recoveries_exhausted_rollback", JobStatus.ROLLING_BACK),
        (JobStatus.RUNNING, "pause", JobStatus.PAUSING),
        (JobStatus.RUNNING, "gate_only", JobStatus.PAUSED),
        (JobStatus.PAUSING, "quiesced", JobStatus.PAUSED),
        (JobStatus.PAUSING, "lease_lost", JobStatus.PAUSED),
        (JobStatus.PAUSED, "resume", JobStatus.QUEUED),
        (JobStatus.PAUSED, "pause_timeout_halt", JobStatus.FAILED),
        (JobStatus.PAUSED, "rollback", JobStatus.ROLLING_BACK),
        (JobStatus.RUNNING, "cancel", JobStatus.CANCELLING),
        (JobStatus.PAUSING, "cancel", JobStatus.CANCELLING),
        (JobStatus.PAUSED, "cancel", JobStatus.CANCELLING),
        (JobStatus.CANCELLING, "quiesced_keep", JobStatus.CANCELLED),
        (JobStatus.CANCELLING, "quiesced_rollback", JobStatus.ROLLING_BACK),
        (JobStatus.CANCELLING, "force", JobStatus.CANCELLED),
        (JobStatus.RUNNING, "all_ok", JobStatus.SUCCEEDED),
        (JobStatus.RUNNING, "failed_continue", JobStatus.PARTIALLY_SUCCEEDED),
        (JobStatus.RUNNING, "failed_halt", JobStatus.FAILED),
        (JobStatus.RUNNING, "failed_rollback", JobStatus.ROLLING_BACK),
        (JobStatus.RUNNING, "verification_failed", JobStatus.ROLLING_BACK),
        (JobStatus.ROLLING_BACK, "lease_lost", JobStatus.ROLLING_BACK),
        (JobStatus.ROLLING_BACK, "all_compensated", JobStatus.ROLLED_BACK),
        (JobStatus.ROLLING_BACK, "compensation_failed", JobStatus.ROLLBACK_FAILED),
        (JobStatus.ROLLING_BACK, "force", JobStatus.ROLLBACK_FAILED),
    ],
)

STEP: Lifecycle[StepStatus] = Lifecycle(
    "step",
    initial=StepStatus.PENDING,
    closed={
        StepStatus.NO_CHANGE,
        StepStatus.CANCELLED,
        StepStatus.COMPENSATED,
        StepStatus.COMPENSATION_SKIPPED,
        StepStatus.COMPENSATION_FAILED,
    },
    settled={StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.BLOCKED, StepStatus.SKIPPED},
    edges=[
        (StepStatus.PENDING, "deps_ok", StepStatus.READY),
        (StepStatus.PENDING, "when_false", StepStatus.SKIPPED),
        (StepStatus.PENDING, "upstream_failed", StepStatus.BLOCKED),
        (StepStatus.PENDING, "cancel", StepStatus.CANCELLED),
        (StepStatus.READY, "claimed", StepStatus.RUNNING),
        (StepStatus.READY, "cancel", StepStatus.CANCELLED),
        (StepStatus.RUNNING, "ok", StepStatus.SUCCEEDED),
        (StepStatus.RUNNING, "no_diff", StepStatus.NO_CHANGE),
        (StepStatus.RUNNING, "external_wait", StepStatus.WAITING),
        (StepStatus.WAITING, "signal_or_poll", StepStatus.READY),
        (StepStatus.WAITING, "timeout", StepStatus.FAILED),
        (StepStatus.WAITING, "cancel", StepStatus.CANCELLED),
        (StepStatus.WAITING, "rejected", StepStatus.FAILED),
        (StepStatus.RUNNING, "retryable", StepStatus.RETRY_WAIT),
        (StepStatus.RETRY_WAIT, "timer", StepStatus.READY),
        (StepStatus.RETRY_WAIT, "cancel", StepStatus.CANCELLED),
        # Beyond the first design: a step that acted and will not be tried again must stay open to compensation.
        (StepStatus.RETRY_WAIT, "abandoned", StepStatus.FAILED),
        (StepStatus.READY, "abandoned", StepStatus.FAILED),
        # A condition may read outputs, so it is judged when a worker looks at the step, not before.
        (StepStatus.READY, "when_false", StepStatus.SKIPPED),
        (StepStatus.RUNNING, "permanent_or_exhausted", StepStatus.FAILED),
        (StepStatus.RUNNING, "timeout", StepStatus.UNKNOWN),
        (StepStatus.RUNNING, "lease_lost", StepStatus.UNKNOWN),
        (StepStatus.RUNNING, "force_cancel", StepStatus.UNKNOWN),
        (StepStatus.RUNNING, "interrupted_clean", StepStatus.CANCELLED),
        (StepStatus.UNKNOWN, "observed_applied", StepStatus.SUCCEEDED),
        (StepStatus.UNKNOWN, "observed_absent", StepStatus.READY),
        (StepStatus.UNKNOWN, "observed_partial", StepStatus.READY),
        (StepStatus.UNKNOWN, "indeterminate", StepStatus.FAILED),
        # Who was cut off had only asked how work stands that the provider is doing.
        (StepStatus.UNKNOWN, "observed_pending", StepStatus.WAITING),
        (StepStatus.FAILED, "operator_retry", StepStatus.READY),
        (StepStatus.FAILED, "operator_skip", StepStatus.SKIPPED),
        (StepStatus.BLOCKED, "upstream_recovered", StepStatus.PENDING),
        (StepStatus.SUCCEEDED, "rollback", StepStatus.COMPENSATING),
        (StepStatus.FAILED, "rollback", StepStatus.COMPENSATING),
        (StepStatus.UNKNOWN, "rollback", StepStatus.COMPENSATING),
        # It may have acted before somebody decided to go past it.
        (StepStatus.SKIPPED, "rollback", StepStatus.COMPENSATING),
        (StepStatus.SUCCEEDED, "rollback_retained", StepStatus.COMPENSATION_SKIPPED),
        (StepStatus.COMPENSATING, "ok", StepStatus.COMPENSATED),
        (StepStatus.COMPENSATING, "nothing_to_undo", StepStatus.COMPENSATED),
        (StepStatus.COMPENSATING, "retryable", StepStatus.COMPENSATING),
        (StepStatus.COMPENSATING, "exhausted", StepStatus.COMPENSATION_FAILED),
        (StepStatus.COMPENSATING, "operator_skip", StepStatus.COMPENSATION_SKIPPED),
    ],
)

RESOURCE: Lifecycle[ResourceStatus] = Lifecycle(
    "resource",
    initial=ResourceStatus.PLANNED,
    closed={ResourceStatus.DELETED, ResourceStatus.DETACHED},
    settled={ResourceStatus.ACTIVE, ResourceStatus.FAILED, ResourceStatus.UNKNOWN},
    edges=[
        (ResourceStatus.PLANNED, "create", ResourceStatus.CREATING),
        (ResourceStatus.PLANNED, "import", ResourceStatus.IMPORTING),
        (ResourceStatus.PLANNED, "abandon", ResourceStatus.DELETED),
        (ResourceStatus.IMPORTING, "ok", ResourceStatus.ACTIVE),
        (ResourceStatus.IMPORTING, "fail", ResourceStatus.DETACHED),
        (ResourceStatus.CREATING, "ok", ResourceStatus.ACTIVE),
        (ResourceStatus.CREATING, "fail", ResourceStatus.FAILED),
        (ResourceStatus.CREATING, "lost", ResourceStatus.UNKNOWN),
        (ResourceStatus.ACTIVE, "update", ResourceStatus.UPDATING),
        (ResourceStatus.ACTIVE, "scale", ResourceStatus.UPDATING),
        (ResourceStatus.ACTIVE, "backup", ResourceStatus.UPDATING),
        (ResourceStatus.ACTIVE, "restore", ResourceStatus.UPDATING),
        (ResourceStatus.ACTIVE, "migrate", ResourceStatus.UPDATING),
        (ResourceStatus.UPDATING, "ok", ResourceStatus.ACTIVE),
        (ResourceStatus.UPDATING, "fail", ResourceStatus.FAILED),
        (ResourceStatus.UPDATING, "lost", ResourceStatus.UNKNOWN),
        (ResourceStatus.ACTIVE, "delete", ResourceStatus.DELETING),
        (ResourceStatus.FAILED, "delete", ResourceStatus.DELETING),
        (ResourceStatus.UNKNOWN, "delete", ResourceStatus.DELETING),
        (ResourceStatus.DELETING, "ok", ResourceStatus.DELETED),
        (ResourceStatus.DELETING, "fail", ResourceStatus.FAILED),
        (ResourceStatus.DELETING, "lost", ResourceStatus.UNKNOWN),
        (ResourceStatus.UNKNOWN, "observed", ResourceStatus.ACTIVE),
        (ResourceStatus.UNKNOWN, "observed_absent", ResourceStatus.DELETED),
        (ResourceStatus.UNKNOWN, "observed_broken", ResourceStatus.FAILED),
        (ResourceStatus.FAILED, "update", ResourceStatus.UPDATING),
        (ResourceStatus.ACTIVE, "detach", ResourceStatus.DETACHED),
        (ResourceStatus.FAILED, "detach", ResourceStatus.DETACHED),
        (ResourceStatus.UNKNOWN, "detach", ResourceStatus.DETACHED),
        (ResourceStatus.ACTIVE, "vanished", ResourceStatus.DELETED),
        # Beyond the first design: what vanished while it was being made or changed, or after that had failed.
        (ResourceStatus.CREATING, "vanished", ResourceStatus.DELETED),
        (ResourceStatus.UPDATING, "vanished", ResourceStatus.DELETED),
        (ResourceStatus.FAILED, "vanished", ResourceStatus.DELETED),
        # Somebody leaves it as it is, and nobody knows how that is.
        (ResourceStatus.ACTIVE, "doubt", ResourceStatus.UNKNOWN),
        (ResourceStatus.FAILED, "doubt", ResourceStatus.UNKNOWN),
    ],
)


PLAN_STAGES: dict[Stage, tuple[PlanStatus, ...]] = {
    Stage.AUTHORING: (
        PlanStatus.DRAFT,
        PlanStatus.VALIDATING,
        PlanStatus.INVALID,
    ),
    Stage.GATED: (
        PlanStatus.PENDING_APPROVAL,
        PlanStatus.READY,
        PlanStatus.SCHEDULED,
        PlanStatus.WAITING,
    ),
    Stage.ACTIVE: (
        PlanStatus.QUEUED,
        PlanStatus.RUNNING,
        PlanStatus.PAUSED,
        PlanStatus.CANCELLING,
        PlanStatus.ROLLING_BACK,
    ),
    Stage.ATTENTION: (
        PlanStatus.FAILED,
        PlanStatus.PARTIALLY_SUCCEEDED,
        PlanStatus.ROLLBACK_FAILED,
    ),
    Stage.DONE: (
        PlanStatus.SUCCEEDED,
        PlanStatus.ROLLED_BACK,
        PlanStatus.CANCELLED,
        PlanStatus.REJECTED,
        PlanStatus.EXPIRED,
    ),
}
JOB_STAGES: dict[Stage, tuple[JobStatus, ...]] = {
    Stage.AUTHORING: (),
    Stage.GATED: (),
    Stage.ACTIVE: (
        JobStatus.QUEUED,
        JobStatus.DISPATCHED,
        JobStatus.RUNNING,
        JobStatus.PAUSING,
        JobStatus.PAUSED,
        JobStatus.CANCELLING,
        JobStatus.ROLLING_BACK,
    ),
    Stage.ATTENTION: (
        JobStatus.FAILED,
        JobStatus.PARTIALLY_SUCCEEDED,
        JobStatus.ROLLBACK_FAILED,
    ),
    Stage.DONE: (
        JobStatus.SUCCEEDED,
        JobStatus.ROLLED_BACK,
        JobStatus.CANCELLED,
    ),
}

_PLAN_STAGE = {status: stage for stage, statuses in PLAN_STAGES.items() for status in statuses}
_JOB_STAGE = {status: stage for stage, statuses in JOB_STAGES.items() for status in statuses}


def stage_of(status: PlanStatus | JobStatus) -> Stage:
    """The coarse group of a plan's or a job's status."""
    return _PLAN_STAGE[status] if isinstance(status, PlanStatus) else _JOB_STAGE[status]
