"""Let the scheduler forget triggers of long ago, people take hooks away, and drop the outbox, which nothing used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.row_security import APP, TICK, grant, protect

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    grant(TICK, "plan_trigger", "SELECT", columns=("id", "child_plan_id", "created_at"))
    grant(TICK, "plan_trigger", "DELETE")
    grant(APP, "plan_hook", "DELETE")
    op.drop_table("outbox")


def downgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index("idx_outbox_due", "outbox", ["due_at", "id"], postgresql_where=sa.text("delivered_at IS NULL"))
    protect("outbox")
    grant(APP, "outbox", "SELECT", "INSERT", "UPDATE")
    op.execute(f"REVOKE DELETE ON plan_hook FROM {APP}")
    op.execute(f"REVOKE DELETE ON plan_trigger FROM {TICK}")
    op.execute(f"REVOKE SELECT (id, child_plan_id, created_at) ON plan_trigger FROM {TICK}")
