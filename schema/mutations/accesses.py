"""Mutations of platform administrators' accesses: a tenant can end them, and open none."""

from __future__ import annotations

import strawberry

from app.db.uow import Transaction
from app.services import accesses
from schema.context import Info
from schema.fields import described
from schema.nodes import number_in
from schema.payloads import PlatformAccessPayload, mutate


@strawberry.input
class EndPlatformAccessInput:
    idempotency_key: str
    id: strawberry.ID


@strawberry.type
class AccessMutations:
    @described("Within a second, on live connections too. One that is over stays as it is.")
    async def end_platform_access(self, info: Info, input: EndPlatformAccessInput) -> PlatformAccessPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            number = number_in(input.id, "PlatformAccess")
            return {"platform_access": (await accesses.end(transaction, info.context.principal, number)).id}

        return await mutate(info, PlatformAccessPayload, "endPlatformAccess", input, verb)
