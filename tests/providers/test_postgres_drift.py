"""Drift of roles and databases on a real server: somebody alters and drops them, and a plan puts them back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from app.db.models import ProviderConnection
from app.domain.enums import DriftStatus
from app.domain.statuses import PlanStatus, ResourceStatus
from app.providers.postgres.provider import PostgresProvider
from app.providers.registry import Registry
from app.services import drift, plans
from app.services.drift import ImportResource
from app.services.plans import ExecutePlan
from tests.engine.harness import Workshop
from tests.engine.observing import deployed, go_round, refresh, resource
from tests.engine.schedules import children, found

TEMPLATE = {
    "resources": {
        "owner": {
            "type": "postgres.role",
            "properties": {"name": "drift_owner", "password": "first", "connectionLimit": 5},
        },
        "db": {
            "type": "postgres.database",
            "properties": {"name": "drift_db", "owner": "${resources.owner.outputs.name}"},
        },
    }
}


@pytest.fixture
async def workshop(database_url: str, new_server_url: str, tmp_path: Path) -> AsyncIterator[Workshop]:
    connection = await asyncpg.connect(database_url)
    tenant = await connection.fetchval("INSERT INTO tenant (name, slug) VALUES ('Acme', 'acme') RETURNING id")
    user = await connection.fetchval(
        "INSERT INTO app_user (tenant_id, email, display_name, role) VALUES ($1, 'a@acme.test', 'A', 'ADMIN')"
        " RETURNING id",
        tenant,
    )
    await connection.close()
    opened = await Workshop.open(database_url, tenant, user, tmp_path)
    opened.registry = Registry([opened.provider, PostgresProvider()])
    opened.runners.clear()
    await opened.hire()
    async with opened.database.write(tenant, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        transaction.session.add(
            ProviderConnection(
                tenant_id=tenant, name="pg", provider="postgres", config={"url": new_server_url}, is_default=True
            )
        )
    yield opened
    await opened.close()


@pytest.fixture
async def outside(new_server_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody who works on the server without us."""
    connection = await asyncpg.connect(new_server_url)
    yield connection
    await connection.execute("DROP DATABASE IF EXISTS drift_db")
    await connection.execute("DROP ROLE IF EXISTS drift_owner")
    await connection.close()


async def test_what_somebody_altered_or_dropped_is_put_back(workshop: Workshop, outside: asyncpg.Connection) -> None:
    plan = await deployed(workshop, await workshop.template(TEMPLATE), {"drift": {"reaction": "PLAN"}})
    for key in ("owner", "db"):
        await refresh(workshop, key)
    await go_round(workshop)
    assert {(await resource(workshop, key)).drift_status for key in ("owner", "db")} == {DriftStatus.IN_SYNC}
    await outside.execute("ALTER ROLE drift_owner CONNECTION LIMIT 50 PASSWORD 'second'")
    await outside.execute("DROP DATABASE drift_db")
    for key in ("owner", "db"):
        await refresh(workshop, key)
    await go_round(workshop)
    owner, db = await resource(workshop, "owner"), await resource(workshop, "db")
    assert (owner.drift_status, db.drift_status) == (DriftStatus.MODIFIED, DriftStatus.MISSING)
    shown = {tuple(item["path"]): item for item in owner.drift or ()}
    assert shown.keys() == {("connectionLimit",), ("password",)}
    assert (shown["connectionLimit",]["expected"], shown["connectionLimit",]["actual"]) == (5, 50)
    # What was applied is sealed, and what somebody else has set cannot be known.
    assert (shown["password",]["expected"].keys(), shown["password",]["actual"]) == ({"$sealed"}, None)
    (child,) = await children(workshop, plan.id)
    assert child.preview is not None
    assert {change["key"]: change["action"] for change in child.preview["changes"]} == {
        "owner": "UPDATE",
        "db": "CREATE",
    }
    assert "first" not in str(child.preview)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = ExecutePlan(child.id, child.preview_hash)
        job = await plans.execute(transaction, workshop.principal, command, workshop.dependencies)
    await workshop.settle(job.id)
    assert (await found(workshop, child.id)).status is PlanStatus.SUCCEEDED
    assert await outside.fetchval("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'drift_owner'") == 5
    assert await outside.fetchval("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'drift_db'") == (
        "drift_owner"
    )
    for key in ("owner", "db"):
        await refresh(workshop, key)
    await go_round(workshop)
    assert {(await resource(workshop, key)).drift_status for key in ("owner", "db")} == {DriftStatus.IN_SYNC}


async def test_a_role_that_exists_is_imported_and_compared(workshop: Workshop, outside: asyncpg.Connection) -> None:
    await outside.execute("CREATE ROLE drift_owner LOGIN CONNECTION LIMIT 7")
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = ImportResource("postgres.role", "postgres", "drift_owner", "owner", stack="stack")
        await drift.import_resource(transaction, workshop.principal, command, workshop.dependencies)
    await go_round(workshop)
    row = await resource(workshop, "owner")
    assert (row.status, (row.applied or {})["connectionLimit"]) == (ResourceStatus.ACTIVE, 7)
    await outside.execute("ALTER ROLE drift_owner CONNECTION LIMIT 8")
    await refresh(workshop, "owner")
    await go_round(workshop)
    row = await resource(workshop, "owner")
    assert [(item["path"], item["expected"], item["actual"]) for item in row.drift or ()] == [
        (["connectionLimit"], 7, 8)
    ]
