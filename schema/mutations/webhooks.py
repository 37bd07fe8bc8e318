"""Mutations of webhooks."""

from __future__ import annotations

from datetime import datetime, timedelta

import strawberry

from app.db.uow import Transaction
from app.services import webhooks
from schema.context import Info
from schema.fields import described
from schema.nodes import number_in
from schema.payloads import DeletedPayload, WebhookPayload, WebhookSecretPayload, mutate
from schema.scalars import Cursor, Duration
from schema.selections import faults_of

_WEBHOOK, _DELIVERY = "Webhook", "WebhookDelivery"
_SELECTION = """What is asked of each event: a selection on Event, `{ seq ... on JobStatusChanged { jobStatus } }`.
A fault in it is named by its line and column: path [selection, 2, 14]."""
_URL = "https, on port 443, on the public internet, unless the installation allows more."


@strawberry.input
class CreateWebhookInput:
    idempotency_key: str
    name: str
    url: str = strawberry.field(description=_URL)
    types: list[str] | None = strawberry.field(
        default=None, description="Kinds of events, such as JobStatusChanged. None: all."
    )
    selection: str | None = strawberry.field(default=None, description=_SELECTION)


@strawberry.input(
    description="A field that is left out or null stays as it is. No types: all events; an empty selection: none."
)
class UpdateWebhookInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int
    name: str | None = None
    url: str | None = None
    types: list[str] | None = None
    selection: str | None = strawberry.field(default=None, description=_SELECTION)
    paused: bool | None = strawberry.field(
        default=None, description="False also tries again at once what failed, with all patience."
    )


@strawberry.input
class RotateWebhookSecretInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int | None = None
    grace: Duration | None = strawberry.field(
        default=None, description="How long the old secret signs, too; a day by default, seven at most."
    )


@strawberry.input
class DeleteWebhookInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int | None = None


@strawberry.input
class TestWebhookInput:
    idempotency_key: str
    id: strawberry.ID


@strawberry.input(description="Either `after` or `from`.")
class ReplayWebhookInput:
    idempotency_key: str
    id: strawberry.ID
    after: Cursor | None = strawberry.field(default=None, description="A cursor of the tenant's feed, as in messages.")
    from_: datetime | None = strawberry.field(default=None, name="from")


@strawberry.input
class RedeliverWebhookInput:
    idempotency_key: str
    delivery_id: strawberry.ID


@strawberry.type
class WebhookMutations:
    @described("It is told of what happens from now on. The secret is in this answer and nowhere else.")
    async def create_webhook(self, info: Info, input: CreateWebhookInput) -> WebhookSecretPayload:
        shown: list[str] = []

        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = webhooks.CreateWebhook(input.name, input.url, input.types or (), input.selection)
            issued = await webhooks.create(transaction, info.context.principal, command, _tools(info))
            shown.append(issued.secret)
            return {"webhook": issued.row.id}

        return _showing(await mutate(info, WebhookSecretPayload, "createWebhook", input, verb), shown)

    @described("Changes a webhook, pauses it, or lets it go on where it stopped.")
    async def update_webhook(self, info: Info, input: UpdateWebhookInput) -> WebhookPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = webhooks.UpdateWebhook(
                number_in(input.id, _WEBHOOK),
                input.expected_version,
                input.name,
                input.url,
                input.types,
                input.selection,
                input.paused,
            )
            row = await webhooks.update(transaction, info.context.principal, command, _tools(info))
            return {"webhook": row.id}

        return await mutate(info, WebhookPayload, "updateWebhook", input, verb)

    @described("The new secret is in this answer and nowhere else; the old one signs beside it for a while.")
    async def rotate_webhook_secret(self, info: Info, input: RotateWebhookSecretInput) -> WebhookSecretPayload:
        shown: list[str] = []

        async def verb(transaction: Transaction) -> dict[str, int | None]:
            grace = None if input.grace is None else timedelta(seconds=input.grace)
            command = webhooks.RotateSecret(number_in(input.id, _WEBHOOK), input.expected_version, grace)
            issued = await webhooks.rotate(transaction, info.context.principal, command, _tools(info))
            shown.append(issued.secret)
            return {"webhook": issued.row.id}

        return _showing(await mutate(info, WebhookSecretPayload, "rotateWebhookSecret", input, verb), shown)

    @strawberry.mutation
    async def delete_webhook(self, info: Info, input: DeleteWebhookInput) -> DeletedPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            number = number_in(input.id, _WEBHOOK)
            await webhooks.delete(transaction, info.context.principal, number, input.expected_version)
            return {}

        return await mutate(info, DeletedPayload, "deleteWebhook", input, verb, deleted_id=input.id)

    @described("Sends a ping, once, also while the webhook is paused. `delivery` says what became of it.")
    async def test_webhook(self, info: Info, input: TestWebhookInput) -> WebhookPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            number = number_in(input.id, _WEBHOOK)
            row = await webhooks.ping(transaction, info.context.principal, number)
            return {"webhook": number, "delivery": row.id}

        return await mutate(info, WebhookPayload, "testWebhook", input, verb)

    @described("Sends again, in order and under the same ids, what followed a place in the tenant's feed.")
    async def replay_webhook(self, info: Info, input: ReplayWebhookInput) -> WebhookPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = webhooks.ReplayWebhook(number_in(input.id, _WEBHOOK), input.after, input.from_)
            return {"webhook": (await webhooks.replay(transaction, info.context.principal, command)).id}

        return await mutate(info, WebhookPayload, "replayWebhook", input, verb)

    @described("Sends one message again, once, under its id, whatever else is due.")
    async def redeliver_webhook(self, info: Info, input: RedeliverWebhookInput) -> WebhookPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            number = number_in(input.delivery_id, _DELIVERY)
            row = await webhooks.redeliver(transaction, info.context.principal, number)
            return {"webhook": row.endpoint_id, "delivery": row.id}

        return await mutate(info, WebhookPayload, "redeliverWebhook", input, verb)


def _tools(info: Info) -> webhooks.Tools:
    return webhooks.Tools(info.context.sealer, info.context.services.egress, faults_of)


def _showing(payload: WebhookSecretPayload, shown: list[str]) -> WebhookSecretPayload:
    if payload.webhook is not None and shown:
        payload.secret = shown[0]
    return payload
