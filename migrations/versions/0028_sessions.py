"""Let people log in: passwords, and tokens that are sessions or invitations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.columns import one_of
from migrations.row_security import APP, AUTH, across_tenants, grant, protect

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "api_token", sa.Column("kind", one_of("kind", "API SESSION INVITATION"), server_default="API", nullable=False)
    )
    op.add_column("api_token", sa.Column("session_since", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "user_password",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["app_user.tenant_id", "app_user.id"],
            name=op.f("fk_user_password_tenant_id_user_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name=op.f("pk_user_password")),
    )
    protect("user_password")
    # Nobody who acts for a tenant reads a password, not even as a hash.
    grant(APP, "user_password", "INSERT", "UPDATE")
    grant(APP, "user_password", "SELECT", columns=("tenant_id", "user_id", "changed_at"))
    across_tenants(AUTH, "user_password")
    grant(AUTH, "user_password", "SELECT")
    grant(AUTH, "app_user", "SELECT", columns=("email",))


def downgrade() -> None:
    op.execute(f"REVOKE SELECT (email) ON app_user FROM {AUTH}")
    op.drop_table("user_password")
    # What is no API token would be one.
    op.execute("ALTER TABLE api_token NO FORCE ROW LEVEL SECURITY")
    op.execute("DELETE FROM api_token WHERE kind <> 'API'")
    op.execute("ALTER TABLE api_token FORCE ROW LEVEL SECURITY")
    op.drop_column("api_token", "session_since")
    op.drop_constraint(op.f("ck_api_token_kind"), "api_token", type_="check")
    op.drop_column("api_token", "kind")
