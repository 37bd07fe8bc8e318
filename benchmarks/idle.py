"""Idle dispatch: a job is handed in to a system that has nothing to do; how long until it runs, and until it is over.

From the return of the commit in the client, before anything is rung, to what the database wrote as the start of the
first step and the end of the job. Both clocks are the same machine's.
"""

from __future__ import annotations

import asyncio
import random
import time

from benchmarks.surroundings import surroundings
from benchmarks.waits import table_of
from benchmarks.workload import NOTHING, Client, connected, working

JOBS = 60
_MOMENTS = (
    "SELECT extract(epoch FROM min(s.started_at))::float8 AS started,"
    " extract(epoch FROM j.completed_at)::float8 AS ended"
    " FROM orchestration_job j JOIN step_run s ON s.job_id = j.id WHERE j.id = $1 AND j.status = 'SUCCEEDED'"
    " GROUP BY j.id"
)


async def run(rounds: int) -> str:
    """The table."""
    started: list[float] = []
    ended: list[float] = []
    committed = 0.0

    def note() -> None:
        nonlocal committed
        committed = time.time()

    async with surroundings() as where, connected(where.database_url) as connection:
        with where.processes(["scheduler"], ["worker"]):
            async with Client.open(where, NOTHING, note) as client:
                await working(connection, 1)
                # The first few prepare statements.
                for number in range(5 + JOBS * rounds // 3):
                    job_id = await client.submit()
                    # Nobody polls in step with the pause.
                    await asyncio.sleep(random.uniform(0.3, 0.6))
                    async with asyncio.timeout(10):
                        while (row := await connection.fetchrow(_MOMENTS, job_id)) is None:
                            await asyncio.sleep(0.05)
                    if number >= 5:
                        started.append(row["started"] - committed)
                        ended.append(row["ended"] - committed)
    title = f"\n### Idle dispatch ({len(started)} jobs of 5 no-op steps, one at a time, 1 scheduler, 1 worker)\n"
    return "\n".join([title, *table_of("from commit to", {"first step running": started, "job ended": ended})])
