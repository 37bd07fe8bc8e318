"""Every filter and order of the lists of jobs and plans: found by an index, in order, however large the table is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import asyncpg
import orjson
import pytest

from schema.compiling.queries import CompiledQueries
from schema.nodes import encode_id
from schema.root import build_schema
from tests.schema.compiling.explaining import generic_plan, nodes_of
from tests.schema.conftest import Api

_WORKFLOW, _PLAN = encode_id("Workflow", 1), encode_id("DeploymentPlan", 1)
_SINCE = '{from: "2026-01-01T00:00:00Z"}'
LISTS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "orchestrationJobs": (
        "orchestration_job",
        (
            "",
            "{status: [FAILED]}",
            "{status: [FAILED, CANCELLED]}",
            "{stage: [ACTIVE]}",
            "{type: [DEPLOY]}",
            "{status: [FAILED], type: [DEPLOY]}",
            "{direction: FORWARD}",
            "{simulated: false}",
            f'{{planId: "{_PLAN}"}}',
            f"{{started: {_SINCE}}}",
        ),
        ("CREATED_AT", "STARTED_AT", "COMPLETED_AT", "DURATION"),
    ),
    "deploymentPlans": (
        "deployment_plan",
        (
            "",
            "{status: [FAILED]}",
            "{status: [FAILED, CANCELLED]}",
            "{stage: [ACTIVE]}",
            "{type: [IMMEDIATE]}",
            '{name: {contains: "9"}}',
            '{stack: {eq: "s1"}}',
            f'{{workflowId: "{_WORKFLOW}"}}',
            f"{{created: {_SINCE}}}",
        ),
        ("CREATED_AT", "UPDATED_AT", "SCHEDULED_AT", "STARTED_AT", "NAME"),
    ),
}
FEW = 500


@pytest.fixture
async def large(api: Api, database_url: str) -> Api:
    """Twenty thousand plans and forty thousand jobs in all states of rest, a quarter of them another tenant's."""
    states = "(ARRAY['SUCCEEDED','SUCCEEDED','SUCCEEDED','FAILED','CANCELLED'])[1 + n % 5]"
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO deployment_plan (tenant_id, plan_name, plan_type, status, stack, created_at, updated_at)"
            f" SELECT CASE WHEN n % 4 = 0 THEN 2 ELSE 1 END, 'plan ' || n, 'IMMEDIATE', {states}, 's' || n % 500,"
            " now() - n * interval '1 minute', now() - n * interval '1 minute' FROM generate_series(1, 20000) n"
        )
        await connection.execute(
            "INSERT INTO orchestration_job (tenant_id, plan_id, job_name, job_type, stack, status, created_at,"
            " started_at, completed_at, duration_seconds)"
            f" SELECT tenant_id, id, 'job ' || n, 'DEPLOY', stack, {states},"
            " created_at, created_at, created_at, id % 600"
            " FROM (SELECT p.*, p.id + k AS n FROM deployment_plan p, generate_series(1, 2) k) p"
        )
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    return api


async def _plans(api: Api, database_url: str, name: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Of each combination: what is asked, and the nodes of its plan."""
    queries, access = CompiledQueries(build_schema()), api.acme
    settings = {"role": "windlass_app", "plan_cache_mode": "force_generic_plan", "app.tenant_id": str(access.tenant_id)}
    connection = await asyncpg.connect(database_url, server_settings=settings, statement_cache_size=0)
    found = []
    _, filters, orders = LISTS[name]
    try:
        for order in orders:
            for direction in ("ASC", "DESC"):
                for wanted in filters:
                    given = f"orderBy: {{field: {order}, direction: {direction}}}" + (
                        f", filter: {wanted}" if wanted else ""
                    )
                    plan = queries.plan(
                        f"{{ {name}(first: 50, {given}) {{ nodes {{ id }} pageInfo {{ endCursor }} }} }}",
                        {}, None, api.services.context(access.principal, "test"),
                    )  # fmt: skip
                    assert plan is not None, given
                    values = {"$tenant": access.tenant_id, "$user": access.principal.user_id}
                    explained = await generic_plan(connection, plan.sql, [read(values) for read in plan.parameters])
                    found.append((given, list(nodes_of(orjson.loads(explained)[0]["Plan"]))))
    finally:
        await connection.close()
    return iter(found)


@pytest.mark.parametrize("name", LISTS)
async def test_every_filter_and_order_has_an_index(large: Api, database_url: str, name: str) -> None:
    table, *_ = LISTS[name]
    costly = []
    for given, nodes in await _plans(large, database_url, name):
        whole = any(node["Node Type"] == "Seq Scan" and node["Relation Name"] == table for node in nodes)
        # A few rows may be sorted: those of states that hardly any are in.
        if whole or any(node["Node Type"] == "Sort" and node["Plan Rows"] > FEW for node in nodes):
            costly.append(given)
    assert costly == []
