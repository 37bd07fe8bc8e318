# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""People, and whoever else may have done something."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import strawberry

from app.db import models
from app.domain.enums import Permission, Role, UserKind
from app.reads import plans as plan_reads
from app.reads import tenants as tenant_reads
from schema.connections import Connection, connect_children
from schema.context import Info
from schema.fields import computed, described
from schema.nodes import Node, load, view
from schema.scalars import Cursor
from schema.types.accesses import PlatformAccess
from schema.types.entities import Entity, SystemActor
from schema.types.filters import PlanFilter, page, wanted_plans
from schema.types.references import ApiTokenRef, CustomRoleRef, PlanRef, TenantRef
from schema.types.service_accounts import ServiceAccount


@strawberry.type(description="A role that somebody has: a built-in one, or one of the tenant's own by its name.")
class RoleBinding:
    role: str
    tenant_id: strawberry.Private[int]

    @described("All of the tenant: there are no narrower ones.")
    async def scope(self, info: Info) -> Node:
        return await load(info.context.loaders.tenant, self.tenant_id, "Tenant")


@strawberry.type(description="A person of one tenant, or somebody who acts there as one would: see `kind`.")
class User(Entity):
    row: strawberry.Private[models.User]

    @strawberry.field
    def email(self) -> str:
        return self.row.email

    @strawberry.field
    def display_name(self) -> str:
        return self.row.display_name

    @described("Others than persons are here because something names them; `tenant.users` lists persons.")
    def kind(self) -> UserKind:
        return self.row.kind

    @described("VIEWER for whoever has a custom role instead.")
    def role(self) -> Role:
        return self.row.role

    @described("In place of the built-in role.")
    async def custom_role(self, info: Info) -> CustomRoleRef | None:
        return await load(info.context.loaders.role, self.row.custom_role_id, "CustomRole")

    @computed("role custom_role_id tenant_id")
    async def roles(self, info: Info) -> list[RoleBinding]:
        custom = await load(info.context.loaders.role, self.row.custom_role_id, "CustomRole")
        name = self.row.role.value if custom is None else custom.row.name
        return [RoleBinding(role=name, tenant_id=self.row.tenant_id)]

    @strawberry.field
    async def tenant(self, info: Info) -> TenantRef | None:
        return await load(info.context.loaders.tenant, self.row.tenant_id, "Tenant")

    @described("The plans that this person made, newest first.")
    async def plans(
        self, info: Info, filter: PlanFilter | None = None, first: int = 20, after: Cursor | None = None
    ) -> Connection[PlanRef]:
        relation = plan_reads.of_user(info.context.tenant_id, wanted_plans(filter, info))
        return await connect_children(info, view("DeploymentPlan"), relation, self.row.id, page(first, after))

    @computed("", "Newest first, also those revoked; for this person and for administrators.")
    async def tokens(self, info: Info, first: int = 20, after: Cursor | None = None) -> Connection[ApiTokenRef] | None:
        principal = info.context.principal
        if not principal.may(Permission.ADMIN) and principal.user_id != self.row.id:
            return None
        relation = tenant_reads.tokens_of_user(info.context.tenant_id)
        return await connect_children(info, view("ApiToken"), relation, self.row.id, page(first, after))


Actor: TypeAlias = Annotated[
    User | ServiceAccount | PlatformAccess | SystemActor, strawberry.union("Actor", description="Who did it.")
]
