# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""API tokens, without what makes them work: the secret is shown once, by the mutation that makes it."""

from __future__ import annotations

from datetime import datetime

import strawberry

from app.db import models
from app.domain.enums import Permission, TokenKind
from schema.context import Info
from schema.fields import computed, described
from schema.nodes import Node, load
from schema.types.references import CustomRoleRef, UserRef


@strawberry.type(description="A credential of a user.")
class ApiToken(Node):
    row: strawberry.Private[models.ApiToken]

    @described("A session is a browser that somebody has logged in with; an invitation lets them set a password, once.")
    def kind(self) -> TokenKind:
        return self.row.kind

    @strawberry.field
    def name(self) -> str:
        return self.row.name

    @strawberry.field
    async def user(self, info: Info) -> UserRef | None:
        return await load(info.context.loaders.actor, self.row.user_id, "User")

    @computed("scopes", "What the token narrows its user's permissions to.")
    def scopes(self) -> list[Permission]:
        return [permission for permission in Permission if permission.value in self.row.scopes]

    @described("Narrows it further, to what the role says now.")
    async def custom_role(self, info: Info) -> CustomRoleRef | None:
        return await load(info.context.loaders.role, self.row.custom_role_id, "CustomRole")

    @strawberry.field
    def created_at(self) -> datetime:
        return self.row.created_at

    @strawberry.field
    def expires_at(self) -> datetime:
        return self.row.expires_at

    @strawberry.field
    def last_used_at(self) -> datetime | None:
        return self.row.last_used_at

    @strawberry.field
    def revoked_at(self) -> datetime | None:
        return self.row.revoked_at
