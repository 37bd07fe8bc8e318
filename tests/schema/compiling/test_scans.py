"""What a page costs does not grow with the table: no hot query reads one from end to end."""

from __future__ import annotations

from typing import Any

import asyncpg
import orjson
import pytest

from schema.compiling.queries import CompiledQueries
from schema.nodes import encode_id
from schema.root import build_schema
from tests.schema.compiling.explaining import generic_plan, nodes_of
from tests.schema.conftest import Api

HOT: dict[str, tuple[str, dict[str, Any]]] = {
    "a plan and its relations": (
        (
            "query($id: ID!) { deploymentPlan(id: $id) { name workflow { name steps { key } } tenant { slug }"
            " jobs(first: 3) { nodes { name steps { key status } } totalCount { value } } resources { key } } }"
        ),
        {"id": encode_id("DeploymentPlan", 1)},
    ),
    "the newest plans": (
        (
            "{ deploymentPlans(first: 50) { nodes { name workflow { name } jobs(first: 3) { nodes { status } } }"
            " pageInfo { endCursor } } }"
        ),
        {},
    ),
    "plans by name": (
        "{ deploymentPlans(first: 20, orderBy: {field: NAME, direction: ASC}) { nodes { name } } }",
        {},
    ),
    "the newest jobs": ("{ orchestrationJobs(first: 100) { nodes { name status } } }", {}),
    "jobs of a plan": (
        "query($id: ID!) { deploymentPlan(id: $id) { jobs(first: 5) { edges { cursor node { status } } } } }",
        {"id": encode_id("DeploymentPlan", 1)},
    ),
    "a later page": (
        "query($after: Cursor) { deploymentPlans(first: 20, after: $after) { nodes { name } } }",
        {"after": ""},
    ),
}
_LARGE = {"deployment_plan", "orchestration_job"}


@pytest.fixture
async def many(api: Api, database_url: str) -> Api:
    """Ten thousand plans and twenty thousand jobs, half of them another tenant's."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO deployment_plan (tenant_id, plan_name, plan_type, status, stack, created_at)"
            " SELECT 1 + n % 2, 'plan ' || n, 'IMMEDIATE', 'SUCCEEDED', 's', now() - n * interval '1 minute'"
            " FROM generate_series(1, 10000) n"
        )
        await connection.execute(
            "INSERT INTO orchestration_job (tenant_id, plan_id, job_name, job_type, stack, status, created_at)"
            " SELECT tenant_id, id, 'job ' || n, 'DEPLOY', 's', 'SUCCEEDED', created_at"
            " FROM deployment_plan, generate_series(1, 2) n"
        )
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    return api


@pytest.mark.parametrize("name", HOT)
async def test_no_hot_query_reads_a_whole_table(many: Api, database_url: str, name: str) -> None:
    queries, (text, variables) = CompiledQueries(build_schema()), HOT[name]
    if "after" in variables:
        page = await many.data("{ deploymentPlans(first: 50) { pageInfo { endCursor } } }")
        variables = {"after": page["deploymentPlans"]["pageInfo"]["endCursor"]}
    access = many.acme
    plan = queries.plan(text, variables, None, many.services.context(access.principal, "test"))
    assert plan is not None
    given = {**variables, "$tenant": access.tenant_id, "$user": access.principal.user_id}
    settings = {"role": "windlass_app", "plan_cache_mode": "force_generic_plan", "app.tenant_id": str(access.tenant_id)}
    connection = await asyncpg.connect(database_url, server_settings=settings, statement_cache_size=0)
    try:
        explained = await generic_plan(connection, plan.sql, [read(given) for read in plan.parameters])
    finally:
        await connection.close()
    (top,) = orjson.loads(explained)
    scanned = {node["Relation Name"] for node in nodes_of(top["Plan"]) if node["Node Type"] == "Seq Scan"}
    assert not scanned & _LARGE, explained
