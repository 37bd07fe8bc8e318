# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""Resource templates and their immutable revisions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry
from strawberry.scalars import JSON

from app.db import models
from app.domain.definitions.template import parse_template
from app.domain.enums import DefinitionStatus, TemplateType
from app.domain.errors import DomainError, Invalid
from app.reads import plans as plan_reads
from app.reads import templates as template_reads
from app.services import impact
from app.services.previews import diagnostics_of
from schema.connections import Connection, PageInfo, connect_children
from schema.context import Info
from schema.derivations import only_where
from schema.fields import computed, described
from schema.nodes import Node, load, number_in, view
from schema.scalars import Cursor, json_of, required_json_of
from schema.types.diagnostics import Diagnostic
from schema.types.entities import Entity
from schema.types.filters import PlanFilter, page, wanted_plans
from schema.types.graphs import ResourceGraph
from schema.types.previews import Preview
from schema.types.references import PlanRef, TemplateRef, TenantRef


@strawberry.type(description="What a template said when it was published. Never changes; a plan pins one.")
class TemplateRevision(Node):
    row: strawberry.Private[models.TemplateRevision]

    @strawberry.field
    def number(self) -> int:
        return self.row.number

    @strawberry.field
    def status(self) -> DefinitionStatus:
        return self.row.status

    @strawberry.field
    def content(self) -> JSON:
        return required_json_of(self.row.content)

    @computed("content")
    def parameters_schema(self) -> JSON:
        return required_json_of(self.row.content.get("parameters") or {})

    @computed("content", "By name: the expression and what it means.")
    def outputs_schema(self) -> JSON:
        return required_json_of(self.row.content.get("outputs") or {})

    @computed("content")
    def constraints(self) -> JSON | None:
        return json_of(self.row.content.get("constraints"))

    @computed("content", "Null if the content no longer makes sense to this version of the product.")
    def graph(self) -> ResourceGraph | None:
        try:
            definition = parse_template(self.row.content)
        except DomainError:
            return None
        types = {key: resource.type for key, resource in definition.resources.items()}
        return ResourceGraph.of(definition.graph, "resource", types.__getitem__)

    @computed("content", "What this installation, as it is now, finds wrong with the content.")
    def lint(self, info: Info) -> list[Diagnostic]:
        try:
            parse_template(self.row.content, info.context.catalogue)
        except Invalid as error:
            return [Diagnostic.of(found) for found in diagnostics_of(error)]
        return []

    @described("SHA-256 of the content, in hex.")
    def checksum(self) -> str:
        return self.row.checksum

    @strawberry.field
    def created_at(self) -> datetime:
        return self.row.created_at

    @strawberry.field
    def published_at(self) -> datetime | None:
        return self.row.published_at

    @strawberry.field
    async def template(self, info: Info) -> TemplateRef | None:
        return await load(info.context.loaders.template, self.row.template_id, "ResourceTemplate")

    @described("The viewer's plans made from it, newest first.")
    async def plans(
        self, info: Info, filter: PlanFilter | None = None, first: int = 20, after: Cursor | None = None
    ) -> Connection[PlanRef]:
        relation = plan_reads.of_revision(info.context.tenant_id, wanted_plans(filter, info))
        return await connect_children(info, view("DeploymentPlan"), relation, self.row.id, page(first, after))


@strawberry.type(description="One stack that would change, by the plan that made it what it is.")
class ImpactEdge:
    node: PlanRef
    cursor: Cursor
    preview: Preview | None = strawberry.field(description="Null where it cannot be worked out: see `diagnostics`.")
    diagnostics: list[Diagnostic]


@strawberry.type(
    description="A page may be short, or empty, and yet not be the last: stacks that stay the same are left out."
)
class ImpactConnection:
    edges: list[ImpactEdge]
    page_info: PageInfo


