"""What can be watched."""

from __future__ import annotations

import strawberry

from schema.subscriptions.events import EventSubscriptions
from schema.subscriptions.lists import ListSubscriptions
from schema.subscriptions.logs import LogSubscriptions
from schema.subscriptions.replay import ReplaySubscriptions
from schema.subscriptions.tenants import TenantSubscriptions


@strawberry.type
class Subscription(EventSubscriptions, ListSubscriptions, LogSubscriptions, ReplaySubscriptions, TenantSubscriptions):
    """All subscriptions, gathered from the nouns."""
