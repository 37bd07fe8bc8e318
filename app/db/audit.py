"""The audit log's statements: entries are added, sealed, and nothing else."""

from __future__ import annotations

from app.db.statements import Statement
from app.db.uow import Transaction

ADD = Statement(
    "INSERT INTO audit_entry (tenant_id, feed, actor, token_id, address, request_id, action, outcome, target_type,"
    " target_id, before, after) VALUES (:tenant, pg_current_xact_id()::text::bigint, :actor, :token, :address,"
    " :request, :action, :outcome, :type, :target, :before::jsonb, :after::jsonb)"
)
# Tenants that have entries behind the last one sealed, found by leaps in the index, whatever they have written.
_WAITING = Statement(
    "WITH RECURSIVE leaps AS ((SELECT tenant_id AS id FROM audit_entry ORDER BY tenant_id LIMIT 1)"
    "  UNION ALL SELECT (SELECT e.tenant_id FROM audit_entry e WHERE e.tenant_id > l.id ORDER BY e.tenant_id LIMIT 1)"
    "  FROM leaps l WHERE l.id IS NOT NULL)"
    " SELECT t.id FROM leaps t LEFT JOIN LATERAL (SELECT s.feed, s.entry_id FROM audit_seal s"
    "   WHERE s.tenant_id = t.id ORDER BY s.seq DESC LIMIT 1) last ON true"
    " WHERE EXISTS (SELECT 1 FROM audit_entry e WHERE e.tenant_id = t.id"
    "   AND (e.feed, e.id) > (coalesce(last.feed, 0), coalesce(last.entry_id, 0)))"
    " ORDER BY t.id LIMIT :limit"
)
_SEAL = Statement("SELECT audit_seal_next(:tenant, :limit) AS sealed")


async def waiting(transaction: Transaction, limit: int) -> list[int]:
    """Tenants with entries that are not sealed."""
    return [row["id"] for row in await transaction.fetch(_WAITING, {"limit": limit})]


async def seal(transaction: Transaction, limit: int) -> int:
    """Seal the tenant's next entries, as far as no transaction is still at work below them; returns how many."""
    row = await transaction.fetch_one(_SEAL, {"tenant": transaction.tenant_id, "limit": limit})
    return 0 if row is None else int(row["sealed"])
