"""Forgets what nobody asks for any more, a little at a time."""

from __future__ import annotations

from app.db.statements import Statement
from app.db.uow import Database, SystemRole

# A client that repeats a mutation does so within minutes; a week is for those who come back from a holiday.
_KEYS = Statement(
    "DELETE FROM idempotency_key WHERE (tenant_id, key) IN (SELECT tenant_id, key FROM idempotency_key"
    " WHERE created_at < clock_timestamp() - interval '7 days' ORDER BY created_at LIMIT :limit) RETURNING 1 AS one"
)
# Workers that are gone, once no step names them.
_WORKERS = Statement(
    "DELETE FROM worker WHERE id IN (SELECT w.id FROM worker w WHERE w.dead_at < clock_timestamp() - interval '1 day'"
    " AND NOT EXISTS (SELECT 1 FROM step_run s WHERE s.worker_id = w.id) ORDER BY w.id LIMIT :limit) RETURNING 1 AS one"
)


async def tidy(database: Database, limit: int = 500) -> int:
    """Delete up to `limit` rows of each kind that are too old to matter; returns how many went."""
    async with database.system(SystemRole.TICK) as transaction:
        return sum([len(await transaction.fetch(statement, {"limit": limit})) for statement in (_KEYS, _WORKERS)])
