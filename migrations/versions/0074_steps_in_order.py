"""Read a workflow's steps in their order from an index: a page of plans reads those of each of its workflows."""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0074"
down_revision = "0073"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "idx_workflow_step_page",
        "workflow_step",
        ["tenant_id", "workflow_id", "step_order", "id"],
        postgresql_where=text("NOT is_deleted"),
    )


def downgrade() -> None:
    op.drop_index("idx_workflow_step_page", "workflow_step")
