"""What nobody asks for any more is forgotten, and nothing else."""

from __future__ import annotations

import asyncpg

from app.engine.housekeeping import tidy
from tests.engine.harness import Workshop
from tests.engine.standing import HOOK, call, hear, standing, triggers

_KEYS = (
    "INSERT INTO idempotency_key (tenant_id, key, operation, fingerprint, result, created_at)"
    " SELECT $1, $2::text || n, 'x', '0', '{}', now() - $3::text::interval FROM generate_series(1, $4::int) n"
)
_WORKERS = (
    "INSERT INTO worker (name, host, pid, app_version, lease_until, dead_at)"
    " VALUES ('w', 'h', 1, '0', now(), now() - $1::text::interval)"
)


async def test_what_is_old_goes_a_little_at_a_time(workshop: Workshop, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(_KEYS, workshop.tenant_id, "old", "8 days", 7)
    await connection.execute(_KEYS, workshop.tenant_id, "new", "6 days", 2)
    for age in ("2 days", "1 hour"):
        await connection.execute(_WORKERS, age)
    living = await connection.fetchval("SELECT count(*) FROM worker WHERE dead_at IS NULL")
    assert await tidy(workshop.database, limit=5) == 5 + 1
    assert await tidy(workshop.database, limit=5) == 2
    assert await tidy(workshop.database, limit=5) == 0
    assert await connection.fetchval("SELECT count(*) FROM idempotency_key WHERE key LIKE 'new%'") == 2
    assert await connection.fetchval("SELECT count(*) FROM worker WHERE dead_at IS NULL") == living
    assert await connection.fetchval("SELECT count(*) FROM worker WHERE dead_at IS NOT NULL") == 1
    await connection.close()


_HEARD = (
    "INSERT INTO plan_trigger (tenant_id, plan_id, kind, key, chain, cause, outcome, created_at)"
    " SELECT $1, $2, 'WEBHOOK', $3 || n, '{}', '{}', $4, now() - $5::text::interval FROM generate_series(1, $6::int) n"
)


async def test_triggers_of_long_ago_go_but_the_newest_and_what_waits_or_runs_stay(
    workshop: Workshop, database_url: str
) -> None:
    plan, other = await standing(workshop, HOOK), await standing(workshop, HOOK, name="other")
    connection = await asyncpg.connect(database_url)
    await call(workshop, plan, "running")
    await hear(workshop)
    assert [outcome for _, outcome, _ in await triggers(workshop, plan)] == ["SPAWNED"]
    await connection.execute("UPDATE plan_trigger SET created_at = now() - interval '99 days'")
    for owner, key, outcome, age, number in (
        (plan, "old", "SKIPPED", "91 days", 7),
        (plan, "waits", "PENDING", "91 days", 2),
        (plan, "young", "SKIPPED", "89 days", 3),
        (plan, "newest", "SKIPPED", "91 days", 1000),
        (other, "kept", "SKIPPED", "91 days", 1000),
    ):
        await connection.execute(_HEARD, workshop.tenant_id, owner, key, outcome, age, number)
    assert [await tidy(workshop.database, limit=5) for _ in range(3)] == [5, 2, 0]
    left = await connection.fetch(
        "SELECT rtrim(key, '0123456789') AS kind, count(*) FROM plan_trigger GROUP BY 1 ORDER BY 1"
    )
    assert {row["kind"]: row["count"] for row in left} == {
        "kept": 1000, "newest": 1000, "running": 1, "waits": 2, "young": 3,
    }  # fmt: skip
    await connection.execute("UPDATE deployment_plan SET status = 'SUCCEEDED' WHERE parent_plan_id = $1", plan)
    assert [await tidy(workshop.database) for _ in range(2)] == [1, 0]
    await connection.close()
