"""Let the scheduler find who has queued jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "idx_orchestration_job_queued",
        "orchestration_job",
        ["tenant_id", "id"],
        postgresql_where=sa.text("status = 'QUEUED'"),
    )


def downgrade() -> None:
    op.drop_index("idx_orchestration_job_queued", "orchestration_job")
