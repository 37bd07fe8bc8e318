"""Let the scheduler forget keys and workers that nobody asks for any more."""

from __future__ import annotations

from alembic import op

from migrations.row_security import TICK, across_tenants, grant

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    across_tenants(TICK, "idempotency_key")
    grant(TICK, "idempotency_key", "SELECT", columns=("tenant_id", "key", "created_at"))
    grant(TICK, "idempotency_key", "DELETE")
    grant(TICK, "worker", "DELETE")


def downgrade() -> None:
    op.execute(f"REVOKE DELETE ON worker FROM {TICK}")
    op.execute(f"REVOKE DELETE ON idempotency_key FROM {TICK}")
    op.execute(f"REVOKE SELECT (tenant_id, key, created_at) ON idempotency_key FROM {TICK}")
    op.execute("DROP POLICY tick ON idempotency_key")
