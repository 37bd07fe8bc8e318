"""The broker, set up for doorbells: no retries, no delays, no time limits, nothing that pretends to be the truth."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import dq_name
from dramatiq.middleware import Middleware

NAMESPACE = "windlass"
# A dead consumer's messages are taken over after this long; the tick has rung again by then, so it need not be short.
_HEARTBEAT_MILLISECONDS = 15_000
_MAINTENANCE_PER_MILLION = 20_000


# Dramatiq listens to a queue of delayed messages beside each queue, and nothing is ever put into ours.
_DELAYED_POLL_MILLISECONDS = 250


class _Broker(RedisBroker):
    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:
        if queue_name == dq_name(queue_name):
            timeout = max(timeout, _DELAYED_POLL_MILLISECONDS)
        return super().consume(queue_name, prefetch, timeout)


def make_broker(redis_url: str, *middleware: Middleware) -> dramatiq.Broker:
    """A broker on Redis or Valkey. By URL, because then the client does not repeat commands that may have worked."""
    return _Broker(  # type: ignore[no-untyped-call]  # its keyword arguments are untyped
        url=redis_url,
        middleware=list(middleware),
        namespace=NAMESPACE,
        heartbeat_timeout=_HEARTBEAT_MILLISECONDS,
        maintenance_chance=_MAINTENANCE_PER_MILLION,
        socket_timeout=5,
        socket_connect_timeout=2,
    )
