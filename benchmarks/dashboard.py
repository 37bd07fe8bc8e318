"""What a dashboard of some size has to show: 50 tenants, 1,000 workflows of ten steps, 20,000 plans, 60,000 jobs."""

from __future__ import annotations

import asyncpg

from benchmarks.surroundings import Surroundings

TENANTS, WORKFLOWS, STEPS, PLANS, JOBS = 50, 1000, 10, 20_000, 60_000


async def fill(where: Surroundings) -> None:
    """Write it, all of it at rest."""
    connection = await asyncpg.connect(where.database_url)
    try:
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO tenant (name, slug) SELECT 'Tenant ' || n, 't' || n FROM generate_series(2, $1::int) n",
                TENANTS,
            )
            for statement, number in _ROWS:
                await connection.execute(statement, number)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


_TENANT = "(SELECT array_agg(id ORDER BY id) FROM tenant)"
_OWNER = f"({_TENANT})[1 + n % {TENANTS}]"
_ROWS = (
    (
        (
            "INSERT INTO workflow (tenant_id, workflow_name, workflow_type, definition, status)"
            f" SELECT {_OWNER}, 'workflow ' || n, 'DEPLOYMENT', '{{\"steps\": []}}', 'PUBLISHED'"
            " FROM generate_series(1, $1::int) n"
        ),
        WORKFLOWS,
    ),
    (
        (
            "INSERT INTO workflow_step (tenant_id, workflow_id, step_key, step_name, step_order, step_type, status)"
            " SELECT tenant_id, id, 'step-' || n, 'Step ' || n, n, 'CUSTOM', 'PUBLISHED'"
            " FROM workflow, generate_series(1, $1::int) n"
        ),
        STEPS,
    ),
    (
        (
            "INSERT INTO resource_template (tenant_id, template_name, template_type, template_content, status)"
            " SELECT id, 'template ' || n, 'CUSTOM', '{\"resources\": {}}', 'PUBLISHED'"
            " FROM tenant, generate_series(1, $1::int) n"
        ),
        10,
    ),
    (
        (
            "INSERT INTO deployment_plan (tenant_id, plan_name, plan_type, status, stack, workflow_id,"
            " template_tenant_id, template_id, created_at)"
            " SELECT w.tenant_id, 'plan ' || n, 'IMMEDIATE', 'SUCCEEDED', 'stack ' || n, w.id, t.tenant_id, t.id,"
            " now() - n * interval '1 minute'"
            f" FROM (SELECT n, 1 + n % {WORKFLOWS} AS w FROM generate_series(1, $1::int) n) p"
            " JOIN (SELECT *, row_number() OVER (ORDER BY id) AS place FROM workflow) w ON w.place = p.w"
            " JOIN LATERAL (SELECT * FROM resource_template t WHERE t.tenant_id = w.tenant_id ORDER BY t.id LIMIT 1) t"
            " ON true"
        ),
        PLANS,
    ),
    (
        (
            "INSERT INTO orchestration_job (tenant_id, plan_id, job_name, job_type, stack, status, created_at,"
            " started_at, completed_at, duration_seconds)"
            " SELECT p.tenant_id, p.id, 'job ' || n, 'DEPLOY', p.stack,"
            " CASE WHEN n % 3 = 0 THEN 'FAILED' ELSE 'SUCCEEDED' END, p.created_at + n * interval '1 second',"
            " p.created_at, p.created_at, 5"
            " FROM deployment_plan p, generate_series(1, $1::int) n"
        ),
        JOBS // PLANS,
    ),
)
