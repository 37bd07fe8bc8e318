"""Rings: puts messages into the broker without ever making the ringer wait for it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable

import structlog

from app import clock
from app.messages import StepDue
from workers.broker import Broker

_logger = structlog.get_logger(__name__)
_CAPACITY = 10_000
_STOP = None
# Of many that wait some go into one message, which costs whoever hears it two questions to the broker. A few go each by
# itself, and find whoever is free: docs/decisions/0084-rings-together.md.
_TOGETHER = 8
_SHARE = 4
# Of the steps that become due in one transaction: docs/decisions/0086-backpressure.md.
_OWN = 8
# So often it is looked whether there is a crowd, and so long one is believed to last.
_LOOK_SECONDS = 0.05
_CROWD_SECONDS = 0.2


class Doorbell:
    """A thread that enqueues; the actors must be declared before it is started. `tell` says that it has.

    When the broker is away or the queue is full, rings are lost and the tick repeats them. `hands`: where more rings
    than that wait to be heard, this process rings for no more steps of its own accord (`room`).
    """

    def __init__(self, broker: Broker, tell: Callable[[], None], hands: int) -> None:
        self._broker = broker
        self._tell = tell
        self._hands = hands
        self._looked_at, self._is_crowded = -_CROWD_SECONDS, False
        self._waiting: queue.Queue[StepDue | None] = queue.Queue(_CAPACITY)
        self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ring what is waiting, for at most two seconds, and end."""
        self._waiting.put(_STOP)
        self._thread.join(2)

    def ring(self, messages: Iterable[StepDue]) -> None:
        """Ring, some time soon. Never blocks, never raises."""
        for message in messages:
            try:
                self._waiting.put_nowait(message)
            except queue.Full:
                return

    def room(self) -> int:
        """For how many steps that become due in one transaction this process may ring: few, and none in a crowd.

        What is rung for is heard in its turn: the scheduler, which shares out between tenants, does it for the others.
        """
        crowded = self._is_crowded and clock.monotonic() < self._looked_at + _CROWD_SECONDS
        return 0 if crowded else _OWN

    def queued(self) -> int:
        """How many rings have not been heard yet. Raises RedisError."""
        return self._broker.queued() + self._waiting.qsize()

    def _look(self) -> None:
        """Whether there is a crowd, looked at now and then as long as something is rung."""
        if clock.monotonic() > self._looked_at + _LOOK_SECONDS:
            self._is_crowded = self.queued() > self._hands
            self._looked_at = clock.monotonic()

    def _run(self) -> None:
        actor = self._broker.get_actor(StepDue.actor)
        while (message := self._waiting.get()) is not _STOP:
            try:
                more = [(other.tenant_id, other.job_id, other.step_run_id) for other in self._more()]
                actor.send(message.tenant_id, message.job_id, message.step_run_id, *([more] if more else ()))
                # Once for all that are rung for together.
                if self._waiting.empty():
                    self._tell()
                self._look()
            except Exception:  # the row says that it is due; the tick rings again
                _logger.warning("a doorbell could not be rung", step_run_id=message.step_run_id)
        with contextlib.suppress(Exception):
            self._tell()

    def _more(self) -> list[StepDue]:
        """What goes out together with one, where many wait."""
        found: list[StepDue] = []
        for _ in range(min(self._waiting.qsize() // _SHARE, _TOGETHER - 1)):
            message = self._waiting.get()
            if message is _STOP:
                self._waiting.put(_STOP)
                break
            found.append(message)
        return found
