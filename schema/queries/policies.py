"""Policies of the tenant."""

from __future__ import annotations

import strawberry

from app.reads import policies as reads
from schema.connections import Connection, connect
from schema.context import Info
from schema.fields import described
from schema.queries.nodes import node_of
from schema.scalars import Cursor
from schema.types.filters import page
from schema.types.policies import Policy, PolicyFilter


@strawberry.type
class PolicyQueries:
    @strawberry.field
    async def policy(self, info: Info, id: strawberry.ID) -> Policy | None:
        found: Policy | None = await node_of(info, id, "Policy")
        return found

    @described("By name.")
    async def policies(
        self,
        info: Info,
        filter: PolicyFilter | None = None,
        first: int | None = None,
        after: Cursor | None = None,
        last: int | None = None,
        before: Cursor | None = None,
    ) -> Connection[Policy]:
        wanted = reads.PolicyFilter() if filter is None else filter.wanted()
        query = reads.listed(info.context.tenant_id, wanted)
        return await connect(info, Policy.of, query, reads.ORDER, page(first, after, last, before))
