"""Roles that a tenant names itself."""

from __future__ import annotations

import strawberry

from app.db import models
from app.domain.enums import Permission
from schema.fields import computed
from schema.types.entities import Entity


@strawberry.type(description="A role that the tenant has named: a set of permissions, in place of a built-in role.")
class CustomRole(Entity):
    row: strawberry.Private[models.CustomRole]

    @strawberry.field
    def name(self) -> str:
        return self.row.name

    @strawberry.field
    def description(self) -> str | None:
        return self.row.description

    @computed("permissions", "What whoever has it may do.")
    def permissions(self) -> list[Permission]:
        return [permission for permission in Permission if permission.value in self.row.permissions]
