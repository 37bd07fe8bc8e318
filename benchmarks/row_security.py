"""What row-level security costs: the same statements, with the tenant in their predicates, under it and without it.

Two connections to one server, the one as the application's role, the other as a role that may do the same and that no
policy is asked for. (A superuser would not be asked for its privileges either, which is no matter of rows.) Each
statement is prepared on both, and run by the one and the other in turn.
"""

from __future__ import annotations

import random
import statistics
import time

import asyncpg

from app.db.uow import APP_ROLE
from benchmarks.dispatch import _PLANS, _TENANTS
from benchmarks.surroundings import surroundings

TENANTS, JOBS, RUNS = 200, 1_000, 400
LIMIT = 1.10
_JOBS = (
    "INSERT INTO orchestration_job (tenant_id, plan_id, job_name, job_type, status, stack)"
    " SELECT tenant_id, id, 'many ' || n, 'CUSTOM',"
    " (ARRAY['SUCCEEDED', 'FAILED', 'SUCCEEDED', 'RUNNING', 'CANCELLED'])[1 + n % 5],"
    " 'many' FROM deployment_plan, generate_series(1, $1::int) n WHERE plan_name = 'many'"
)
_STEPS = (
    "INSERT INTO step_run (tenant_id, job_id, step_key, name, step_type, operation, change, status, due_at, needs,"
    " spec, timeout_seconds, operation_id, max_attempts, wave)"
    " SELECT j.tenant_id, j.id, 'step' || n, 's', 'CUSTOM', 'RUN', 'RUN', 'PENDING', NULL,"
    " '{}', '{}', 60, gen_random_uuid(), 1, 0 FROM orchestration_job j, generate_series(1, 4) n WHERE j.tenant_id = $1"
)
_UNPOLICED = "benchmark_unpoliced"
_ROLE = (
    f"CREATE ROLE {_UNPOLICED} NOLOGIN BYPASSRLS;"
    f" GRANT USAGE ON SCHEMA public TO {_UNPOLICED};"
    f" GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {_UNPOLICED};"
    f" GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {_UNPOLICED}"
)
_COLUMNS = "j.id, j.job_name, j.status, j.plan_id, j.created_at, j.updated_at, j.started_at, j.error"
# What $2 is: the id of some job, or of some plan.
_STATEMENTS = {
    "point": f"SELECT {_COLUMNS} FROM orchestration_job j WHERE j.tenant_id = $1 AND j.id = $2",
    "page of 50": (
        f"SELECT {_COLUMNS} FROM orchestration_job j WHERE j.tenant_id = $1 AND j.id < $2 + 1000000000"
        " ORDER BY j.created_at DESC, j.id DESC LIMIT 50"
    ),
    "page of 50 by status": (
        f"SELECT {_COLUMNS} FROM orchestration_job j WHERE j.tenant_id = $1 AND j.status = 'FAILED'"
        " AND j.id < $2 + 1000000000 ORDER BY j.created_at DESC, j.id DESC LIMIT 50"
    ),
    "page of 25 with plan and first 3 steps of each": (
        f"SELECT {_COLUMNS}, p.plan_name, s.steps FROM (SELECT * FROM orchestration_job WHERE tenant_id = $1"
        " AND id < $2 + 1000000000 ORDER BY created_at DESC, id DESC LIMIT 25) j"
        " JOIN deployment_plan p ON p.tenant_id = $1 AND p.id = j.plan_id"
        " CROSS JOIN LATERAL (SELECT json_agg(x) AS steps FROM (SELECT id, step_key, status FROM step_run"
        " WHERE tenant_id = $1 AND job_id = j.id ORDER BY id LIMIT 3) x) s"
    ),
    "group by status": (
        "SELECT status, count(*) FROM orchestration_job WHERE tenant_id = $1 AND id < $2 + 1000000000 GROUP BY status"
    ),
    "insert": (
        "INSERT INTO orchestration_job (tenant_id, plan_id, job_name, job_type, status, stack)"
        " SELECT $1, plan_id, 'new', 'CUSTOM', 'QUEUED', 'many' FROM orchestration_job WHERE tenant_id = $1 AND id = $2"
    ),
    "update": "UPDATE orchestration_job SET outputs = '{}', updated_at = now() WHERE tenant_id = $1 AND id = $2",
}


async def run(rounds: int) -> str:
    """The table."""
    lines = [
        f"\n### Row-level security, {TENANTS} tenants, {JOBS:,} jobs each (medians of {rounds} × {RUNS}, in turn)\n",
        "| | without, ms | with, ms | ratio | rounds | goal ≤ 1.10 |",
        "|---|--:|--:|--:|--:|---|",
    ]
    async with surroundings() as where:
        plain, secured = await asyncpg.connect(where.database_url), await asyncpg.connect(where.database_url)
        tenant, jobs = await _fill(plain)
        for connection in (plain, secured):
            # As the connections are that queries are answered on.
            await connection.execute("SET jit = off; SET plan_cache_mode = force_generic_plan")
        await plain.execute(_ROLE)
        await plain.execute(f"SET ROLE {_UNPOLICED}")
        await secured.execute(f"SET ROLE {APP_ROLE}")
        await secured.execute(f"SELECT set_config('app.tenant_id', '{tenant}', false)")
        chance = random.Random(1)
        for name, sql in _STATEMENTS.items():
            sides = [await plain.prepare(sql), await secured.prepare(sql)]
            medians = [await _measure(plain, secured, sides, tenant, jobs, chance) for _ in range(rounds)]
            without, with_it = (statistics.median(side) for side in zip(*medians, strict=True))
            ratios = [b / a for a, b in medians]
            ratio = with_it / without
            lines.append(
                f"| {name} | {without:.3f} | {with_it:.3f} | {ratio:.2f} | {min(ratios):.2f}–{max(ratios):.2f}"
                f" | {'yes' if ratio <= LIMIT else '**no**'} |"
            )
        for connection in (plain, secured):
            await connection.close()
    return "\n".join(lines)


async def _fill(connection: asyncpg.Connection) -> tuple[int, list[int]]:
    """The tenant that is asked about, and its jobs."""
    await connection.execute(_TENANTS, TENANTS)
    await connection.execute(_PLANS)
    await connection.execute(_JOBS, JOBS)
    tenant: int = await connection.fetchval("SELECT id FROM tenant WHERE slug = 'many-100'")
    await connection.execute(_STEPS, tenant)
    await connection.execute("VACUUM ANALYZE")
    rows = await connection.fetch("SELECT id FROM orchestration_job WHERE tenant_id = $1", tenant)
    return tenant, [row["id"] for row in rows]


async def _measure(
    plain: asyncpg.Connection,
    secured: asyncpg.Connection,
    sides: list[asyncpg.prepared_stmt.PreparedStatement],
    tenant: int,
    jobs: list[int],
    chance: random.Random,
) -> tuple[float, float]:
    """The medians in milliseconds; what is written is taken back, and neither begin nor end are counted."""
    taken: tuple[list[float], list[float]] = ([], [])
    pairs = list(zip((plain, secured), sides, taken, strict=True))
    for number in range(RUNS + 20):
        job = chance.choice(jobs)
        for connection, statement, times in pairs if number % 2 else pairs[::-1]:
            transaction = connection.transaction()
            await transaction.start()
            began = time.perf_counter()
            await statement.fetch(tenant, job)
            ended = time.perf_counter()
            await transaction.rollback()
            if number >= 20:
                times.append((ended - began) * 1000)
    return statistics.median(taken[0]), statistics.median(taken[1])
