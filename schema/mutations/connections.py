"""Mutations of provider connections."""

from __future__ import annotations

import strawberry
from strawberry.scalars import JSON

from app.db.uow import Transaction
from app.services import connections
from schema.context import Info
from schema.fields import described
from schema.nodes import number_in
from schema.payloads import ConnectionPayload, DeletedPayload, mapping, mutate

_CONNECTION = "ProviderConnection"


@strawberry.input
class CreateConnectionInput:
    idempotency_key: str
    name: str
    provider: str
    config: JSON = strawberry.field(description="As the provider asks for it. What is secret is never shown again.")
    is_default: bool = False


@strawberry.input(description="A field that is left out or null stays as it is; config is replaced as a whole.")
class UpdateConnectionInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int
    config: JSON | None = None
    is_default: bool | None = None


@strawberry.input
class DeleteConnectionInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int | None = None


@strawberry.type
class ConnectionMutations:
    @described("How resources of a provider are reached.")
    async def create_connection(self, info: Info, input: CreateConnectionInput) -> ConnectionPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            config = mapping(input.config, "config") or {}
            command = connections.CreateConnection(input.name, input.provider, config, input.is_default)
            context = info.context
            row = await connections.create(transaction, context.principal, command, context.dependencies)
            return {"connection": row.id}

        return await mutate(info, ConnectionPayload, "createConnection", input, verb)

    @strawberry.mutation
    async def update_connection(self, info: Info, input: UpdateConnectionInput) -> ConnectionPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = connections.UpdateConnection(
                id=number_in(input.id, _CONNECTION),
                expected_version=input.expected_version,
                config=mapping(input.config, "config"),
                is_default=input.is_default,
            )
            context = info.context
            row = await connections.update(transaction, context.principal, command, context.dependencies)
            return {"connection": row.id}

        return await mutate(info, ConnectionPayload, "updateConnection", input, verb)

    @described("Refused while resources are reached through it.")
    async def delete_connection(self, info: Info, input: DeleteConnectionInput) -> DeletedPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = connections.DeleteConnection(number_in(input.id, _CONNECTION), input.expected_version)
            await connections.delete(transaction, info.context.principal, command)
            return {}

        return await mutate(info, DeletedPayload, "deleteConnection", input, verb, deleted_id=input.id)
