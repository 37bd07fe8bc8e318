"""A worker is killed, or held still, in the middle of a step: how long until the step runs on another one.

Default settings; two workers and a scheduler, and a new worker for each that was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import statistics
import time

import asyncpg

from benchmarks.surroundings import Surroundings, surroundings
from benchmarks.workload import Client, connected, working

KILLS = 8
STOPS = 3
WAIT = [{"key": "wait", "type": "CUSTOM", "order": 1, "configuration": {"task": "core.wait"}, "inputs": {"seconds": 8}}]
# Settings that are empty are at their defaults.
DEFAULTS = {"WINDLASS_LEASE_SECONDS": ""}


async def run(rounds: int) -> str:  # noqa: ARG001  it counts losses, not rounds
    """The table."""
    async with surroundings() as where, connected(where.database_url) as connection:
        with where.processes(["scheduler"], ["worker"], **DEFAULTS):
            killed = [await lost(where, connection, signal.SIGKILL) for _ in range(KILLS)]
            stopped = [await lost(where, connection, signal.SIGSTOP) for _ in range(STOPS)]
    lines = [
        "\n### From the loss of a worker to its step running on another\n",
        "| | n | min s | p50 s | max s |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, found in (("kill -9", killed), ("SIGSTOP", stopped)):
        spread = f"{min(found):.2f} | {statistics.median(found):.2f} | {max(found):.2f}"
        lines.append(f"| {name} | {len(found)} | {spread} |")
    return "\n".join(lines)


async def lost(where: Surroundings, connection: asyncpg.Connection, how: signal.Signals) -> float:
    """Seconds from the loss to the step's running elsewhere."""
    # Its steps are left to this one when it is stopped in order at the end; so only the other may be lost.
    with where.processes(["worker"], **DEFAULTS) as [process]:
        await working(connection, 2)
        async with Client.open(where, WAIT) as client:
            step_id, worker_id = await _running_on(client, connection, process.pid)
        await asyncio.sleep(random.uniform(0.5, 1.5))
        began = time.perf_counter()
        os.kill(process.pid, how)
        try:
            async with asyncio.timeout(60):
                while not await connection.fetchval(
                    "SELECT status = 'RUNNING' AND worker_id <> $2 FROM step_run WHERE id = $1", step_id, worker_id
                ):
                    await asyncio.sleep(0.005)
            return time.perf_counter() - began
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


async def _running_on(client: Client, connection: asyncpg.Connection, pid: int) -> tuple[int, int]:
    """Hand jobs in until this process has a step; the step and the worker."""
    for _ in range(20):
        job_id = await client.submit()
        async with asyncio.timeout(20):
            while not (
                row := await connection.fetchrow(
                    "SELECT s.id, s.worker_id, w.pid FROM step_run s JOIN worker w ON w.id = s.worker_id"
                    " WHERE s.job_id = $1 AND s.status = 'RUNNING'",
                    job_id,
                )
            ):
                await asyncio.sleep(0.02)
        if row["pid"] == pid:
            return row["id"], row["worker_id"]
    message = "the other worker takes every step"
    raise RuntimeError(message)
