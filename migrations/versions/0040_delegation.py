"""Let whoever may answer a gate let somebody else answer it, too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.row_security import KEYS, grant

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("gate", sa.Column("delegations", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    for privilege in ("SELECT", "UPDATE"):
        grant(KEYS, "gate", privilege, columns=("delegations",))


def downgrade() -> None:
    op.drop_column("gate", "delegations")
