"""Give conditional plans their record of evaluations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.columns import one_of
from migrations.row_security import APP, grant, protect

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_REASONS = (
    "NONE USER POLICY APPROVAL_PENDING APPROVAL_TIMEOUT DEPENDENCY_FAILED CONDITION_FALSE LOCK_HELD CONCURRENCY_LIMIT "
    "QUOTA NO_WORKER QUEUE_TIMEOUT STEP_FAILED STEP_TIMEOUT VERIFICATION_FAILED WORKER_LOST PREVIEW_STALE CIRCUIT_OPEN "
    "GATE NO_CHANGES FORCED"
)


def upgrade() -> None:
    create_condition_evaluation()
    protect("condition_evaluation")
    # Old evaluations make room for new ones.
    grant(APP, "condition_evaluation", "SELECT", "INSERT", "UPDATE", "DELETE")


def downgrade() -> None:
    op.drop_table("condition_evaluation")


def create_condition_evaluation() -> None:
    op.create_table(
        "condition_evaluation",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("times", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("result", sa.Boolean(), nullable=False),
        sa.Column("trigger", sa.String(length=120), nullable=False),
        sa.Column("inputs", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("skip_reason", one_of("skip_reason", _REASONS), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("spawned_plan_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "plan_id"],
            ["deployment_plan.tenant_id", "deployment_plan.id"],
            name=op.f("fk_condition_evaluation_tenant_id_plan_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "spawned_plan_id"],
            ["deployment_plan.tenant_id", "deployment_plan.id"],
            name=op.f("fk_condition_evaluation_tenant_id_spawned_plan_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_condition_evaluation")),
    )
    op.create_index("idx_condition_evaluation_plan", "condition_evaluation", ["tenant_id", "plan_id", "at", "id"])
