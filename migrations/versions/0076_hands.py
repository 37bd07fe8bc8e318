"""Workers say how many steps they have at a time: no more are rung for than there are hands."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, text

revision = "0076"
down_revision = "0075"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("worker", Column("hands", Integer, nullable=False, server_default=text("32")))


def downgrade() -> None:
    op.drop_column("worker", "hands")
