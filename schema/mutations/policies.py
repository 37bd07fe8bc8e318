"""Mutations of policies."""

from __future__ import annotations

import strawberry

from app.db.uow import Transaction
from app.domain.enums import PolicyLevel, PolicySubject
from app.services import policies
from schema.context import Info
from schema.fields import described
from schema.nodes import number_in
from schema.payloads import DeletedPayload, PolicyPayload, mutate

_POLICY = "Policy"
_REQUIRE = "What has to be true, one expression: ${change.action != 'DELETE'}."
_WHEN = "What the policy speaks of, one expression; left out: of everything."
_MESSAGE = "What whoever breaks it is told; expressions in it are evaluated."


@strawberry.input
class CreatePolicyInput:
    idempotency_key: str
    name: str
    level: PolicyLevel
    subject: PolicySubject
    require: str = strawberry.field(description=_REQUIRE)
    when: str | None = strawberry.field(default=None, description=_WHEN)
    message: str | None = strawberry.field(default=None, description=_MESSAGE)
    description: str | None = None
    time_zone: str = "UTC"
    enabled: bool = True


@strawberry.input(
    description="A field that is left out or null stays as it is; an empty text takes away what may be left out."
)
class UpdatePolicyInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int
    name: str | None = None
    level: PolicyLevel | None = None
    require: str | None = strawberry.field(default=None, description=_REQUIRE)
    when: str | None = strawberry.field(default=None, description=_WHEN)
    message: str | None = strawberry.field(default=None, description=_MESSAGE)
    description: str | None = None
    time_zone: str | None = None
    enabled: bool | None = None


@strawberry.input
class DeletePolicyInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int | None = None


@strawberry.type
class PolicyMutations:
    @described("Every plan that is worked out from now on is judged by it; those that wait, when they are to run.")
    async def create_policy(self, info: Info, input: CreatePolicyInput) -> PolicyPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = policies.CreatePolicy(
                name=input.name,
                level=input.level,
                subject=input.subject,
                require=input.require,
                when=input.when,
                message=input.message,
                description=input.description,
                time_zone=input.time_zone,
                enabled=input.enabled,
            )
            return {"policy": (await policies.create(transaction, info.context.principal, command)).id}

        return await mutate(info, PolicyPayload, "createPolicy", input, verb)

    @described("What it speaks of, plans or changes, stays: make another one for that.")
    async def update_policy(self, info: Info, input: UpdatePolicyInput) -> PolicyPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = policies.UpdatePolicy(
                id=number_in(input.id, _POLICY),
                expected_version=input.expected_version,
                name=input.name,
                level=input.level,
                require=input.require,
                when=input.when,
                message=input.message,
                description=input.description,
                time_zone=input.time_zone,
                enabled=input.enabled,
            )
            return {"policy": (await policies.update(transaction, info.context.principal, command)).id}

        return await mutate(info, PolicyPayload, "updatePolicy", input, verb)

    @strawberry.mutation
    async def delete_policy(self, info: Info, input: DeletePolicyInput) -> DeletedPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            number = number_in(input.id, _POLICY)
            await policies.delete(transaction, info.context.principal, number, input.expected_version)
            return {}

        return await mutate(info, DeletedPayload, "deletePolicy", input, verb, deleted_id=input.id)
