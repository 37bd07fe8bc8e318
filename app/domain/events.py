"""Facts that may enter the journal.

Every event has a `kind` (the GraphQL type it becomes) and `data`, a JSON object of the shape given here:

    PlanStatusChanged   {"planId", "previous", "status", "reason", "message"?}
    JobStatusChanged    {"jobId", "planId", "previous", "status", "reason", "message"?}
    StepStatusChanged   {"jobId", "stepRunId", "stepKey", "previous", "status", "reason", "attempt",
                         "message"?, "error"?}
    StepProgressed      {"jobId", "stepRunId", "stepKey", "percent", "message"}
    ResourceChanged     {"resourceId", "key", "previous", "status", "drift"}
    ReviewSubmitted     {"planId", "userId", "decision", "hash", "comment"?}
    GateDelegated       {"jobId", "stepRunId", "stepKey", "to", "comment"?}

Log lines share a job's sequence but are kept in batches of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Stream(StrEnum):
    """What a sequence of events belongs to."""

    JOB = "JOB"
    PLAN = "PLAN"


class EventKind(StrEnum):
    PLAN_STATUS_CHANGED = "PlanStatusChanged"
    JOB_STATUS_CHANGED = "JobStatusChanged"
    STEP_STATUS_CHANGED = "StepStatusChanged"
    STEP_PROGRESSED = "StepProgressed"
    RESOURCE_CHANGED = "ResourceChanged"
    REVIEW_SUBMITTED = "ReviewSubmitted"
    GATE_DELEGATED = "GateDelegated"


@dataclass(frozen=True, slots=True)
class Event:
    """A fact that is about to be written; it gets its place in the sequence when it is."""

    kind: EventKind
    data: dict[str, Any]
