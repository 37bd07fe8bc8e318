"""The closed sets of names that are stored and shown. The customer's five come first, unchanged."""

from __future__ import annotations

from enum import StrEnum


class WorkflowType(StrEnum):
    DEPLOYMENT = "DEPLOYMENT"
    SCALING = "SCALING"
    BACKUP = "BACKUP"
    RESTORE = "RESTORE"
    MIGRATION = "MIGRATION"
    MAINTENANCE = "MAINTENANCE"
    CUSTOM = "CUSTOM"


class StepType(StrEnum):
    RESOURCE_CREATE = "RESOURCE_CREATE"
    RESOURCE_UPDATE = "RESOURCE_UPDATE"
    RESOURCE_DELETE = "RESOURCE_DELETE"
    RESOURCE_SCALE = "RESOURCE_SCALE"
    RESOURCE_BACKUP = "RESOURCE_BACKUP"
    RESOURCE_RESTORE = "RESOURCE_RESTORE"
    RESOURCE_MIGRATE = "RESOURCE_MIGRATE"
    CUSTOM = "CUSTOM"


class TemplateType(StrEnum):
    INFRASTRUCTURE = "INFRASTRUCTURE"
    APPLICATION = "APPLICATION"
    DATABASE = "DATABASE"
    NETWORK = "NETWORK"
    SECURITY = "SECURITY"
    MONITORING = "MONITORING"
    CUSTOM = "CUSTOM"


class PlanType(StrEnum):
    IMMEDIATE = "IMMEDIATE"
    SCHEDULED = "SCHEDULED"
    CONDITIONAL = "CONDITIONAL"
    MANUAL = "MANUAL"
    AUTOMATED = "AUTOMATED"


class JobType(StrEnum):
    DEPLOY = "DEPLOY"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    SCALE = "SCALE"
    BACKUP = "BACKUP"
    RESTORE = "RESTORE"
    MIGRATE = "MIGRATE"
    CUSTOM = "CUSTOM"


class DefinitionStatus(StrEnum):
    """Of workflows, workflow steps, templates and their revisions."""

    DRAFT = "DRAFT"
    PUBLISHED = "PUBLISHED"
    DEPRECATED = "DEPRECATED"
    ARCHIVED = "ARCHIVED"


class Stage(StrEnum):
    """Coarse grouping of plan and job statuses: what a dashboard filters on."""

    AUTHORING = "AUTHORING"
    GATED = "GATED"
    ACTIVE = "ACTIVE"
    ATTENTION = "ATTENTION"
    DONE = "DONE"


class JobDirection(StrEnum):
    FORWARD = "FORWARD"
    ROLLBACK = "ROLLBACK"


class DriftStatus(StrEnum):
    NOT_CHECKED = "NOT_CHECKED"
    IN_SYNC = "IN_SYNC"
    MODIFIED = "MODIFIED"
    MISSING = "MISSING"
    UNSUPPORTED = "UNSUPPORTED"
    UNKNOWN = "UNKNOWN"


class DriftReaction(StrEnum):
    """What follows when a resource is found changed: it is told; a plan is made that puts it back; it is accepted."""

    REPORT = "REPORT"
    PLAN = "PLAN"
    ACCEPT = "ACCEPT"


class FailureStrategy(StrEnum):
    ROLLBACK = "ROLLBACK"
    HALT = "HALT"
    CONTINUE = "CONTINUE"
    PAUSE = "PAUSE"


class GateKind(StrEnum):
    """What a gate waits for: a yes, a form, a word from outside, or only the time."""

    APPROVAL = "APPROVAL"
    INPUT = "INPUT"
    SIGNAL = "SIGNAL"
    TIMER = "TIMER"


class StepAction(StrEnum):
    """What a person may decide about a step that failed, or of which nobody can tell whether it was carried out."""

    RETRY = "RETRY"
    SKIP = "SKIP"
    ADOPT = "ADOPT"
    ABANDON = "ABANDON"


