"""Write down what people do, where nobody who acts can change it, and chain it by hashes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.columns import one_of
from migrations.row_security import APP, TICK, across_tenants, grant, protect

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

# What is hashed, and exported as it is: jsonb has one text for one value.
_TEXT = """
CREATE FUNCTION audit_text(e audit_entry) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('id', e.id, 'tenant', e.tenant_id,
        'at', to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'actor', e.actor, 'token', e.token_id,
        'address', e.address, 'request', e.request_id, 'action', e.action, 'outcome', e.outcome,
        'targetType', e.target_type, 'target', e.target_id, 'before', e.before, 'after', e.after)::text
$$
"""
# Run by the role that acts for one tenant, within its rights: it may add seals, and change none.
_NEXT = """
CREATE FUNCTION audit_seal_next(tenant bigint, at_most integer) RETURNS integer LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    last audit_seal;
    entry audit_entry;
    chained bytea;
    sealed integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(77078, hashint8(tenant));
    SELECT * INTO last FROM audit_seal s WHERE s.tenant_id = tenant ORDER BY s.seq DESC LIMIT 1;
    FOR entry IN
        SELECT * FROM audit_entry e WHERE e.tenant_id = tenant
           AND (e.feed, e.id) > (coalesce(last.feed, 0), coalesce(last.entry_id, 0))
           AND e.feed < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
         ORDER BY e.feed, e.id LIMIT at_most
    LOOP
        chained := sha256(convert_to(coalesce(encode(last.hash, 'hex'), '') || audit_text(entry), 'UTF8'));
        INSERT INTO audit_seal (tenant_id, seq, entry_id, feed, hash)
            VALUES (tenant, coalesce(last.seq, 0) + 1, entry.id, entry.feed, chained) RETURNING * INTO last;
        sealed := sealed + 1;
    END LOOP;
    RETURN sealed;
END
$$
"""


def upgrade() -> None:
    op.create_table(
        "audit_entry",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("feed", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("actor", sa.String(length=120), nullable=False),
        sa.Column("token_id", sa.BigInteger(), nullable=True),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=80), nullable=False),
        sa.Column("outcome", one_of("outcome", "DONE REFUSED"), nullable=False),
        sa.Column("target_type", sa.String(length=60), nullable=True),
        sa.Column("target_id", sa.BigInteger(), nullable=True),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_audit_entry_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entry")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_audit_entry_tenant_id_id")),
    )
    op.create_index("idx_audit_entry_feed", "audit_entry", ["tenant_id", "feed", "id"])
    op.create_index("idx_audit_entry_target", "audit_entry", ["tenant_id", "target_type", "target_id", "id"])
    op.create_index("idx_audit_entry_actor", "audit_entry", ["tenant_id", "actor", "id"])
    op.create_table(
        "audit_seal",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("entry_id", sa.BigInteger(), nullable=False),
        sa.Column("feed", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_audit_seal_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "seq", name=op.f("pk_audit_seal")),
        sa.UniqueConstraint("tenant_id", "entry_id", name=op.f("uq_audit_seal_tenant_id_entry_id")),
    )
    for table in ("audit_entry", "audit_seal"):
        protect(table)
        grant(APP, table, "SELECT", "INSERT")
        across_tenants(TICK, table)
    # The scheduler sees that there is something to seal, and not what.
    grant(TICK, "audit_entry", "SELECT", columns=("tenant_id", "id", "feed"))
    grant(TICK, "audit_seal", "SELECT", columns=("tenant_id", "seq", "entry_id", "feed"))
    op.execute(_TEXT)
    op.execute(_NEXT)
    for function in ("audit_text(audit_entry)", "audit_seal_next(bigint, integer)"):
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {APP}")


def downgrade() -> None:
    op.execute("DROP FUNCTION audit_seal_next(bigint, integer)")
    op.execute("DROP FUNCTION audit_text(audit_entry)")
    op.drop_table("audit_seal")
    op.drop_table("audit_entry")
