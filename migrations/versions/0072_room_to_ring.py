"""Leave room in the pages of steps: a ring is written beside the row it is about, and into no index."""

from __future__ import annotations

from alembic import op

revision = "0072"
down_revision = "0071"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Of pages that are written from now on.
    op.execute("ALTER TABLE step_run SET (fillfactor = 85)")


def downgrade() -> None:
    op.execute("ALTER TABLE step_run RESET (fillfactor)")
