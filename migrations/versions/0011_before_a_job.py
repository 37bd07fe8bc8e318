"""Give plans their timers, rounds of review, and a record of when a schedule fired."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.columns import one_of
from migrations.row_security import APP, TICK, across_tenants, grant, protect, unforced

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_PLAN_COLUMNS = ("submitted_by_id", "review_round", "approval_deadline", "fire_at")


def upgrade() -> None:
    op.add_column("deployment_plan", sa.Column("submitted_by_id", sa.BigInteger(), nullable=True))
    op.add_column(
        "deployment_plan", sa.Column("review_round", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("deployment_plan", sa.Column("approval_deadline", sa.DateTime(timezone=True), nullable=True))
    op.add_column("deployment_plan", sa.Column("fire_at", sa.DateTime(timezone=True), nullable=True))
    with unforced("deployment_plan", "app_user"):
        op.create_foreign_key(
            op.f("fk_deployment_plan_tenant_id_submitted_by_id"),
            "deployment_plan",
            "app_user",
            ["tenant_id", "submitted_by_id"],
            ["tenant_id", "id"],
        )
    create_timers()
    op.create_index(
        "idx_deployment_plan_parent",
        "deployment_plan",
        ["tenant_id", "parent_plan_id", "id"],
        unique=False,
        postgresql_where=sa.text("parent_plan_id IS NOT NULL"),
    )
    op.add_column("approval", sa.Column("round", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_index(
        "uq_approval_tenant_id_plan_id_round_user_id_approved",
        "approval",
        ["tenant_id", "plan_id", "round", "user_id", "approved"],
        unique=True,
    )
    create_plan_firing()
    grant(TICK, "deployment_plan", "SELECT", columns=_PLAN_COLUMNS)
    protect("plan_firing")
    grant(APP, "plan_firing", "SELECT", "INSERT", "UPDATE")
    across_tenants(TICK, "plan_firing")
    grant(TICK, "plan_firing", "SELECT", "UPDATE")


def downgrade() -> None:
    op.drop_table("plan_firing")
    op.drop_index("uq_approval_tenant_id_plan_id_round_user_id_approved", table_name="approval")
    op.drop_column("approval", "round")
    for name in ("parent", "fire_at", "approval_deadline", "valid_until"):
        op.drop_index(f"idx_deployment_plan_{name}", table_name="deployment_plan")
    op.drop_constraint(op.f("fk_deployment_plan_tenant_id_submitted_by_id"), "deployment_plan", type_="foreignkey")
    for name in reversed(_PLAN_COLUMNS):
        op.drop_column("deployment_plan", name)


def create_timers() -> None:
    """Each timer has an index of those plans only for which it runs: what has gone on leaves it by its status."""
    op.create_index(
        "idx_deployment_plan_valid_until",
        "deployment_plan",
        ["valid_until"],
        unique=False,
        postgresql_where=sa.text(
            "NOT is_deleted AND valid_until IS NOT NULL"
            " AND status IN ('PENDING_APPROVAL', 'READY', 'SCHEDULED', 'WAITING')"
        ),
    )
    op.create_index(
        "idx_deployment_plan_approval_deadline",
        "deployment_plan",
        ["approval_deadline"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted AND approval_deadline IS NOT NULL AND status = 'PENDING_APPROVAL'"),
    )
    op.create_index(
        "idx_deployment_plan_fire_at",
        "deployment_plan",
        ["fire_at"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted AND fire_at IS NOT NULL AND status = 'SCHEDULED'"),
    )


def create_plan_firing() -> None:
    op.create_table(
        "plan_firing",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("fire_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", one_of("outcome", "QUEUED SPAWNED OVERLAPPED MISSED"), nullable=False),
        sa.Column("child_plan_id", sa.BigInteger(), nullable=True),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "plan_id"],
            ["deployment_plan.tenant_id", "deployment_plan.id"],
            name=op.f("fk_plan_firing_tenant_id_plan_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "child_plan_id"],
            ["deployment_plan.tenant_id", "deployment_plan.id"],
            name=op.f("fk_plan_firing_tenant_id_child_plan_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "plan_id", "fire_at", name=op.f("pk_plan_firing")),
    )
    op.create_index(
        "idx_plan_firing_queued",
        "plan_firing",
        ["tenant_id", "plan_id", "fire_at"],
        unique=False,
        postgresql_where=sa.text("outcome = 'QUEUED'"),
    )
