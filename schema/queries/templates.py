"""Resource templates: the tenant's own, and public ones."""

from __future__ import annotations

import strawberry

from app.reads import templates as reads
from schema.connections import Connection, connect
from schema.context import Info
from schema.fields import described
from schema.queries.nodes import node_of
from schema.scalars import Cursor
from schema.types.filters import TemplateFilter, TemplateOrder, ordered, page, wanted_templates
from schema.types.templates import ResourceTemplate


@strawberry.type
class TemplateQueries:
    @strawberry.field
    async def resource_template(self, info: Info, id: strawberry.ID) -> ResourceTemplate | None:
        found: ResourceTemplate | None = await node_of(info, id, "ResourceTemplate")
        return found

    @described("Newest first unless ordered otherwise; pages of 20 unless asked, of 100 at most.")
    async def resource_templates(
        self,
        info: Info,
        filter: TemplateFilter | None = None,
        order_by: TemplateOrder | None = None,
        first: int | None = None,
        after: Cursor | None = None,
        last: int | None = None,
        before: Cursor | None = None,
    ) -> Connection[ResourceTemplate]:
        order = ordered(reads.order, order_by)
        query = reads.listed(info.context.tenant_id, wanted_templates(filter))
        return await connect(info, ResourceTemplate.of, query, order, page(first, after, last, before))
