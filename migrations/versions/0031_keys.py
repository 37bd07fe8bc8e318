"""Let the installation's key be replaced: a role that may seal again what is sealed, wherever that may be."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.row_security import KEYS, across_tenants, create_role, grant, release_role

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

# What is written once: nothing is sealed in it.
_WRITTEN_ONCE = ("audit_entry", "event_log")
_TABLES = sa.text(
    "SELECT c.relname::text AS name, array_agg(a.attname::text) FILTER (WHERE a.atttypid = 'jsonb'::regtype) AS json"
    " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
    " GROUP BY c.relname HAVING bool_or(a.atttypid = 'jsonb'::regtype) AND bool_or(a.attname = 'tenant_id') ORDER BY 1"
)
_KEYS_OF = sa.text(
    "SELECT p.attname::text FROM pg_index i"
    " JOIN pg_attribute p ON p.attrelid = i.indrelid AND p.attnum = ANY (i.indkey)"
    " WHERE i.indrelid = CAST(:name AS regclass) AND i.indisprimary"
)


def upgrade() -> None:
    create_role(KEYS)
    for name, json in _tables():
        keys = list(op.get_bind().scalars(_KEYS_OF, {"name": name}))
        across_tenants(KEYS, name)
        grant(KEYS, name, "SELECT", columns=sorted({"tenant_id", *keys, *json}))
        grant(KEYS, name, "UPDATE", columns=json)


def downgrade() -> None:
    for name, _ in _tables():
        op.execute(f"DROP POLICY keys ON {name}")
        op.execute(f"REVOKE ALL ON {name} FROM {KEYS}")
    release_role(KEYS)


def _tables() -> list[tuple[str, list[str]]]:
    found = op.get_bind().execute(_TABLES)
    return [(row.name, sorted(row.json)) for row in found if row.name not in _WRITTEN_ONCE]
