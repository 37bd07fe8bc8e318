"""Index lists as they are filtered and ordered at once, and write text as JSON without looking its type up."""

from __future__ import annotations

from alembic import op

revision = "0065"
down_revision = "0055"
branch_labels = None
depends_on = None

# Those that end in the id alone served the filter, and left the order to a sort of all that it found.
_REPLACED = (
    ("idx_orchestration_job_tenant_status", "orchestration_job", ["tenant_id", "status"]),
    ("idx_orchestration_job_tenant_plan", "orchestration_job", ["tenant_id", "plan_id"]),
    ("idx_deployment_plan_tenant_status", "deployment_plan", ["tenant_id", "status"]),
    ("idx_cloud_resource_status", "cloud_resource", ["tenant_id", "status"]),
)
_ADDED = (
    ("idx_deployment_plan_stack", "deployment_plan", ["tenant_id", "stack", "created_at", "id"]),
    ("idx_deployment_plan_updated", "deployment_plan", ["tenant_id", "updated_at", "id"]),
    ("idx_cloud_resource_updated", "cloud_resource", ["tenant_id", "updated_at", "id"]),
    ("idx_cloud_resource_name", "cloud_resource", ["tenant_id", "name", "id"]),
)


def upgrade() -> None:
    for name, table, columns in _REPLACED:
        op.drop_index(name, table)
        op.create_index(name, table, [*columns, "created_at", "id"])
    for name, table, columns in _ADDED:
        op.create_index(name, table, columns)
    # One expression, so that it is put in the place of its call. JSON_SCALAR came with PostgreSQL 17.
    op.execute("""
DO $do$
BEGIN
    EXECUTE format(
        'CREATE FUNCTION windlass_json(value text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE'
        ' AS $$ SELECT %s::text $$',
        CASE WHEN current_setting('server_version_num')::int >= 170000 THEN 'JSON_SCALAR($1)' ELSE 'to_json($1)' END
    );
END
$do$""")


def downgrade() -> None:
    op.execute("DROP FUNCTION windlass_json(text)")
    for name, table, _ in _ADDED:
        op.drop_index(name, table)
    for name, table, columns in _REPLACED:
        op.drop_index(name, table)
        op.create_index(name, table, [*columns, "id"])
