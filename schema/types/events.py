# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""Facts of the journal as clients see them. A type's name is the `kind` under which its facts are stored."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any, Self

import strawberry

from app.db import models
from app.domain import cursors
from app.domain.cursors import Place
from app.domain.enums import DriftStatus, ReviewDecision, RollbackCompleteness, StatusReason
from app.domain.events import EventKind
from app.domain.statuses import JobStatus, PlanStatus, ResourceStatus, StepStatus
from schema.context import Info
from schema.fields import described
from schema.nodes import refer
from schema.scalars import BigInt, Cursor
from schema.types.approvals import Review
from schema.types.entities import actor_of
from schema.types.references import ActorRef, JobRef, PlanRef, ResourceRef, StepRunRef


@strawberry.interface(
    description="Something that happened, written in the transaction that made it true. Never changed or renumbered."
)
class Event:
    row: strawberry.Private[models.EventLog]

    @classmethod
    def of(cls, row: models.EventLog) -> Self:
        return cls(row=row)

    @strawberry.field
    def id(self) -> strawberry.ID:
        row = self.row
        plain = f"Event:{row.stream.value}:{row.stream_id}:{row.seq}"
        return strawberry.ID(base64.urlsafe_b64encode(plain.encode()).decode().rstrip("="))

    @described("Its place in the one sequence of its job, which log lines share, or of its plan.")
    def seq(self) -> BigInt:
        return BigInt(self.row.seq)

    @strawberry.field
    def at(self) -> datetime:
        return self.row.at

    @strawberry.field
    async def actor(self, info: Info) -> ActorRef | None:
        return await actor_of(info, self.row.actor)

    @described("Give it back as `after`, and the stream goes on behind this event.")
    def cursor(self) -> Cursor:
        return Cursor(cursors.encode(self.row.stream, self.row.stream_id, Place(self.row.seq, self.row.at)))

    @described("Joins everything that one request, or one job, brought about.")
    def correlation_id(self) -> str:
        return self.row.correlation_id

    def _status(self, name: str) -> Any:
        """A status in the event's data; None when there is none, as before the first."""
        return self.row.data.get(name)


@strawberry.type
class PlanStatusChanged(Event):
    @strawberry.field
    async def plan(self, info: Info) -> PlanRef | None:
        return await refer(info, "plan", self.row.data["planId"], "DeploymentPlan")

    @strawberry.field
    def previous_plan_status(self) -> PlanStatus | None:
        previous = self._status("previous")
        return None if previous is None else PlanStatus(previous)

    @strawberry.field
    def plan_status(self) -> PlanStatus:
        return PlanStatus(self._status("status"))

    @strawberry.field
    def reason(self) -> StatusReason:
        return StatusReason(self.row.data["reason"])

    @strawberry.field
    def message(self) -> str | None:
        return self.row.data.get("message")


@strawberry.type
class JobStatusChanged(Event):
    @strawberry.field
    async def job(self, info: Info) -> JobRef | None:
        return await refer(info, "job", self.row.data["jobId"], "OrchestrationJob")

    @strawberry.field
    def previous_job_status(self) -> JobStatus | None:
        previous = self._status("previous")
        return None if previous is None else JobStatus(previous)

    @strawberry.field
    def job_status(self) -> JobStatus:
        return JobStatus(self._status("status"))

    @described("When a rollback is over: whether it took back everything that it was to take back.")
    def rollback_completeness(self) -> RollbackCompleteness | None:
        found = self.row.data.get("rollbackCompleteness")
        return None if found is None else RollbackCompleteness(found)

    @strawberry.field
    def reason(self) -> StatusReason:
        return StatusReason(self.row.data["reason"])

    @strawberry.field
    def message(self) -> str | None:
        return self.row.data.get("message")


