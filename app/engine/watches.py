"""Which conditions have to be looked at. Finding them takes nothing from anybody; who looks does so elsewhere."""

from __future__ import annotations

from app.db.feed import HORIZON
from app.db.statements import Statement
from app.db.uow import Transaction

# Round robin over tenants, so that nobody's thousand conditions keep the others from theirs.
_DUE = Statement(
    "SELECT tenant_id, plan_id FROM (SELECT tenant_id, plan_id, look_at,"
    "  row_number() OVER (PARTITION BY tenant_id ORDER BY look_at, plan_id) AS turn"
    "  FROM (SELECT tenant_id, plan_id, look_at FROM plan_watch WHERE look_at IS NOT NULL"
    "    AND look_at <= statement_timestamp() ORDER BY look_at, plan_id LIMIT 2000) due) ranked"
    " ORDER BY turn, look_at LIMIT :limit"
)
# Tenants in which something waits and something has happened; whose news are oldest comes first.
_STIRRED = Statement(
    "SELECT c.tenant_id FROM watch_cursor c WHERE"  # noqa: S608
    " EXISTS (SELECT FROM plan_watch w WHERE w.tenant_id = c.tenant_id)"
    f" AND EXISTS (SELECT FROM event_log e WHERE e.tenant_id = c.tenant_id AND e.feed > c.feed AND e.feed < {HORIZON})"
    " ORDER BY c.feed LIMIT :limit"
)
# What asks an index for what is due.
TIMERS = (_DUE,)


async def due(transaction: Transaction, limit: int = 16) -> list[tuple[int, int]]:
    """The (tenant, plan) whose conditions have to be looked at now."""
    return [(row["tenant_id"], row["plan_id"]) for row in await transaction.fetch(_DUE, {"limit": limit})]


async def stirred(transaction: Transaction, limit: int = 16) -> list[int]:
    """The tenants in which something has happened that a condition may read."""
    return [row["tenant_id"] for row in await transaction.fetch(_STIRRED, {"limit": limit})]
