# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""Step runs, their attempts, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import strawberry
from strawberry.scalars import JSON

from app.db import models
from app.domain.enums import ActionReason, ChangeAction, ErrorClass, JobDirection, StatusReason, StepAction, StepType
from app.domain.statuses import StepStatus
from app.services import availability
from app.services.dependencies import Dependencies
from app.services.jobs import allowed_resolutions
from schema.context import Info
from schema.derivations import only_where, seconds_between, texts
from schema.enums import RollbackResolution
from schema.fields import computed, described
from schema.nodes import Node, load
from schema.scalars import json_of
from schema.types.gates import Gate
from schema.types.previews import ResourceChange
from schema.types.references import JobRef, ResourceRef, WorkflowStepRef


@strawberry.type(description="Why an attempt, a step or a job failed.")
class JobError:
    job_id: strawberry.Private[int]
    step_key: strawberry.Private[str | None]
    class_: ErrorClass = strawberry.field(name="class")
    code: str
    message: str
    retryable: bool
    provider_detail: JSON | None
    hint: str | None = strawberry.field(description="What a person may do about it.")

    @described("The step that failed first.")
    async def step(self, info: Info) -> StepRun | None:
        return None if self.step_key is None else await step_of(info, self.job_id, self.step_key)

    @classmethod
    def of_json(cls, stored: Mapping[str, Any] | None, job_id: int, step_key: str | None = None) -> JobError | None:
        """From a stored error {"class", "code", "message", "retryable", "stepKey"?, "detail"?, "hint"?}."""
        if stored is None:
            return None
        return cls(
            job_id=job_id,
            step_key=stored.get("stepKey", step_key),
            class_=ErrorClass(stored["class"]),
            code=stored["code"],
            message=stored["message"],
            retryable=bool(stored.get("retryable")),
            provider_detail=json_of(stored.get("detail")),
            hint=stored.get("hint"),
        )


@strawberry.type(description="One try of a step, or of its compensation, by one worker.")
class Attempt:
    direction: JobDirection
    number: int
    worker: str | None
    started_at: datetime
    ended_at: datetime | None
    error: JobError | None
    counts_against_limit: bool

    @classmethod
    def of(cls, row: models.StepAttempt, step: models.StepRun) -> Attempt:
        return cls(
            direction=row.direction,
            number=row.number,
            worker=row.worker,
            started_at=row.started_at,
            ended_at=row.ended_at,
            error=JobError.of_json(row.error, step.job_id, step.step_key),
            counts_against_limit=row.counts,
        )


@strawberry.type(description="Something to be decided about a step, and if not now, why.")
class AvailableStepAction:
    action: StepAction
    allowed: bool
    reason: ActionReason
    message: str | None


