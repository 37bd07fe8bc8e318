"""The closed sets of the API. Those that are stored are the domain's own, under the same names."""

from __future__ import annotations

from enum import StrEnum

import strawberry

from app.domain.audit import AuditOutcome
from app.domain.enums import (
    ActionReason,
    CancelMode,
    CancelOutcome,
    ChangeAction,
    ChangedPolicy,
    ChangeSource,
    DefinitionStatus,
    DriftStatus,
    ErrorClass,
    FailureStrategy,
    GateKind,
    JobDirection,
    JobType,
    LogLevel,
    MissedPolicy,
    OverlapPolicy,
    Permission,
    PlanType,
    PolicyLevel,
    PolicySubject,
    ResourceDecision,
    RetryMode,
    Reversibility,
    ReviewDecision,
    Role,
    RollbackCompleteness,
    RollbackResolution,
    RollbackScope,
    Stage,
    StatusReason,
    StepAction,
    StepType,
    TemplateType,
    TokenKind,
    UserKind,
    WorkflowType,
)
from app.domain.listing import ListOp
from app.domain.statuses import JobStatus, PlanStatus, ResourceStatus, StepStatus

__all__ = [
    "ActionReason",
    "CancelMode",
    "CancelOutcome",
    "ChangeAction",
    "ChangeSource",
    "ChangedPolicy",
    "DefinitionStatus",
    "DriftStatus",
    "ErrorClass",
    "FailureStrategy",
    "GateKind",
    "JobDirection",
    "JobOrderField",
    "JobStatus",
    "JobType",
    "ListOp",
    "LogLevel",
    "MissedPolicy",
    "NameOrderField",
    "OrderDirection",
    "OverlapPolicy",
    "Permission",
    "PlanAction",
    "PlanOrderField",
    "PlanStatus",
    "PlanType",
    "ResourceDecision",
    "ResourceStatus",
    "RetryMode",
    "Reversibility",
    "ReviewDecision",
    "Role",
    "RollbackCompleteness",
    "RollbackResolution",
    "RollbackScope",
    "Stage",
    "StatusReason",
    "StepAction",
    "StepStatus",
    "StepType",
    "TemplateType",
    "WorkflowType",
]

_DOMAIN: dict[type[StrEnum], str] = {
    WorkflowType: "What a workflow is for.",
    StepType: "What a step does.",
    TemplateType: "What a template describes.",
    PlanType: "How a plan comes to be executed.",
    JobType: "What a job does to its plan's resources.",
    DefinitionStatus: "Where a definition is in its life.",
    PlanStatus: "Where a plan is in its life.",
    JobStatus: "Where a job is in its life; the last six are terminal.",
    StepStatus: "Where one step of a job is.",
    ResourceStatus: "Where a resource is in its life.",
    DriftStatus: "Whether the outside world still agrees with what is recorded.",
    Stage: "Coarse grouping of PlanStatus and JobStatus: filter dashboards on this, never on lists of statuses.",
    JobDirection: "Forward, or back.",
    FailureStrategy: "What follows when a step fails for good.",
    GateKind: "What a gate waits for.",
    StepAction: "What a person may decide about a step that failed, or of which nobody can tell whether it was done.",
    ResourceDecision: "What a person may decide about a resource of which nobody knows what became of it.",
    RollbackResolution: "What a person may decide about a step that could not be undone.",
    RollbackCompleteness: "Whether a rollback took back everything that it was to take back.",
    RollbackScope: "How far a rollback goes.",
    CancelMode: "How running steps are treated when a job is cancelled.",
    CancelOutcome: "What happens to what was already done.",
    RetryMode: "Go on where it failed, or from the beginning.",
    ErrorClass: "What kind of failure ended an attempt; decides whether to try again.",
    ActionReason: "Machine-readable 'why can it not be done now'; NONE if it can.",
    StatusReason: "Machine-readable 'why is it in this status'.",
    ListOp: "What became of a row of a live list: it came into the page, is another than before, or is there no more.",
    LogLevel: "How much a line matters.",
    ChangeAction: "What happens to a resource.",
    ChangeSource: "Where a changed value comes from.",
    Reversibility: "Whether a rollback can restore the previous state.",
    OverlapPolicy: "What a recurring plan does when it is due while an earlier run of it is not over.",
    ChangedPolicy: "What follows when a plan is due and would do something else than what was agreed to.",
    MissedPolicy: "What follows when a time passed and nobody was there.",
    ReviewDecision: "What somebody says of a preview.",
    AuditOutcome: "Whether it was done, or somebody was kept from it.",
    TokenKind: "What a token is for.",
    UserKind: "Whether somebody is a person of the tenant, or somebody else who acts in it.",
    PolicyLevel: "ADVISORY tells, SOFT_MANDATORY asks somebody else to agree, HARD_MANDATORY refuses.",
    PolicySubject: "Whether a policy looks at a plan once, or at each of its changes.",
    Permission: "What a principal may do with an object.",
    Role: "A named set of permissions.",
}
for _kind, _description in _DOMAIN.items():
    strawberry.enum(_kind, description=_description)


@strawberry.enum(description="What a person may do with a plan or a job.")
class PlanAction(StrEnum):
    EDIT = "EDIT"
    SUBMIT = "SUBMIT"
    APPROVE = "APPROVE"
    REJECT = "REJECT"
    EXECUTE = "EXECUTE"
    PAUSE = "PAUSE"
    RESUME = "RESUME"
    CANCEL = "CANCEL"
    FORCE_CANCEL = "FORCE_CANCEL"
    RETRY = "RETRY"
    ROLLBACK = "ROLLBACK"
    CONTINUE_ROLLBACK = "CONTINUE_ROLLBACK"
    ACCEPT_CURRENT_STATE = "ACCEPT_CURRENT_STATE"
    DELETE = "DELETE"


@strawberry.enum(description="Smallest first, or largest first. What is missing counts as larger than all there is.")
class OrderDirection(StrEnum):
    ASC = "ASC"
    DESC = "DESC"


@strawberry.enum(description="What plans may be ordered by.")
class PlanOrderField(StrEnum):
    CREATED_AT = "CREATED_AT"
    UPDATED_AT = "UPDATED_AT"
    SCHEDULED_AT = "SCHEDULED_AT"
    STARTED_AT = "STARTED_AT"
    NAME = "NAME"


@strawberry.enum(description="What jobs may be ordered by.")
class JobOrderField(StrEnum):
    CREATED_AT = "CREATED_AT"
    STARTED_AT = "STARTED_AT"
    COMPLETED_AT = "COMPLETED_AT"
    DURATION = "DURATION"


@strawberry.enum(description="What named objects may be ordered by.")
class NameOrderField(StrEnum):
    CREATED_AT = "CREATED_AT"
    UPDATED_AT = "UPDATED_AT"
    NAME = "NAME"
