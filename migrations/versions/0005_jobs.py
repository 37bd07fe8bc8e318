"""Create jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.columns import one_of
from migrations.row_security import APP, TICK, across_tenants, grant, protect

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# What the scheduler reads of a job: everything that decides how it goes on.
JOB_MACHINERY = (
    "id",
    "tenant_id",
    "plan_id",
    "job_name",
    "job_type",
    "status",
    "status_reason",
    "status_message",
    "direction",
    "simulated",
    "stack",
    "configuration",
    "inputs",
    "logs",
    "error",
    "failure_strategy",
    "rollback_scope",
    "parent_job_id",
    "cancel_mode",
    "cancel_outcome",
    "cancel_requested_at",
    "priority",
    "event_seq",
    "recoveries",
    "retry_count",
    "queued_at",
    "dispatched_at",
    "started_at",
    "completed_at",
    "duration_seconds",
    "error_message",
    "version",
    "created_at",
    "updated_at",
    "created_by",
    "updated_by",
    "is_deleted",
)


def upgrade() -> None:
    create_orchestration_job()
    protect("orchestration_job")
    grant(APP, "orchestration_job", "SELECT", "INSERT", "UPDATE")
    across_tenants(TICK, "orchestration_job")
    grant(TICK, "orchestration_job", "SELECT", columns=JOB_MACHINERY)
    grant(TICK, "orchestration_job", "UPDATE")


def downgrade() -> None:
    op.drop_table("orchestration_job")


def create_orchestration_job() -> None:
    op.create_table(
        "orchestration_job",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("job_name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column(
            "job_type", one_of("job_type", "DEPLOY UPDATE DELETE SCALE BACKUP RESTORE MIGRATE CUSTOM"), nullable=False
        ),
        sa.Column(
            "status",
            one_of(
                "status",
                "QUEUED DISPATCHED RUNNING PAUSING PAUSED CANCELLING ROLLING_BACK SUCCEEDED "
                "PARTIALLY_SUCCEEDED FAILED CANCELLED ROLLED_BACK ROLLBACK_FAILED",
            ),
            server_default="QUEUED",
            nullable=False,
        ),
        sa.Column(
            "status_reason",
            one_of(
                "status_reason",
                "NONE USER POLICY APPROVAL_PENDING APPROVAL_TIMEOUT DEPENDENCY_FAILED CONDITION_FALSE "
                "LOCK_HELD CONCURRENCY_LIMIT QUOTA NO_WORKER QUEUE_TIMEOUT STEP_FAILED STEP_TIMEOUT "
                "VERIFICATION_FAILED WORKER_LOST PREVIEW_STALE CIRCUIT_OPEN GATE NO_CHANGES FORCED",
            ),
            server_default="NONE",
            nullable=False,
        ),
        sa.Column("status_message", sa.Text(), nullable=True),
        sa.Column("direction", one_of("direction", "FORWARD ROLLBACK"), server_default="FORWARD", nullable=False),
        sa.Column("simulated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("stack", sa.String(length=200), nullable=False),
        sa.Column("configuration", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("inputs", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("outputs", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("logs", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("artifacts", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "failure_strategy",
            one_of("failure_strategy", "ROLLBACK HALT CONTINUE PAUSE"),
            server_default="ROLLBACK",
            nullable=False,
        ),
        sa.Column(
            "rollback_scope",
            one_of("rollback_scope", "JOB FAILED_BRANCH TO_CHECKPOINT"),
            server_default="JOB",
            nullable=False,
        ),
        sa.Column("parent_job_id", sa.BigInteger(), nullable=True),
        sa.Column("cancel_mode", one_of("cancel_mode", "GRACEFUL INTERRUPT FORCE"), nullable=True),
        sa.Column("cancel_outcome", one_of("cancel_outcome", "KEEP ROLLBACK"), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("event_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("recoveries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("retry_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("duration_seconds", sa.Integer(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=True),
        sa.Column("updated_by", sa.String(length=120), nullable=True),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "parent_job_id"],
            ["orchestration_job.tenant_id", "orchestration_job.id"],
            name=op.f("fk_orchestration_job_tenant_id_parent_job_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "plan_id"],
            ["deployment_plan.tenant_id", "deployment_plan.id"],
            name=op.f("fk_orchestration_job_tenant_id_plan_id"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_orchestration_job_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orchestration_job")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_orchestration_job_tenant_id_id")),
    )
    op.create_index("idx_orchestration_job_page", "orchestration_job", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index("idx_orchestration_job_plan", "orchestration_job", ["plan_id"], unique=False)
    op.create_index("idx_orchestration_job_started", "orchestration_job", ["started_at"], unique=False)
    op.create_index("idx_orchestration_job_status", "orchestration_job", ["status"], unique=False)
    op.create_index("idx_orchestration_job_tenant", "orchestration_job", ["tenant_id"], unique=False)
    op.create_index(
        "idx_orchestration_job_tenant_plan", "orchestration_job", ["tenant_id", "plan_id", "id"], unique=False
    )
    op.create_index(
        "idx_orchestration_job_tenant_status", "orchestration_job", ["tenant_id", "status", "id"], unique=False
    )
    op.create_index("idx_orchestration_job_type", "orchestration_job", ["job_type"], unique=False)
