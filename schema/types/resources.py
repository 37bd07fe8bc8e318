# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""Cloud resources, what they were, and what depends on what."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from app.db import models
from app.domain.enums import ActionReason, DriftStatus, ResourceDecision
from app.domain.statuses import ResourceStatus
from app.reads import plans as plan_reads
from app.reads import resources as resource_reads
from app.services import attention, availability
from schema.connections import Connection, connect_children
from schema.context import Info
from schema.fields import computed, described
from schema.nodes import load, view
from schema.scalars import Cursor, json_of, required_json_of
from schema.types.drift import DriftIgnoreRule, ObservationError, PropertyDrift
from schema.types.entities import Entity
from schema.types.filters import PlanFilter, page, wanted_plans
from schema.types.references import JobRef, PlanRef, TenantRef


@strawberry.type(description="What a resource was after one change.")
class ResourceRevision:
    row: strawberry.Private[models.ResourceRevision]

    @classmethod
    def of(cls, row: models.ResourceRevision) -> ResourceRevision:
        return cls(row=row)

    @strawberry.field
    def number(self) -> int:
        return self.row.number

    @strawberry.field
    def properties(self) -> JSON:
        return required_json_of(self.row.properties)

    @strawberry.field
    def outputs(self) -> JSON | None:
        return json_of(self.row.outputs)

    @strawberry.field
    def at(self) -> datetime:
        return self.row.at

    @strawberry.field
    async def job(self, info: Info) -> JobRef | None:
        return await load(info.context.loaders.job, self.row.job_id, "OrchestrationJob")


@strawberry.type(description="Something to be decided about a resource, and if not now, why.")
class AvailableDecision:
    action: ResourceDecision
    allowed: bool
    reason: ActionReason
    message: str | None


@strawberry.type(description="One real thing in the outside world, known by stack and key across plans.")
class CloudResource(Entity):
    row: strawberry.Private[models.CloudResource]

    @strawberry.field
    def stack(self) -> str:
        return self.row.stack

    @described("Unique within the stack.")
    def key(self) -> str:
        return self.row.resource_key

    @strawberry.field
    def name(self) -> str:
        return self.row.name

    @described("As in `resourceTypes`, e.g. postgres.role.")
    def type(self) -> str:
        return self.row.type

    @strawberry.field
    def provider(self) -> str:
        return self.row.provider

    @described("The provider connection it is reached by; null for the default one.")
    def connection(self) -> str | None:
        return self.row.connection

    @strawberry.field
    def region(self) -> str | None:
        return self.row.region

    @described("The provider's own identity of it.")
    def external_id(self) -> str | None:
        return self.row.external_id

    @strawberry.field
    def status(self) -> ResourceStatus:
        return self.row.status

    @strawberry.field
    def drift_status(self) -> DriftStatus:
        return self.row.drift_status

    @strawberry.field
    def drift_checked_at(self) -> datetime | None:
        return self.row.drift_checked_at

    @computed("drift", "What differs, where drift is MODIFIED and nothing says that it does not count.")
    def drift(self) -> list[PropertyDrift]:
        return [PropertyDrift.of_json(found) for found in self.row.drift or ()]

    @computed("drift_ignores")
    def drift_ignore_rules(self) -> list[DriftIgnoreRule]:
        return [DriftIgnoreRule.of_json(rule) for rule in self.row.drift_ignores or ()]

    @computed("observe_error", "Why the last look at it came to nothing.")
    def observation_error(self) -> ObservationError | None:
        return None if self.row.observe_error is None else ObservationError.of_json(self.row.observe_error)

    @computed(
        "status external_id in_doubt_step_id",
        "Whether nobody knows what became of it, so that a person may have to decide: see `resolveResource`.",
    )
    def needs_attention(self) -> bool:
        return attention.is_in_doubt(self.row)

    @computed(
        "status external_id in_doubt_step_id", "What can be decided about it where it is in doubt, and if not, why."
    )
    def available_decisions(self, info: Info) -> list[AvailableDecision]:
        return [
            AvailableDecision(
                action=ResourceDecision(item.action), allowed=item.allowed, reason=item.reason, message=item.message
            )
            for item in availability.resource_actions(self.row, info.context.principal)
        ]

    @described("As the plan rendered it.")
    def desired(self) -> JSON | None:
        return json_of(self.row.desired)

    @described("As it was last left by us.")
    def applied(self) -> JSON | None:
        return json_of(self.row.applied)

    @described("As it was last seen at the provider.")
    def observed(self) -> JSON | None:
        return json_of(self.row.observed)

    @strawberry.field
    def outputs(self) -> JSON | None:
        return json_of(self.row.outputs)

    @described("Whether it is left in place when it vanishes from its template.")
    def retain(self) -> bool:
        return self.row.retain

    @described("Whether plans that would destroy it are refused.")
    def prevent_destroy(self) -> bool:
        return self.row.prevent_destroy

    @strawberry.field
    async def tenant(self, info: Info) -> TenantRef | None:
        return await load(info.context.loaders.tenant, self.row.tenant_id, "Tenant")

    @described("The plan that changed it last.")
    async def owner_plan(self, info: Info) -> PlanRef | None:
        return await load(info.context.loaders.plan, self.row.owner_plan_id, "DeploymentPlan")

    @computed("", "The job that may write it now.")
    async def locked_by(self, info: Info) -> JobRef | None:
        holder = await info.context.loaders.lock_holder.load(self.row.id)
        return await load(info.context.loaders.job, holder, "OrchestrationJob")

    @described("The resources it was last applied against.")
    async def depends_on(self, info: Info) -> list[CloudResource]:
        return [CloudResource.of(row) for row in await info.context.loaders.resource_needs.load(self.row.id)]

    @described("The resources that were last applied against it.")
    async def dependents(self, info: Info) -> list[CloudResource]:
        return [CloudResource.of(row) for row in await info.context.loaders.resource_dependents.load(self.row.id)]

    @described("The plans that work on it, newest first.")
    async def plans(
        self, info: Info, filter: PlanFilter | None = None, first: int = 20, after: Cursor | None = None
    ) -> Connection[PlanRef]:
        relation = plan_reads.of_resource(info.context.tenant_id, wanted_plans(filter, info))
        return await connect_children(info, view("DeploymentPlan"), relation, self.row.id, page(first, after))

    @described("Newest first.")
    async def history(self, info: Info, first: int = 20, after: Cursor | None = None) -> Connection[ResourceRevision]:
        relation = resource_reads.history(info.context.tenant_id)
        return await connect_children(info, ResourceRevision.of, relation, self.row.id, page(first, after))
