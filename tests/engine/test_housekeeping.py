"""What nobody asks for any more is forgotten, and nothing else."""

from __future__ import annotations

import asyncpg

from app.engine.housekeeping import tidy
from tests.engine.harness import Workshop

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
