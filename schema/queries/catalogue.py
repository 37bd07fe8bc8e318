"""What this installation can deploy."""

from __future__ import annotations

import strawberry
from strawberry.scalars import JSON

from app.providers.base import ResourceType as OfferedType
from schema.context import Info
from schema.fields import described
from schema.scalars import required_json_of


@strawberry.type(description="One kind of resource that templates may use.")
class ResourceType:
    offered: strawberry.Private[OfferedType]

    @described("e.g. postgres.role")
    def name(self) -> str:
        return self.offered.name

    @strawberry.field
    def provider(self) -> str:
        return self.offered.name.partition(".")[0]

    @described("JSON Schema of its properties.")
    def schema(self) -> JSON:
        return required_json_of(self.offered.schema)

    @described("JSON Schema of its outputs.")
    def outputs_schema(self) -> JSON:
        return required_json_of(self.offered.outputs_schema)

    @described("What can be done with it beside creating, updating and deleting.")
    def actions(self) -> list[str]:
        return sorted(self.offered.actions)


@strawberry.type
class CatalogueQueries:
    @described("By name.")
    def resource_types(self, info: Info) -> list[ResourceType]:
        return [ResourceType(offered=offered) for offered in info.context.catalogue.resources()]
