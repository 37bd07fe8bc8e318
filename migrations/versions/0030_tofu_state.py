"""Create the state of OpenTofu workspaces and its versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.row_security import APP, grant, protect

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    json = postgresql.JSONB(astext_type=sa.Text())
    now = sa.text("clock_timestamp()")
    op.create_table(
        "tofu_state",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("owner", sa.String(length=400), nullable=False),
        sa.Column("operation", sa.String(length=120), nullable=False),
        sa.Column("lineage", sa.String(length=120), nullable=True),
        sa.Column("serial", sa.BigInteger(), nullable=True),
        sa.Column("md5", sa.String(length=32), nullable=True),
        sa.Column("lock", json, nullable=True),
        sa.Column("lock_operation", sa.String(length=120), nullable=True),
        sa.Column("lock_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_tofu_state_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tofu_state")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_tofu_state_tenant_id_id")),
    )
    there = sa.text("NOT is_deleted")
    op.create_index("uq_tofu_state_name", "tofu_state", ["tenant_id", "name"], unique=True, postgresql_where=there)
    op.create_table(
        "tofu_state_version",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("state_id", sa.BigInteger(), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("operation", sa.String(length=120), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("body", json, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "state_id"],
            ["tofu_state.tenant_id", "tofu_state.id"],
            name=op.f("fk_tofu_state_version_tenant_id_state_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tofu_state_version")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_tofu_state_version_tenant_id_id")),
    )
    op.create_index("idx_tofu_state_version_newest", "tofu_state_version", ["tenant_id", "state_id", "id"])
    for table in ("tofu_state", "tofu_state_version"):
        protect(table)
        grant(APP, table, "SELECT", "INSERT", "UPDATE")
    # Only the newest versions are kept.
    grant(APP, "tofu_state_version", "DELETE")


def downgrade() -> None:
    op.drop_table("tofu_state_version")
    op.drop_table("tofu_state")
