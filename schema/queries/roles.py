"""Roles that the tenant has named."""

from __future__ import annotations

import strawberry

from app.reads import roles as reads
from schema.connections import Connection, connect
from schema.context import Info
from schema.fields import described
from schema.scalars import Cursor
from schema.types.filters import page
from schema.types.roles import CustomRole


@strawberry.type
class RoleQueries:
    @described("The tenant's own, by name; what the built-in ones allow never changes.")
    async def roles(self, info: Info, first: int = 20, after: Cursor | None = None) -> Connection[CustomRole]:
        query = reads.listed(info.context.tenant_id)
        return await connect(info, CustomRole.of, query, reads.ORDER, page(first, after))
