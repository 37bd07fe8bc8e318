"""Let jobs wait only so long for a worker, and steps take only so long with all of their attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.row_security import TICK, grant

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

_STEP: tuple[sa.Column[object], ...] = (
    sa.Column("total_seconds", sa.Float(), nullable=True),
    sa.Column("heartbeat_seconds", sa.Float(), nullable=True),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
    sa.Column("silent_at", sa.DateTime(timezone=True), nullable=True),
)


def upgrade() -> None:
    for column in _STEP:
        op.add_column("step_run", column)
    op.create_index(
        "idx_step_run_expires",
        "step_run",
        ["expires_at"],
        postgresql_where=sa.text(
            "expires_at IS NOT NULL AND worker_id IS NULL AND status IN ('READY', 'RETRY_WAIT', 'WAITING')"
        ),
    )
    op.add_column("orchestration_job", sa.Column("queue_until", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "idx_orchestration_job_queue_until",
        "orchestration_job",
        ["queue_until"],
        postgresql_where=sa.text(
            "queue_until IS NOT NULL AND started_at IS NULL AND status IN ('QUEUED', 'DISPATCHED')"
        ),
    )
    grant(TICK, "step_run", "SELECT", columns=tuple(column.name for column in _STEP))
    grant(TICK, "orchestration_job", "SELECT", columns=("queue_until",))


def downgrade() -> None:
    op.drop_index("idx_orchestration_job_queue_until", "orchestration_job")
    op.drop_column("orchestration_job", "queue_until")
    op.drop_index("idx_step_run_expires", "step_run")
    for column in reversed(_STEP):
        op.drop_column("step_run", column.name)
