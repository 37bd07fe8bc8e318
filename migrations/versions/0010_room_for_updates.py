"""Leave room on the pages of rows that change often, so that a change that touches no index stays on its page."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_FILL = {"orchestration_job": 70, "deployment_plan": 80, "step_run": 60, "cloud_resource": 80, "worker": 50}


def upgrade() -> None:
    for table, percent in _FILL.items():
        op.execute(f"ALTER TABLE {table} SET (fillfactor = {percent})")


def downgrade() -> None:
    for table in _FILL:
        op.execute(f"ALTER TABLE {table} RESET (fillfactor)")
