# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""The tenant, and everything that is its own."""

from __future__ import annotations

import strawberry

from app.db import models
from app.domain.enums import Permission, Role
from app.reads import jobs as job_reads
from app.reads import plans as plan_reads
from app.reads import resources as resource_reads
from app.reads import templates as template_reads
from app.reads import tenants as tenant_reads
from app.reads import workflows as workflow_reads
from schema.connections import Connection, connect
from schema.context import Info
from schema.fields import computed, described
from schema.nodes import view
from schema.scalars import Cursor
from schema.types.entities import Entity
from schema.types.filters import (
    JobFilter,
    PlanFilter,
    ResourceFilter,
    TemplateFilter,
    WorkflowFilter,
    page,
    wanted_jobs,
    wanted_plans,
    wanted_resources,
    wanted_templates,
    wanted_workflows,
)
from schema.types.quotas import Quota
from schema.types.references import (
    ActorRef,
    ApiTokenRef,
    ConnectionRef,
    JobRef,
    PlanRef,
    ResourceRef,
    TemplateRef,
    UserRef,
    WorkflowRef,
)


@strawberry.type(description="An organisation. Everything else belongs to exactly one.")
class Tenant(Entity):
    row: strawberry.Private[models.Tenant]

    @strawberry.field
    def name(self) -> str:
        return self.row.name

    @strawberry.field
    def slug(self) -> str:
        return self.row.slug

    @computed("", "How many jobs may be under way, and wait.")
    async def quotas(self, info: Info) -> list[Quota]:
        found = await info.context.loaders.quotas.load(self.row.id) or []
        return [Quota(key=usage.key, limit=usage.limit, used=usage.used) for usage in found]

    @described("By e-mail address.")
    async def users(self, info: Info, first: int = 20, after: Cursor | None = None) -> Connection[UserRef]:
        query, order = tenant_reads.users(info.context.tenant_id)
        return await connect(info, view("User"), query, order, page(first, after))

    @computed("", "Newest first, also those revoked; for administrators.")
    async def api_tokens(
        self, info: Info, first: int = 20, after: Cursor | None = None
    ) -> Connection[ApiTokenRef] | None:
        if not info.context.principal.may(Permission.ADMIN):
            return None
        query, order = tenant_reads.tokens(info.context.tenant_id)
        return await connect(info, view("ApiToken"), query, order, page(first, after))

    @described("By name.")
    async def connections(self, info: Info, first: int = 20, after: Cursor | None = None) -> Connection[ConnectionRef]:
        query, order = tenant_reads.connections(info.context.tenant_id)
        return await connect(info, view("ProviderConnection"), query, order, page(first, after))

    @described("Newest first.")
    async def workflows(
        self, info: Info, filter: WorkflowFilter | None = None, first: int = 20, after: Cursor | None = None
    ) -> Connection[WorkflowRef]:
        query = workflow_reads.listed(info.context.tenant_id, wanted_workflows(filter))
        return await connect(info, view("Workflow"), query, workflow_reads.order(), page(first, after))

    @described("Its own, newest first.")
    async def resource_templates(
        self, info: Info, filter: TemplateFilter | None = None, first: int = 20, after: Cursor | None = None
    ) -> Connection[TemplateRef]:
        query = template_reads.owned(info.context.tenant_id, wanted_templates(filter))
        return await connect(info, view("ResourceTemplate"), query, template_reads.order(), page(first, after))

    @described("Newest first.")
    async def deployment_plans(
        self, info: Info, filter: PlanFilter | None = None, first: int = 20, after: Cursor | None = None
    ) -> Connection[PlanRef]:
        query = plan_reads.listed(info.context.tenant_id, wanted_plans(filter, info))
        return await connect(info, view("DeploymentPlan"), query, plan_reads.order(), page(first, after))

    @described("Newest first.")
    async def orchestration_jobs(
        self, info: Info, filter: JobFilter | None = None, first: int = 20, after: Cursor | None = None
    ) -> Connection[JobRef]:
        query = job_reads.listed(info.context.tenant_id, wanted_jobs(filter))
        return await connect(info, view("OrchestrationJob"), query, job_reads.order(), page(first, after))

    @described("Newest first.")
    async def cloud_resources(
        self, info: Info, filter: ResourceFilter | None = None, first: int = 20, after: Cursor | None = None
    ) -> Connection[ResourceRef]:
        query = resource_reads.listed(info.context.tenant_id, wanted_resources(filter))
        return await connect(info, view("CloudResource"), query, resource_reads.order(), page(first, after))


@strawberry.type(description="Who is asking.")
class Viewer:
    actor: ActorRef
    role: Role = strawberry.field(description="VIEWER for whoever has a custom role instead.")
    permissions: list[Permission] = strawberry.field(description="The role's, narrowed by the token's scopes.")
    tenants: list[Tenant]
