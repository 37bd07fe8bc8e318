"""A scheduler process: it ticks. Any number may run; one is enough, none only makes things slower."""

from __future__ import annotations

import asyncio
import signal

import structlog

from workers.actors import declare_actors
from workers.house import build, dependencies_of
from workers.tick import keep_dispatching, keep_ticking

_logger = structlog.get_logger(__name__)
_ASK_AGAIN_SECONDS = 1.0


async def _run() -> None:
    house = build("windlass-scheduler")
    declare_actors(house.broker)
    house.doorbell.start()
    await house.bus.start()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    settings = house.settings
    async with house.bus.due_bell() as bell, house.bus.due_bell() as urgent_bell:
        tasks = {
            asyncio.create_task(
                keep_dispatching(
                    house.database,
                    urgent_bell,
                    settings.tick_interval_seconds,
                    settings.redispatch_seconds,
                    house.doorbell.queued,
                )
            ),
            asyncio.create_task(
                keep_ticking(
                    house.database,
                    dependencies_of(house),
                    bell,
                    settings.tick_interval_seconds,
                    settings.redispatch_seconds,
                    settings.log_retention_days,
                    house.doorbell.queued,
                )
            ),
        }
        _logger.info("scheduler ready")
        await stopping.wait()
        # A cancellation that meets a client in the middle of a failing call may get lost there.
        while tasks:
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=_ASK_AGAIN_SECONDS)
    house.doorbell.stop()
    await house.bus.stop()
    await house.database.close()


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    asyncio.run(_run())


if __name__ == "__main__":
    main()
