"""Create cloud resources, connections and locks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.columns import one_of
from migrations.row_security import APP, TICK, across_tenants, grant, protect

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_cloud_resource()
    create_resource_revision()
    create_plan_resource()
    create_provider_connection()
    create_resource_lock()
    for table in ("cloud_resource", "provider_connection"):
        protect(table)
        grant(APP, table, "SELECT", "INSERT", "UPDATE")
    for table in ("resource_revision", "plan_resource", "resource_lock"):
        protect(table)
        grant(APP, table, "SELECT", "INSERT")
    grant(APP, "plan_resource", "DELETE")
    grant(APP, "resource_lock", "DELETE")
    across_tenants(TICK, "resource_lock")
    grant(TICK, "resource_lock", "SELECT", "INSERT", "DELETE")
    # A job that is closed forgets the resources it only planned.
    across_tenants(TICK, "cloud_resource")
    grant(TICK, "cloud_resource", "SELECT", columns=("id", "tenant_id", "status", "version"))
    grant(TICK, "cloud_resource", "UPDATE", columns=("status", "is_deleted", "updated_at", "version"))


def downgrade() -> None:
    op.drop_table("resource_lock")
    op.drop_table("provider_connection")
    op.drop_table("plan_resource")
    op.drop_table("resource_revision")
    op.drop_table("cloud_resource")


def create_cloud_resource() -> None:
    op.create_table(
        "cloud_resource",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("stack", sa.String(length=200), nullable=False),
        sa.Column("resource_key", sa.String(length=250), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("type", sa.String(length=120), nullable=False),
        sa.Column("provider", sa.String(length=60), nullable=False),
        sa.Column("connection", sa.String(length=120), nullable=True),
        sa.Column("region", sa.String(length=60), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column(
            "status",
            one_of("status", "PLANNED IMPORTING CREATING ACTIVE UPDATING DELETING FAILED UNKNOWN DELETED DETACHED"),
            server_default="PLANNED",
            nullable=False,
        ),
        sa.Column(
            "drift_status",
            one_of("drift_status", "NOT_CHECKED IN_SYNC MODIFIED MISSING UNSUPPORTED UNKNOWN"),
            server_default="NOT_CHECKED",
            nullable=False,
        ),
        sa.Column("drift_checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("desired", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("applied", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("observed", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("outputs", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("private", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("state_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "depends_on", postgresql.ARRAY(sa.String(length=250)), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("retain", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("prevent_destroy", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("owner_plan_id", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=True),
        sa.Column("updated_by", sa.String(length=120), nullable=True),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "owner_plan_id"],
            ["deployment_plan.tenant_id", "deployment_plan.id"],
            name=op.f("fk_cloud_resource_tenant_id_owner_plan_id"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_cloud_resource_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cloud_resource")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_cloud_resource_tenant_id_id")),
    )
    op.create_index("idx_cloud_resource_owner", "cloud_resource", ["tenant_id", "owner_plan_id"], unique=False)
    op.create_index("idx_cloud_resource_page", "cloud_resource", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index("idx_cloud_resource_status", "cloud_resource", ["tenant_id", "status", "id"], unique=False)
    op.create_index(
        "uq_cloud_resource_key",
        "cloud_resource",
        ["tenant_id", "stack", "resource_key"],
        unique=True,
        postgresql_where=sa.text("status NOT IN ('DELETED', 'DETACHED')"),
    )


def create_resource_revision() -> None:
    op.create_table(
        "resource_revision",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("resource_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("properties", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("outputs", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["orchestration_job.tenant_id", "orchestration_job.id"],
            name=op.f("fk_resource_revision_tenant_id_job_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "resource_id"],
            ["cloud_resource.tenant_id", "cloud_resource.id"],
            name=op.f("fk_resource_revision_tenant_id_resource_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resource_revision")),
        sa.UniqueConstraint(
            "tenant_id", "resource_id", "number", name=op.f("uq_resource_revision_tenant_id_resource_id_number")
        ),
    )


def create_plan_resource() -> None:
    op.create_table(
        "plan_resource",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("resource_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "plan_id"],
            ["deployment_plan.tenant_id", "deployment_plan.id"],
            name=op.f("fk_plan_resource_tenant_id_plan_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "resource_id"],
            ["cloud_resource.tenant_id", "cloud_resource.id"],
            name=op.f("fk_plan_resource_tenant_id_resource_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "plan_id", "resource_id", name=op.f("pk_plan_resource")),
    )
    op.create_index("idx_plan_resource_resource", "plan_resource", ["tenant_id", "resource_id"], unique=False)


def create_provider_connection() -> None:
    op.create_table(
        "provider_connection",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("provider", sa.String(length=60), nullable=False),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("is_default", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=True),
        sa.Column("updated_by", sa.String(length=120), nullable=True),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_provider_connection_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_connection")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_provider_connection_tenant_id_id")),
    )
    op.create_index(
        "uq_provider_connection_name",
        "provider_connection",
        ["tenant_id", "name"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
    )


def create_resource_lock() -> None:
    op.create_table(
        "resource_lock",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("lock_key", sa.String(length=250), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["orchestration_job.tenant_id", "orchestration_job.id"],
            name=op.f("fk_resource_lock_tenant_id_job_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "lock_key", name=op.f("pk_resource_lock")),
    )
    op.create_index("idx_resource_lock_job", "resource_lock", ["tenant_id", "job_id"], unique=False)
