"""Bind secrets to where they belong: webhooks draw their ids ahead; the role of keys sees what rows are known by."""

from __future__ import annotations

from alembic import op

from migrations.row_security import APP, KEYS, grant

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

_KNOWN_BY = {"provider_connection": ("provider", "name"), "tofu_state_version": ("state_id", "serial")}
_NUMBERS = "webhook_endpoint_id_seq"


def upgrade() -> None:
    for table, columns in _KNOWN_BY.items():
        grant(KEYS, table, "SELECT", columns=columns)
    op.execute(f"GRANT USAGE ON SEQUENCE {_NUMBERS} TO {APP}")


def downgrade() -> None:
    op.execute(f"REVOKE USAGE ON SEQUENCE {_NUMBERS} FROM {APP}")
    for table, columns in _KNOWN_BY.items():
        op.execute(f"REVOKE SELECT ({', '.join(columns)}) ON {table} FROM {KEYS}")
