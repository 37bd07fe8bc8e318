"""Create step runs, attempts, effects and gates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.columns import one_of
from migrations.row_security import APP, TICK, across_tenants, grant, protect

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# What the scheduler reads of a step: not what went in and came out, where secrets may be.
STEP_MACHINERY = (
    "id",
    "tenant_id",
    "job_id",
    "step_key",
    "name",
    "step_type",
    "operation",
    "phase",
    "change",
    "status",
    "status_reason",
    "status_message",
    "wave",
    "needs",
    "spec",
    "workflow_step_id",
    "resource_id",
    "undo_of_id",
    "touched",
    "attempt",
    "undo_attempt",
    "max_attempts",
    "crashes",
    "observations",
    "timeout_seconds",
    "operation_id",
    "fence",
    "worker_id",
    "due_at",
    "dispatched_at",
    "dispatches",
    "deadline_at",
    "percent",
    "error",
    "not_run_because",
    "started_at",
    "completed_at",
)


def upgrade() -> None:
    create_step_run()
    create_step_attempt()
    create_step_effect()
    create_gate()
    for table in ("step_run", "step_attempt", "step_effect", "gate"):
        protect(table)
        grant(APP, table, "SELECT", "INSERT", "UPDATE")
    across_tenants(TICK, "step_run")
    grant(TICK, "step_run", "SELECT", columns=STEP_MACHINERY)
    grant(TICK, "step_run", "UPDATE")
    across_tenants(TICK, "step_attempt")
    grant(TICK, "step_attempt", "SELECT", "UPDATE")


def downgrade() -> None:
    op.drop_table("gate")
    op.drop_table("step_effect")
    op.drop_table("step_attempt")
    op.drop_table("step_run")


def create_step_run() -> None:
    op.create_table(
        "step_run",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("step_key", sa.String(length=250), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column(
            "step_type",
            one_of(
                "step_type",
                "RESOURCE_CREATE RESOURCE_UPDATE RESOURCE_DELETE RESOURCE_SCALE RESOURCE_BACKUP "
                "RESOURCE_RESTORE RESOURCE_MIGRATE CUSTOM",
            ),
            nullable=False,
        ),
        sa.Column("operation", one_of("operation", "APPLY DELETE RETIRE ACT RUN"), nullable=False),
        sa.Column("phase", one_of("phase", "APPLY COMMIT"), server_default="APPLY", nullable=False),
        sa.Column(
            "change", one_of("change", "CREATE UPDATE REPLACE DELETE IMPORT DETACH NO_CHANGE RUN"), nullable=False
        ),
        sa.Column(
            "status",
            one_of(
                "status",
                "PENDING READY RUNNING WAITING RETRY_WAIT UNKNOWN SUCCEEDED NO_CHANGE SKIPPED BLOCKED "
                "FAILED CANCELLED COMPENSATING COMPENSATED COMPENSATION_SKIPPED COMPENSATION_FAILED",
            ),
            server_default="PENDING",
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
        sa.Column("wave", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("needs", postgresql.ARRAY(sa.String(length=250)), nullable=False),
        sa.Column("spec", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("workflow_step_id", sa.BigInteger(), nullable=True),
        sa.Column("resource_id", sa.BigInteger(), nullable=True),
        sa.Column("undo_of_id", sa.BigInteger(), nullable=True),
        sa.Column("touched", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("undo_attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_attempts", sa.Integer(), server_default=sa.text("3"), nullable=False),
        sa.Column("crashes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("observations", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("timeout_seconds", sa.Float(), nullable=False),
        sa.Column("operation_id", sa.Uuid(), nullable=False),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("worker_id", sa.BigInteger(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dispatches", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("handle", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("percent", sa.Float(), nullable=True),
        sa.Column("inputs", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("outputs", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("not_run_because", sa.String(length=250), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["orchestration_job.tenant_id", "orchestration_job.id"],
            name=op.f("fk_step_run_tenant_id_job_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "resource_id"],
            ["cloud_resource.tenant_id", "cloud_resource.id"],
            name=op.f("fk_step_run_tenant_id_resource_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "workflow_step_id"],
            ["workflow_step.tenant_id", "workflow_step.id"],
            name=op.f("fk_step_run_tenant_id_workflow_step_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_step_run")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_step_run_tenant_id_id")),
        sa.UniqueConstraint("tenant_id", "job_id", "step_key", name=op.f("uq_step_run_tenant_id_job_id_step_key")),
    )
    op.create_index(
        "idx_step_run_due",
        "step_run",
        ["due_at", "id"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL AND worker_id IS NULL"),
    )
    op.create_index("idx_step_run_job", "step_run", ["job_id"], unique=False)
    op.create_index(
        "idx_step_run_worker",
        "step_run",
        ["worker_id"],
        unique=False,
        postgresql_where=sa.text("worker_id IS NOT NULL"),
    )


def create_step_attempt() -> None:
    op.create_table(
        "step_attempt",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("step_run_id", sa.BigInteger(), nullable=False),
        sa.Column("direction", one_of("direction", "FORWARD ROLLBACK"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("counts", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "step_run_id"],
            ["step_run.tenant_id", "step_run.id"],
            name=op.f("fk_step_attempt_tenant_id_step_run_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_step_attempt")),
        sa.UniqueConstraint(
            "tenant_id",
            "step_run_id",
            "direction",
            "number",
            name=op.f("uq_step_attempt_tenant_id_step_run_id_direction_number"),
        ),
    )


def create_step_effect() -> None:
    op.create_table(
        "step_effect",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("step_run_id", sa.BigInteger(), nullable=False),
        sa.Column("direction", one_of("direction", "FORWARD ROLLBACK"), nullable=False),
        sa.Column("resource_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "action", one_of("action", "CREATE UPDATE REPLACE DELETE IMPORT DETACH NO_CHANGE RUN"), nullable=False
        ),
        sa.Column(
            "state", one_of("state", "INTENT DONE FAILED UNKNOWN UNDONE"), server_default="INTENT", nullable=False
        ),
        sa.Column("operation_id", sa.Uuid(), nullable=False),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("intended", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("undo", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["orchestration_job.tenant_id", "orchestration_job.id"],
            name=op.f("fk_step_effect_tenant_id_job_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "resource_id"],
            ["cloud_resource.tenant_id", "cloud_resource.id"],
            name=op.f("fk_step_effect_tenant_id_resource_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "step_run_id"],
            ["step_run.tenant_id", "step_run.id"],
            name=op.f("fk_step_effect_tenant_id_step_run_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_step_effect")),
        sa.UniqueConstraint(
            "tenant_id", "step_run_id", "direction", name=op.f("uq_step_effect_tenant_id_step_run_id_direction")
        ),
    )
    op.create_index("idx_step_effect_job", "step_effect", ["tenant_id", "job_id"], unique=False)


def create_gate() -> None:
    op.create_table(
        "gate",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("step_run_id", sa.BigInteger(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("input_schema", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("answered_by", sa.String(length=120), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "step_run_id"],
            ["step_run.tenant_id", "step_run.id"],
            name=op.f("fk_gate_tenant_id_step_run_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate")),
        sa.UniqueConstraint("tenant_id", "step_run_id", name=op.f("uq_gate_tenant_id_step_run_id")),
    )
