"""The viewer and the tenant."""

from __future__ import annotations

import strawberry

from app.domain.enums import Permission, UserKind
from app.domain.errors import Forbidden
from schema.context import Info
from schema.fields import described
from schema.nodes import load
from schema.types.entities import actor_of
from schema.types.tenants import Tenant, Viewer


@strawberry.type
class TenantQueries:
    @strawberry.field
    async def viewer(self, info: Info) -> Viewer:
        principal = info.context.principal
        user = (
            await load(info.context.loaders.user, principal.user_id, "User")
            if principal.kind is UserKind.PERSON
            else await actor_of(info, principal.actor)
        )
        tenant = await load(info.context.loaders.tenant, principal.tenant_id, "Tenant")
        if user is None or tenant is None:
            # Deleted since the request was let in.
            message = "you are no longer a user of this tenant"
            raise Forbidden(message, required=Permission.READ)
        return Viewer(
            actor=user,
            role=principal.role,
            permissions=[permission for permission in Permission if principal.may(permission)],
            tenants=[tenant],
        )

    @described("Null for a tenant that is not yours.")
    async def tenant(self, info: Info, slug: str) -> Tenant | None:
        if slug != info.context.principal.tenant_slug:
            return None
        found: Tenant | None = await load(info.context.loaders.tenant, info.context.tenant_id, "Tenant")
        return found
