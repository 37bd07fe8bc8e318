"""Platform administrators who were let in."""

from __future__ import annotations

import strawberry

from app.domain.enums import Permission
from app.domain.errors import Forbidden
from app.reads import accesses as reads
from schema.connections import Connection, connect
from schema.context import Info
from schema.fields import described
from schema.scalars import Cursor
from schema.types.accesses import PlatformAccess
from schema.types.filters import page


@strawberry.type
class AccessQueries:
    @described("When platform administrators were in the tenant, newest first; for administrators.")
    async def platform_accesses(
        self, info: Info, first: int = 20, after: Cursor | None = None
    ) -> Connection[PlatformAccess]:
        if not info.context.principal.may(Permission.ADMIN):
            message = "this needs the permission ADMIN"
            raise Forbidden(message, required=Permission.ADMIN.value)
        query = reads.listed(info.context.tenant_id)
        return await connect(info, PlatformAccess.of, query, reads.ORDER, page(first, after))