@strawberry.type
class StepStatusChanged(Event):
    @strawberry.field
    async def job(self, info: Info) -> JobRef | None:
        return await refer(info, "job", self.row.data["jobId"], "OrchestrationJob")

    @strawberry.field
    async def step(self, info: Info) -> StepRunRef | None:
        return await refer(info, "step_run", self.row.data["stepRunId"], "StepRun")

    @strawberry.field
    def step_key(self) -> str:
        return self.row.data["stepKey"]

    @strawberry.field
    def previous_step_status(self) -> StepStatus | None:
        previous = self._status("previous")
        return None if previous is None else StepStatus(previous)

    @strawberry.field
    def step_status(self) -> StepStatus:
        return StepStatus(self._status("status"))

    @strawberry.field
    def reason(self) -> StatusReason:
        return StatusReason(self.row.data["reason"])

    @described("Which try of the step, or of its compensation, this belongs to.")
    def attempt(self) -> int:
        return int(self.row.data["attempt"])

    @strawberry.field
    def message(self) -> str | None:
        return self.row.data.get("message")


@strawberry.type
class StepProgressed(Event):
    @strawberry.field
    async def step(self, info: Info) -> StepRunRef | None:
        return await refer(info, "step_run", self.row.data["stepRunId"], "StepRun")

    @strawberry.field
    def step_key(self) -> str:
        return self.row.data["stepKey"]

    @strawberry.field
    def percent(self) -> float | None:
        return self.row.data.get("percent")

    @strawberry.field
    def message(self) -> str | None:
        return self.row.data.get("message")


@strawberry.type
class ResourceChanged(Event):
    @described("Null once the resource is gone and nothing is kept of it.")
    async def resource(self, info: Info) -> ResourceRef | None:
        return await refer(info, "resource", self.row.data["resourceId"], "CloudResource")

    @strawberry.field
    def resource_key(self) -> str:
        return self.row.data["key"]

    @strawberry.field
    def previous_resource_status(self) -> ResourceStatus | None:
        previous = self._status("previous")
        return None if previous is None else ResourceStatus(previous)

    @strawberry.field
    def resource_status(self) -> ResourceStatus:
        return ResourceStatus(self._status("status"))

    @strawberry.field
    def drift_status(self) -> DriftStatus:
        return DriftStatus(self.row.data["drift"])


@strawberry.type
class ReviewSubmitted(Event):
    @strawberry.field
    async def plan(self, info: Info) -> PlanRef | None:
        return await refer(info, "plan", self.row.data["planId"], "DeploymentPlan")

    @strawberry.field
    def review(self) -> Review:
        data = self.row.data
        return Review(
            user_id=data["userId"],
            decision=ReviewDecision(data["decision"]),
            comment=data.get("comment"),
            at=self.row.at,
            preview_hash=data["hash"],
            created_by=self.row.actor,
        )


@strawberry.type
class GateDelegated(Event):
    @strawberry.field
    async def job(self, info: Info) -> JobRef | None:
        return await refer(info, "job", self.row.data["jobId"], "OrchestrationJob")

    @strawberry.field
    async def step(self, info: Info) -> StepRunRef | None:
        return await refer(info, "step_run", self.row.data["stepRunId"], "StepRun")

    @strawberry.field
    def step_key(self) -> str:
        return self.row.data["stepKey"]

    @described("Who may answer as well from now on.")
    async def delegate(self, info: Info) -> ActorRef | None:
        return await actor_of(info, self.row.data["to"])

    @strawberry.field
    def comment(self) -> str | None:
        return self.row.data.get("comment")


# Every kind that is written; the schema is given these types beside those it finds by itself.
EVENT_TYPES: dict[str, type[Event]] = {
    EventKind.PLAN_STATUS_CHANGED.value: PlanStatusChanged,
    EventKind.JOB_STATUS_CHANGED.value: JobStatusChanged,
    EventKind.STEP_STATUS_CHANGED.value: StepStatusChanged,
    EventKind.STEP_PROGRESSED.value: StepProgressed,
    EventKind.RESOURCE_CHANGED.value: ResourceChanged,
    EventKind.REVIEW_SUBMITTED.value: ReviewSubmitted,
    EventKind.GATE_DELEGATED.value: GateDelegated,
}


def event_of(row: models.EventLog) -> Event:
    """The GraphQL object of a fact."""
    return EVENT_TYPES[row.kind].of(row)
