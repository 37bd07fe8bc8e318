"""Let plans stand: what they listen to, how far that was heard, what came of it, and hooks for the world outside."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.columns import one_of
from migrations.row_security import APP, AUTH, TICK, across_tenants, grant, protect

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_REASONS = (
    "NONE USER POLICY APPROVAL_PENDING APPROVAL_TIMEOUT DEPENDENCY_FAILED CONDITION_FALSE LOCK_HELD CONCURRENCY_LIMIT"
    " QUOTA NO_WORKER QUEUE_TIMEOUT STEP_FAILED STEP_TIMEOUT VERIFICATION_FAILED WORKER_LOST PREVIEW_STALE"
    " CIRCUIT_OPEN GATE NO_CHANGES FORCED"
)


def upgrade() -> None:
    create_plan_automation()
    create_automation_feed()
    create_plan_trigger()
    create_plan_hook()
    for table in ("plan_automation", "automation_feed", "plan_trigger", "plan_hook"):
        protect(table)
    grant(APP, "plan_automation", "SELECT", "INSERT", "UPDATE", "DELETE")
    for table in ("automation_feed", "plan_trigger", "plan_hook"):
        grant(APP, table, "SELECT", "INSERT", "UPDATE")
    # The scheduler sees that there is something to look at, and not what it is.
    for table in ("plan_automation", "automation_feed", "plan_trigger", "resource_template"):
        across_tenants(TICK, table)
    of_plan = ("tenant_id", "plan_id")
    due = ("look_at", "fire_at", "retry_at", "template_tenant_id", "template_id", "seen_revision_id")
    grant(TICK, "plan_automation", "SELECT", columns=(*of_plan, *due))
    grant(TICK, "automation_feed", "SELECT")
    grant(TICK, "plan_trigger", "SELECT", columns=(*of_plan, "outcome", "retry_at"))
    grant(TICK, "resource_template", "SELECT", columns=("tenant_id", "id", "latest_revision_id"))
    across_tenants(AUTH, "plan_hook")
    grant(AUTH, "plan_hook", "SELECT", columns=(*of_plan, "token_hash"))


def downgrade() -> None:
    op.execute(f"REVOKE SELECT (tenant_id, id, latest_revision_id) ON resource_template FROM {TICK}")
    op.execute("DROP POLICY tick ON resource_template")
    for table in ("plan_hook", "plan_trigger", "automation_feed", "plan_automation"):
        op.drop_table(table)


def create_plan_automation() -> None:
    op.create_table(
        "plan_automation",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("automation", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("concurrency_key", sa.String(length=240), nullable=False),
        sa.Column("armed_feed", sa.BigInteger(), nullable=False),
        sa.Column("counts_after", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("fire_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("look_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("template_tenant_id", sa.BigInteger(), nullable=True),
        sa.Column("template_id", sa.BigInteger(), nullable=True),
        sa.Column("seen_revision_id", sa.BigInteger(), nullable=True),
        _within("plan_automation", "plan_id"),
        sa.PrimaryKeyConstraint("tenant_id", "plan_id", name=op.f("pk_plan_automation")),
    )
    for column in ("look_at", "fire_at"):
        op.create_index(
            f"idx_plan_automation_{column}",
            "plan_automation",
            [column],
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )
    op.create_index(
        "idx_plan_automation_template",
        "plan_automation",
        ["template_tenant_id", "template_id"],
        postgresql_where=sa.text("template_id IS NOT NULL"),
    )
    op.create_index("idx_plan_automation_key", "plan_automation", ["tenant_id", "concurrency_key"])


def create_automation_feed() -> None:
    op.create_table(
        "automation_feed",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("feed", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.String(length=40), nullable=False),
        sa.Column("stream_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_automation_feed_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_automation_feed")),
    )


def create_plan_trigger() -> None:
    kinds = one_of("kind", "DRIFT TEMPLATE_PUBLISHED PLAN_SUCCEEDED WEBHOOK RECURRENCE")
    outcomes = one_of("outcome", "PENDING SPAWNED SKIPPED")
    op.create_table(
        "plan_trigger",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", kinds, nullable=False),
        sa.Column("key", sa.String(length=300), nullable=False),
        sa.Column("chain", postgresql.ARRAY(sa.BigInteger()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("cause", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("outcome", outcomes, server_default="PENDING", nullable=False),
        sa.Column("reason", one_of("reason", _REASONS), server_default="NONE", nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("concurrency_key", sa.String(length=240), nullable=True),
        sa.Column("child_plan_id", sa.BigInteger(), nullable=True),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        _within("plan_trigger", "plan_id"),
        _within("plan_trigger", "child_plan_id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan_trigger")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_plan_trigger_tenant_id_id")),
        sa.UniqueConstraint(
            "tenant_id", "plan_id", "kind", "key", name=op.f("uq_plan_trigger_tenant_id_plan_id_kind_key")
        ),
    )
    op.create_index(
        "idx_plan_trigger_pending",
        "plan_trigger",
        ["tenant_id", "plan_id", "id"],
        postgresql_where=sa.text("outcome = 'PENDING'"),
    )
    op.create_index(
        "idx_plan_trigger_child",
        "plan_trigger",
        ["tenant_id", "child_plan_id"],
        postgresql_where=sa.text("child_plan_id IS NOT NULL"),
    )
    op.create_index("idx_plan_trigger_plan", "plan_trigger", ["tenant_id", "plan_id", "id"])


def create_plan_hook() -> None:
    op.create_table(
        "plan_hook",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("signing_secret", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=True),
        sa.Column("updated_by", sa.String(length=120), nullable=True),
        _within("plan_hook", "plan_id"),
        sa.PrimaryKeyConstraint("tenant_id", "plan_id", name=op.f("pk_plan_hook")),
    )
    op.create_index("uq_plan_hook_token_hash", "plan_hook", ["token_hash"], unique=True)


def _within(table: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", column],
        ["deployment_plan.tenant_id", "deployment_plan.id"],
        name=op.f(f"fk_{table}_tenant_id_{column}"),
    )
