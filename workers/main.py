"""A worker process: one Dramatiq worker that hears doorbells, one event loop that answers them, one lease.

Dramatiq's own command line starts several processes and stops them all when one dies; here each process stands alone
and whoever supervises it (the `up` command, a container runtime) starts it again.

A doorbell is acknowledged when its answering has begun: it carries nothing, and the row it points to says that it is
due until the step is claimed. So one Dramatiq thread is enough for any number of steps at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from typing import Any

import dramatiq
import structlog

from app import garbage
from app.engine.liveness import Worker
from app.engine.runner import Runner
from workers.actors import declare_actors
from workers.hands import Hands, keep_taking_on
from workers.house import House, build, dependencies_of, observer_of, runner_of, sweeper_of, worker_of
from workers.loop import LoopThread
from workers.observing import keep_observing
from workers.sweeping import keep_sweeping
from workers.tick import keep_dispatching, keep_ticking

_logger = structlog.get_logger(__name__)
# A worker ticks too, seldom, so that a house without a scheduler still moves.
_TICK_SECONDS = 2.0
_OBSERVE_SECONDS = 1.0
# So often a thread of Dramatiq that has nothing to do looks whether it should end.
_IDLE_MILLISECONDS = 500
_SWITCH_SECONDS = 0.0005


class WorkerProcess:
    """The life of the process: register, work, drain, leave."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.loop = LoopThread()
        self.worker: Worker = worker_of(house)
        self.runner: Runner | None = None
        self.hands = Hands(self.loop, house.settings.worker_threads, house.doorbell.ring)
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self) -> None:
        """Be a worker with a lease before the first doorbell is heard."""
        self.loop.start()
        self.loop.call(self._start())

    async def _start(self) -> None:
        await self.worker.register()
        self.runner = runner_of(self.house, self.worker)
        self.hands.answer = self.runner.run
        self.worker.on_cancel = self.runner.cancel
        self.worker.working = lambda: self.runner.running if self.runner is not None else frozenset()
        await self.house.bus.start()
        ring_again = self.house.settings.redispatch_seconds
        self._tasks = [
            asyncio.create_task(self.worker.run()),
            asyncio.create_task(keep_taking_on(self.house.database, self.hands)),
            asyncio.create_task(keep_sweeping(sweeper_of(self.house), self._is_busy)),
            asyncio.create_task(
                keep_dispatching(self.house.database, None, _TICK_SECONDS, ring_again, self.house.doorbell.queued)
            ),
            asyncio.create_task(
                keep_ticking(
                    self.house.database,
                    dependencies_of(self.house),
                    None,
                    _TICK_SECONDS,
                    ring_again,
                    self.house.settings.log_retention_days,
                    self.house.doorbell.queued,
                )
            ),
            asyncio.create_task(
                keep_observing(
                    self.house.database,
                    observer_of(self.house),
                    dependencies_of(self.house),
                    _OBSERVE_SECONDS,
                    self._is_busy,
                )
            ),
        ]
        _logger.info("worker ready", worker_id=self.worker.id)

    def _is_busy(self) -> bool:
        """Whether there is no hand left to look at anything."""
        running = len(self.runner.running) if self.runner is not None else 0
        return self.hands.draining or running >= self.house.settings.worker_threads

    def drain(self, seconds: float) -> None:
        """Begin nothing new; wait until every hand is empty, or `seconds` are over."""
        self.worker.draining = True
        if self.runner is not None:
            self.runner.draining = True
        if not self.hands.drain(seconds):
            _logger.warning("steps are left to other workers", steps=len(self.runner.running) if self.runner else 0)

    def stop(self) -> None:
        """Give up the lease: whatever is still in hands is taken over at once."""
        self.loop.call(self._stop())
        self.loop.stop()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Exception):
            await self.worker.leave()
        await self.house.bus.stop()
        await self.house.database.close()


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    # A busy loop lets the thread that hears doorbells have the interpreter only this often: at Python's 5 ms a worker
    # would hear of a hundred jobs a second.
    sys.setswitchinterval(_SWITCH_SECONDS)
    house = build("windlass-worker")
    process = WorkerProcess(house)
    declare_actors(house.broker, process.hands.hear)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    process.start()
    house.doorbell.start()
    threading.Thread(target=house.broker.listen, args=(stopping,), name="listener", daemon=True).start()
    ears = dramatiq.Worker(house.broker, worker_timeout=_IDLE_MILLISECONDS, worker_threads=1)
    ears.start()
    garbage.settle()
    stopping.wait()
    _logger.info("worker drains", worker_id=process.worker.id)
    process.drain(house.settings.drain_seconds)
    ears.stop(timeout=2_000)
    house.doorbell.stop()
    process.stop()


if __name__ == "__main__":
    main()
