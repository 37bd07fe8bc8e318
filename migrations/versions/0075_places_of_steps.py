"""The tick may name steps by their place: it finds those to ring for once, and not again by their keys."""

from __future__ import annotations

from alembic import op

from migrations.row_security import TICK, grant

revision = "0075"
down_revision = "0074"
branch_labels = None
depends_on = None


def upgrade() -> None:
    grant(TICK, "step_run", "SELECT", columns=("ctid",))


def downgrade() -> None:
    op.execute(f"REVOKE SELECT (ctid) ON step_run FROM {TICK}")
