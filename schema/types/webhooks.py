# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""Webhooks and what they were sent, without the secrets that they are signed with."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlsplit

import strawberry

from app.db import models
from app.db.feed import Position
from app.domain.enums import Permission
from app.domain.webhooks import DeliverySource, DeliveryStatus, WebhookReason, WebhookStatus
from app.reads import webhooks as reads
from schema.connections import Connection, connect_children
from schema.context import Info
from schema.fields import computed, described
from schema.nodes import Node, load, view
from schema.scalars import Cursor
from schema.types.entities import Entity, actor_of
from schema.types.filters import page
from schema.types.references import ActorRef, WebhookDeliveryRef, WebhookRef

for _kind, _description in (
    (WebhookStatus, "FAILING: the last attempt failed, and it is tried again after a pause."),
    (WebhookReason, "Why a webhook is paused: by a person, by 410 Gone, or because nothing arrived for three days."),
    (DeliverySource, "Whether an attempt told of an event in its turn, or was asked for."),
    (DeliveryStatus, "What became of an attempt. PENDING: asked for, and not made yet."),
):
    strawberry.enum(_kind, description=_description)


@strawberry.input
class WebhookFilter:
    status: list[WebhookStatus] | None = None


@strawberry.type(description="Where events of the tenant are sent, one after the other, in the order of its feed.")
class Webhook(Entity):
    row: strawberry.Private[models.WebhookEndpoint]

    @strawberry.field
    def name(self) -> str:
        return self.row.name

    @computed("url", "Administrators see all of it, others the server: a path may be as good as a password.")
    def url(self, info: Info) -> str:
        if info.context.principal.may(Permission.ADMIN):
            return self.row.url
        parts = urlsplit(self.row.url)
        return f"{parts.scheme}://{parts.netloc}/…"

    @computed("event_types", "The kinds of events that are sent; none: all.")
    def types(self) -> list[str]:
        return self.row.event_types

    @described("What is asked of each event. Null: all that it says itself.")
    def selection(self) -> str | None:
        return self.row.selection

    @strawberry.field
    def status(self) -> WebhookStatus:
        return self.row.status

    @strawberry.field
    def status_reason(self) -> WebhookReason:
        return self.row.status_reason

    @computed(
        "feed feed_stream feed_stream_id feed_seq",
        "Its place in the tenant's feed: everything before was delivered or not asked for.",
    )
    def cursor(self) -> Cursor:
        row = self.row
        return Cursor(Position(row.feed, row.feed_stream, row.feed_stream_id, row.feed_seq).encode())

    @described("Failed attempts since the last delivery.")
    def failures(self) -> int:
        return self.row.failures

    @strawberry.field
    def failing_since(self) -> datetime | None:
        return self.row.failing_since

    @strawberry.field
    def next_attempt_at(self) -> datetime | None:
        return self.row.next_attempt_at

    @described("What was wrong with the last attempt; null after a delivery.")
    def last_error(self) -> str | None:
        return self.row.last_error

    @described("When an event last arrived.")
    def delivered_at(self) -> datetime | None:
        return self.row.delivered_at

    @described("Until when messages carry a signature with the secret before this one, too.")
    def previous_secret_until(self) -> datetime | None:
        return self.row.previous_until

    @described("The attempts, newest first. The last thousand are kept.")
    async def deliveries(
        self,
        info: Info,
        status: list[DeliveryStatus] | None = None,
        first: int = 20,
        after: Cursor | None = None,
    ) -> Connection[WebhookDeliveryRef]:
        wanted = None if status is None else tuple(sorted(set(status)))
        relation = reads.deliveries(info.context.tenant_id, wanted)
        return await connect_children(info, view("WebhookDelivery"), relation, self.row.id, page(first, after))


@strawberry.type(description="One attempt to deliver one message.")
class WebhookDelivery(Node):
    row: strawberry.Private[models.WebhookDelivery]

    @strawberry.field
    async def webhook(self, info: Info) -> WebhookRef | None:
        return await load(info.context.loaders.webhook, self.row.endpoint_id, "Webhook")

    @strawberry.field
    def source(self) -> DeliverySource:
        return self.row.source

    @described("As in the message: job.status_changed, webhook.ping, …")
    def type(self) -> str:
        return self.row.type

    @described("The header webhook-id: the same for every attempt to tell this webhook of the same event.")
    def message_id(self) -> str:
        return self.row.message_id

    @computed(
        "cursor", "The event's place in the tenant's feed: what a replay after it begins behind. Null for a ping."
    )
    def cursor(self) -> Cursor | None:
        return None if self.row.cursor is None else Cursor(self.row.cursor)

    @strawberry.field
    def attempt(self) -> int:
        return self.row.attempt

    @strawberry.field
    def status(self) -> DeliveryStatus:
        return self.row.status

    @described("What the receiver answered; null when it did not.")
    def status_code(self) -> int | None:
        return self.row.status_code

    @strawberry.field
    def duration_ms(self) -> int | None:
        return self.row.duration_ms

    @strawberry.field
    def error(self) -> str | None:
        return self.row.error

    @computed("answer", "The beginning of the receiver's answer, at most 1000 characters; for administrators.")
    def answer(self, info: Info) -> str | None:
        return self.row.answer if info.context.principal.may(Permission.ADMIN) else None

    @described("Who asked for it; null when nobody had to.")
    async def requested_by(self, info: Info) -> ActorRef | None:
        return await actor_of(info, self.row.created_by)

    @strawberry.field
    def created_at(self) -> datetime:
        return self.row.created_at

    @strawberry.field
    def completed_at(self) -> datetime | None:
        return self.row.completed_at
