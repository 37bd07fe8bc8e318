"""What can be watched."""

from __future__ import annotations

import strawberry

from schema.subscriptions.events import EventSubscriptions
from schema.subscriptions.logs import LogSubscriptions


@strawberry.type
class Subscription(EventSubscriptions, LogSubscriptions):
    """All subscriptions, gathered from the nouns."""
