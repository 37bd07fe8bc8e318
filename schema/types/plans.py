# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""Deployment plans."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from app.db import models
from app.domain.enums import FailureStrategy, PlanType, RollbackScope, Stage, StatusReason
from app.domain.events import Stream
from app.domain.statuses import PlanStatus, stage_of
from app.reads import evaluations as evaluation_reads
from app.reads import jobs as job_reads
from app.reads import plans as plan_reads
from app.reads import upstream as upstream_reads
from schema.connections import Connection, connect_children
from schema.context import Info
from schema.derivations import derived
from schema.fields import computed, described
from schema.nodes import load, view
from schema.scalars import Cursor, json_of
from schema.types.actions import AvailableAction, Blocker, actions_of, blockers_of
from schema.types.approvals import Approvals
from schema.types.diagnostics import Diagnostic
from schema.types.entities import Entity
from schema.types.evaluations import ConditionEvaluation
from schema.types.filters import JobFilter, page, wanted_jobs
from schema.types.graphs import ResourceGraph
from schema.types.histories import MAX_EVENTS, EventConnection, events_of, head_cursor
from schema.types.policies import PolicyResult
from schema.types.previews import Preview
from schema.types.references import (
    JobRef,
    PlanRef,
    ResourceRef,
    RevisionRef,
    TemplateRef,
    TenantRef,
    UserRef,
    WorkflowRef,
)
from schema.types.schedules import Schedule
from schema.types.triggers import PlanTrigger

# What tells who has to agree to a plan.
_COUNCIL = " configuration policy_results user_id submitted_by_id review_round preview_hash"