class ResourceDecision(StrEnum):
    """What a person may decide about a resource of which nobody knows what became of it."""

    ADOPT = "ADOPT"
    ABANDON = "ABANDON"
    RETRY = "RETRY"


class ConflictPolicy(StrEnum):
    """What becomes of an update that is to be undone, where somebody else has changed the resource since.

    FAIL leaves it to people. OVERWRITE writes the previous properties all the same. SKIP leaves it as it is now.
    """

    FAIL = "FAIL"
    OVERWRITE = "OVERWRITE"
    SKIP = "SKIP"


class RollbackCompleteness(StrEnum):
    """Whether a rollback took back everything that it was to take back."""

    FULL = "FULL"
    PARTIAL = "PARTIAL"


class RollbackResolution(StrEnum):
    """What a person may decide about a step that could not be undone.

    SKIP_KEEP_UNKNOWN leaves its resource as it is, and says that nobody knows how that is. ACCEPT_ACTUAL has it read,
    and what is there counts as applied. MARK_DELETED says that it is not there.
    """

    RETRY = "RETRY"
    SKIP_KEEP_UNKNOWN = "SKIP_KEEP_UNKNOWN"
    ACCEPT_ACTUAL = "ACCEPT_ACTUAL"
    MARK_DELETED = "MARK_DELETED"


class RollbackScope(StrEnum):
    JOB = "JOB"
    FAILED_BRANCH = "FAILED_BRANCH"
    TO_CHECKPOINT = "TO_CHECKPOINT"


class CancelMode(StrEnum):
    """The weakest first."""

    GRACEFUL = "GRACEFUL"
    INTERRUPT = "INTERRUPT"
    FORCE = "FORCE"


class CancelOutcome(StrEnum):
    """The weakest first: what is once to be undone is."""

    KEEP = "KEEP"
    ROLLBACK = "ROLLBACK"


class RetryMode(StrEnum):
    RESUME = "RESUME"
    RESTART = "RESTART"


class ErrorClass(StrEnum):
    """What kind of failure ended an attempt; decides whether to try again."""

    TRANSIENT = "TRANSIENT"
    PERMANENT = "PERMANENT"
    TIMEOUT = "TIMEOUT"
    CANCELLED = "CANCELLED"
    WORKER_LOST = "WORKER_LOST"
    INDETERMINATE = "INDETERMINATE"
    POLICY = "POLICY"
    CONFLICT = "CONFLICT"


class StatusReason(StrEnum):
    """Machine-readable 'why is it in this status'."""

    NONE = "NONE"
    USER = "USER"
    POLICY = "POLICY"
    APPROVAL_PENDING = "APPROVAL_PENDING"
    APPROVAL_TIMEOUT = "APPROVAL_TIMEOUT"
    DEPENDENCY_FAILED = "DEPENDENCY_FAILED"
    DEPENDENCY_PENDING = "DEPENDENCY_PENDING"
    CONDITION_FALSE = "CONDITION_FALSE"
    LOCK_HELD = "LOCK_HELD"
    CONCURRENCY_LIMIT = "CONCURRENCY_LIMIT"
    QUOTA = "QUOTA"
    NO_WORKER = "NO_WORKER"
    QUEUE_TIMEOUT = "QUEUE_TIMEOUT"
    STEP_FAILED = "STEP_FAILED"
    STEP_TIMEOUT = "STEP_TIMEOUT"
    VERIFICATION_FAILED = "VERIFICATION_FAILED"
    WORKER_LOST = "WORKER_LOST"
    PREVIEW_STALE = "PREVIEW_STALE"
    CIRCUIT_OPEN = "CIRCUIT_OPEN"
    GATE = "GATE"
    NO_CHANGES = "NO_CHANGES"
    FORCED = "FORCED"
    NEEDS_ATTENTION = "NEEDS_ATTENTION"


