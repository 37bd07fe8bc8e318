"""Webhooks: an integrator's endpoint with its place in the tenant's feed, and the log of what it was sent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Audited, Base, SoftDeleted, identity, one_of, owned_by_tenant, within_tenant
from app.domain.webhooks import DeliverySource, DeliveryStatus, WebhookReason, WebhookStatus

_THERE = text("NOT is_deleted")


class WebhookEndpoint(Audited, SoftDeleted, Base):
    """Where events are sent. `version` counts what people change, not what delivery moves on."""

    __tablename__ = "webhook_endpoint"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        Index("uq_webhook_endpoint_name", "tenant_id", "name", unique=True, postgresql_where=_THERE),
        Index("idx_webhook_endpoint_lease", "lease_until", postgresql_where=_THERE),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"))
    name: Mapped[str] = mapped_column(String(120))
    url: Mapped[str] = mapped_column(Text)
    # {"key": …}, sealed. The previous one signs, too, until its time is over.
    secret: Mapped[dict[str, Any]]
    previous_secret: Mapped[dict[str, Any] | None]
    previous_until: Mapped[datetime | None]
    # Names of kinds of events; none means all.
    event_types: Mapped[list[str]] = mapped_column(ARRAY(String(60)), server_default=text("'{}'"))
    selection: Mapped[str | None] = mapped_column(Text)
    status: Mapped[WebhookStatus] = one_of(WebhookStatus, "status", default=WebhookStatus.ACTIVE)
    status_reason: Mapped[WebhookReason] = one_of(WebhookReason, "status_reason", default=WebhookReason.NONE)
    # The place in the tenant's feed (app.db.feed) up to which everything was delivered, or not asked for.
    feed: Mapped[int] = mapped_column(BigInteger)
    feed_stream: Mapped[str] = mapped_column(String(40))
    feed_stream_id: Mapped[int] = mapped_column(BigInteger)
    feed_seq: Mapped[int] = mapped_column(BigInteger)
    failures: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    failing_since: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    delivered_at: Mapped[datetime | None]
    # Who delivers; whoever's fence is no longer this one has lost it.
    lease_until: Mapped[datetime | None]
    fence: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class WebhookDelivery(Base):
    """One attempt to deliver one message. The newest of an endpoint are kept."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("endpoint_id", "webhook_endpoint"),
        Index("idx_webhook_delivery_page", "tenant_id", "endpoint_id", "id"),
        Index("idx_webhook_delivery_pending", "tenant_id", "endpoint_id", postgresql_where=text("status = 'PENDING'")),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = owned_by_tenant()
    endpoint_id: Mapped[int] = mapped_column(BigInteger)
    source: Mapped[DeliverySource] = one_of(DeliverySource, "source")
    type: Mapped[str] = mapped_column(String(80))
    message_id: Mapped[str] = mapped_column(String(80))
    # The event's place in the feed; a ping has none.
    cursor: Mapped[str | None] = mapped_column(String(200))
    attempt: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    status: Mapped[DeliveryStatus] = one_of(DeliveryStatus, "status")
    status_code: Mapped[int | None] = mapped_column(Integer)
    duration_ms: Mapped[int | None] = mapped_column(Integer)
    error: Mapped[str | None] = mapped_column(Text)
    answer: Mapped[str | None] = mapped_column(Text)
    created_by: Mapped[str | None] = mapped_column(String(120))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    completed_at: Mapped[datetime | None]
