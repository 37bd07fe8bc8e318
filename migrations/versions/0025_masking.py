"""Hide what is sealed in documents that leave the database as text: what app.db.sealing.masked does, in SQL."""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
CREATE FUNCTION windlass_masked(tree jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    CASE jsonb_typeof(tree)
    WHEN 'object' THEN
        IF tree ? '$sealed' AND (SELECT count(*) FROM jsonb_object_keys(tree)) = 1 THEN
            RETURN '{"$sensitive": true}';
        END IF;
        RETURN (SELECT coalesce(jsonb_object_agg(key, windlass_masked(value)), '{}') FROM jsonb_each(tree));
    WHEN 'array' THEN
        RETURN (SELECT coalesce(jsonb_agg(windlass_masked(value) ORDER BY place), '[]')
                  FROM jsonb_array_elements(tree) WITH ORDINALITY AS items (value, place));
    ELSE
        RETURN tree;
    END CASE;
END
$$""")


def downgrade() -> None:
    op.execute("DROP FUNCTION windlass_masked(jsonb)")
