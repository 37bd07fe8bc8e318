"""Ours: hand jobs in through the service that the API uses, and let processes carry them as in production."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg

from app.auth.principal import Principal
from app.bus.bus import Bus
from app.db.models import User, Workflow
from app.db.sealing import Sealer
from app.db.uow import Database, Rings, SystemRole
from app.domain.enums import DefinitionStatus, Permission, PlanType, Role, WorkflowType
from app.engine import admission
from app.providers.registry import Registry
from app.services import plans
from app.services.dependencies import Dependencies
from app.services.plans import CreatePlan
from benchmarks.surroundings import Surroundings

STEPS = 5
AT_A_TIME = 8
WARM_UP = 32
NOTHING = [
    {"key": f"s{n}", "type": "CUSTOM", "order": n, "configuration": {"task": "core.pass"}} for n in range(1, STEPS + 1)
]
_OPEN = "status IN ('QUEUED', 'DISPATCHED', 'RUNNING')"


@dataclass(frozen=True, slots=True)
class Client:
    """Who hands in. Rings what the API rings; `committed` is called first after each commit that rings."""

    where: Surroundings
    database: Database
    principal: Principal
    dependencies: Dependencies
    workflow_id: int

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, where: Surroundings, steps: list[dict[str, Any]], committed: Callable[[], None] = lambda: None
    ) -> AsyncIterator[Client]:
        bus = Bus(where.redis_url)
        await bus.start()

        def after_commit(rings: Rings) -> None:
            committed()
            bus.ring(rings)

        database = Database.connect(
            where.database_url, name="benchmark", pool_size=AT_A_TIME, after_commit=after_commit
        )
        try:
            async with database.read(where.tenant_id) as session:
                user_id = (await session.get_one(User, 1)).id
            principal = Principal(
                where.tenant_id, "bench", user_id, Role.ADMIN, frozenset(Permission), 1,
                datetime.now(UTC) + timedelta(hours=1),
            )  # fmt: skip
            async with database.write(where.tenant_id, actor="user:1", correlation_id="benchmark") as transaction:
                transaction.authorize("benchmark")
                workflow = Workflow(
                    tenant_id=where.tenant_id, workflow_name=uuid4().hex, workflow_type=WorkflowType.CUSTOM,
                    status=DefinitionStatus.PUBLISHED, definition={"steps": steps},
                )  # fmt: skip
                transaction.session.add(workflow)
                await transaction.session.flush()
                workflow_id = workflow.id
            dependencies = Dependencies(Registry.default(), Sealer(base64.b64decode(where.secret_key)))
            yield cls(where, database, principal, dependencies, workflow_id)
        finally:
            # A bus that is stopped in the middle of a publish may not notice, and the stop waits for ever.
            await asyncio.sleep(0.3)
            await bus.stop()
            await database.close()

    async def submit(self) -> int:
        """Hand one job in; its id."""
        async with self.database.write(self.where.tenant_id, actor="user:1", correlation_id="benchmark") as transaction:
            command = CreatePlan(name=uuid4().hex, type=PlanType.IMMEDIATE, workflow_id=self.workflow_id)
            plan = await plans.create(transaction, self.principal, command, self.dependencies)
            assert plan.last_job_id is not None, plan.status
            return plan.last_job_id

    async def submit_many(self, jobs: int) -> None:
        """Hand in `jobs` jobs, eight at a time."""
        left = iter(range(jobs))

        async def hand_in() -> None:
            for _ in left:
                await self.submit()

        await asyncio.gather(*(hand_in() for _ in range(AT_A_TIME)))


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the server's owner, who sees all tenants."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def working(connection: asyncpg.Connection, workers: int) -> None:
    """Wait until so many workers have a lease, and a moment for everything to be quiet."""
    async with asyncio.timeout(60):
        while await connection.fetchval("SELECT count(*) FROM worker WHERE dead_at IS NULL") < workers:
            await asyncio.sleep(0.05)
    await asyncio.sleep(1)


async def all_ended(connection: asyncpg.Connection, *, but: int = 0) -> None:
    """Wait until no job is open, `but` so many. Every other has succeeded, or it is no measurement."""
    async with asyncio.timeout(120):
        while await connection.fetchval(f"SELECT EXISTS (SELECT FROM orchestration_job WHERE {_OPEN} OFFSET {but})"):
            await asyncio.sleep(0.02)
    if but:
        return
    others = await connection.fetchval("SELECT count(*) FROM orchestration_job WHERE status <> 'SUCCEEDED'")
    assert others == 0, f"{others} jobs did not succeed"


async def lying_there(where: Surroundings, jobs: int, connection: asyncpg.Connection) -> None:
    """Hand in jobs whose first step is not due until `release`."""
    async with Client.open(where, NOTHING) as client:
        await client.submit_many(jobs)
        # Those that found another one beginning wait for the tick, which is not running yet.
        waiting = True
        while waiting:
            async with client.database.system(SystemRole.TICK) as transaction:
                waiting = await admission.admit(transaction)
    # As autovacuum leaves it once a minute: a server that was made a moment ago knows nothing about its tables.
    await connection.execute("ANALYZE")
    await connection.execute("UPDATE step_run SET due_at = 'infinity' WHERE due_at IS NOT NULL")


async def release(connection: asyncpg.Connection, jobs: int | None = None) -> None:
    """What lies there is due now; of so many `jobs`, the oldest, where a number is given."""
    lying = "SELECT id FROM step_run WHERE due_at = 'infinity' ORDER BY id LIMIT $1"
    await connection.execute(f"UPDATE step_run SET due_at = now() WHERE id IN ({lying})", jobs)


async def carried(where: Surroundings, jobs: int, workers: int) -> float:
    """Jobs a second of `workers` worker processes; the jobs lie there, due, when the clock starts."""
    async with connected(where.database_url) as connection:
        # The workers tick for themselves, so they are up before the clock starts and the steps are held back.
        await lying_there(where, jobs + WARM_UP, connection)
        with where.processes(["scheduler"], *[["worker"]] * workers):
            await working(connection, workers)
            # As the peers do: what a process does for the first time takes longer.
            await release(connection, WARM_UP)
            await all_ended(connection, but=jobs)
            began = time.perf_counter()
            await release(connection)
            await all_ended(connection)
            return jobs / (time.perf_counter() - began)


async def handed_in_and_carried(where: Surroundings, jobs: int) -> float:
    """Jobs a second of one worker process while eight clients hand them in; validating and planning each counts."""
    async with connected(where.database_url) as connection, Client.open(where, NOTHING) as client:
        with where.processes(["scheduler"], ["worker"]):
            await working(connection, 1)
            began = time.perf_counter()
            await client.submit_many(jobs)
            await all_ended(connection)
            return jobs / (time.perf_counter() - began)
