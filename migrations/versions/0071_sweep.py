"""Ask again for a while what operations have made whose effects were undone while their answers were lost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.row_security import TICK, across_tenants, grant

revision = "0071"
down_revision = "0070"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("step_effect", sa.Column("sweep_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("step_effect", sa.Column("sweeps", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_index(
        "idx_step_effect_sweep", "step_effect", ["sweep_at"], postgresql_where=sa.text("sweep_at IS NOT NULL")
    )
    across_tenants(TICK, "step_effect")
    grant(TICK, "step_effect", "SELECT", columns=("tenant_id", "id", "completed_at", "sweep_at", "sweeps"))
    grant(TICK, "step_effect", "UPDATE", columns=("sweep_at", "sweeps"))


def downgrade() -> None:
    op.execute(f"REVOKE ALL ON step_effect FROM {TICK}")
    op.execute(
        f"REVOKE SELECT (tenant_id, id, completed_at, sweep_at, sweeps), UPDATE (sweep_at, sweeps) ON step_effect"
        f" FROM {TICK}"
    )
    op.execute("DROP POLICY tick ON step_effect")
    op.drop_index("idx_step_effect_sweep", table_name="step_effect")
    op.drop_column("step_effect", "sweeps")
    op.drop_column("step_effect", "sweep_at")