@strawberry.type(description="A standard set of resources. Its own fields show the draft.")
class ResourceTemplate(Entity):
    row: strawberry.Private[models.ResourceTemplate]

    @strawberry.field
    def name(self) -> str:
        return self.row.template_name

    @strawberry.field
    def description(self) -> str | None:
        return self.row.description

    @strawberry.field
    def type(self) -> TemplateType:
        return self.row.template_type

    @strawberry.field
    def status(self) -> DefinitionStatus:
        return self.row.status

    @described("Whether other tenants may read it and make plans from it.")
    def is_public(self) -> bool:
        return self.row.is_public

    @strawberry.field
    def tags(self) -> JSON | None:
        return json_of(self.row.tags)

    @described("The draft. Null, like what follows from it, for a template of somebody else.")
    def content(self, info: Info) -> JSON | None:
        return self._draft(info, self.row.template_content)

    @strawberry.field
    def parameters(self, info: Info) -> JSON | None:
        return self._draft(info, self.row.parameters)

    @strawberry.field
    def dependencies(self, info: Info) -> JSON | None:
        return self._draft(info, self.row.dependencies)

    @strawberry.field
    def outputs(self, info: Info) -> JSON | None:
        return self._draft(info, self.row.outputs)

    @strawberry.field
    def constraints(self, info: Info) -> JSON | None:
        return self._draft(info, self.row.constraints)

    @strawberry.field
    def metadata(self, info: Info) -> JSON | None:
        return self._draft(info, self.row.metadata_)

    @described("Null for a public template of somebody else.")
    async def tenant(self, info: Info) -> TenantRef | None:
        return await load(info.context.loaders.tenant, self.row.tenant_id, "Tenant")

    @described("Newest first.")
    async def revisions(self, info: Info, first: int = 20, after: Cursor | None = None) -> Connection[TemplateRevision]:
        relation = template_reads.revisions(info.context.tenant_id)
        return await connect_children(info, TemplateRevision.of, relation, self.row.id, page(first, after))

    @described("The revision published last.")
    async def latest(self, info: Info) -> TemplateRevision | None:
        return await load(info.context.loaders.revision, self.row.latest_revision_id, "TemplateRevision")

    @described("The viewer's plans made from any revision, newest first.")
    async def plans(
        self, info: Info, filter: PlanFilter | None = None, first: int = 20, after: Cursor | None = None
    ) -> Connection[PlanRef]:
        relation = plan_reads.of_template(info.context.tenant_id, wanted_plans(filter, info))
        return await connect_children(info, view("DeploymentPlan"), relation, self.row.id, page(first, after))

    @computed(
        "",
        "The stacks that would change if a revision, or else the draft, were rolled out with their plans' parameters."
        " Null for the draft of somebody else.",
    )
    async def impact_of(
        self, info: Info, revision_id: strawberry.ID | None = None, first: int = 50, after: Cursor | None = None
    ) -> ImpactConnection | None:
        context = info.context
        revision = None if revision_id is None else number_in(revision_id, "TemplateRevision")
        async with context.read() as session:
            impacts = await impact.impact_of(
                session, context.principal, self.row.id, revision, page(first, after), context.dependencies
            )
        if impacts is None:
            return None
        edges = [
            ImpactEdge(
                node=view("DeploymentPlan")(one.plan),
                cursor=Cursor(one.cursor),
                preview=None if one.preview is None else Preview.of_json(one.preview),
                diagnostics=[Diagnostic.of(found) for found in one.diagnostics],
            )
            for one in impacts.found
        ]
        return ImpactConnection(
            edges=edges,
            page_info=PageInfo(
                has_next_page=impacts.more,
                has_previous_page=after is not None,
                start_cursor=edges[0].cursor if edges else None,
                end_cursor=None if impacts.cursor is None else Cursor(impacts.cursor),
            ),
        )

    def _draft(self, info: Info, column: Any) -> JSON | None:
        # Publishing a template publishes its revisions, not what its owner is still writing.
        return json_of(only_where(self.row.tenant_id, info.context.tenant_id, column))
