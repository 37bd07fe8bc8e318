"""Mutations of the tenant, the people in it, and their tokens."""

from __future__ import annotations

from datetime import datetime

import strawberry

from app.db.uow import Transaction
from app.services import sessions, tenants, tokens, users
from app.services.limits import SetLimits, set_limits
from schema.context import Info
from schema.enums import Permission, Role
from schema.fields import described
from schema.nodes import number_in
from schema.payloads import ApiTokenPayload, DeletedPayload, TenantPayload, UserPayload, mutate

_USER, _TOKEN = "User", "ApiToken"


@strawberry.input(description="A limit that is left out or null stays as it is.")
class TenantLimitsInput:
    max_running_jobs: int | None = strawberry.field(default=None, description="How many may be under way.")
    max_queued_jobs: int | None = strawberry.field(default=None, description="How many may wait.")
    max_resources: int | None = strawberry.field(
        default=None, description="How many resources may be there. Without one, as many as are wanted."
    )
    max_plans: int | None = strawberry.field(
        default=None, description="How many plans may not be over. Without one, as many as are wanted."
    )


@strawberry.input
class UpdateTenantInput:
    idempotency_key: str
    name: str
    expected_version: int
    limits: TenantLimitsInput | None = None


@strawberry.input
class CreateUserInput:
    idempotency_key: str
    email: str
    display_name: str
    role: Role | None = strawberry.field(default=None, description="None that allows more than you may.")
    custom_role_id: strawberry.ID | None = strawberry.field(default=None, description="In place of `role`.")


@strawberry.input(description="A field that is left out or null stays as it is.")
class UpdateUserInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int
    display_name: str | None = None
    role: Role | None = strawberry.field(default=None, description="None that allows more than you may.")
    custom_role_id: strawberry.ID | None = strawberry.field(default=None, description="In place of `role`.")


@strawberry.input
class DeleteUserInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int | None = None


@strawberry.input
class CreateApiTokenInput:
    idempotency_key: str
    name: str
    user_id: strawberry.ID | None = strawberry.field(
        default=None, description="Whose, of a user or a service account; the viewer's own by default."
    )
    scopes: list[Permission] | None = strawberry.field(default=None, description="All that the role allows by default.")
    expires_at: datetime | None = strawberry.field(default=None, description="In 90 days by default, a year at most.")
    custom_role_id: strawberry.ID | None = strawberry.field(
        default=None, description="Narrows it further, to what the role says whenever it is used."
    )


@strawberry.input
class RevokeApiTokenInput:
    idempotency_key: str
    id: strawberry.ID


@strawberry.input
class InviteUserInput:
    idempotency_key: str
    user_id: strawberry.ID


@strawberry.type
class TenantMutations:
    @strawberry.mutation
    async def update_tenant(self, info: Info, input: UpdateTenantInput) -> TenantPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = tenants.RenameTenant(input.name, input.expected_version)
            tenant = await tenants.rename(transaction, info.context.principal, command)
            if input.limits is not None:
                wanted = input.limits
                given = SetLimits(
                    wanted.max_running_jobs, wanted.max_queued_jobs, wanted.max_resources, wanted.max_plans
                )
                await set_limits(transaction, info.context.principal, given)
            return {"tenant": tenant.id}

        return await mutate(info, TenantPayload, "updateTenant", input, verb)

    @strawberry.mutation
    async def create_user(self, info: Info, input: CreateUserInput) -> UserPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = users.CreateUser(input.email, input.display_name, input.role, _role_in(input.custom_role_id))
            return {"user": (await users.create(transaction, info.context.principal, command)).id}

        return await mutate(info, UserPayload, "createUser", input, verb)

    @strawberry.mutation
    async def update_user(self, info: Info, input: UpdateUserInput) -> UserPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            number = number_in(input.id, _USER)
            command = users.UpdateUser(
                number, input.expected_version, input.display_name, input.role, _role_in(input.custom_role_id)
            )
            return {"user": (await users.update(transaction, info.context.principal, command)).id}

        return await mutate(info, UserPayload, "updateUser", input, verb)

    @described("Their tokens are revoked; what they did stays theirs.")
    async def delete_user(self, info: Info, input: DeleteUserInput) -> DeletedPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = users.DeleteUser(number_in(input.id, _USER), input.expected_version)
            await users.delete(transaction, info.context.principal, command)
            return {}

        return await mutate(info, DeletedPayload, "deleteUser", input, verb, deleted_id=input.id)

    @described("The token's text is in this answer and nowhere else; a replayed key does not show it again.")
    async def create_api_token(self, info: Info, input: CreateApiTokenInput) -> ApiTokenPayload:
        shown: list[str] = []

        async def verb(transaction: Transaction) -> dict[str, int | None]:
            owner = None if input.user_id is None else _owner_in(input.user_id)
            command = tokens.IssueToken(
                input.name, owner, input.scopes, input.expires_at, _role_in(input.custom_role_id)
            )
            issued = await tokens.issue(transaction, info.context.principal, command)
            shown.append(issued.text)
            return {"api_token": issued.row.id}

        return _showing(await mutate(info, ApiTokenPayload, "createApiToken", input, verb), shown)

    @described(
        "Lets somebody set a password, once, within three days: POST /auth/password. Its text is in this answer and"
        " nowhere else; it is for the administrator to hand over."
    )
    async def invite_user(self, info: Info, input: InviteUserInput) -> ApiTokenPayload:
        shown: list[str] = []

        async def verb(transaction: Transaction) -> dict[str, int | None]:
            issued = await sessions.invite(transaction, info.context.principal, number_in(input.user_id, _USER))
            shown.append(issued.text)
            return {"api_token": issued.row.id}

        return _showing(await mutate(info, ApiTokenPayload, "inviteUser", input, verb), shown)

    @strawberry.mutation
    async def revoke_api_token(self, info: Info, input: RevokeApiTokenInput) -> ApiTokenPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = tokens.RevokeToken(number_in(input.id, _TOKEN))
            return {"api_token": (await tokens.revoke(transaction, info.context.principal, command)).id}

        return await mutate(info, ApiTokenPayload, "revokeApiToken", input, verb)


def _owner_in(given: strawberry.ID) -> int:
    return number_in(given, _USER) or number_in(given, "ServiceAccount")


def _role_in(given: strawberry.ID | None) -> int | None:
    return None if given is None else number_in(given, "CustomRole")


def _showing(payload: ApiTokenPayload, shown: list[str]) -> ApiTokenPayload:
    if payload.api_token is not None and shown:
        payload.text = shown[0]
    return payload
