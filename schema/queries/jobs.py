"""Orchestration jobs."""

from __future__ import annotations

import strawberry

from app.reads import jobs as reads
from schema.connections import Connection, connect
from schema.context import Info
from schema.fields import described
from schema.queries.nodes import node_of
from schema.scalars import Cursor
from schema.types.filters import JobFilter, JobOrder, ordered, page, wanted_jobs
from schema.types.jobs import OrchestrationJob


@strawberry.type
class JobQueries:
    @strawberry.field
    async def orchestration_job(self, info: Info, id: strawberry.ID) -> OrchestrationJob | None:
        found: OrchestrationJob | None = await node_of(info, id, "OrchestrationJob")
        return found

    @described("Newest first unless ordered otherwise; pages of 20 unless asked, of 100 at most.")
    async def orchestration_jobs(
        self,
        info: Info,
        filter: JobFilter | None = None,
        order_by: JobOrder | None = None,
        first: int | None = None,
        after: Cursor | None = None,
        last: int | None = None,
        before: Cursor | None = None,
    ) -> Connection[OrchestrationJob]:
        order = ordered(reads.order, order_by)
        query = reads.listed(info.context.tenant_id, wanted_jobs(filter))
        return await connect(info, OrchestrationJob.of, query, order, page(first, after, last, before))
