"""Let resources say whose effect is in doubt, steps that they need a person, and jobs whether all of it was undone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.columns import one_of
from migrations.row_security import TICK, grant

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

_INDEX = "idx_cloud_resource_observe_at"
_TELLING = {
    "deployment_plan": "status_reason",
    "orchestration_job": "status_reason",
    "step_run": "status_reason",
    "condition_evaluation": "skip_reason",
    "plan_trigger": "reason",
}
_BEFORE = (
    "NONE USER POLICY APPROVAL_PENDING APPROVAL_TIMEOUT DEPENDENCY_FAILED DEPENDENCY_PENDING CONDITION_FALSE LOCK_HELD"
    " CONCURRENCY_LIMIT QUOTA NO_WORKER QUEUE_TIMEOUT STEP_FAILED STEP_TIMEOUT VERIFICATION_FAILED WORKER_LOST"
    " PREVIEW_STALE CIRCUIT_OPEN GATE NO_CHANGES FORCED"
)


def upgrade() -> None:
    op.add_column("cloud_resource", sa.Column("in_doubt_step_id", sa.BigInteger(), nullable=True))
    op.add_column("cloud_resource", sa.Column("adopt_id", sa.Text(), nullable=True))
    # A job that ends in a transaction of the scheduler leaves its resources as any other does.
    grant(TICK, "cloud_resource", "SELECT", columns=("resource_key", "in_doubt_step_id", "drift_status"))
    grant(TICK, "cloud_resource", "UPDATE", columns=("in_doubt_step_id", "observe_at"))
    observed("'ACTIVE', 'IMPORTING', 'UNKNOWN'")
    op.add_column(
        "orchestration_job",
        sa.Column(
            "rollback_completeness",
            one_of("rollback_completeness", "FULL PARTIAL"),
            nullable=True,
        ),
    )
    grant(TICK, "orchestration_job", "SELECT", columns=("rollback_completeness",))
    allow_reasons(f"{_BEFORE} NEEDS_ATTENTION")


def downgrade() -> None:
    # What needs a person has failed all the same, and says less about it.
    for table, column in _TELLING.items():
        op.execute(f"UPDATE {table} SET {column} = 'STEP_FAILED' WHERE {column} = 'NEEDS_ATTENTION'")
    allow_reasons(_BEFORE)
    op.drop_column("orchestration_job", "rollback_completeness")
    observed("'ACTIVE', 'IMPORTING'")
    op.execute(f"REVOKE SELECT (resource_key, drift_status) ON cloud_resource FROM {TICK}")
    op.execute(f"REVOKE UPDATE (observe_at) ON cloud_resource FROM {TICK}")
    op.drop_column("cloud_resource", "adopt_id")
    op.drop_column("cloud_resource", "in_doubt_step_id")


def observed(statuses: str) -> None:
    """Resources in these statuses may be due to be looked at."""
    op.drop_index(_INDEX, "cloud_resource")
    where = sa.text(f"observe_at IS NOT NULL AND status IN ({statuses})")
    op.create_index(_INDEX, "cloud_resource", ["observe_at"], postgresql_where=where)


def allow_reasons(reasons: str) -> None:
    """A status may have these reasons."""
    listed = ", ".join(f"'{reason}'" for reason in reasons.split())
    for table, column in _TELLING.items():
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{column}")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{column} CHECK ({column} IN ({listed}))")
