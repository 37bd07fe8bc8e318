"""Questions about webhooks and what they were sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import WebhookDelivery, WebhookEndpoint
from app.db.pages import Order
from app.domain.webhooks import DeliveryStatus, WebhookStatus
from app.reads import rows
from app.reads.filters import TextFilter

ORDER = Order("webhooks", (WebhookEndpoint.created_at,), WebhookEndpoint.id, descending=True)
_NEWEST = Order("webhook.deliveries", (), WebhookDelivery.id, descending=True)


@dataclass(frozen=True, slots=True)
class WebhookFilter:
    status: tuple[WebhookStatus, ...] | None = None
    name: TextFilter | None = None


def listed(tenant_id: int, wanted: WebhookFilter) -> Select[WebhookEndpoint]:
    """The tenant's webhooks, as `wanted` describes."""
    return rows.of_tenant(WebhookEndpoint, tenant_id).where(
        *rows.one_of(WebhookEndpoint.status, wanted.status),
        *rows.text_conditions(WebhookEndpoint.name, wanted.name),
    )


async def by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, WebhookEndpoint]:
    return await rows.by_ids(session, rows.of_tenant(WebhookEndpoint, tenant_id), ids)


async def deliveries_by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, WebhookDelivery]:
    return await rows.by_ids(session, rows.of_tenant(WebhookDelivery, tenant_id), ids)


def deliveries(tenant_id: int, status: tuple[DeliveryStatus, ...] | None) -> rows.Relation[WebhookDelivery]:
    """The attempts of a webhook, newest first; all of them, or those with one of these statuses."""
    query = rows.of_tenant(WebhookDelivery, tenant_id).where(*rows.one_of(WebhookDelivery.status, status))
    return rows.Relation(("webhook.deliveries", status), query, WebhookDelivery.endpoint_id, _NEWEST)
