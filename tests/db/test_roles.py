"""Each role may do what it is for, and nothing beside it."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from app.db.statements import Statement
from app.db.uow import Database, NoReceipt, SystemRole
from tests.factories import records
from tests.factories.databases import fetch
from tests.factories.tenants import tenant

FORBIDDEN = "42501"

# What a role may read, as table or table.column; everything else is refused.
TICK_TABLES = {"worker", "step_attempt", "resource_lock", "job_log"}
AUTH_COLUMNS = {
    "tenant": {"id", "slug", "is_deleted"},
    "app_user": {"id", "tenant_id", "email", "kind", "may_approve", "role", "custom_role_id", "is_deleted"},
    "platform_access": {"tenant_id", "id", "administrator", "role", "reason", "ended_at"},
    "platform_administrator": {"email", "dismissed_at"},
    "custom_role": {"tenant_id", "id", "permissions", "is_deleted"},
    "plan_hook": {"tenant_id", "plan_id", "token_hash"},
    "user_password": {"tenant_id", "user_id", "hash", "changed_at"},
}
# Where secrets may be, sealed or not.
SEALED = {
    "deployment_plan": {"parameters", "preview"},
    "step_run": {"inputs", "outputs"},
    # Of an effect it sees when somebody is to look behind it.
    "step_effect": {"before", "intended", "after", "undo", "operation_id"},
    "orchestration_job": {"outputs"},
    # Of a gate the scheduler sees when it is due, and not what is asked or answered.
    "gate": {"prompt", "input_schema", "answer", "comment"},
    "plan_trigger": {"cause", "payload", "message"},
    "plan_automation": {"automation"},
    "webhook_endpoint": {"url", "secret", "previous_secret", "selection", "last_error"},
    "webhook_delivery": {"error", "answer"},
    "cloud_resource": {"desired", "applied", "observed", "outputs", "private"},
}
SECRET_TABLES = {
    "provider_connection",
    "resource_revision",
    "template_revision",
    "api_token",
    "user_password",
    "plan_hook",
}


async def _readable(url: str, role: str) -> dict[str, set[str]]:
    rows = await fetch(
        url,
        "SELECT c.relname::text AS table, a.attname::text AS column FROM pg_class c"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
        " AND has_column_privilege($1::text, c.oid, a.attnum, 'SELECT')",
        role,
    )
    readable: dict[str, set[str]] = {}
    for row in rows:
        readable.setdefault(row["table"], set()).add(row["column"])
    return readable


async def test_the_scheduler_reads_no_secrets(database_url: str) -> None:
    readable = await _readable(database_url, "windlass_tick")
    assert readable.keys() & SECRET_TABLES == set()
    assert {table: readable.get(table, set()) & columns for table, columns in SEALED.items()} == {
        table: set() for table in SEALED
    }
    assert readable.keys() >= TICK_TABLES | {"step_run", "orchestration_job", "deployment_plan"}


async def test_the_authenticator_reads_credentials_only(database_url: str) -> None:
    readable = await _readable(database_url, "windlass_auth")
    assert readable.keys() == {"api_token", *AUTH_COLUMNS}
    assert {table: readable[table] for table in AUTH_COLUMNS} == AUTH_COLUMNS


async def test_only_the_authenticators_note_may_be_written_by_it(database: Database) -> None:
    await tenant(database)
    async with database.system(SystemRole.AUTH) as transaction:
        await transaction.session.execute(sa.text("UPDATE api_token SET last_used_at = now()"))
        with pytest.raises(DBAPIError) as refused:
            await transaction.session.execute(sa.text("UPDATE api_token SET revoked_at = NULL"))
        assert _state(refused.value) == FORBIDDEN
        await transaction.session.rollback()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event_log SET data = '{}'",
        "DELETE FROM event_log",
        "UPDATE job_log SET body = ''",
        "DELETE FROM job_log",
        "UPDATE resource_revision SET properties = '{}'",
        "UPDATE approval SET approved = true",
        "UPDATE template_revision SET content = '{}'",
        "DELETE FROM deployment_plan",
        "DELETE FROM orchestration_job",
        "INSERT INTO tenant (name, slug) VALUES ('x', 'x')",
        "UPDATE worker SET dead_at = now()",
        "ALTER TABLE gate DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON gate",
        "TRUNCATE gate",
    ],
)
async def test_history_cannot_be_rewritten_by_the_application(database: Database, statement: str) -> None:
    acme = await tenant(database)
    async with acme.write() as transaction:
        transaction.authorize("test")
        with pytest.raises(DBAPIError) as refused:
            await transaction.session.execute(sa.text(statement))
    assert _state(refused.value) == FORBIDDEN


async def test_the_scheduler_sees_the_machinery_of_all_tenants(database: Database) -> None:
    acme, rival = await tenant(database, "acme"), await tenant(database, "rival")
    plans = {(await records.plan(access)).id for access in (acme, rival)}
    async with database.system(SystemRole.TICK) as transaction:
        found = await transaction.session.scalars(sa.text("SELECT id FROM deployment_plan"))
        assert set(found.all()) == plans


async def test_a_write_without_a_receipt_is_not_committed(database: Database) -> None:
    acme = await tenant(database)
    with pytest.raises(NoReceipt):
        async with acme.write() as transaction:
            await transaction.session.execute(sa.text("UPDATE tenant SET name = 'taken over'"))
    async with database.read(acme.tenant_id) as session:
        assert await session.scalar(sa.text("SELECT name FROM tenant")) == "Acme"


async def test_nor_is_what_the_machinery_writes_without_one(database: Database) -> None:
    acme = await tenant(database)

    async def take_over(statements: int) -> None:
        async with database.machine(acme.tenant_id, actor="system:test", correlation_id="c") as transaction:
            for _ in range(statements):
                await transaction.fetch(Statement("UPDATE tenant SET name = :name"), {"name": "taken over"})

    for statements in (1, 2):
        with pytest.raises(NoReceipt):
            await take_over(statements)
    async with database.read(acme.tenant_id) as session:
        assert await session.scalar(sa.text("SELECT name FROM tenant")) == "Acme"


async def test_reading_cannot_write(database: Database) -> None:
    acme = await tenant(database)
    with pytest.raises(DBAPIError) as refused:
        async with database.read(acme.tenant_id) as session:
            await session.execute(sa.text("UPDATE tenant SET name = 'taken over'"))
    assert _state(refused.value) == "25006"


def _state(error: DBAPIError) -> Any:
    return getattr(error.orig, "sqlstate", None)
