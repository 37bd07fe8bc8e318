"""Principals that are no people."""

from __future__ import annotations

import strawberry

from app.reads import tenants as reads
from schema.connections import Connection, connect
from schema.context import Info
from schema.fields import described
from schema.scalars import Cursor
from schema.types.filters import page
from schema.types.service_accounts import ServiceAccount


@strawberry.type
class ServiceAccountQueries:
    @described("By name.")
    async def service_accounts(
        self, info: Info, first: int = 20, after: Cursor | None = None
    ) -> Connection[ServiceAccount]:
        query, order = reads.service_accounts(info.context.tenant_id)
        return await connect(info, ServiceAccount.of, query, order, page(first, after))