@strawberry.type(description="One intended change of a stack, and afterwards the record of what it did.")
class DeploymentPlan(Entity):
    row: strawberry.Private[models.DeploymentPlan]

    @strawberry.field
    def name(self) -> str:
        return self.row.plan_name

    @strawberry.field
    def description(self) -> str | None:
        return self.row.description

    @strawberry.field
    def type(self) -> PlanType:
        return self.row.plan_type

    @strawberry.field
    def status(self) -> PlanStatus:
        return self.row.status

    @strawberry.field
    def stage(self) -> Stage:
        return derived(self.row.status, stage_of)

    @strawberry.field
    def status_reason(self) -> StatusReason:
        return self.row.status_reason

    @strawberry.field
    def status_message(self) -> str | None:
        return self.row.status_message

    @described("What the plan acts on: resources are known by stack and key across plans.")
    def stack(self) -> str:
        return self.row.stack

    @strawberry.field
    async def tenant(self, info: Info) -> TenantRef | None:
        return await load(info.context.loaders.tenant, self.row.tenant_id, "Tenant")

    @described("Who made it.")
    async def user(self, info: Info) -> UserRef | None:
        return await load(info.context.loaders.actor, self.row.user_id, "User")

    @strawberry.field
    async def workflow(self, info: Info) -> WorkflowRef | None:
        return await load(info.context.loaders.workflow, self.row.workflow_id, "Workflow")

    @described("The revision that it pins.")
    async def template(self, info: Info) -> RevisionRef | None:
        return await load(info.context.loaders.revision, self.row.template_revision_id, "TemplateRevision")

    @strawberry.field
    async def resource_template(self, info: Info) -> TemplateRef | None:
        return await load(info.context.loaders.template, self.row.template_id, "ResourceTemplate")

    @described("The resources it works on, by key.")
    async def resources(self, info: Info) -> list[ResourceRef]:
        make = view("CloudResource")
        return [make(row) for row in await info.context.loaders.plan_resources.load(self.row.id)]

    @described("The plans that have to have succeeded before it runs: declared, or read by its expressions.")
    async def depends_on_plans(self, info: Info) -> list[PlanRef]:
        make = view("DeploymentPlan")
        return [make(row) for row in await info.context.loaders.plan_upstream.load(self.row.id)]

    @described("The plans that depend on this one, newest first.")
    async def dependent_plans(self, info: Info, first: int = 20, after: Cursor | None = None) -> Connection[PlanRef]:
        relation = upstream_reads.dependents(info.context.tenant_id)
        return await connect_children(info, view("DeploymentPlan"), relation, self.row.id, page(first, after))

    @strawberry.field
    def configuration(self) -> JSON | None:
        return json_of(self.row.configuration)

    @strawberry.field
    def parameters(self) -> JSON | None:
        return json_of(self.row.parameters)

    @strawberry.field
    def dependencies(self) -> JSON | None:
        return json_of(self.row.dependencies)

    @strawberry.field
    def constraints(self) -> JSON | None:
        return json_of(self.row.constraints)

    @strawberry.field
    def metadata(self) -> JSON | None:
        return json_of(self.row.metadata_)

    @strawberry.field
    def failure_strategy(self) -> FailureStrategy:
        return self.row.failure_strategy

    @strawberry.field
    def rollback_scope(self) -> RollbackScope:
        return self.row.rollback_scope

    @computed("schedule status", "When a SCHEDULED plan runs.")
    def schedule(self) -> Schedule | None:
        return None if self.row.schedule is None else Schedule.of(self.row)

    @described("What a CONDITIONAL plan waits for.")
    def condition(self) -> JSON | None:
        return json_of(self.row.condition)

    @strawberry.field
    def valid_until(self) -> datetime | None:
        return self.row.valid_until

    @computed("dependencies preview", "Empty until the plan is submitted.")
    def graph(self) -> ResourceGraph:
        return ResourceGraph.of_json(self.row.dependencies, self.row.preview)

    @computed("preview", "What it would change, or what it set out to change. Null until it is submitted.")
    def preview(self) -> Preview | None:
        return None if self.row.preview is None else Preview.of_json(self.row.preview, self.row.id)

    @computed("diagnostics")
    def diagnostics(self) -> list[Diagnostic]:
        return [Diagnostic.of_json(found) for found in self.row.diagnostics or ()]

    @computed("policy_results", "What policies said of it when it was last worked out.")
    def policy_results(self) -> list[PolicyResult]:
        return [PolicyResult.of_json(found) for found in self.row.policy_results or ()]

    @computed(
        "status status_reason plan_type parent_plan_id schedule active_job_id" + _COUNCIL,
        "What can be done now, and if not, why: clients never re-implement the state machine.",
    )
    async def available_actions(self, info: Info) -> list[AvailableAction]:
        return await actions_of(info, self.row)

    @computed(
        "approval_deadline" + _COUNCIL,
        "How many people have to agree before it runs, and who has.",
    )
    async def approvals(self, info: Info) -> Approvals:
        return Approvals.of(self.row, await info.context.loaders.plan_reviews.load(self.row.id))

    @computed("status status_reason status_message active_job_id updated_at")
    async def blocked_by(self, info: Info) -> list[Blocker]:
        return await blockers_of(info, self.row)

    @described("Its executions, newest first.")
    async def jobs(
        self, info: Info, filter: JobFilter | None = None, first: int = 10, after: Cursor | None = None
    ) -> Connection[JobRef]:
        relation = job_reads.of_plan(info.context.tenant_id, wanted_jobs(filter))
        return await connect_children(info, view("OrchestrationJob"), relation, self.row.id, page(first, after))

    @strawberry.field
    async def active_job(self, info: Info) -> JobRef | None:
        return await load(info.context.loaders.job, self.row.active_job_id, "OrchestrationJob")

    @strawberry.field
    async def last_job(self, info: Info) -> JobRef | None:
        return await load(info.context.loaders.job, self.row.last_job_id, "OrchestrationJob")

    @strawberry.field
    async def parent_plan(self, info: Info) -> PlanRef | None:
        return await load(info.context.loaders.plan, self.row.parent_plan_id, "DeploymentPlan")

    @computed("", "What made it, where it is a run of an AUTOMATED plan.")
    async def trigger(self, info: Info) -> PlanTrigger | None:
        row = await info.context.loaders.trigger.load(self.row.id)
        return None if row is None else PlanTrigger(row=row)

    @described("The runs of a plan that makes runs, each a plan of its own, newest first.")
    async def spawned_plans(self, info: Info, first: int = 20, after: Cursor | None = None) -> Connection[PlanRef]:
        relation = plan_reads.of_parent(info.context.tenant_id)
        return await connect_children(info, view("DeploymentPlan"), relation, self.row.id, page(first, after))

    @described("What was seen of its condition or trigger, newest first; the newest 200 are kept.")
    async def evaluations(
        self, info: Info, first: int = 20, after: Cursor | None = None
    ) -> Connection[ConditionEvaluation]:
        relation = evaluation_reads.of_plan(info.context.tenant_id)
        return await connect_children(
            info, lambda row: ConditionEvaluation(row=row), relation, self.row.id, page(first, after)
        )

    @strawberry.field
    async def rollback_of(self, info: Info) -> PlanRef | None:
        return await load(info.context.loaders.plan, self.row.rollback_of_id, "DeploymentPlan")

    @computed("", "Oldest first. `after` may also be a cursor from `planUpdated`.", largest=MAX_EVENTS)
    async def events(self, info: Info, first: int = 100, after: Cursor | None = None) -> EventConnection:
        return await events_of(info, Stream.PLAN, self.row.id, first, after)

    @described("Live-stream position that this snapshot is consistent with.")
    def cursor(self) -> Cursor:
        return head_cursor(Stream.PLAN, self.row.id, self.row.event_seq, self.row.event_at)

    @strawberry.field
    def scheduled_at(self) -> datetime | None:
        return self.row.scheduled_at

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
    def error_message(self) -> str | None:
        return self.row.error_message
