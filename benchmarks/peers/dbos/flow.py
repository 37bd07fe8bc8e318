"""DBOS: one async workflow of five async steps; started directly, and through a queue. Prints jobs per second of both.

Handing in is part of the time in both: a workflow that was started is already running.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from dbos import DBOS, DBOSConfig

STEPS = 5
AT_A_TIME = 8
QUEUE = "bench"
ended = 0


@DBOS.step()
async def step(number: int) -> int:
    return number


@DBOS.workflow()
async def flow() -> None:
    global ended  # noqa: PLW0603
    for number in range(STEPS):
        await step(number)
    ended += 1


async def started(jobs: int) -> float:
    """Eight clients, each starting its next workflow when the one before has ended."""
    left = iter(range(jobs))

    async def client() -> None:
        for _ in left:
            await (await DBOS.start_workflow_async(flow)).get_result()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(AT_A_TIME)))
    return jobs / (time.perf_counter() - began)


async def all_started(jobs: int) -> float:
    """All of them at once."""
    began = time.perf_counter()
    handles = [await DBOS.start_workflow_async(flow) for _ in range(jobs)]
    await asyncio.gather(*(handle.get_result() for handle in handles))
    return jobs / (time.perf_counter() - began)


async def queued(jobs: int) -> float:
    """Counted as they end: asking for the results of queued workflows polls once a second."""
    began, before = time.perf_counter(), ended
    for _ in range(jobs):
        await DBOS.enqueue_workflow_async(QUEUE, flow)
    while ended < before + jobs:
        await asyncio.sleep(0.02)
    return jobs / (time.perf_counter() - began)


async def main(url: str, jobs: int, warm_up: int) -> None:
    DBOS(config=DBOSConfig(name="bench", system_database_url=url, log_level="WARNING"))
    DBOS.launch()
    await DBOS.register_queue_async(QUEUE, worker_concurrency=AT_A_TIME, polling_interval_sec=0.1)
    rates = {}
    for way in (started, all_started, queued):
        await way(warm_up)
        rates[way.__name__] = await way(jobs)
    print(json.dumps(rates))
    DBOS.destroy()


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
