"""Create templates and workflows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.columns import one_of
from migrations.row_security import APP, TICK, across_tenants, grant, protect, publish

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_resource_template()
    create_template_revision()
    create_workflow()
    create_workflow_step()
    for table in ("resource_template", "workflow", "workflow_step"):
        protect(table)
        grant(APP, table, "SELECT", "INSERT", "UPDATE")
    protect("template_revision")
    grant(APP, "template_revision", "SELECT", "INSERT")
    # What a revision says never changes, only whether it may still be used.
    grant(
        APP,
        "template_revision",
        "UPDATE",
        columns=("status", "is_public", "published_at", "updated_at", "updated_by"),
    )
    publish("resource_template", "is_public AND NOT is_deleted AND status IN ('PUBLISHED', 'DEPRECATED')")
    publish("template_revision", "is_public AND status IN ('PUBLISHED', 'DEPRECATED')")
    # The scheduler closes jobs, and closing a job counts in its workflow.
    across_tenants(TICK, "workflow")
    counters = ("execution_count", "success_count", "failure_count")
    grant(TICK, "workflow", "SELECT", columns=("id", "tenant_id", *counters))
    grant(TICK, "workflow", "UPDATE", columns=("last_executed", *counters))


def downgrade() -> None:
    op.drop_table("workflow_step")
    op.drop_table("workflow")
    op.drop_table("template_revision")
    op.drop_table("resource_template")


def create_resource_template() -> None:
    op.create_table(
        "resource_template",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("template_name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column(
            "template_type",
            one_of("template_type", "INFRASTRUCTURE APPLICATION DATABASE NETWORK SECURITY MONITORING CUSTOM"),
            nullable=False,
        ),
        sa.Column(
            "status", one_of("status", "DRAFT PUBLISHED DEPRECATED ARCHIVED"), server_default="DRAFT", nullable=False
        ),
        sa.Column("template_content", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("dependencies", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("outputs", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("constraints", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("is_public", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("tags", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("latest_revision_id", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=True),
        sa.Column("updated_by", sa.String(length=120), nullable=True),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_resource_template_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resource_template")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_resource_template_tenant_id_id")),
    )
    op.create_index("idx_resource_template_name", "resource_template", ["template_name"], unique=False)
    op.create_index("idx_resource_template_public", "resource_template", ["is_public"], unique=False)
    op.create_index("idx_resource_template_status", "resource_template", ["status"], unique=False)
    op.create_index("idx_resource_template_tenant", "resource_template", ["tenant_id"], unique=False)
    op.create_index("idx_resource_template_type", "resource_template", ["template_type"], unique=False)
    op.create_index(
        "uq_resource_template_tenant_name",
        "resource_template",
        ["tenant_id", "template_name"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
    )


def create_template_revision() -> None:
    op.create_table(
        "template_revision",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("template_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column(
            "status",
            one_of("status", "DRAFT PUBLISHED DEPRECATED ARCHIVED"),
            server_default="PUBLISHED",
            nullable=False,
        ),
        sa.Column("content", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("checksum", sa.String(length=64), nullable=False),
        sa.Column("is_public", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=True),
        sa.Column("updated_by", sa.String(length=120), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "template_id"],
            ["resource_template.tenant_id", "resource_template.id"],
            name=op.f("fk_template_revision_tenant_id_template_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_template_revision")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_template_revision_tenant_id_id")),
        sa.UniqueConstraint(
            "tenant_id", "template_id", "number", name=op.f("uq_template_revision_tenant_id_template_id_number")
        ),
    )


def create_workflow() -> None:
    op.create_table(
        "workflow",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("workflow_name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column(
            "workflow_type",
            one_of("workflow_type", "DEPLOYMENT SCALING BACKUP RESTORE MIGRATION MAINTENANCE CUSTOM"),
            nullable=False,
        ),
        sa.Column(
            "status", one_of("status", "DRAFT PUBLISHED DEPRECATED ARCHIVED"), server_default="DRAFT", nullable=False
        ),
        sa.Column("definition", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("triggers", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("conditions", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("actions", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("last_executed", sa.DateTime(timezone=True), nullable=True),
        sa.Column("execution_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("success_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failure_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=True),
        sa.Column("updated_by", sa.String(length=120), nullable=True),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_workflow_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_workflow_tenant_id_id")),
    )
    op.create_index("idx_workflow_active", "workflow", ["is_active"], unique=False)
    op.create_index("idx_workflow_name", "workflow", ["workflow_name"], unique=False)
    op.create_index("idx_workflow_status", "workflow", ["status"], unique=False)
    op.create_index("idx_workflow_tenant", "workflow", ["tenant_id"], unique=False)
    op.create_index("idx_workflow_tenant_status", "workflow", ["tenant_id", "status"], unique=False)
    op.create_index("idx_workflow_type", "workflow", ["workflow_type"], unique=False)
    op.create_index(
        "uq_workflow_tenant_name",
        "workflow",
        ["tenant_id", "workflow_name"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
    )


def create_workflow_step() -> None:
    op.create_table(
        "workflow_step",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("workflow_id", sa.BigInteger(), nullable=False),
        sa.Column("step_key", sa.String(length=200), nullable=False),
        sa.Column("step_name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("step_order", sa.Integer(), nullable=False),
        sa.Column(
            "step_type",
            one_of(
                "step_type",
                "RESOURCE_CREATE RESOURCE_UPDATE RESOURCE_DELETE RESOURCE_SCALE RESOURCE_BACKUP "
                "RESOURCE_RESTORE RESOURCE_MIGRATE CUSTOM",
            ),
            nullable=False,
        ),
        sa.Column(
            "status", one_of("status", "DRAFT PUBLISHED DEPRECATED ARCHIVED"), server_default="DRAFT", nullable=False
        ),
        sa.Column("configuration", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("inputs", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("outputs", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("conditions", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("actions", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("timeout_seconds", sa.Integer(), nullable=True),
        sa.Column("retry_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error_handling", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=True),
        sa.Column("updated_by", sa.String(length=120), nullable=True),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "workflow_id"],
            ["workflow.tenant_id", "workflow.id"],
            name=op.f("fk_workflow_step_tenant_id_workflow_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow_step")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_workflow_step_tenant_id_id")),
    )
    op.create_index("idx_workflow_step_order", "workflow_step", ["step_order"], unique=False)
    op.create_index("idx_workflow_step_status", "workflow_step", ["status"], unique=False)
    op.create_index("idx_workflow_step_type", "workflow_step", ["step_type"], unique=False)
    op.create_index("idx_workflow_step_workflow", "workflow_step", ["workflow_id"], unique=False)
    op.create_index("idx_workflow_step_workflow_order", "workflow_step", ["workflow_id", "step_order"], unique=False)
    op.create_index(
        "uq_workflow_step_key",
        "workflow_step",
        ["tenant_id", "workflow_id", "step_key"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
    )
