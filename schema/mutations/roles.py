"""Mutations of roles that the tenant names."""

from __future__ import annotations

import strawberry

from app.db.uow import Transaction
from app.services import roles
from schema.context import Info
from schema.enums import Permission
from schema.fields import described
from schema.nodes import number_in
from schema.payloads import DeletedPayload, RolePayload, mutate

_ROLE = "CustomRole"


@strawberry.input
class CreateRoleInput:
    idempotency_key: str
    name: str
    permissions: list[Permission] = strawberry.field(description="None that you lack.")
    description: str | None = None


@strawberry.input(description="A field that is left out or null stays as it is; an empty description takes it away.")
class UpdateRoleInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int
    name: str | None = None
    permissions: list[Permission] | None = strawberry.field(
        default=None, description="All of them; none that you lack."
    )
    description: str | None = None


@strawberry.input
class DeleteRoleInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int | None = None


@strawberry.type
class RoleMutations:
    @strawberry.mutation
    async def create_role(self, info: Info, input: CreateRoleInput) -> RolePayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = roles.CreateRole(input.name, input.permissions, input.description)
            return {"role": (await roles.create(transaction, info.context.principal, command)).id}

        return await mutate(info, RolePayload, "createRole", input, verb)

    @described("Within a second everybody who has the role may do what it says now, on live connections too.")
    async def update_role(self, info: Info, input: UpdateRoleInput) -> RolePayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            number = number_in(input.id, _ROLE)
            command = roles.UpdateRole(number, input.expected_version, input.name, input.permissions, input.description)
            return {"role": (await roles.update(transaction, info.context.principal, command)).id}

        return await mutate(info, RolePayload, "updateRole", input, verb)

    @described("Refused while a user, or a token that is still good, has it.")
    async def delete_role(self, info: Info, input: DeleteRoleInput) -> DeletedPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            number = number_in(input.id, _ROLE)
            await roles.delete(transaction, info.context.principal, number, input.expected_version)
            return {}

        return await mutate(info, DeletedPayload, "deleteRole", input, verb, deleted_id=input.id)
