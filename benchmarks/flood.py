"""A small tenant beside a large one: its jobs, one after the other, while one worker carries the other's thousands.

From the commit that hands a job in to the end of its five no-op steps, as a client sees it that looks every 5 ms.
"""

from __future__ import annotations

import asyncio
import dataclasses
import statistics
import time

import asyncpg

from app.db.uow import Database
from app.services.seeding import create_tenant
from benchmarks.surroundings import Surroundings, surroundings
from benchmarks.waits import table_of
from benchmarks.workload import NOTHING, Client, all_ended, connected, lying_there, release, working

JOBS = 2_000
_PAUSE_SECONDS = 0.1
_LEFT = "SELECT count(*) FROM orchestration_job WHERE tenant_id = $1 AND status IN ('QUEUED', 'DISPATCHED', 'RUNNING')"
_COPY = (
    "INSERT INTO workflow (tenant_id, workflow_name, workflow_type, status, definition)"
    " SELECT $1, workflow_name, workflow_type, status, definition FROM workflow WHERE id = $2 RETURNING id"
)


async def run(rounds: int) -> str:
    """The table."""
    beside: list[float] = []
    alone: list[float] = []
    rates: list[float] = []
    for _ in range(rounds):
        async with surroundings() as where:
            await _round(where, beside, alone, rates)
    found = {f"beside them ({len(beside)} jobs)": beside, f"alone ({len(alone)})": alone}
    setting = f"1 scheduler, 1 worker of 32 hands, {rounds} rounds"
    title = f"\n### A small tenant's job beside {JOBS:,} of another ({setting})\n"
    rate = f"\nThe large tenant had {statistics.median(rates):.0f} jobs a second meanwhile."
    return "\n".join([title, *table_of("", found), rate])


async def _round(where: Surroundings, beside: list[float], alone: list[float], rates: list[float]) -> None:
    database = Database.connect(where.database_url, name="benchmark", pool_size=1)
    small_id, _ = await create_tenant(database, "Small", "small", "small@bench.example")
    await database.close()
    async with connected(where.database_url) as connection:
        await lying_there(where, JOBS, connection)
        with where.processes(["scheduler"], ["worker"]):
            await working(connection, 1)
            async with Client.open(where, NOTHING) as large:
                workflow_id = await connection.fetchval(_COPY, small_id, large.workflow_id)
                user_id = await connection.fetchval("SELECT id FROM app_user WHERE tenant_id = $1", small_id)
                small = dataclasses.replace(
                    large,
                    where=dataclasses.replace(where, tenant_id=small_id),
                    principal=dataclasses.replace(large.principal, tenant_id=small_id, user_id=user_id),
                    workflow_id=workflow_id,
                )
                await release(connection)
                began = time.perf_counter()
                await asyncio.sleep(_PAUSE_SECONDS)
                while await connection.fetchval(_LEFT, where.tenant_id):
                    beside.append(await _carried(small, connection))
                rates.append(JOBS / (time.perf_counter() - began))
                await all_ended(connection)
                alone += [await _carried(small, connection) for _ in range(20)]


async def _carried(client: Client, connection: asyncpg.Connection) -> float:
    """Seconds from the commit of a job to its end."""
    job_id = await client.submit()
    began = time.perf_counter()
    status = "SELECT status FROM orchestration_job WHERE id = $1"
    async with asyncio.timeout(60):
        while await connection.fetchval(status, job_id) != "SUCCEEDED":
            await asyncio.sleep(0.005)
    took = time.perf_counter() - began
    await asyncio.sleep(_PAUSE_SECONDS)
    return took
