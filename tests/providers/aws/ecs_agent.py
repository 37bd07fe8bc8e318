"""Starts and stops tasks as the scheduler of ECS would: the emulator only notes how many are desired."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from moto.ecs.models import ecs_backends

from tests.providers.aws.moto_server import REGION


@asynccontextmanager
async def scheduling() -> AsyncIterator[None]:
    """While this lasts, services get the tasks that they desire after a moment."""

    async def schedule() -> None:
        while True:
            await asyncio.sleep(0.02)
            for account in list(ecs_backends.values()):
                for service in list(account[REGION].services.values()):
                    service.running_count = service.desired_count

    task = asyncio.create_task(schedule())
    try:
        yield
    finally:
        task.cancel()
