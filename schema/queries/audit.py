"""The audit log of the tenant."""

from __future__ import annotations

import strawberry

from app.domain.enums import Permission
from app.domain.errors import Forbidden
from app.reads import audit as reads
from schema.connections import Connection, connect
from schema.context import Info
from schema.fields import described
from schema.scalars import Cursor
from schema.types.audit import AuditEntry
from schema.types.filters import AuditFilter, page, wanted_entries


@strawberry.type
class AuditQueries:
    @described("Newest first; for administrators. As a file with its hashes: GET /audit.ndjson.")
    async def audit_log(
        self, info: Info, filter: AuditFilter | None = None, first: int = 50, after: Cursor | None = None
    ) -> Connection[AuditEntry]:
        if not info.context.principal.may(Permission.ADMIN):
            message = "this needs the permission ADMIN"
            raise Forbidden(message, required=Permission.ADMIN.value)
        query = reads.listed(info.context.tenant_id, wanted_entries(filter))
        return await connect(info, lambda row: AuditEntry(row=row), query, reads.ORDER, page(first, after))
