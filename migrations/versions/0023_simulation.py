"""Give simulated jobs a record of resources of their own, and let their events stay out of the tenant's feed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.columns import one_of
from migrations.row_security import APP, grant, protect, unforced

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_STATUSES = "PLANNED IMPORTING CREATING ACTIVE UPDATING DELETING FAILED UNKNOWN DELETED DETACHED"
_DRIFT = "NOT_CHECKED IN_SYNC MODIFIED MISSING UNSUPPORTED UNKNOWN"


def upgrade() -> None:
    create_simulated_resource()
    # What a simulated job has made up is forgotten when it ends.
    protect("simulated_resource")
    grant(APP, "simulated_resource", "SELECT", "INSERT", "UPDATE", "DELETE")
    op.alter_column("event_log", "feed", nullable=True)


def downgrade() -> None:
    # Whoever follows the feed from its beginning will find them there.
    with unforced("event_log"):
        op.execute("UPDATE event_log SET feed = 0 WHERE feed IS NULL")
    op.alter_column("event_log", "feed", nullable=False)
    op.drop_table("simulated_resource")


def create_simulated_resource() -> None:
    op.create_table(
        "simulated_resource",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("resource_key", sa.String(length=250), nullable=False),
        sa.Column("resource_id", sa.BigInteger(), nullable=True),
        sa.Column("status", one_of("status", _STATUSES), nullable=False),
        sa.Column("drift_status", one_of("drift_status", _DRIFT), nullable=False),
        sa.Column("drift", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("applied", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("outputs", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("private", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("state_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["orchestration_job.tenant_id", "orchestration_job.id"],
            name=op.f("fk_simulated_resource_tenant_id_job_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "resource_id"],
            ["cloud_resource.tenant_id", "cloud_resource.id"],
            name=op.f("fk_simulated_resource_tenant_id_resource_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_simulated_resource")),
        sa.UniqueConstraint(
            "tenant_id", "job_id", "resource_key", name=op.f("uq_simulated_resource_tenant_id_job_id_resource_key")
        ),
    )
