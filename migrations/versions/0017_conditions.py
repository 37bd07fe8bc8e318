"""Give conditional plans what they have seen, the signals they were sent, and a record of every look."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.columns import one_of
from migrations.row_security import APP, TICK, across_tenants, grant, protect

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_REASONS = (
    "NONE USER POLICY APPROVAL_PENDING APPROVAL_TIMEOUT DEPENDENCY_FAILED CONDITION_FALSE LOCK_HELD CONCURRENCY_LIMIT "
    "QUOTA NO_WORKER QUEUE_TIMEOUT STEP_FAILED STEP_TIMEOUT VERIFICATION_FAILED WORKER_LOST PREVIEW_STALE CIRCUIT_OPEN "
    "GATE NO_CHANGES FORCED"
)


def upgrade() -> None:
    create_condition_evaluation()
    create_plan_watch()
    create_plan_signal()
    create_watch_cursor()
    # Old evaluations make room for new ones; what a plan watches, and was sent, is over when it waits no more.
    for table in ("condition_evaluation", "plan_watch", "plan_signal"):
        protect(table)
        grant(APP, table, "SELECT", "INSERT", "UPDATE", "DELETE")
    protect("watch_cursor")
    grant(APP, "watch_cursor", "SELECT", "INSERT", "UPDATE")
    # The scheduler sees who has to look, and not at what.
    across_tenants(TICK, "plan_watch")
    grant(TICK, "plan_watch", "SELECT", columns=("tenant_id", "plan_id", "look_at"))
    across_tenants(TICK, "watch_cursor")
    grant(TICK, "watch_cursor", "SELECT", columns=("tenant_id", "feed"))
    op.create_index("idx_deployment_plan_name", "deployment_plan", ["tenant_id", "plan_name", "id"])


def downgrade() -> None:
    op.drop_index("idx_deployment_plan_name", "deployment_plan")
    for table in ("watch_cursor", "plan_signal", "plan_watch", "condition_evaluation"):
        op.drop_table(table)


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


def create_plan_watch() -> None:
    op.create_table(
        "plan_watch",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("subjects", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("armed", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("true_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("look_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("because", sa.String(length=120), nullable=False),
        sa.Column("marks", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "plan_id"],
            ["deployment_plan.tenant_id", "deployment_plan.id"],
            name=op.f("fk_plan_watch_tenant_id_plan_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "plan_id", name=op.f("pk_plan_watch")),
    )
    op.create_index(
        "idx_plan_watch_look_at", "plan_watch", ["look_at"], postgresql_where=sa.text("look_at IS NOT NULL")
    )


def create_plan_signal() -> None:
    op.create_table(
        "plan_signal",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("count", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "received_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("sent_by", sa.String(length=120), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "plan_id"],
            ["deployment_plan.tenant_id", "deployment_plan.id"],
            name=op.f("fk_plan_signal_tenant_id_plan_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "plan_id", "name", name=op.f("pk_plan_signal")),
    )


def create_watch_cursor() -> None:
    op.create_table(
        "watch_cursor",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("feed", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_watch_cursor_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_watch_cursor")),
    )
