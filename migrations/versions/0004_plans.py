"""Create plans and approvals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.columns import one_of
from migrations.row_security import APP, TICK, across_tenants, grant, protect

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# What the scheduler reads of a plan: how it stands, not what it says.
PLAN_MACHINERY = (
    "id",
    "tenant_id",
    "user_id",
    "workflow_id",
    "template_tenant_id",
    "template_id",
    "template_revision_id",
    "plan_name",
    "plan_type",
    "status",
    "status_reason",
    "status_message",
    "stack",
    "failure_strategy",
    "rollback_scope",
    "schedule",
    "condition",
    "valid_until",
    "preview_hash",
    "parent_plan_id",
    "rollback_of_id",
    "active_job_id",
    "last_job_id",
    "event_seq",
    "scheduled_at",
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
    create_deployment_plan()
    create_approval()
    for table in ("deployment_plan", "approval"):
        protect(table)
        grant(APP, table, "SELECT", "INSERT")
    grant(APP, "deployment_plan", "UPDATE")
    across_tenants(TICK, "deployment_plan")
    grant(TICK, "deployment_plan", "SELECT", columns=PLAN_MACHINERY)
    grant(TICK, "deployment_plan", "UPDATE")


def downgrade() -> None:
    op.drop_table("approval")
    op.drop_table("deployment_plan")


def create_deployment_plan() -> None:
    op.create_table(
        "deployment_plan",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("workflow_id", sa.BigInteger(), nullable=True),
        sa.Column("template_tenant_id", sa.BigInteger(), nullable=True),
        sa.Column("template_id", sa.BigInteger(), nullable=True),
        sa.Column("template_revision_id", sa.BigInteger(), nullable=True),
        sa.Column("plan_name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("plan_type", one_of("plan_type", "IMMEDIATE SCHEDULED CONDITIONAL MANUAL AUTOMATED"), nullable=False),
        sa.Column(
            "status",
            one_of(
                "status",
                "DRAFT VALIDATING INVALID PENDING_APPROVAL READY SCHEDULED WAITING QUEUED RUNNING PAUSED "
                "CANCELLING ROLLING_BACK SUCCEEDED PARTIALLY_SUCCEEDED FAILED ROLLED_BACK ROLLBACK_FAILED "
                "CANCELLED REJECTED EXPIRED",
            ),
            server_default="DRAFT",
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
        sa.Column("stack", sa.String(length=200), nullable=False),
        sa.Column("configuration", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("resources", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("dependencies", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("constraints", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
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
        sa.Column("schedule", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("condition", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("preview", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("preview_hash", sa.String(length=64), nullable=True),
        sa.Column("diagnostics", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("parent_plan_id", sa.BigInteger(), nullable=True),
        sa.Column("rollback_of_id", sa.BigInteger(), nullable=True),
        sa.Column("active_job_id", sa.BigInteger(), nullable=True),
        sa.Column("last_job_id", sa.BigInteger(), nullable=True),
        sa.Column("event_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("scheduled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("duration_seconds", sa.Integer(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=True),
        sa.Column("updated_by", sa.String(length=120), nullable=True),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(
            ["template_tenant_id", "template_id"],
            ["resource_template.tenant_id", "resource_template.id"],
            name="fk_deployment_plan_template",
        ),
        sa.ForeignKeyConstraint(
            ["template_tenant_id", "template_revision_id"],
            ["template_revision.tenant_id", "template_revision.id"],
            name="fk_deployment_plan_template_revision",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "parent_plan_id"],
            ["deployment_plan.tenant_id", "deployment_plan.id"],
            name=op.f("fk_deployment_plan_tenant_id_parent_plan_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "rollback_of_id"],
            ["deployment_plan.tenant_id", "deployment_plan.id"],
            name=op.f("fk_deployment_plan_tenant_id_rollback_of_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["app_user.tenant_id", "app_user.id"],
            name=op.f("fk_deployment_plan_tenant_id_user_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "workflow_id"],
            ["workflow.tenant_id", "workflow.id"],
            name=op.f("fk_deployment_plan_tenant_id_workflow_id"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_deployment_plan_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployment_plan")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_deployment_plan_tenant_id_id")),
    )
    op.create_index("idx_deployment_plan_page", "deployment_plan", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index("idx_deployment_plan_scheduled", "deployment_plan", ["scheduled_at"], unique=False)
    op.create_index("idx_deployment_plan_status", "deployment_plan", ["status"], unique=False)
    op.create_index("idx_deployment_plan_template", "deployment_plan", ["template_id"], unique=False)
    op.create_index("idx_deployment_plan_tenant", "deployment_plan", ["tenant_id"], unique=False)
    op.create_index("idx_deployment_plan_tenant_status", "deployment_plan", ["tenant_id", "status", "id"], unique=False)
    op.create_index("idx_deployment_plan_type", "deployment_plan", ["plan_type"], unique=False)
    op.create_index("idx_deployment_plan_user", "deployment_plan", ["user_id"], unique=False)
    op.create_index("idx_deployment_plan_workflow", "deployment_plan", ["workflow_id"], unique=False)


def create_approval() -> None:
    op.create_table(
        "approval",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("approved", sa.Boolean(), nullable=False),
        sa.Column("preview_hash", sa.String(length=64), nullable=False),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=True),
        sa.Column("updated_by", sa.String(length=120), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "plan_id"],
            ["deployment_plan.tenant_id", "deployment_plan.id"],
            name=op.f("fk_approval_tenant_id_plan_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"], ["app_user.tenant_id", "app_user.id"], name=op.f("fk_approval_tenant_id_user_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approval")),
    )
    op.create_index("idx_approval_plan", "approval", ["tenant_id", "plan_id"], unique=False)
