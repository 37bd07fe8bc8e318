"""Give resources what an observation needs and finds, and plans the end of what they made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.row_security import TICK, grant

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_SEEN = ("stack", "owner_plan_id", "observe_at", "observe_until", "observe_fence", "observe_failures", "revert_at")
_HELD = ("observe_until", "observe_fence", "observe_failures")


def upgrade() -> None:
    for column in _resource_columns():
        op.add_column("cloud_resource", column)
    op.create_index(
        "idx_cloud_resource_observe_at",
        "cloud_resource",
        ["observe_at"],
        postgresql_where=sa.text("observe_at IS NOT NULL AND status IN ('ACTIVE', 'IMPORTING')"),
    )
    op.create_index(
        "idx_cloud_resource_revert_at",
        "cloud_resource",
        ["revert_at"],
        postgresql_where=sa.text("revert_at IS NOT NULL"),
    )
    # The scheduler's role sees when a resource is due to be looked at, and not what was found.
    grant(TICK, "cloud_resource", "SELECT", columns=_SEEN)
    grant(TICK, "cloud_resource", "UPDATE", columns=_HELD)
    op.add_column("deployment_plan", sa.Column("ttl_seconds", sa.BigInteger(), nullable=True))
    op.add_column("deployment_plan", sa.Column("ttl_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "deployment_plan", sa.Column("teardown", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.create_index(
        "idx_deployment_plan_ttl_at",
        "deployment_plan",
        ["ttl_at"],
        postgresql_where=sa.text("ttl_at IS NOT NULL"),
    )
    grant(TICK, "deployment_plan", "SELECT", columns=("ttl_seconds", "ttl_at"))


def downgrade() -> None:
    op.drop_index("idx_deployment_plan_ttl_at", "deployment_plan")
    op.drop_column("deployment_plan", "teardown")
    op.drop_column("deployment_plan", "ttl_at")
    op.drop_column("deployment_plan", "ttl_seconds")
    op.execute(f"REVOKE SELECT (stack, owner_plan_id) ON cloud_resource FROM {TICK}")
    op.drop_index("idx_cloud_resource_revert_at", "cloud_resource")
    op.drop_index("idx_cloud_resource_observe_at", "cloud_resource")
    for column in reversed(_resource_columns()):
        op.drop_column("cloud_resource", column.name)


def _resource_columns() -> tuple[sa.Column[object], ...]:
    json = postgresql.JSONB(astext_type=sa.Text())
    return (
        sa.Column("drift", json, nullable=True),
        sa.Column("drift_ignores", json, nullable=True),
        sa.Column("observe_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("observe_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("observe_fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("observe_failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("observe_error", json, nullable=True),
        sa.Column("revert_at", sa.DateTime(timezone=True), nullable=True),
    )
