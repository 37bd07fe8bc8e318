"""Jobs of five no-op steps, one after the other: how many a second.

Ours: worker processes as in production; the jobs lie there, due, when the clock starts; it stops when the last one has
succeeded. Peer: Procrastinate, a chain of five jobs each deferring the next, in one worker with eight at a time.
Limit: the seven commits that such a job needs at the least, each one row, by eight connections of the bare driver.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import statistics
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import procrastinate as peer

from app.auth.principal import Principal
from app.db.models import User, Workflow
from app.db.sealing import Sealer
from app.db.uow import Database
from app.domain.enums import DefinitionStatus, Permission, PlanType, Role, WorkflowType
from app.providers.registry import Registry
from app.services import plans
from app.services.dependencies import Dependencies
from app.services.plans import CreatePlan
from benchmarks.surroundings import Surroundings, surroundings

JOBS = 300
STEPS = 5
AT_A_TIME = 8


async def run(rounds: int) -> str:
    """The table."""
    rates: dict[str, list[float]] = {"ours, 1 worker": [], "ours, 2 workers": [], "Procrastinate": [], "limit": []}
    async with surroundings() as where:
        for _ in range(rounds):
            rates["ours, 1 worker"].append(await ours(where, 1))
            rates["Procrastinate"].append(await procrastinate(where))
            rates["ours, 2 workers"].append(await ours(where, 2))
            rates["limit"].append(await limit(where))
    peer = statistics.median(rates["Procrastinate"])
    lines = [
        f"\n### Jobs of {STEPS} no-op steps ({JOBS} jobs, median of {rounds} rounds, in turn)\n",
        "| | jobs/s | min–max | × Procrastinate |",
        "|---|--:|--:|--:|",
    ]
    for name, found in rates.items():
        median = statistics.median(found)
        lines.append(f"| {name} | {median:.0f} | {min(found):.0f}–{max(found):.0f} | {median / peer:.1f} |")
    return "\n".join(lines)


async def ours(where: Surroundings, workers: int) -> float:
    """Jobs per second of `workers` worker processes."""
    await submit(where)
    connection = await asyncpg.connect(where.database_url)
    try:
        # As autovacuum leaves it once a minute: a server that was made a moment ago knows nothing about its tables.
        await connection.execute("ANALYZE")
        # The workers are up before the clock starts: they tick for themselves, so the steps are held back until then.
        await connection.execute("UPDATE step_run SET due_at = 'infinity' WHERE due_at IS NOT NULL")
        before = await connection.fetchval("SELECT count(*) FROM worker WHERE dead_at IS NULL")
        with where.processes(["scheduler"], *[["worker"]] * workers):
            while await connection.fetchval("SELECT count(*) FROM worker WHERE dead_at IS NULL") < before + workers:
                await asyncio.sleep(0.1)
            await asyncio.sleep(1)
            began = time.perf_counter()
            await connection.execute("UPDATE step_run SET due_at = now() WHERE due_at = 'infinity'")
            while await connection.fetchval(
                "SELECT count(*) FROM orchestration_job WHERE status IN ('QUEUED', 'DISPATCHED', 'RUNNING')"
            ):
                await asyncio.sleep(0.05)
            seconds = time.perf_counter() - began
        succeeded = await connection.fetchval("SELECT count(*) FROM orchestration_job WHERE status = 'SUCCEEDED'")
        assert succeeded % JOBS == 0, "every job succeeds"
        return JOBS / seconds
    finally:
        await connection.close()


async def submit(where: Surroundings) -> None:
    """Hand the jobs in, through the service that the API uses."""
    database = Database.connect(where.database_url, name="benchmark", pool_size=4)
    async with database.read(where.tenant_id) as session:
        user_id = (await session.get_one(User, 1)).id
    principal = Principal(
        where.tenant_id, "bench", user_id, Role.ADMIN, frozenset(Permission), 1, datetime.now(UTC) + timedelta(hours=1)
    )
    dependencies = Dependencies(Registry.default(), Sealer(base64.b64decode(where.secret_key)))
    async with database.write(where.tenant_id, actor="user:1", correlation_id="benchmark") as transaction:
        transaction.authorize("benchmark")
        steps = [
            {"key": f"s{n}", "type": "CUSTOM", "order": n, "configuration": {"task": "core.pass"}}
            for n in range(1, STEPS + 1)
        ]
        workflow = Workflow(
            tenant_id=where.tenant_id, workflow_name=uuid4().hex, workflow_type=WorkflowType.CUSTOM,
            status=DefinitionStatus.PUBLISHED, definition={"steps": steps},
        )  # fmt: skip
        transaction.session.add(workflow)
        await transaction.session.flush()
    for _ in range(JOBS):
        async with database.write(where.tenant_id, actor="user:1", correlation_id="benchmark") as transaction:
            command = CreatePlan(name=uuid4().hex, type=PlanType.IMMEDIATE, workflow_id=workflow.id)
            await plans.create(transaction, principal, command, dependencies)
    await database.close()


async def procrastinate(where: Surroundings) -> float:
    """Jobs per second of the peer, each a chain of five."""
    connector = peer.PsycopgConnector(conninfo=where.database_url)
    app = peer.App(connector=connector)
    done = 0
    all_done = asyncio.Event()

    @app.task(name="step")
    async def step(number: int) -> None:
        nonlocal done
        if number < STEPS:
            await step.defer_async(number=number + 1)
            return
        done += 1
        if done == JOBS:
            all_done.set()

    async with app.open_async():
        # It is there from the round before, except in the first.
        with contextlib.suppress(peer.exceptions.ConnectorException):
            await app.schema_manager.apply_schema_async()
        for _ in range(JOBS):
            await step.defer_async(number=1)
        began = time.perf_counter()
        worker = asyncio.create_task(
            app.run_worker_async(concurrency=AT_A_TIME, install_signal_handlers=False, delete_jobs="always")
        )
        await all_done.wait()
        seconds = time.perf_counter() - began
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    return JOBS / seconds


async def limit(where: Surroundings) -> float:
    """Jobs per second if a job were nothing but the commits that make its steps durable."""
    pool = await asyncpg.create_pool(where.database_url, min_size=AT_A_TIME, max_size=AT_A_TIME)
    await pool.execute("DROP TABLE IF EXISTS bare; CREATE TABLE bare (id int PRIMARY KEY, n int NOT NULL)")
    await pool.executemany("INSERT INTO bare VALUES ($1, 0)", [(number,) for number in range(AT_A_TIME)])

    async def work(number: int) -> None:
        for _ in range(JOBS * (STEPS + 2) // AT_A_TIME):
            async with pool.acquire() as connection:
                await connection.execute("UPDATE bare SET n = n + 1 WHERE id = $1", number)

    began = time.perf_counter()
    await asyncio.gather(*(work(number) for number in range(AT_A_TIME)))
    seconds = time.perf_counter() - began
    await pool.close()
    return JOBS / seconds
