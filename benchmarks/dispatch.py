"""What the scheduler's pick of due steps costs when many wait, and whether a flood of one tenant hides the others.

Four databases: 2,000 READY steps of 201 tenants; 200,000; as many, nine of ten of them one tenant's, beside 100,000
steps that wait for a time to come; and one tenant's 10,000, beside 200 tenants with nothing but 100,000 such steps.
Each pick rings for up to 256 steps and is rolled back.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import Counter

import asyncpg

from app.db.uow import Database, SystemRole
from app.engine import dispatching
from benchmarks.surroundings import surroundings

TENANTS = 201
PICK = 256

_TENANTS = "INSERT INTO tenant (name, slug) SELECT 'many ' || n, 'many-' || n FROM generate_series(1, $1::int) n"
_PLANS = (
    "INSERT INTO deployment_plan (tenant_id, plan_name, plan_type, status, stack)"
    " SELECT id, 'many', 'IMMEDIATE', 'RUNNING', 'many' FROM tenant WHERE slug LIKE 'many-%'"
)
_JOBS = (
    "INSERT INTO orchestration_job (tenant_id, plan_id, job_name, job_type, status, stack)"
    " SELECT tenant_id, id, 'many', 'CUSTOM', 'RUNNING', 'many' FROM deployment_plan WHERE plan_name = 'many'"
)
_STEPS = (
    "INSERT INTO step_run (tenant_id, job_id, step_key, name, step_type, operation, change, status, due_at, needs,"
    " spec, timeout_seconds, operation_id, max_attempts, wave)"
    " SELECT j.tenant_id, j.id, $2::text || n, 's', 'CUSTOM', 'RUN', 'RUN', $3::text, clock_timestamp()"
    " + $4::text::interval + random() * interval '1 second', '{}', '{}', 60, gen_random_uuid(), 1, 0"
    " FROM orchestration_job j, generate_series(1, $1::int) n WHERE j.job_name = 'many' AND"
)
_ALL, _FIRST = " true", " j.id = (SELECT min(id) FROM orchestration_job WHERE job_name = 'many')"


# READY of each tenant, more of the first one, and steps of each that wait for their time.
_FILLED = ((10, 0, 0), (1_000, 0, 0), (100, 180_000, 500), (0, 10_000, 500))


async def run(rounds: int) -> str:
    """The table. The databases are asked in turn, so that the machine is the same for all."""
    taken: dict[tuple[int, int, int], list[float]] = {filled: [] for filled in _FILLED}
    counted: dict[tuple[int, int, int], Counter[int]] = {}
    async with contextlib.AsyncExitStack() as servers:
        urls = {filled: (await servers.enter_async_context(surroundings())).database_url for filled in _FILLED}
        for filled, url in urls.items():
            await _fill(url, *filled)
        for _ in range(rounds):
            for filled, url in urls.items():
                times, picked = await _picks(url, 20)
                taken[filled] += times
                counted[filled] = Counter(picked)
    lines = [
        f"\n### The scheduler's pick of {PICK} due steps, {TENANTS} tenants (median of {19 * rounds})\n",
        "| READY | timers | ms | min–max | tenants in one pick | the largest has |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for (ready, flood, timers), times in taken.items():
        found = counted[ready, flood, timers]
        lines.append(
            f"| {TENANTS * ready + flood:,} | {TENANTS * timers:,} | {statistics.median(times):.1f}"
            f" | {min(times):.1f}–{max(times):.1f} | {len(found)} | {max(found.values())} |"
        )
    return "\n".join(lines)


async def _fill(url: str, ready: int, flood: int, timers: int) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(_TENANTS, TENANTS)
    await connection.execute(_PLANS)
    await connection.execute(_JOBS)
    await connection.execute(_STEPS + _ALL, ready, "ready", "READY", "-1 hour")
    if flood:
        await connection.execute(_STEPS + _FIRST, flood, "flood", "READY", "-2 hours")
    if timers:
        await connection.execute(_STEPS + _ALL, timers, "timer", "RETRY_WAIT", "1 hour")
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


class _Undone(Exception):
    """The pick is taken back, so that the next one finds the same."""


async def _picks(url: str, count: int) -> tuple[list[float], list[int]]:
    database = Database.connect(url, name="benchmark", pool_size=1)
    taken: list[float] = []
    picked: list[int] = []
    for _ in range(count):
        try:
            async with database.system(SystemRole.TICK) as transaction:
                began = time.perf_counter()
                await dispatching.pick(transaction, 5.0, PICK)
                taken.append((time.perf_counter() - began) * 1000)
                picked = [due.tenant_id for due in transaction.rings.due]
                raise _Undone  # noqa: TRY301
        except _Undone:
            continue
    await database.close()
    return taken[1:], picked