@strawberry.type(description="One step of one job.")
class StepRun(Node):
    row: strawberry.Private[models.StepRun]

    @described("Unique within the job.")
    def key(self) -> str:
        return self.row.step_key

    @strawberry.field
    def name(self) -> str:
        return self.row.name

    @strawberry.field
    def type(self) -> StepType:
        return self.row.step_type

    @described("The planned change.")
    def action(self) -> ChangeAction:
        return self.row.change

    @strawberry.field
    def status(self) -> StepStatus:
        return self.row.status

    @strawberry.field
    def status_reason(self) -> StatusReason:
        return self.row.status_reason

    @strawberry.field
    def status_message(self) -> str | None:
        return self.row.status_message

    @strawberry.field
    def wave(self) -> int:
        return self.row.wave

    @described("The keys of the steps that have to be done before this one.")
    def needs(self) -> list[str]:
        return texts(self.row.needs)

    @described("As the provider reports it.")
    def percent(self) -> float | None:
        return self.row.percent

    @strawberry.field
    async def job(self, info: Info) -> JobRef | None:
        return await load(info.context.loaders.job, self.row.job_id, "OrchestrationJob")

    @strawberry.field
    async def definition(self, info: Info) -> WorkflowStepRef | None:
        return await load(info.context.loaders.workflow_step, self.row.workflow_step_id, "WorkflowStep")

    @strawberry.field
    async def resource(self, info: Info) -> ResourceRef | None:
        return await load(info.context.loaders.resource, self.row.resource_id, "CloudResource")

    @computed("job_id step_key", "What the plan's preview says about this step.")
    async def change(self, info: Info) -> ResourceChange | None:
        job = await info.context.loaders.job.load(self.row.job_id)
        plan = None if job is None else await info.context.loaders.plan.load(job.plan_id)
        changes = [] if plan is None or plan.preview is None else plan.preview.get("changes", [])
        return next((ResourceChange.of_json(item) for item in changes if item["key"] == self.row.step_key), None)

    @computed("job_id step_key", "Oldest first, forward and back.")
    async def attempts(self, info: Info) -> list[Attempt]:
        rows = await info.context.loaders.step_attempts.load(self.row.id)
        return [Attempt.of(row, self.row) for row in rows]

    @strawberry.field
    def max_attempts(self) -> int:
        return self.row.max_attempts

    @strawberry.field
    def next_retry_at(self) -> datetime | None:
        return only_where(self.row.status, StepStatus.RETRY_WAIT, self.row.due_at)

    @strawberry.field
    def inputs(self) -> JSON | None:
        return json_of(self.row.inputs)

    @strawberry.field
    def outputs(self) -> JSON | None:
        return json_of(self.row.outputs)

    @computed("error job_id step_key")
    def error(self) -> JobError | None:
        return JobError.of_json(self.row.error, self.row.job_id, self.row.step_key)

    @computed("job_id not_run_because", "The step whose failure kept this one from running.")
    async def not_run_because(self, info: Info) -> StepRun | None:
        key = self.row.not_run_because
        return None if key is None else await step_of(info, self.row.job_id, key)

    @described("What the step asks, if it is a gate that has come to asking.")
    async def gate(self, info: Info) -> Gate | None:
        row = await info.context.loaders.step_gate.load(self.row.id)
        return None if row is None else Gate(row=row)

    @computed("job_id status status_reason operation", "What can be decided about it where it failed, and if not, why.")
    async def available_step_actions(self, info: Info) -> list[AvailableStepAction]:
        job = await info.context.loaders.job.load(self.row.job_id)
        found = [] if job is None else availability.step_actions(self.row, job, info.context.principal)
        return [
            AvailableStepAction(
                action=StepAction(item.action), allowed=item.allowed, reason=item.reason, message=item.message
            )
            for item in found
        ]

    @strawberry.field
    def started_at(self) -> datetime | None:
        return self.row.started_at

    @strawberry.field
    def completed_at(self) -> datetime | None:
        return self.row.completed_at

    @strawberry.field
    def duration_seconds(self) -> int | None:
        return seconds_between(self.row.started_at, self.row.completed_at)


@strawberry.type(description="A step that could not be undone, and what a person may decide about it.")
class RollbackIssue:
    step: StepRun
    error: JobError | None
    allowed_actions: list[RollbackResolution]

    @strawberry.field
    async def resource(self, info: Info) -> ResourceRef | None:
        return await load(info.context.loaders.resource, self.step.row.resource_id, "CloudResource")

    @classmethod
    def of(cls, row: models.StepRun, dependencies: Dependencies) -> RollbackIssue:
        return cls(
            step=StepRun.of(row),
            error=JobError.of_json(row.error, row.job_id, row.step_key),
            allowed_actions=list(allowed_resolutions(row, dependencies)),
        )


async def step_of(info: Info, job_id: int, key: str) -> StepRun | None:
    """The step of a job by its key."""
    rows = await info.context.loaders.job_steps.load(job_id)
    return next((StepRun.of(row) for row in rows if row.step_key == key), None)
