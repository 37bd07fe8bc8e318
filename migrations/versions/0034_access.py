"""Let a tenant name roles of its own, and users and tokens have one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.row_security import APP, AUTH, across_tenants, grant, protect, unforced

revision = "0034"
down_revision = "0032"
branch_labels = None
depends_on = None

_HAVE_ROLES = ("app_user", "api_token")


def upgrade() -> None:
    create_custom_role()
    for table in _HAVE_ROLES:
        op.add_column(table, sa.Column("custom_role_id", sa.BigInteger(), nullable=True))
        with unforced(table, "custom_role"):
            op.create_foreign_key(
                op.f(f"fk_{table}_tenant_id_custom_role_id"),
                table,
                "custom_role",
                ["tenant_id", "custom_role_id"],
                ["tenant_id", "id"],
            )
        op.create_index(
            f"idx_{table}_custom_role",
            table,
            ["tenant_id", "custom_role_id"],
            postgresql_where=sa.text("custom_role_id IS NOT NULL"),
        )
    # To whatever knows built-in roles only, somebody with another is the least of them.
    op.create_check_constraint(op.f("ck_app_user_custom"), "app_user", "custom_role_id IS NULL OR role = 'VIEWER'")
    grant(AUTH, "app_user", "SELECT", columns=("custom_role_id",))


def downgrade() -> None:
    # A token that its role narrows would do more without it.
    with unforced("api_token"):
        op.execute("DELETE FROM api_token WHERE custom_role_id IS NOT NULL")
    op.drop_constraint(op.f("ck_app_user_custom"), "app_user", type_="check")
    for table in _HAVE_ROLES:
        op.drop_column(table, "custom_role_id")
    op.drop_table("custom_role")


def create_custom_role() -> None:
    op.create_table(
        "custom_role",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("permissions", postgresql.ARRAY(sa.String(length=20)), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=True),
        sa.Column("updated_by", sa.String(length=120), nullable=True),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_custom_role_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_custom_role")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_custom_role_tenant_id_id")),
    )
    op.create_index(
        "uq_custom_role_name",
        "custom_role",
        ["tenant_id", "name"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    protect("custom_role")
    grant(APP, "custom_role", "SELECT", "INSERT", "UPDATE")
    across_tenants(AUTH, "custom_role")
    grant(AUTH, "custom_role", "SELECT", columns=("tenant_id", "id", "permissions", "is_deleted"))
