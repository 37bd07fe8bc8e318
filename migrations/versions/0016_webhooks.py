"""Create webhooks and the log of their deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.columns import one_of
from migrations.row_security import APP, TICK, across_tenants, grant, protect

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_webhook_endpoint()
    create_webhook_delivery()
    for table in ("webhook_endpoint", "webhook_delivery"):
        protect(table)
        grant(APP, table, "SELECT", "INSERT", "UPDATE")
        across_tenants(TICK, table)
    # A log, of which only the newest are kept.
    grant(APP, "webhook_delivery", "DELETE")
    # Whoever looks for endpoints that have news sees places and times, and neither addresses nor secrets.
    grant(
        TICK, "webhook_endpoint", "SELECT",
        columns=("id", "tenant_id", "status", "feed", "feed_stream", "feed_stream_id", "feed_seq", "next_attempt_at",
                 "lease_until", "fence", "is_deleted"),
    )  # fmt: skip
    grant(TICK, "webhook_endpoint", "UPDATE", columns=("lease_until", "fence"))
    grant(TICK, "webhook_delivery", "SELECT", columns=("tenant_id", "endpoint_id", "status"))
    grant(TICK, "event_log", "SELECT", columns=("stream", "stream_id", "seq"))


def downgrade() -> None:
    op.execute(f"REVOKE SELECT (stream, stream_id, seq) ON event_log FROM {TICK}")
    op.drop_table("webhook_delivery")
    op.drop_table("webhook_endpoint")


def create_webhook_endpoint() -> None:
    op.create_table(
        "webhook_endpoint",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("previous_secret", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "event_types", postgresql.ARRAY(sa.String(length=60)), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("selection", sa.Text(), nullable=True),
        sa.Column("status", one_of("status", "ACTIVE FAILING PAUSED"), server_default="ACTIVE", nullable=False),
        sa.Column(
            "status_reason",
            one_of("status_reason", "NONE USER GONE EXHAUSTED"),
            server_default="NONE",
            nullable=False,
        ),
        sa.Column("feed", sa.BigInteger(), nullable=False),
        sa.Column("feed_stream", sa.String(length=40), nullable=False),
        sa.Column("feed_stream_id", sa.BigInteger(), nullable=False),
        sa.Column("feed_seq", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=True),
        sa.Column("updated_by", sa.String(length=120), nullable=True),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_webhook_endpoint_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoint")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_webhook_endpoint_tenant_id_id")),
    )
    there = sa.text("NOT is_deleted")
    op.create_index(
        "uq_webhook_endpoint_name", "webhook_endpoint", ["tenant_id", "name"], unique=True, postgresql_where=there
    )
    op.create_index("idx_webhook_endpoint_lease", "webhook_endpoint", ["lease_until"], postgresql_where=there)


def create_webhook_delivery() -> None:
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("endpoint_id", sa.BigInteger(), nullable=False),
        sa.Column("source", one_of("source", "EVENT PING REDELIVERY"), nullable=False),
        sa.Column("type", sa.String(length=80), nullable=False),
        sa.Column("message_id", sa.String(length=80), nullable=False),
        sa.Column("cursor", sa.String(length=200), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("status", one_of("status", "PENDING DELIVERED FAILED"), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("created_by", sa.String(length=120), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "endpoint_id"],
            ["webhook_endpoint.tenant_id", "webhook_endpoint.id"],
            name=op.f("fk_webhook_delivery_tenant_id_endpoint_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_delivery")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_webhook_delivery_tenant_id_id")),
    )
    op.create_index("idx_webhook_delivery_page", "webhook_delivery", ["tenant_id", "endpoint_id", "id"])
    op.create_index(
        "idx_webhook_delivery_pending",
        "webhook_delivery",
        ["tenant_id", "endpoint_id"],
        postgresql_where=sa.text("status = 'PENDING'"),
    )
