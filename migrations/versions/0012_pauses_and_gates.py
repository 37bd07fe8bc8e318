"""Give pauses their timer, and gates their kind, those who may answer, and what happens when nobody does."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.columns import one_of
from migrations.row_security import TICK, across_tenants, grant

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_OPERATIONS = "APPLY DELETE RETIRE ACT RUN"
_GATE: tuple[sa.Column[object], ...] = (
    sa.Column("kind", one_of("kind", "APPROVAL INPUT SIGNAL TIMER"), server_default="APPROVAL", nullable=False),
    sa.Column("approvers", postgresql.ARRAY(sa.String(length=320)), server_default=sa.text("'{}'"), nullable=False),
    sa.Column(
        "on_timeout", one_of("on_timeout", "ROLLBACK HALT CONTINUE PAUSE"), server_default="HALT", nullable=False
    ),
    sa.Column("approved", sa.Boolean(), nullable=True),
    sa.Column("comment", sa.Text(), nullable=True),
    sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
)


def upgrade() -> None:
    op.add_column("orchestration_job", sa.Column("pause_until", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "idx_orchestration_job_pause",
        "orchestration_job",
        ["pause_until"],
        postgresql_where=sa.text("pause_until IS NOT NULL"),
    )
    grant(TICK, "orchestration_job", "SELECT", columns=("pause_until",))
    for column in _GATE:
        op.add_column("gate", column)
    op.create_index(
        "idx_gate_deadline",
        "gate",
        ["deadline_at"],
        postgresql_where=sa.text("deadline_at IS NOT NULL AND closed_at IS NULL"),
    )
    # The scheduler sees when a gate is due, and not what is asked or answered.
    across_tenants(TICK, "gate")
    grant(TICK, "gate", "SELECT", columns=("id", "tenant_id", "step_run_id", "deadline_at", "closed_at"))
    allow_operations(f"{_OPERATIONS} GATE")


def downgrade() -> None:
    allow_operations(_OPERATIONS)
    op.execute("DROP POLICY tick ON gate")
    op.execute(f"REVOKE SELECT (id, tenant_id, step_run_id, deadline_at, closed_at) ON gate FROM {TICK}")
    op.drop_index("idx_gate_deadline", "gate")
    for column in reversed(_GATE):
        op.drop_column("gate", column.name)
    op.drop_index("idx_orchestration_job_pause", "orchestration_job")
    op.drop_column("orchestration_job", "pause_until")


def allow_operations(values: str) -> None:
    """Steps may be of these operations, which are separated by spaces."""
    listed = ", ".join(f"'{value}'" for value in values.split())
    op.execute("ALTER TABLE step_run DROP CONSTRAINT ck_step_run_operation")
    op.execute(f"ALTER TABLE step_run ADD CONSTRAINT ck_step_run_operation CHECK (operation IN ({listed}))")