class ActionReason(StrEnum):
    """Why something cannot be done now; NONE if it can. A reason of a status has the name that it has there."""

    NONE = "NONE"
    POLICY = "POLICY"
    APPROVAL_PENDING = "APPROVAL_PENDING"
    GATE = "GATE"
    STEP_FAILED = "STEP_FAILED"
    ILLEGAL_STATE = "ILLEGAL_STATE"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    ALREADY_DONE = "ALREADY_DONE"


class LogLevel(StrEnum):
    TRACE = "TRACE"
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


class ChangeAction(StrEnum):
    CREATE = "CREATE"
    UPDATE = "UPDATE"
    REPLACE = "REPLACE"
    DELETE = "DELETE"
    IMPORT = "IMPORT"
    DETACH = "DETACH"
    NO_CHANGE = "NO_CHANGE"
    RUN = "RUN"


class TokenKind(StrEnum):
    """What a token is for: programs, a browser that somebody has logged in with, setting a password, once,
    or a platform administrator in this tenant for a while.
    """

    API = "API"
    SESSION = "SESSION"
    INVITATION = "INVITATION"
    PLATFORM = "PLATFORM"


class UserKind(StrEnum):
    """Whether somebody is a person of the tenant, no person at all, or a platform administrator who was let in."""

    PERSON = "PERSON"
    SERVICE_ACCOUNT = "SERVICE_ACCOUNT"
    PLATFORM = "PLATFORM"


class PolicyLevel(StrEnum):
    """ADVISORY tells, SOFT_MANDATORY asks somebody else to agree, HARD_MANDATORY refuses."""

    ADVISORY = "ADVISORY"
    SOFT_MANDATORY = "SOFT_MANDATORY"
    HARD_MANDATORY = "HARD_MANDATORY"


class PolicySubject(StrEnum):
    """Whether a policy looks at a plan once, or at each of its changes."""

    PLAN = "PLAN"
    CHANGE = "CHANGE"


class ChangeSource(StrEnum):
    TEMPLATE = "TEMPLATE"
    PARAMETER = "PARAMETER"
    REFERENCE = "REFERENCE"
    DRIFT = "DRIFT"
    WORKFLOW = "WORKFLOW"


class Reversibility(StrEnum):
    REVERSIBLE = "REVERSIBLE"
    LOSSY = "LOSSY"
    IRREVERSIBLE = "IRREVERSIBLE"


class OverlapPolicy(StrEnum):
    """What a recurring plan does when it is due while an earlier run of it is not over."""

    SKIP = "SKIP"
    QUEUE_ONE = "QUEUE_ONE"
    QUEUE_ALL = "QUEUE_ALL"
    CANCEL_RUNNING = "CANCEL_RUNNING"


class MissedPolicy(StrEnum):
    """What follows when a time passed and nobody was there."""

    RUN_NOW = "RUN_NOW"
    SKIP = "SKIP"


class ChangedPolicy(StrEnum):
    """What follows when a plan is due and would do something else than what was agreed to."""

    REAPPROVE = "REAPPROVE"
    PROCEED = "PROCEED"
    CANCEL = "CANCEL"


class FiringOutcome(StrEnum):
    """What came of one time of a recurring plan."""

    QUEUED = "QUEUED"
    SPAWNED = "SPAWNED"
    OVERLAPPED = "OVERLAPPED"
    MISSED = "MISSED"


class ReviewDecision(StrEnum):
    APPROVE = "APPROVE"
    REJECT = "REJECT"


class Permission(StrEnum):
    """What a principal may do with an object. A role is a set of these; a token's scopes narrow it."""

    READ = "READ"
    WRITE = "WRITE"
    APPROVE = "APPROVE"
    EXECUTE = "EXECUTE"
    CANCEL = "CANCEL"
    ROLLBACK = "ROLLBACK"
    DELETE = "DELETE"
    ADMIN = "ADMIN"


class Role(StrEnum):
    VIEWER = "VIEWER"
    OPERATOR = "OPERATOR"
    APPROVER = "APPROVER"
    ADMIN = "ADMIN"
