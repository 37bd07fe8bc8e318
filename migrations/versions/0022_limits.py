"""Give tenants limits, and let the scheduler find who has queued jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.row_security import APP, TICK, across_tenants, grant, protect

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "idx_orchestration_job_queued",
        "orchestration_job",
        ["tenant_id", "id"],
        postgresql_where=sa.text("status = 'QUEUED'"),
    )
    op.create_table(
        "tenant_limit",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("max_running_jobs", sa.Integer(), nullable=False),
        sa.Column("max_queued_jobs", sa.Integer(), nullable=False),
        sa.CheckConstraint("max_queued_jobs > 0", name=op.f("ck_tenant_limit_queued")),
        sa.CheckConstraint("max_running_jobs > 0", name=op.f("ck_tenant_limit_running")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_tenant_limit_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_tenant_limit")),
    )
    protect("tenant_limit")
    grant(APP, "tenant_limit", "SELECT", "INSERT", "UPDATE")
    across_tenants(TICK, "tenant_limit")
    grant(TICK, "tenant_limit", "SELECT")


def downgrade() -> None:
    op.drop_table("tenant_limit")
    op.drop_index("idx_orchestration_job_queued", "orchestration_job")
