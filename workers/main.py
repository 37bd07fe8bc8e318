"""A worker process: one Dramatiq worker, one event loop, one lease.

Dramatiq's own command line starts several processes and stops them all when one dies; here each process stands alone
and whoever supervises it (the `up` command, a container runtime) starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Coroutine
from typing import Any

import dramatiq
import structlog
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.middleware import Middleware

from app.engine.liveness import Worker
from app.engine.runner import Runner
from app.messages import StepDue
from workers.actors import declare_actors
from workers.house import House, build, runner_of, worker_of
from workers.tick import keep_ticking

_logger = structlog.get_logger(__name__)
# A worker ticks too, seldom, so that a house without a scheduler still moves.
_TICK_SECONDS = 2.0
# The longest an idle worker takes to hear a ring; it polls.
_POLL_MILLISECONDS = 20


class WorkerProcess:
    """The life of the process: register, work, drain, leave."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.worker: Worker = worker_of(house)
        self.runner: Runner | None = None
        self.tasks: list[asyncio.Task[Any]] = []

    async def start(self) -> None:
        await self.worker.register()
        self.runner = runner_of(self.house, self.worker)
        self.worker.on_cancel = self.runner.cancel
        await self.house.bus.start()
        settings = self.house.settings
        self.tasks = [
            asyncio.create_task(self.worker.run()),
            asyncio.create_task(keep_ticking(self.house.database, None, _TICK_SECONDS, settings.redispatch_seconds)),
        ]
        _logger.info("worker ready", worker_id=self.worker.id)

    async def handle(self, message: StepDue) -> None:
        if self.runner is not None:
            await self.runner.run(message)

    def let_go(self) -> None:
        """Begin nothing new: what runs is finished, what follows is left to others."""
        self.worker.draining = True
        if self.runner is not None:
            self.runner.draining = True

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        # Whatever is still in hands is taken over at once instead of after the lease.
        with contextlib.suppress(Exception):
            await self.worker.leave()
        await self.house.bus.stop()
        await self.house.database.close()


class Life(Middleware):
    """Starts the process's own tasks when the loop of the actors is there, before the first message is taken."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process

    def before_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:  # noqa: ARG002
        _in_loop(self._process.start())

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:  # noqa: ARG002
        _in_loop(self._process.stop())


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    house = build("windlass-worker")
    process = WorkerProcess(house)
    declare_actors(house.broker, process.handle)
    house.broker.add_middleware(Life(process))
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    house.doorbell.start()
    worker = dramatiq.Worker(
        house.broker, worker_timeout=_POLL_MILLISECONDS, worker_threads=house.settings.worker_threads
    )
    worker.start()
    stopping.wait()
    _logger.info("worker drains", worker_id=process.worker.id)
    process.let_go()
    worker.stop(timeout=int(house.settings.drain_seconds * 1_000))
    house.doorbell.stop()


def _in_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    thread = get_event_loop_thread()
    if thread is None:
        message = "the event loop of the actors is not running"
        raise RuntimeError(message)
    asyncio.run_coroutine_threadsafe(coroutine, thread.loop).result()


if __name__ == "__main__":
    main()
