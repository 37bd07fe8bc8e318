"""Give every event its place in the feed of its tenant."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.row_security import TICK, grant

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_OWNERS = ("orchestration_job", "deployment_plan")


def upgrade() -> None:
    # What was written before there was a feed stands at its beginning, stream by stream.
    for table in (*_OWNERS, "event_log"):
        op.add_column(table, sa.Column("feed", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.create_index("idx_event_log_feed", "event_log", ["tenant_id", "feed", "stream", "stream_id", "seq"])
    # Times grow with the rows: a small index of ranges finds them as well, and costs a write next to nothing.
    op.drop_index("idx_event_log_at", "event_log")
    op.create_index("idx_event_log_at", "event_log", ["at"], postgresql_using="brin")
    for table in _OWNERS:
        grant(TICK, table, "SELECT", columns=("feed",))
    grant(TICK, "event_log", "SELECT", columns=("tenant_id", "feed"))


def downgrade() -> None:
    op.execute(f"REVOKE SELECT (tenant_id, feed) ON event_log FROM {TICK}")
    for table in _OWNERS:
        op.execute(f"REVOKE SELECT (feed) ON {table} FROM {TICK}")
    op.drop_index("idx_event_log_at", "event_log")
    op.create_index("idx_event_log_at", "event_log", ["tenant_id", "at"], unique=False)
    op.drop_index("idx_event_log_feed", "event_log")
    for table in ("event_log", *reversed(_OWNERS)):
        op.drop_column(table, "feed")
