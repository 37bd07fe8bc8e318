"""Let the scheduler ask for each tenant's due steps apart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_WAITING = sa.text("due_at IS NOT NULL AND worker_id IS NULL")


def upgrade() -> None:
    op.drop_index("idx_step_run_due", "step_run")
    op.create_index("idx_step_run_due", "step_run", ["tenant_id", "due_at", "id"], postgresql_where=_WAITING)


def downgrade() -> None:
    op.drop_index("idx_step_run_due", "step_run")
    op.create_index("idx_step_run_due", "step_run", ["due_at", "id"], postgresql_where=_WAITING)
