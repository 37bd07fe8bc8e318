"""Find what was taken from lost workers without a look at all that is due."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0070"
down_revision = "0065"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "idx_step_run_lost",
        "step_run",
        ["due_at"],
        postgresql_where=sa.text("worker_id IS NULL AND status_reason = 'WORKER_LOST' AND due_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("idx_step_run_lost", table_name="step_run")
