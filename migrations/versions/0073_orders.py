"""Order jobs and plans by moments that may be missing with an index: what is missing counts as later than all others.

The tables are written anew, under a lock.
"""

from __future__ import annotations

from alembic import op

revision = "0073"
down_revision = "0072"
branch_labels = None
depends_on = None

_NEVER = "'9999-01-01 00:00:00+00'::timestamptz"
_ADDED = {
    "orchestration_job": (
        ("started_order", "timestamptz", f"COALESCE(started_at, {_NEVER})"),
        ("completed_order", "timestamptz", f"COALESCE(completed_at, {_NEVER})"),
        ("duration_order", "integer", "COALESCE(duration_seconds, 2147483647)"),
    ),
    "deployment_plan": (
        ("scheduled_order", "timestamptz", f"COALESCE(scheduled_at, {_NEVER})"),
        ("started_order", "timestamptz", f"COALESCE(started_at, {_NEVER})"),
    ),
}


def upgrade() -> None:
    for table, columns in _ADDED.items():
        added = (f"ADD {name} {kind} NOT NULL GENERATED ALWAYS AS ({made}) STORED" for name, kind, made in columns)
        op.execute(f"ALTER TABLE {table} {', '.join(added)}")
        for name, *_ in columns:
            op.create_index(f"idx_{table}_{name}", table, ["tenant_id", name, "id"])


def downgrade() -> None:
    for table, columns in _ADDED.items():
        for name, *_ in columns:
            op.drop_index(f"idx_{table}_{name}", table)
            op.drop_column(table, name)
