"""Procrastinate: a chain of five async tasks, each deferring the next, in one worker with eight at a time.

The first task of every chain is deferred before the clock starts. Prints jobs per second.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import procrastinate

STEPS = 5
AT_A_TIME = 8


async def main(url: str, jobs: int, warm_up: int) -> None:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
    done = 0
    wanted = 0
    all_done = asyncio.Event()

    @app.task(name="step")
    async def step(number: int) -> None:
        nonlocal done
        if number < STEPS:
            await step.defer_async(number=number + 1)
            return
        done += 1
        if done == wanted:
            all_done.set()

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for wanted in (warm_up, jobs):
            done = 0
            all_done.clear()
            for _ in range(wanted):
                await step.defer_async(number=1)
            began = time.perf_counter()
            worker = asyncio.create_task(app.run_worker_async(concurrency=AT_A_TIME, install_signal_handlers=False))
            await all_done.wait()
            seconds = time.perf_counter() - began
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
    print(json.dumps({"chain": jobs / seconds}))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
