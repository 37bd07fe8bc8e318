# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""Orchestration jobs."""

from __future__ import annotations

import mimetypes
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import strawberry
from sqlalchemy import Text, case, cast, literal_column
from strawberry.scalars import JSON

from app.db import models
from app.domain.enums import FailureStrategy, JobDirection, JobType, RollbackCompleteness, Stage, StatusReason
from app.domain.events import Stream
from app.domain.statuses import JobStatus, StepStatus, stage_of
from app.reads import jobs as job_reads
from app.reads import steps as step_reads
from schema.connections import Connection, connect_children
from schema.context import Info
from schema.derivations import derived, either
from schema.fields import computed, described
from schema.nodes import load, view
from schema.scalars import BigInt, Cursor, json_of
from schema.symbols import SymbolicValues, Tracing, key_expression
from schema.types.actions import AvailableAction, Blocker, actions_of, blockers_of
from schema.types.entities import Entity
from schema.types.filters import JobFilter, LogFilter, page, wanted_jobs
from schema.types.histories import MAX_EVENTS, EventConnection, events_of, head_cursor
from schema.types.logs import MAX_LINES, LogConnection, lines_of
from schema.types.references import JobRef, PlanRef, TenantRef
from schema.types.steps import JobError, RollbackIssue, StepRun

_DONE = (StepStatus.SUCCEEDED, StepStatus.NO_CHANGE, StepStatus.SKIPPED)
_RUNNING = (StepStatus.RUNNING, StepStatus.WAITING, StepStatus.RETRY_WAIT, StepStatus.COMPENSATING)
_FAILED = (StepStatus.FAILED, StepStatus.UNKNOWN, StepStatus.COMPENSATION_FAILED)
_UNDONE = (StepStatus.COMPENSATED, StepStatus.COMPENSATION_SKIPPED)
_SETTLED = (
    *_DONE,
    *_UNDONE,
    StepStatus.FAILED,
    StepStatus.BLOCKED,
    StepStatus.CANCELLED,
    StepStatus.COMPENSATION_FAILED,
)


