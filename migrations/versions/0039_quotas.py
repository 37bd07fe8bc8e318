"""Let tenants have no more than so many resources, and so many plans that are not over."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

_LIMITS = {"max_resources": "resources", "max_plans": "plans"}


def upgrade() -> None:
    for column, name in _LIMITS.items():
        op.add_column("tenant_limit", sa.Column(column, sa.Integer(), nullable=True))
        op.create_check_constraint(op.f(f"ck_tenant_limit_{name}"), "tenant_limit", f"{column} > 0")


def downgrade() -> None:
    for column, name in reversed(_LIMITS.items()):
        op.drop_constraint(op.f(f"ck_tenant_limit_{name}"), "tenant_limit")
        op.drop_column("tenant_limit", column)
