"""Say of every stream when its newest fact was written: with that, a cursor names a fact and not only a number.

Streams that nobody writes to any more say nothing; their cursors are numbers, as they were.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.row_security import TICK, grant

revision = "0055"
down_revision = "0040"
branch_labels = None
depends_on = None

_OWNERS = ("orchestration_job", "deployment_plan")


def upgrade() -> None:
    for table in _OWNERS:
        op.add_column(table, sa.Column("event_at", sa.DateTime(timezone=True), nullable=True))
        grant(TICK, table, "SELECT", columns=("event_at",))


def downgrade() -> None:
    for table in reversed(_OWNERS):
        op.execute(f"REVOKE SELECT (event_at) ON {table} FROM {TICK}")
        op.drop_column(table, "event_at")
