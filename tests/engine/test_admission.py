"""Who of those that wait starts first, and that a stack which is free is taken at once."""

from __future__ import annotations

from collections import Counter

import asyncpg

from app.db.uow import Rings, SystemRole
from app.engine import admission
from tests.engine.harness import Workshop, note
from tests.factories.tenants import tenant

_QUEUED = """
    WITH plans AS (INSERT INTO deployment_plan (tenant_id, plan_name, plan_type, status, stack)
        SELECT $1, 'p' || n, 'IMMEDIATE', 'QUEUED', $3::text || n FROM generate_series(1, $2::int) n
        RETURNING id, stack),
    jobs AS (INSERT INTO orchestration_job (tenant_id, plan_id, job_name, job_type, status, stack)
        SELECT $1, id, 'j', 'CUSTOM', 'QUEUED', stack FROM plans RETURNING id)
    INSERT INTO step_run (tenant_id, job_id, step_key, name, step_type, operation, change, status, needs, spec,
        timeout_seconds, operation_id, max_attempts, wave)
    SELECT $1, id, 's', 's', 'CUSTOM', 'RUN', 'RUN', 'PENDING', '{}', '{}', 60, gen_random_uuid(), 1, 0 FROM jobs
"""


async def test_one_tenant_with_many_stacks_does_not_keep_another_waiting(workshop: Workshop, database_url: str) -> None:
    small = await tenant(workshop.database, "small")
    connection = await asyncpg.connect(database_url)
    await connection.execute(_QUEUED, workshop.tenant_id, 60, "s")
    await connection.execute(_QUEUED, small.tenant_id, 2, "s")
    async with workshop.database.system(SystemRole.TICK) as transaction:
        assert await admission.admit(transaction, 10) == 10
    gone = "SELECT tenant_id FROM orchestration_job WHERE status <> 'QUEUED'"
    started = Counter(row["tenant_id"] for row in await connection.fetch(gone))
    assert started == {workshop.tenant_id: 8, small.tenant_id: 2}
    await connection.close()


async def test_of_one_stack_only_the_first_is_looked_at(workshop: Workshop, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    for _ in range(3):
        await connection.execute(_QUEUED, workshop.tenant_id, 1, "s")
    last = "SELECT max(id) FROM orchestration_job"
    await connection.execute(f"UPDATE orchestration_job SET priority = 1 WHERE id = ({last})")
    async with workshop.database.system(SystemRole.TICK) as transaction:
        assert await admission.admit(transaction) == 1
        assert await admission.admit(transaction) == 0, "the others wait for its lock and cost nothing"
    rows = await connection.fetch("SELECT status FROM orchestration_job ORDER BY id")
    assert [row["status"] == "QUEUED" for row in rows] == [True, True, False]
    await connection.close()


async def test_the_end_of_a_job_wakes_the_tick_when_somebody_waits_for_its_stack(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a")}})
    first = await workshop.submit(template)
    freed: list[bool] = []
    tell = workshop.database._after_commit
    assert tell is not None

    def listen(rings: Rings) -> None:
        freed.append(rings.freed)
        tell(rings)

    workshop.database._after_commit = listen
    second = await workshop.submit(template)
    await workshop.answer()
    assert (await workshop.job(first)).status == "SUCCEEDED"
    assert (await workshop.job(second)).status == "QUEUED"
    assert freed.count(True) == 1
    await workshop.settle(second)
    assert freed.count(True) == 1, "nobody waits any more"