@strawberry.type(description="How far a job is, in steps.")
class Progress:
    total: int
    done: int
    running: int
    failed: int
    compensated: int
    percent: float = strawberry.field(description="Steps that will not move any more, of all.")

    @classmethod
    def of(cls, statuses: Counter[StepStatus]) -> Progress:
        total = statuses.total()
        settled = sum(statuses[status] for status in _SETTLED)
        return cls(
            total=total,
            done=sum(statuses[status] for status in _DONE),
            running=sum(statuses[status] for status in _RUNNING),
            failed=sum(statuses[status] for status in _FAILED),
            compensated=sum(statuses[status] for status in _UNDONE),
            # In whole tenths, half a tenth up.
            percent=100.0 if total == 0 else (2000 * settled + total) // (2 * total) / 10,
        )

    @classmethod
    def expression(cls, tracing: Tracing, job_id: Any) -> Any:
        """The same in SQL."""
        groups = {"done": _DONE, "running": _RUNNING, "failed": _FAILED, "compensated": _UNDONE, "settled": _SETTLED}
        source = step_reads.counted(tracing.tenant_id, key_expression(job_id), groups).subquery("progress")
        total, settled = source.c.total, source.c.settled
        percent = case((total == 0, 100.0), else_=(2000 * settled + total) // (2 * total) / literal_column("10.0"))
        counts = {name: source.c[name] for name in ("total", "done", "running", "failed", "compensated")}
        fields = {name: cast(value, Text) for name, value in {**counts, "percent": percent}.items()}
        return SymbolicValues(source, fields)


@strawberry.type(description="A file that a step made.")
class Artifact:
    name: str
    kind: str
    url: str = strawberry.field(description="Where the provider put it.")
    size: BigInt = strawberry.field(description="Bytes.")
    media_type: str = strawberry.field(description="What is in the file, as far as its name says.")
    sha256: str
    metadata: JSON | None

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> Artifact:
        return cls(
            name=stored["name"],
            kind=stored["kind"],
            url=stored["uri"],
            size=BigInt(stored["size"]),
            media_type=mimetypes.guess_type(stored["uri"])[0] or "application/octet-stream",
            sha256=stored["sha256"],
            metadata=json_of(stored.get("metadata")),
        )


@strawberry.type(description="One execution of a plan, forward or back. A terminal job never changes again.")
class OrchestrationJob(Entity):
    row: strawberry.Private[models.OrchestrationJob]

    @strawberry.field
    def name(self) -> str:
        return self.row.job_name

    @strawberry.field
    def description(self) -> str | None:
        return self.row.description

    @strawberry.field
    def type(self) -> JobType:
        return self.row.job_type

    @strawberry.field
    def status(self) -> JobStatus:
        return self.row.status

    @strawberry.field
    def stage(self) -> Stage:
        return derived(self.row.status, stage_of)

    @strawberry.field
    def direction(self) -> JobDirection:
        return self.row.direction

    @described("Whether it only shows what would happen. Then nothing of it is so, outputs included.")
    def simulated(self) -> bool:
        return self.row.simulated

    @strawberry.field
    def status_reason(self) -> StatusReason:
        return self.row.status_reason

    @strawberry.field
    def status_message(self) -> str | None:
        return self.row.status_message

    @computed("error")
    def error(self) -> JobError | None:
        return JobError.of_json(self.row.error, self.row.id)

    @strawberry.field
    def error_message(self) -> str | None:
        return self.row.error_message

    @strawberry.field
    def stack(self) -> str:
        return self.row.stack

    @strawberry.field
    def failure_strategy(self) -> FailureStrategy:
        return self.row.failure_strategy

    @strawberry.field
    async def tenant(self, info: Info) -> TenantRef | None:
        return await load(info.context.loaders.tenant, self.row.tenant_id, "Tenant")

    @strawberry.field
    async def plan(self, info: Info) -> PlanRef | None:
        return await load(info.context.loaders.plan, self.row.plan_id, "DeploymentPlan")

    @described("The job that this one retries or rolls back.")
    async def parent_job(self, info: Info) -> JobRef | None:
        return await load(info.context.loaders.job, self.row.parent_job_id, "OrchestrationJob")

    @described("The jobs that retried this one or rolled it back, newest first.")
    async def child_jobs(
        self, info: Info, filter: JobFilter | None = None, first: int = 10, after: Cursor | None = None
    ) -> Connection[JobRef]:
        relation = job_reads.of_parent(info.context.tenant_id, wanted_jobs(filter))
        return await connect_children(info, view("OrchestrationJob"), relation, self.row.id, page(first, after))

    @strawberry.field
    def configuration(self) -> JSON | None:
        return json_of(self.row.configuration)

    @strawberry.field
    def inputs(self) -> JSON | None:
        return json_of(self.row.inputs)

    @strawberry.field
    def outputs(self) -> JSON | None:
        return json_of(self.row.outputs)

    @strawberry.field
    def metadata(self) -> JSON | None:
        return json_of(self.row.metadata_)

    @computed("artifacts")
    def artifacts(self) -> list[Artifact]:
        return [Artifact.of_json(stored) for stored in self.row.artifacts or ()]

    @strawberry.field
    async def progress(self, info: Info) -> Progress:
        if info.context.tracing is not None:
            return Progress.expression(info.context.tracing, self.row.id)
        return Progress.of(await info.context.loaders.job_step_statuses.load(self.row.id))

    @described("In the order in which they may run.")
    async def steps(self, info: Info) -> list[StepRun]:
        return [StepRun.of(row) for row in await info.context.loaders.job_steps.load(self.row.id)]

    @computed(
        "",
        "When it will be over if nothing fails, from how long the like took before. Null while it does not go forward,"
        " and with a step ahead that waits for people or is the first of its kind.",
    )
    async def estimated_completion(self, info: Info) -> datetime | None:
        return await info.context.loaders.completion.load(self.row.id)

    @described(
        "Whether a rollback took back everything that it was to take back. PARTIAL: steps are COMPENSATION_SKIPPED or"
        " COMPENSATION_FAILED, and what they did is still there. Null for a job that was not rolled back."
    )
    def rollback_completeness(self) -> RollbackCompleteness | None:
        return self.row.rollback_completeness

    @computed("", "The steps that could not be undone.")
    async def rollback_issues(self, info: Info) -> list[RollbackIssue]:
        rows = await info.context.loaders.job_steps.load(self.row.id)
        failed = [row for row in rows if row.status is StepStatus.COMPENSATION_FAILED]
        return [RollbackIssue.of(row, info.context.dependencies) for row in failed]

    @computed("status simulated", "What can be done now, and if not, why.")
    async def available_actions(self, info: Info) -> list[AvailableAction]:
        return await actions_of(info, self.row)

    @computed("status status_reason status_message updated_at")
    async def blocked_by(self, info: Info) -> list[Blocker]:
        return await blockers_of(info, self.row)

    @computed(
        "",
        "Oldest first; cursors may also be those from `jobLogs`. With `last` the page is the end of what comes before"
        " `before`, or of the log, and `first` is not looked at.",
        largest=MAX_LINES,
    )
    async def logs(
        self,
        info: Info,
        filter: LogFilter | None = None,
        first: int = 200,
        after: Cursor | None = None,
        last: int | None = None,
        before: Cursor | None = None,
    ) -> LogConnection:
        window = page(first if last is None else None, after, last, before)
        return await lines_of(info, self.row.id, filter, window)

    @computed("", "Oldest first. `after` may also be a cursor from `jobUpdated`.", largest=MAX_EVENTS)
    async def events(self, info: Info, first: int = 200, after: Cursor | None = None) -> EventConnection:
        return await events_of(info, Stream.JOB, self.row.id, first, after)

    @described("Live-stream position that this snapshot is consistent with.")
    def cursor(self) -> Cursor:
        return head_cursor(Stream.JOB, self.row.id, self.row.event_seq, self.row.event_at)

    @strawberry.field
    def queued_at(self) -> datetime:
        return either(self.row.queued_at, self.row.created_at)

    @strawberry.field
    def started_at(self) -> datetime | None:
        return self.row.started_at

    @strawberry.field
    def completed_at(self) -> datetime | None:
        return self.row.completed_at

    @strawberry.field
    def duration_seconds(self) -> int | None:
        return self.row.duration_seconds

    @strawberry.field
    def retry_count(self) -> int:
        return self.row.retry_count

    @described("How many times a lost worker's work was taken over.")
    def recoveries(self) -> int:
        return self.row.recoveries
