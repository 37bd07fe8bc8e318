"""Let steps verify what others have brought about."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_BEFORE = "'APPLY', 'DELETE', 'RETIRE', 'ACT', 'RUN', 'GATE'"


def upgrade() -> None:
    allow_operations(f"{_BEFORE}, 'VERIFY'")


def downgrade() -> None:
    allow_operations(_BEFORE)


def allow_operations(listed: str) -> None:
    """Steps may be of these operations."""
    op.execute("ALTER TABLE step_run DROP CONSTRAINT ck_step_run_operation")
    op.execute(f"ALTER TABLE step_run ADD CONSTRAINT ck_step_run_operation CHECK (operation IN ({listed}))")
