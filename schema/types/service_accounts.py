# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""Principals that are no people."""

from __future__ import annotations

import strawberry

from app.db import models
from app.domain.enums import Permission, Role
from app.domain.permissions import of_service_account
from app.reads import tenants as tenant_reads
from schema.connections import Connection, connect_children
from schema.context import Info
from schema.fields import computed, described
from schema.nodes import load, view
from schema.scalars import Cursor
from schema.types.entities import Entity
from schema.types.filters import page
from schema.types.references import ApiTokenRef, CustomRoleRef


@strawberry.type(description="A principal that is no person: it has API tokens, and no password or session.")
class ServiceAccount(Entity):
    row: strawberry.Private[models.User]

    @strawberry.field
    def name(self) -> str:
        return self.row.display_name

    @described("VIEWER for one that has a custom role instead.")
    def role(self) -> Role:
        return self.row.role

    @described("In place of the built-in role.")
    async def custom_role(self, info: Info) -> CustomRoleRef | None:
        return await load(info.context.loaders.role, self.row.custom_role_id, "CustomRole")

    @described(
        "Whether it may approve what others ask for, where its role allows that; never what it asked for itself."
    )
    def may_approve(self) -> bool:
        return self.row.may_approve

    @computed("role custom_role_id may_approve", "What it may do; its tokens may be narrower.")
    async def scopes(self, info: Info) -> list[Permission]:
        found = None
        if self.row.custom_role_id is not None:
            own = await info.context.loaders.role.load(self.row.custom_role_id)
            found = [] if own is None else own.permissions
        may = of_service_account(self.row.role, found, may_approve=self.row.may_approve)
        return [permission for permission in Permission if permission in may]

    @computed("", "Newest first, also those revoked; for itself and for administrators.")
    async def tokens(self, info: Info, first: int = 20, after: Cursor | None = None) -> Connection[ApiTokenRef] | None:
        principal = info.context.principal
        if not principal.may(Permission.ADMIN) and principal.user_id != self.row.id:
            return None
        relation = tenant_reads.tokens_of_user(info.context.tenant_id)
        return await connect_children(info, view("ApiToken"), relation, self.row.id, page(first, after))
