"""Webhooks of the tenant."""

from __future__ import annotations

import strawberry

from app.reads import webhooks as reads
from schema.connections import Connection, connect
from schema.context import Info
from schema.fields import described
from schema.queries.nodes import node_of
from schema.scalars import Cursor
from schema.types.filters import page
from schema.types.webhooks import Webhook, WebhookFilter


@strawberry.type
class WebhookQueries:
    @strawberry.field
    async def webhook(self, info: Info, id: strawberry.ID) -> Webhook | None:
        found: Webhook | None = await node_of(info, id, "Webhook")
        return found

    @described("Newest first.")
    async def webhooks(
        self,
        info: Info,
        filter: WebhookFilter | None = None,
        first: int | None = None,
        after: Cursor | None = None,
        last: int | None = None,
        before: Cursor | None = None,
    ) -> Connection[Webhook]:
        status = None if filter is None or filter.status is None else tuple(sorted(set(filter.status)))
        query = reads.listed(info.context.tenant_id, reads.WebhookFilter(status))
        return await connect(info, Webhook.of, query, reads.ORDER, page(first, after, last, before))
