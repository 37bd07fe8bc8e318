"""A flood of one tenant's steps neither hides another's nor makes the scheduler walk over all that waits."""

from __future__ import annotations

from collections import Counter

import asyncpg

from app.db.uow import SystemRole
from app.engine import dispatching
from tests.engine.harness import Workshop
from tests.factories.tenants import tenant

_FLOOD = 5_000
_STEPS = """
    WITH plan AS (INSERT INTO deployment_plan (tenant_id, plan_name, plan_type, status, stack)
        VALUES ($1, 'p', 'IMMEDIATE', 'RUNNING', 'p') RETURNING id),
    job AS (INSERT INTO orchestration_job (tenant_id, plan_id, job_name, job_type, status, stack)
        SELECT $1, id, 'j', 'CUSTOM', 'RUNNING', 'p' FROM plan RETURNING id)
    INSERT INTO step_run (tenant_id, job_id, step_key, name, step_type, operation, change, status, due_at, needs, spec,
        timeout_seconds, operation_id, max_attempts, wave)
    SELECT $1, job.id, 's' || n, 's', 'CUSTOM', 'RUN', 'RUN', 'READY', clock_timestamp() - $3::text::interval, '{}',
        '{}', 60, gen_random_uuid(), 1, 0 FROM job, generate_series(1, $2::int) n
"""


async def test_a_small_tenant_is_rung_for_in_the_first_pick_of_a_flood(workshop: Workshop, database_url: str) -> None:
    small = await tenant(workshop.database, "small")
    connection = await asyncpg.connect(database_url)
    # The flood has waited for longer, so that going by age alone would put it first.
    await connection.execute(_STEPS, workshop.tenant_id, _FLOOD, "2 hours")
    await connection.execute(_STEPS, small.tenant_id, 3, "1 second")
    picked: Counter[int] = Counter()
    for _ in range(3):
        async with workshop.database.system(SystemRole.TICK) as transaction:
            await dispatching.pick(transaction, 60.0, 64)
            found = Counter(due.tenant_id for due in transaction.rings.due)
        if not picked:
            assert found[small.tenant_id] == 3, "all that the small tenant has is in the first pick"
        picked += found
    # Half of each pick is the large one's share; nobody is rung for twice.
    assert picked[workshop.tenant_id] >= 3 * 32
    rung = await connection.fetchval("SELECT count(*) FROM step_run WHERE dispatches = 1")
    assert rung == picked.total()
    await connection.close()


async def test_the_pick_finds_its_steps_by_index(workshop: Workshop, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(_STEPS, workshop.tenant_id, _FLOOD, "1 hour")
    await connection.execute("ANALYZE step_run")
    await connection.execute("SET ROLE windlass_tick")
    await connection.execute(f"PREPARE pick AS {dispatching._DUE.sql}")
    values = {"limit": "64", "least": "4", "again": "5"}
    given = ", ".join(values[name] for name in dispatching._DUE.names)
    rows = await connection.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) EXECUTE pick({given})")
    plan = "\n".join(row[0] for row in rows)
    await connection.close()
    assert "Seq Scan on step_run" not in plan, plan
