"""The hands of a worker: how many steps it has at a time, and which come first."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import structlog

from app import clock
from app.db.uow import Database, SystemRole
from app.engine import recovery
from app.messages import StepDue

if TYPE_CHECKING:
    from workers.loop import LoopThread

_logger = structlog.get_logger(__name__)
_LOOK_SECONDS = 0.5
# Once a worker is missing, which will be lost if it stays so for 1.5 seconds: so that this is not noticed late.
_HURRIED_SECONDS = 0.1
_HURRY_SECONDS = 2.5
# So long a bell has for being heard, before somebody takes a lost worker's step without it.
_PATIENCE_SECONDS = 1.0

# Of several steps that were rung for together, so long one waits for a hand before others are asked.
_TOGETHER_SECONDS = 0.05

Answer = Callable[[StepDue], Coroutine[Any, Any, None]]


class Hands:
    """So many steps at a time are answered in the loop, by `answer` once there is one.

    What was taken from a lost worker is taken on before any bell that is heard later: it has waited already. `ring` is
    for what there is no hand for.
    """

    def __init__(self, loop: LoopThread, number: int, ring: Callable[[Sequence[StepDue]], None]) -> None:
        self.answer: Answer | None = None
        self.number = number
        self.draining = False
        self._loop = loop
        self._ring = ring
        self._free = threading.BoundedSemaphore(number)
        self._first: deque[StepDue] = deque()

    def hear(self, messages: Sequence[StepDue]) -> None:
        """Begin to answer a doorbell; waits while all hands are full, so that others may have the next one.

        Of several steps those that no hand becomes free for in a moment are rung for again, one by one.
        """
        self._free.acquire()
        self._begin(messages[0])
        until = clock.monotonic() + _TOGETHER_SECONDS
        for number, message in enumerate(messages[1:], 1):
            if not self._free.acquire(timeout=max(until - clock.monotonic(), 0)):
                self._ring(messages[number:])
                return
            self._begin(message)

    @property
    def room(self) -> int:
        """How many steps of lost workers may be taken on."""
        return 0 if self.draining or self.answer is None else self.number - len(self._first)

    def take_on(self, messages: Sequence[StepDue]) -> None:
        """Answer these as soon as a hand is free, and before everything else."""
        for message in messages:
            self._first.append(message)
            if self._free.acquire(blocking=False):
                self._go_on()

    def drain(self, seconds: float) -> bool:
        """Begin nothing new; wait until every hand is empty, or `seconds` are over. Whether they are empty."""
        self.draining = True
        until = clock.monotonic() + seconds
        return all(self._free.acquire(timeout=max(until - clock.monotonic(), 0)) for _ in range(self.number))

    def _begin(self, message: StepDue) -> None:
        """Use a hand that was taken before."""
        if self.answer is None or self.draining:
            self._free.release()
            return
        self._loop.submit(self.answer(message)).add_done_callback(self._done)

    def _done(self, answered: Future[None]) -> None:
        error = answered.exception() if not answered.cancelled() else None
        if error is not None:
            _logger.error("a doorbell could not be answered", exc_info=error)
        self._go_on()

    def _go_on(self) -> None:
        """Use a hand for what comes first, or let go of it."""
        try:
            message = self._first.popleft()
        except IndexError:
            self._free.release()
        else:
            self._begin(message)


async def keep_taking_on(database: Database, hands: Hands) -> None:
    """Look for workers that are lost, and for steps of theirs that nobody hears of, until cancelled. Trouble is waited
    out.
    """
    hurries_until = 0.0
    while True:
        hurries = clock.monotonic() < hurries_until
        await asyncio.sleep(_HURRIED_SECONDS if hurries else _LOOK_SECONDS)
        try:
            reaped = await recovery.reap(database)
            if reaped.is_anyone_missing:
                hurries_until = clock.monotonic() + _HURRY_SECONDS
            if hands.room <= 0:
                continue
            async with database.system(SystemRole.TICK) as transaction:
                found = await recovery.unheard(transaction, hands.room, _PATIENCE_SECONDS)
            hands.take_on(found)
        except Exception:  # the next look finds what this one could not
            _logger.warning("steps of lost workers could not be looked for", exc_info=True)
