"""Create the tenants' data keys, and let rotation seal anew what revisions of resources hold."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.row_security import APP, PLATFORM, across_tenants, grant, protect

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

# A webhook's secret is bound to its id, which is drawn before the row is written.
_SEQUENCE = "webhook_endpoint_id_seq"


def upgrade() -> None:
    now = sa.text("clock_timestamp()")
    op.create_table(
        "tenant_key",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("ring_key", sa.String(length=12), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("wrapped_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_tenant_key_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_tenant_key")),
    )
    protect("tenant_key")
    grant(APP, "tenant_key", "SELECT", "INSERT")
    grant(APP, "tenant_key", "UPDATE", columns=("ring_key", "wrapped", "wrapped_at"))
    # Whoever acts for a tenant cannot rewrite its history; whoever turns the keys seals anew what is in it.
    across_tenants(PLATFORM, "resource_revision")
    grant(PLATFORM, "resource_revision", "SELECT")
    grant(PLATFORM, "resource_revision", "UPDATE", columns=("properties", "outputs"))
    op.execute(f"GRANT USAGE ON SEQUENCE {_SEQUENCE} TO {APP}")


def downgrade() -> None:
    op.execute(f"REVOKE USAGE ON SEQUENCE {_SEQUENCE} FROM {APP}")
    op.execute(f"REVOKE UPDATE (properties, outputs) ON resource_revision FROM {PLATFORM}")
    op.execute(f"REVOKE SELECT ON resource_revision FROM {PLATFORM}")
    op.execute("DROP POLICY platform ON resource_revision")
    op.drop_table("tenant_key")
