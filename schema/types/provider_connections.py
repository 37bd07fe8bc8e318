# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""How to reach outside systems, without what is secret about it."""

from __future__ import annotations

import strawberry
from strawberry.scalars import JSON

from app.db import models
from schema.context import Info
from schema.fields import described
from schema.nodes import load
from schema.scalars import required_json_of
from schema.types.entities import Entity
from schema.types.references import TenantRef


@strawberry.type(description="How to reach one outside system.")
class ProviderConnection(Entity):
    row: strawberry.Private[models.ProviderConnection]

    @strawberry.field
    def name(self) -> str:
        return self.row.name

    @strawberry.field
    def provider(self) -> str:
        return self.row.provider

    @described("Used where a resource of this provider names no connection.")
    def is_default(self) -> bool:
        return self.row.is_default

    @described('Secret values show as {"$sensitive": true}.')
    def config(self) -> JSON:
        return required_json_of(self.row.config)

    @strawberry.field
    async def tenant(self, info: Info) -> TenantRef | None:
        return await load(info.context.loaders.tenant, self.row.tenant_id, "Tenant")
