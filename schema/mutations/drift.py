"""Mutations about how resources really are."""

from __future__ import annotations

from datetime import datetime

import strawberry

from app.db.uow import Transaction
from app.services import attention, drift
from schema.context import Info
from schema.enums import ResourceDecision
from schema.fields import described
from schema.nodes import number_in
from schema.payloads import ResourcePayload, mutate

_RESOURCE = "CloudResource"


@strawberry.input
class RefreshResourceInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int | None = None


@strawberry.input
class ResolveResourceInput:
    idempotency_key: str
    id: strawberry.ID
    action: ResourceDecision
    external_id: str | None = strawberry.field(
        default=None,
        description="For ADOPT: the provider's own identity of what is there. Null: what the operation has made.",
    )
    expected_version: int | None = None


@strawberry.input
class AcceptDriftInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int | None = None


@strawberry.input
class IgnoreDriftInput:
    idempotency_key: str
    id: strawberry.ID
    path: list[str]
    reason: str
    expires_at: datetime | None = strawberry.field(default=None, description="From then on they count; null for never.")
    expected_version: int | None = None


@strawberry.input
class HeedDriftInput:
    idempotency_key: str
    id: strawberry.ID
    path: list[str]
    expected_version: int | None = None


@strawberry.input
class ImportResourceInput:
    idempotency_key: str
    type: str
    provider: str
    external_id: str = strawberry.field(description="The provider's own identity of it.")
    name: str = strawberry.field(description="Its name and its key in the stack.")
    plan_id: strawberry.ID | None = strawberry.field(default=None, description="The plan that it belongs to.")
    stack: str | None = strawberry.field(default=None, description="By default the plan's, or else its name.")
    connection: str | None = None


@strawberry.type
class DriftMutations:
    @described(
        "Has the resource looked at as it is outside, as soon as no job works on its stack. One that is UNKNOWN is"
        " settled by what is found."
    )
    async def refresh_resource(self, info: Info, input: RefreshResourceInput) -> ResourcePayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = drift.OfResource(number_in(input.id, _RESOURCE), input.expected_version)
            row = await drift.refresh(transaction, info.context.principal, command)
            return {"cloud_resource": row.id}

        return await mutate(info, ResourcePayload, "refreshResource", input, verb)

    @described(
        "Decides about a resource of which nobody knows what became of it. ADOPT takes what is there, as soon as a"
        " worker has read it; ABANDON gives it up, so that it may exist and is no longer ours; RETRY lets the next plan"
        " bring it about anew, whatever there may be."
    )
    async def resolve_resource(self, info: Info, input: ResolveResourceInput) -> ResourcePayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = attention.ResolveResource(
                number_in(input.id, _RESOURCE), input.expected_version, input.action, input.external_id
            )
            row = await attention.resolve(transaction, info.context.principal, command, info.context.dependencies)
            return {"cloud_resource": row.id}

        return await mutate(info, ResourcePayload, "resolveResource", input, verb)

    @described("Lets what was found be what is wanted, until a plan says otherwise.")
    async def accept_drift(self, info: Info, input: AcceptDriftInput) -> ResourcePayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = drift.OfResource(number_in(input.id, _RESOURCE), input.expected_version)
            row = await drift.accept(transaction, info.context.principal, command, info.context.dependencies)
            return {"cloud_resource": row.id}

        return await mutate(info, ResourcePayload, "acceptDrift", input, verb)

    @described("Differences at the path and below it no longer count.")
    async def ignore_drift(self, info: Info, input: IgnoreDriftInput) -> ResourcePayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = drift.IgnoreDrift(
                number_in(input.id, _RESOURCE),
                input.expected_version,
                path=tuple(input.path),
                reason=input.reason,
                expires_at=input.expires_at,
            )
            row = await drift.ignore(transaction, info.context.principal, command)
            return {"cloud_resource": row.id}

        return await mutate(info, ResourcePayload, "ignoreDrift", input, verb)

    @described("Differences at the path count again.")
    async def heed_drift(self, info: Info, input: HeedDriftInput) -> ResourcePayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = drift.HeedDrift(number_in(input.id, _RESOURCE), input.expected_version, path=tuple(input.path))
            row = await drift.heed(transaction, info.context.principal, command)
            return {"cloud_resource": row.id}

        return await mutate(info, ResourcePayload, "heedDrift", input, verb)

    @described(
        "Manages what exists already: it is IMPORTING until a worker has read it, then ACTIVE, or else DETACHED."
    )
    async def import_resource(self, info: Info, input: ImportResourceInput) -> ResourcePayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = drift.ImportResource(
                type=input.type,
                provider=input.provider,
                external_id=input.external_id,
                name=input.name,
                plan_id=None if input.plan_id is None else number_in(input.plan_id, "DeploymentPlan"),
                stack=input.stack,
                connection=input.connection,
            )
            row = await drift.import_resource(transaction, info.context.principal, command, info.context.dependencies)
            return {"cloud_resource": row.id}

        return await mutate(info, ResourcePayload, "importResource", input, verb)
