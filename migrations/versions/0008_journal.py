"""Create the journal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.columns import one_of
from migrations.row_security import APP, TICK, across_tenants, grant, protect

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_event_log()
    create_job_log()
    # Without UPDATE and DELETE: what happened stays.
    for table in ("event_log", "job_log"):
        protect(table)
        grant(APP, table, "SELECT", "INSERT")
        across_tenants(TICK, table)
        grant(TICK, table, "INSERT")
    grant(TICK, "job_log", "SELECT")


def downgrade() -> None:
    op.drop_table("job_log")
    op.drop_table("event_log")


def create_event_log() -> None:
    op.create_table(
        "event_log",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("stream", one_of("stream", "JOB PLAN"), nullable=False),
        sa.Column("stream_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=60), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("actor", sa.String(length=120), nullable=True),
        sa.Column("correlation_id", sa.String(length=64), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "stream", "stream_id", "seq", name=op.f("pk_event_log")),
    )
    op.create_index("idx_event_log_at", "event_log", ["tenant_id", "at"], unique=False)


def create_job_log() -> None:
    op.create_table(
        "job_log",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("step_run_id", sa.BigInteger(), nullable=True),
        sa.Column("step_key", sa.String(length=250), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("lines", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["orchestration_job.tenant_id", "orchestration_job.id"],
            name=op.f("fk_job_log_tenant_id_job_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "job_id", "first_seq", name=op.f("pk_job_log")),
    )
