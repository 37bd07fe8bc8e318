"""Let plans depend on plans, and be about some resources of their stack only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.row_security import APP, TICK, across_tenants, grant, protect

revision = "0036"
down_revision = "0034"
branch_labels = None
depends_on = None

# Who tells why, and in which column.
_TELLING = {
    "deployment_plan": "status_reason",
    "orchestration_job": "status_reason",
    "step_run": "status_reason",
    "condition_evaluation": "skip_reason",
    "plan_trigger": "reason",
}
_BEFORE = (
    "NONE USER POLICY APPROVAL_PENDING APPROVAL_TIMEOUT DEPENDENCY_FAILED CONDITION_FALSE LOCK_HELD CONCURRENCY_LIMIT"
    " QUOTA NO_WORKER QUEUE_TIMEOUT STEP_FAILED STEP_TIMEOUT VERIFICATION_FAILED WORKER_LOST PREVIEW_STALE CIRCUIT_OPEN"
    " GATE NO_CHANGES FORCED"
)


def upgrade() -> None:
    op.create_table(
        "plan_dependency",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("upstream_id", sa.BigInteger(), nullable=False),
        sa.Column("declared", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("read_as", sa.String(length=200), nullable=True),
        *(
            sa.ForeignKeyConstraint(
                ["tenant_id", column],
                ["deployment_plan.tenant_id", "deployment_plan.id"],
                name=op.f(f"fk_plan_dependency_tenant_id_{column}"),
            )
            for column in ("plan_id", "upstream_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "plan_id", "upstream_id", name=op.f("pk_plan_dependency")),
    )
    op.create_index("idx_plan_dependency_upstream", "plan_dependency", ["tenant_id", "upstream_id"])
    protect("plan_dependency")
    grant(APP, "plan_dependency", "SELECT", "INSERT", "UPDATE", "DELETE")
    across_tenants(TICK, "plan_dependency")
    grant(TICK, "plan_dependency", "SELECT")
    op.add_column("deployment_plan", sa.Column("only_keys", postgresql.ARRAY(sa.Text()), nullable=True))
    allow_reasons(_BEFORE.replace("DEPENDENCY_FAILED", "DEPENDENCY_FAILED DEPENDENCY_PENDING"))


def downgrade() -> None:
    # Whoever waits waits all the same, and says less about it.
    for table, column in _TELLING.items():
        op.execute(f"UPDATE {table} SET {column} = 'NONE' WHERE {column} = 'DEPENDENCY_PENDING'")
    allow_reasons(_BEFORE)
    op.drop_column("deployment_plan", "only_keys")
    op.drop_table("plan_dependency")


def allow_reasons(reasons: str) -> None:
    """A status may have these reasons."""
    listed = ", ".join(f"'{reason}'" for reason in reasons.split())
    for table, column in _TELLING.items():
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{column}")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{column} CHECK ({column} IN ({listed}))")
