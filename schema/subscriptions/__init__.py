"""What can be watched."""

from __future__ import annotations

import strawberry

from schema.subscriptions.events import EventSubscriptions
from schema.subscriptions.logs import LogSubscriptions
from schema.subscriptions.tenants import TenantSubscriptions


@strawberry.type
class Subscription(EventSubscriptions, LogSubscriptions, TenantSubscriptions):
    """All subscriptions, gathered from the nouns."""
