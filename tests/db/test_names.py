"""The customer's entity diagram, word for word: its columns and its indexes exist under its names."""

from __future__ import annotations

import pytest

from app.db.models import Base
from tests.factories.databases import fetch

AUDIT = "created_at updated_at created_by updated_by is_deleted"
COLUMNS = {
    "workflow": f"""
        id tenant_id workflow_name description workflow_type status definition parameters triggers conditions actions
        is_active metadata last_executed execution_count success_count failure_count {AUDIT}""",
    "workflow_step": f"""
        id workflow_id step_name description step_order step_type status configuration inputs outputs conditions
        actions timeout_seconds retry_count error_handling metadata {AUDIT}""",
    "resource_template": f"""
        id tenant_id template_name description template_type status template_content parameters dependencies outputs
        constraints metadata is_public tags {AUDIT}""",
    "deployment_plan": f"""
        id tenant_id user_id workflow_id template_id plan_name description plan_type status configuration parameters
        resources dependencies constraints metadata scheduled_at started_at completed_at duration_seconds
        error_message {AUDIT}""",
    "orchestration_job": f"""
        id tenant_id plan_id job_name description job_type status configuration inputs outputs logs artifacts
        started_at completed_at duration_seconds error_message retry_count metadata {AUDIT}""",
}
INDEXES = {
    "idx_workflow_tenant": ("workflow", ["tenant_id"]),
    "idx_workflow_name": ("workflow", ["workflow_name"]),
    "idx_workflow_type": ("workflow", ["workflow_type"]),
    "idx_workflow_status": ("workflow", ["status"]),
    "idx_workflow_active": ("workflow", ["is_active"]),
    "idx_workflow_tenant_status": ("workflow", ["tenant_id", "status"]),
    "idx_workflow_step_workflow": ("workflow_step", ["workflow_id"]),
    "idx_workflow_step_order": ("workflow_step", ["step_order"]),
    "idx_workflow_step_type": ("workflow_step", ["step_type"]),
    "idx_workflow_step_status": ("workflow_step", ["status"]),
    "idx_workflow_step_workflow_order": ("workflow_step", ["workflow_id", "step_order"]),
    "idx_resource_template_tenant": ("resource_template", ["tenant_id"]),
    "idx_resource_template_name": ("resource_template", ["template_name"]),
    "idx_resource_template_type": ("resource_template", ["template_type"]),
    "idx_resource_template_status": ("resource_template", ["status"]),
    "idx_resource_template_public": ("resource_template", ["is_public"]),
    "idx_deployment_plan_tenant": ("deployment_plan", ["tenant_id"]),
    "idx_deployment_plan_user": ("deployment_plan", ["user_id"]),
    "idx_deployment_plan_workflow": ("deployment_plan", ["workflow_id"]),
    "idx_deployment_plan_template": ("deployment_plan", ["template_id"]),
    "idx_deployment_plan_type": ("deployment_plan", ["plan_type"]),
    "idx_deployment_plan_status": ("deployment_plan", ["status"]),
    "idx_deployment_plan_scheduled": ("deployment_plan", ["scheduled_at"]),
    "idx_orchestration_job_tenant": ("orchestration_job", ["tenant_id"]),
    "idx_orchestration_job_plan": ("orchestration_job", ["plan_id"]),
    "idx_orchestration_job_type": ("orchestration_job", ["job_type"]),
    "idx_orchestration_job_status": ("orchestration_job", ["status"]),
    "idx_orchestration_job_started": ("orchestration_job", ["started_at"]),
}
ENUMS = {
    ("workflow", "workflow_type"): "DEPLOYMENT SCALING BACKUP RESTORE MIGRATION MAINTENANCE CUSTOM",
    ("workflow_step", "step_type"): """
        RESOURCE_CREATE RESOURCE_UPDATE RESOURCE_DELETE RESOURCE_SCALE RESOURCE_BACKUP RESOURCE_RESTORE
        RESOURCE_MIGRATE CUSTOM""",
    ("resource_template", "template_type"): """
        INFRASTRUCTURE APPLICATION DATABASE NETWORK SECURITY MONITORING CUSTOM""",
    ("deployment_plan", "plan_type"): "IMMEDIATE SCHEDULED CONDITIONAL MANUAL AUTOMATED",
    ("orchestration_job", "job_type"): "DEPLOY UPDATE DELETE SCALE BACKUP RESTORE MIGRATE CUSTOM",
}


async def test_the_columns_of_the_diagram_exist(database_url: str) -> None:
    rows = await fetch(
        database_url, "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    )
    there = {(row["table_name"], row["column_name"]) for row in rows}
    wanted = {(table, column) for table, columns in COLUMNS.items() for column in columns.split()}
    assert len(wanted) == 110
    assert wanted - there == set()


async def test_the_indexes_of_the_diagram_exist(database_url: str) -> None:
    rows = await fetch(
        database_url,
        "SELECT c.relname::text AS name, t.relname::text AS of, array_agg(a.attname::text ORDER BY k.place) AS columns"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid"
        " CROSS JOIN unnest(i.indkey::int[]) WITH ORDINALITY AS k(number, place)"
        " JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number"
        " WHERE t.relnamespace = 'public'::regnamespace AND i.indpred IS NULL GROUP BY 1, 2",
    )
    there = {row["name"]: (row["of"], row["columns"]) for row in rows}
    assert {name: there.get(name) for name in INDEXES} == INDEXES


@pytest.mark.parametrize(("table", "column"), list(ENUMS))
async def test_the_enums_of_the_diagram_are_unchanged(database_url: str, table: str, column: str) -> None:
    assert await _admitted(database_url, table, column) == ENUMS[table, column].split()


async def test_every_enum_column_admits_its_values_and_no_others(database_url: str) -> None:
    """The CHECK in the database against the enum in the code, for all of them."""
    enums = {
        (table.name, column.name): column.type.enums
        for table in Base.metadata.tables.values()
        for column in table.columns
        if hasattr(column.type, "enums")
    }
    assert len(enums) > 30
    assert {key: await _admitted(database_url, *key) for key in enums} == enums


async def _admitted(url: str, table: str, column: str) -> list[str]:
    rows = await fetch(
        url,
        "SELECT (SELECT array_agg(found[1]) FROM regexp_matches(pg_get_constraintdef(c.oid), '''([^'']*)''', 'g')"
        " AS found) AS admitted FROM pg_constraint c WHERE c.contype = 'c' AND c.conrelid = $1::text::regclass"
        " AND c.conname = 'ck_' || $1::text || '_' || $2::text",
        table,
        column,
    )
    admitted: list[str] = rows[0]["admitted"] if rows else []
    return admitted
