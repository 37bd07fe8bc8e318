"""Let a tenant have roles of its own and service accounts, and platform administrators in for a while."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.columns import one_of
from migrations.row_security import APP, AUTH, PLATFORM, across_tenants, grant, protect, unforced

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

_HAVE_ROLES = ("app_user", "api_token")
_ENDING = ("ended_at", "ended_by", "updated_at", "updated_by")


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
    create_kinds()
    create_platform_access()


def downgrade() -> None:
    drop_platform_access()
    drop_kinds()
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


def create_kinds() -> None:
    """A row of app_user is a person, or somebody who acts as one would."""
    op.add_column(
        "app_user",
        sa.Column("kind", one_of("kind", "PERSON SERVICE_ACCOUNT PLATFORM"), server_default="PERSON", nullable=False),
    )
    op.add_column("app_user", sa.Column("may_approve", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    grant(AUTH, "app_user", "SELECT", columns=("kind", "may_approve"))
    op.drop_index("uq_app_user_tenant_id_email", "app_user")
    for name, condition in (
        ("uq_app_user_tenant_id_email", "NOT is_deleted AND kind = 'PERSON'"),
        ("uq_app_user_platform", "kind = 'PLATFORM'"),
    ):
        op.create_index(name, "app_user", ["tenant_id", "email"], unique=True, postgresql_where=sa.text(condition))
    op.create_index(
        "uq_app_user_service_account",
        "app_user",
        ["tenant_id", "display_name"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted AND kind = 'SERVICE_ACCOUNT'"),
    )


def drop_kinds() -> None:
    # Who was no person would be one. What they did stays, so that their rows do.
    with unforced("app_user"):
        op.execute("UPDATE app_user SET is_deleted = true WHERE kind <> 'PERSON'")
    op.drop_index("uq_app_user_service_account", "app_user")
    op.drop_index("uq_app_user_platform", "app_user")
    op.drop_index("uq_app_user_tenant_id_email", "app_user")
    op.create_index(
        "uq_app_user_tenant_id_email",
        "app_user",
        ["tenant_id", "email"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.drop_constraint(op.f("ck_app_user_kind"), "app_user", type_="check")
    op.drop_column("app_user", "may_approve")
    op.drop_column("app_user", "kind")


def create_platform_access() -> None:
    op.create_table(
        "platform_administrator",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("public_id", sa.String(length=16), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("dismissed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_platform_administrator")),
        sa.UniqueConstraint("email", name=op.f("uq_platform_administrator_email")),
        sa.UniqueConstraint("public_id", name=op.f("uq_platform_administrator_public_id")),
    )
    grant(PLATFORM, "platform_administrator", "SELECT", "INSERT", "UPDATE")
    grant(AUTH, "platform_administrator", "SELECT", columns=("email", "dismissed_at"))
    op.create_table(
        "platform_access",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("administrator", sa.String(length=320), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("role", one_of("role", "VIEWER OPERATOR APPROVER ADMIN"), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.String(length=120), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=True),
        sa.Column("updated_by", sa.String(length=120), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_platform_access_tenant_id")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["app_user.tenant_id", "app_user.id"],
            name=op.f("fk_platform_access_tenant_id_user_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_platform_access")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_platform_access_tenant_id_id")),
    )
    op.create_index("idx_platform_access_user", "platform_access", ["tenant_id", "user_id"])
    protect("platform_access")
    # Whoever acts for a tenant sees who was let in and can end it, and lets nobody in.
    grant(APP, "platform_access", "SELECT")
    grant(APP, "platform_access", "UPDATE", columns=_ENDING)
    for role in (AUTH, PLATFORM):
        across_tenants(role, "platform_access")
    grant(PLATFORM, "platform_access", "SELECT", "INSERT")
    grant(PLATFORM, "platform_access", "UPDATE", columns=_ENDING)
    grant(AUTH, "platform_access", "SELECT", columns=("tenant_id", "id", "administrator", "role", "reason", "ended_at"))
    across_tenants(PLATFORM, "audit_entry")
    grant(PLATFORM, "audit_entry", "INSERT")
    grant(PLATFORM, "api_token", "UPDATE", columns=("revoked_at", "updated_at", "updated_by"))
    op.add_column("api_token", sa.Column("platform_access_id", sa.BigInteger(), nullable=True))
    with unforced("api_token", "platform_access"):
        op.create_foreign_key(
            op.f("fk_api_token_tenant_id_platform_access_id"),
            "api_token",
            "platform_access",
            ["tenant_id", "platform_access_id"],
            ["tenant_id", "id"],
        )
    op.create_index(
        "idx_api_token_platform_access",
        "api_token",
        ["tenant_id", "platform_access_id"],
        postgresql_where=sa.text("platform_access_id IS NOT NULL"),
    )
    kinds_of_tokens("API SESSION INVITATION PLATFORM")
    op.create_check_constraint(
        op.f("ck_api_token_platform"), "api_token", "kind <> 'PLATFORM' OR platform_access_id IS NOT NULL"
    )


def drop_platform_access() -> None:
    with unforced("api_token"):
        op.execute("DELETE FROM api_token WHERE kind = 'PLATFORM'")
    op.drop_constraint(op.f("ck_api_token_platform"), "api_token", type_="check")
    kinds_of_tokens("API SESSION INVITATION")
    op.drop_column("api_token", "platform_access_id")
    op.execute(f"REVOKE UPDATE (revoked_at, updated_at, updated_by) ON api_token FROM {PLATFORM}")
    op.execute(f"REVOKE INSERT ON audit_entry FROM {PLATFORM}")
    op.execute("DROP POLICY platform ON audit_entry")
    op.drop_table("platform_access")
    op.drop_table("platform_administrator")


def kinds_of_tokens(kinds: str) -> None:
    op.drop_constraint(op.f("ck_api_token_kind"), "api_token", type_="check")
    listed = ", ".join(f"'{kind}'" for kind in kinds.split())
    op.create_check_constraint(op.f("ck_api_token_kind"), "api_token", f"kind IN ({listed})")
