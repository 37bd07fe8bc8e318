"""Create the roles that act on the tables."""

from __future__ import annotations

from alembic import op

from migrations.row_security import APP, ROLES, create_role, release_role

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    for role in ROLES:
        create_role(role)
    # The API says that it is ready only when the database is at the revision it was written for.
    op.execute(f"GRANT SELECT ON alembic_version TO {APP}")


def downgrade() -> None:
    op.execute(f"REVOKE SELECT ON alembic_version FROM {APP}")
    for role in ROLES:
        release_role(role)
