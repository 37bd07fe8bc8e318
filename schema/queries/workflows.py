"""Workflows."""

from __future__ import annotations

import strawberry

from app.reads import workflows as reads
from schema.connections import Connection, connect
from schema.context import Info
from schema.fields import described
from schema.queries.nodes import node_of
from schema.scalars import Cursor
from schema.types.filters import WorkflowFilter, WorkflowOrder, ordered, page, wanted_workflows
from schema.types.workflows import Workflow


@strawberry.type
class WorkflowQueries:
    @strawberry.field
    async def workflow(self, info: Info, id: strawberry.ID) -> Workflow | None:
        found: Workflow | None = await node_of(info, id, "Workflow")
        return found

    @described("Newest first unless ordered otherwise; pages of 20 unless asked, of 100 at most.")
    async def workflows(
        self,
        info: Info,
        filter: WorkflowFilter | None = None,
        order_by: WorkflowOrder | None = None,
        first: int | None = None,
        after: Cursor | None = None,
        last: int | None = None,
        before: Cursor | None = None,
    ) -> Connection[Workflow]:
        order = ordered(reads.order, order_by)
        query = reads.listed(info.context.tenant_id, wanted_workflows(filter))
        return await connect(info, Workflow.of, query, order, page(first, after, last, before))
