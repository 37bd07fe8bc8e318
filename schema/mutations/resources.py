"""Mutations of recorded resources."""

from __future__ import annotations

import strawberry

from app.db.uow import Transaction
from app.services import resources
from schema.context import Info
from schema.fields import described
from schema.nodes import number_in
from schema.payloads import ResourcePayload, mutate

_RESOURCE = "CloudResource"


@strawberry.input(description="A field that is left out or null stays as it is.")
class UpdateCloudResourceInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int
    name: str | None = None
    retain: bool | None = strawberry.field(default=None, description="A plan that no longer names it lets it go.")
    prevent_destroy: bool | None = strawberry.field(default=None, description="A plan that would delete it is refused.")


@strawberry.input
class DetachCloudResourceInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int | None = None


@strawberry.type
class ResourceMutations:
    @described("What is noted about a resource. What it is, plans change.")
    async def update_cloud_resource(self, info: Info, input: UpdateCloudResourceInput) -> ResourcePayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = resources.UpdateResource(
                id=number_in(input.id, _RESOURCE),
                expected_version=input.expected_version,
                name=input.name,
                retain=input.retain,
                prevent_destroy=input.prevent_destroy,
            )
            row = await resources.update(transaction, info.context.principal, command)
            return {"cloud_resource": row.id}

        return await mutate(info, ResourcePayload, "updateCloudResource", input, verb)

    @described("Forgets a resource without touching it: it goes on existing, and is no longer ours.")
    async def detach_cloud_resource(self, info: Info, input: DetachCloudResourceInput) -> ResourcePayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = resources.DetachResource(number_in(input.id, _RESOURCE), input.expected_version)
            row = await resources.detach(transaction, info.context.principal, command)
            return {"cloud_resource": row.id}

        return await mutate(info, ResourcePayload, "detachCloudResource", input, verb)
