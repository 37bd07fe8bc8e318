"""Mutations of service accounts, and of the tokens that they live by."""

from __future__ import annotations

from datetime import timedelta

import strawberry

from app.db.uow import Transaction
from app.services import rotating, service_accounts
from schema.context import Info
from schema.enums import Role
from schema.fields import described
from schema.nodes import number_in
from schema.payloads import ApiTokenPayload, DeletedPayload, ServiceAccountPayload, mutate

_ACCOUNT = "ServiceAccount"
_MAY_APPROVE = "Whether it may approve what others ask for, where its role allows that."


@strawberry.input
class CreateServiceAccountInput:
    idempotency_key: str
    name: str
    role: Role | None = strawberry.field(default=None, description="None that allows more than you may.")
    custom_role_id: strawberry.ID | None = strawberry.field(default=None, description="In place of `role`.")
    may_approve: bool = strawberry.field(default=False, description=_MAY_APPROVE)


@strawberry.input(description="A field that is left out or null stays as it is.")
class UpdateServiceAccountInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int
    name: str | None = None
    role: Role | None = strawberry.field(default=None, description="None that allows more than you may.")
    custom_role_id: strawberry.ID | None = strawberry.field(default=None, description="In place of `role`.")
    may_approve: bool | None = strawberry.field(default=None, description=_MAY_APPROVE)


@strawberry.input
class DeleteServiceAccountInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int | None = None


@strawberry.input
class RotateApiTokenInput:
    idempotency_key: str
    id: strawberry.ID
    grace_seconds: int = strawberry.field(
        default=0, description="How long the old one works on: until everything has the new one. A week at most."
    )


@strawberry.type
class ServiceAccountMutations:
    @described("It has no token yet: createApiToken(userId:) makes one.")
    async def create_service_account(self, info: Info, input: CreateServiceAccountInput) -> ServiceAccountPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = service_accounts.CreateServiceAccount(
                input.name, input.role, _role_in(input.custom_role_id), input.may_approve
            )
            made = await service_accounts.create(transaction, info.context.principal, command)
            return {"service_account": made.id}

        return await mutate(info, ServiceAccountPayload, "createServiceAccount", input, verb)

    @strawberry.mutation
    async def update_service_account(self, info: Info, input: UpdateServiceAccountInput) -> ServiceAccountPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = service_accounts.UpdateServiceAccount(
                number_in(input.id, _ACCOUNT),
                input.expected_version,
                input.name,
                input.role,
                _role_in(input.custom_role_id),
                input.may_approve,
            )
            changed = await service_accounts.update(transaction, info.context.principal, command)
            return {"service_account": changed.id}

        return await mutate(info, ServiceAccountPayload, "updateServiceAccount", input, verb)

    @described("Its tokens are revoked; what it did stays its own.")
    async def delete_service_account(self, info: Info, input: DeleteServiceAccountInput) -> DeletedPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            number = number_in(input.id, _ACCOUNT)
            await service_accounts.delete(transaction, info.context.principal, number, input.expected_version)
            return {}

        return await mutate(info, DeletedPayload, "deleteServiceAccount", input, verb, deleted_id=input.id)

    @described(
        "Another token in place of this one, which does the same for as long. Its text is in this answer and nowhere"
        " else; a replayed key does not show it again."
    )
    async def rotate_api_token(self, info: Info, input: RotateApiTokenInput) -> ApiTokenPayload:
        shown: list[str] = []

        async def verb(transaction: Transaction) -> dict[str, int | None]:
            # What is too long for a timedelta is too long.
            grace = timedelta(seconds=max(-1, min(input.grace_seconds, 10**8)))
            command = rotating.RotateToken(number_in(input.id, "ApiToken"), grace)
            issued = await rotating.rotate(transaction, info.context.principal, command)
            shown.append(issued.text)
            return {"api_token": issued.row.id}

        payload = await mutate(info, ApiTokenPayload, "rotateApiToken", input, verb)
        if payload.api_token is not None and shown:
            payload.text = shown[0]
        return payload


def _role_in(given: strawberry.ID | None) -> int | None:
    return None if given is None else number_in(given, "CustomRole")
