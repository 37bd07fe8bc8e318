"""The broker, set up for doorbells: no retries, no delays, no time limits, nothing that pretends to be the truth."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import dq_name
from dramatiq.middleware import Middleware
from redis.exceptions import RedisError

from app.messages import StepDue

NAMESPACE = "windlass"
# A dead consumer's messages are taken over after this long; the tick has rung again by then, so it need not be short.
_HEARTBEAT_MILLISECONDS = 15_000
_MAINTENANCE_PER_MILLION = 20_000
# Dramatiq listens to a queue of delayed messages beside each queue, and nothing is ever put into ours.
_DELAYED_POLL_MILLISECONDS = 250
# So often an idle worker looks whether it has been rung, whatever it hears.
_PATIENCE_SECONDS = 0.05
_CHANNEL = f"{NAMESPACE}:rung"
_SILENCE_SECONDS = 1.0


class Broker(RedisBroker):
    """Says that something was rung, so that nobody has to ask all the time."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)  # type: ignore[no-untyped-call]
        self.rung = threading.Event()

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:
        if queue_name == dq_name(queue_name):
            return super().consume(queue_name, prefetch, max(timeout, _DELAYED_POLL_MILLISECONDS))
        return _Consumer(super().consume(queue_name, prefetch, 0), self.rung)

    def tell(self) -> None:
        """Say to all workers that something was rung. A hint: who does not hear it looks a moment later."""
        self.client.publish(_CHANNEL, b"")

    def queued(self) -> int:
        """How many messages nobody has taken yet. Raises RedisError."""
        return int(self.client.llen(f"{self.namespace}:{StepDue.queue}"))

    def listen(self, stopping: threading.Event) -> None:
        """Hear it, until `stopping`. Runs in a thread of its own."""
        while not stopping.is_set():
            with contextlib.suppress(RedisError, OSError), self.client.pubsub() as heard:
                heard.subscribe(_CHANNEL)
                while not stopping.is_set():
                    # That it listens now is a message, too: what was rung before that was not heard.
                    if heard.get_message(timeout=_SILENCE_SECONDS) is not None:
                        self.rung.set()
            stopping.wait(_SILENCE_SECONDS)


class _Consumer(dramatiq.Consumer):
    """Looks at once when something was rung, or when what was done makes room, and seldom otherwise."""

    def __init__(self, inner: dramatiq.Consumer, rung: threading.Event) -> None:
        self._inner = inner
        self._rung = rung

    def __next__(self) -> Any:
        # Cleared before looking, so that a ring during the look is not lost.
        self._rung.clear()
        message: Any = next(self._inner)
        if message is None:
            self._rung.wait(_PATIENCE_SECONDS)
        return message

    def ack(self, message: Any) -> None:
        """Called by the thread that has done it, while the one that looks may wait."""
        self._inner.ack(message)
        self._rung.set()

    def nack(self, message: Any) -> None:
        self._inner.nack(message)
        self._rung.set()

    def requeue(self, messages: Iterable[Any]) -> None:
        self._inner.requeue(messages)

    def close(self) -> None:
        self._inner.close()


def make_broker(redis_url: str, *middleware: Middleware) -> Broker:
    """A broker on Redis or Valkey. By URL, because then the client does not repeat commands that may have worked."""
    return Broker(
        url=redis_url,
        middleware=list(middleware),
        namespace=NAMESPACE,
        heartbeat_timeout=_HEARTBEAT_MILLISECONDS,
        maintenance_chance=_MAINTENANCE_PER_MILLION,
        socket_timeout=5,
        socket_connect_timeout=2,
    )
