"""Let steps ask beforehand what will stand in the way."""

from __future__ import annotations

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

_BEFORE = "'APPLY', 'DELETE', 'RETIRE', 'ACT', 'RUN', 'GATE', 'VERIFY'"


def upgrade() -> None:
    allow_operations(f"{_BEFORE}, 'PREFLIGHT'")


def downgrade() -> None:
    # What has been asked is over, and nothing came of it that anybody needs.
    op.execute("UPDATE step_run SET operation = 'VERIFY' WHERE operation = 'PREFLIGHT'")
    allow_operations(_BEFORE)


def allow_operations(listed: str) -> None:
    """Steps may be of these operations."""
    op.execute("ALTER TABLE step_run DROP CONSTRAINT ck_step_run_operation")
    op.execute(f"ALTER TABLE step_run ADD CONSTRAINT ck_step_run_operation CHECK (operation IN ({listed}))")
