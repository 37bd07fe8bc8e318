"""Forgets what nobody asks for any more, a little at a time."""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from app import clock
from app.db.statements import Statement
from app.db.uow import Database, SystemRole
from app.domain.firing import UNDER_WAY

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
# What standing plans have heard and decided about: the newest 1,000 of each plan stay, however old, and so does what a
# run that is not over came from: runs are counted by it. Until it goes, a call with the same id is the same call.
_TRIGGERS = Statement(
    "DELETE FROM plan_trigger WHERE id IN (SELECT t.id FROM plan_automation a, LATERAL ("
    "   SELECT n.id FROM plan_trigger n WHERE n.tenant_id = a.tenant_id AND n.plan_id = a.plan_id"
    "   ORDER BY n.id DESC OFFSET 1000 LIMIT 1) AS edge,"
    " plan_trigger t WHERE t.tenant_id = a.tenant_id AND t.plan_id = a.plan_id AND t.id <= edge.id"
    " AND t.created_at < clock_timestamp() - interval '90 days' AND t.outcome <> 'PENDING'"
    " AND NOT EXISTS (SELECT 1 FROM deployment_plan c WHERE c.tenant_id = t.tenant_id AND c.id = t.child_plan_id"
    "   AND c.status = ANY(CAST(:under_way AS text[]))) ORDER BY t.id LIMIT :limit) RETURNING 1 AS one"
)


# Weeks of log lines are made some time ahead, and dropped whole when they are too old (migration 0024).
_WEEKS_AHEAD = 2
_WEEKS = Statement("SELECT job_log_keep(:ahead, :days) AS dropped")
# Lines of a week that nobody had made lie apart, and go one by one. Weeks that are kept are not even looked into.
_LINES = Statement(
    "DELETE FROM job_log WHERE (tenant_id, job_id, first_seq, at) IN (SELECT tenant_id, job_id, first_seq, at"
    " FROM job_log WHERE at < :before ORDER BY at LIMIT :limit) AND at < :before RETURNING 1 AS one"
)


async def tidy(database: Database, limit: int = 500) -> int:
    """Delete up to `limit` rows of each kind that are too old to matter; returns how many went."""
    beside: dict[Statement, dict[str, object]] = {
        _KEYS: {},
        _WORKERS: {},
        _TRIGGERS: {"under_way": sorted(UNDER_WAY)},
    }
    async with database.system(SystemRole.TICK) as transaction:
        return sum([len(await transaction.fetch(one, {"limit": limit, **more})) for one, more in beside.items()])


async def tidy_logs(database: Database, keep_days: int, limit: int = 500) -> int:
    """Make room for the log lines of the weeks to come, and forget weeks older than `keep_days`, unless that is 0.

    Returns how many weeks, and chunks of lines outside of them, went: none while the table is too busy for it.
    """
    try:
        async with database.system(SystemRole.TICK) as transaction:
            kept = await transaction.fetch_one(_WEEKS, {"ahead": _WEEKS_AHEAD, "days": keep_days})
    except asyncpg.LockNotAvailableError:
        return 0
    dropped: int = 0 if kept is None else kept["dropped"]
    if keep_days == 0:
        return dropped
    eldest = clock.utc_now() - timedelta(days=keep_days)
    monday = eldest.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=eldest.weekday())
    async with database.system(SystemRole.TICK) as transaction:
        return dropped + len(await transaction.fetch(_LINES, {"before": monday, "limit": limit}))
