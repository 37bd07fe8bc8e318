"""Cloud resources."""

from __future__ import annotations

import strawberry

from app.reads import resources as reads
from schema.connections import Connection, connect
from schema.context import Info
from schema.fields import described
from schema.queries.nodes import node_of
from schema.scalars import Cursor
from schema.types.filters import ResourceFilter, ResourceOrder, ordered, page, wanted_resources
from schema.types.resources import CloudResource


@strawberry.type
class ResourceQueries:
    @strawberry.field
    async def cloud_resource(self, info: Info, id: strawberry.ID) -> CloudResource | None:
        found: CloudResource | None = await node_of(info, id, "CloudResource")
        return found

    @described("Newest first unless ordered otherwise; pages of 20 unless asked, of 100 at most.")
    async def cloud_resources(
        self,
        info: Info,
        filter: ResourceFilter | None = None,
        order_by: ResourceOrder | None = None,
        first: int | None = None,
        after: Cursor | None = None,
        last: int | None = None,
        before: Cursor | None = None,
    ) -> Connection[CloudResource]:
        order = ordered(reads.order, order_by)
        query = reads.listed(info.context.tenant_id, wanted_resources(filter))
        return await connect(info, CloudResource.of, query, order, page(first, after, last, before))
