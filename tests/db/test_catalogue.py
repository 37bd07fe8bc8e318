"""Rules about tenancy that hold for every table, read from PostgreSQL's own catalogue."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories.databases import fetch, run
from tests.factories.specimens import owner_of, tables

# Nothing of a tenant is in them.
NOT_OF_TENANTS = {"worker", "platform_administrator", "alembic_version"}
# Identities: an id is unique whoever owns the row, and reveals nothing, because nobody chooses it.
IDENTITY_INDEXES = {f"pk_{table.name}" for table in tables() if "id" in table.primary_key.columns}
# Chosen before there is a tenant to ask in, or drawn at random.
GLOBAL_INDEXES = {"uq_tenant_slug", "uq_api_token_public_id", "uq_plan_hook_token_hash"}

_TABLES = (
    "SELECT c.relname::text AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,"
    " pg_get_userbyid(c.relowner)::text AS owner FROM pg_class c"
    " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
)
_POLICIES = "SELECT tablename::text, policyname::text, roles::text[], cmd, qual, with_check FROM pg_policies"
_FOREIGN_KEYS = (
    "SELECT c.conname::text AS name, f.relname::text AS refers_to, (SELECT array_agg(a.attname::text)"
    " FROM pg_attribute a WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)) AS columns"
    " FROM pg_constraint c JOIN pg_class f ON f.oid = c.confrelid WHERE c.contype = 'f'"
)
_UNIQUE_INDEXES = (
    "SELECT c.relname::text AS name, t.relname::text AS of, (SELECT array_agg(a.attname::text) FROM pg_attribute a"
    " WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)) AS columns"
    " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid"
    " WHERE i.indisunique AND t.relnamespace = 'public'::regnamespace AND t.relkind IN ('r', 'p')"
)


async def unprotected(url: str) -> set[str]:
    """Tables of tenants that lack FORCE ROW LEVEL SECURITY or the one policy of the one shape."""
    policies = {row["tablename"]: row for row in await fetch(url, _POLICIES) if row["policyname"] == "tenant"}
    return {
        row["name"]
        for row in await fetch(url, _TABLES)
        if row["name"] not in NOT_OF_TENANTS
        and not (row["enabled"] and row["forced"] and _is_of_shape(row["name"], policies.get(row["name"])))
    }


async def crossing(url: str) -> set[str]:
    """Foreign keys that could lead into another tenant."""
    return {
        row["name"]
        for row in await fetch(url, _FOREIGN_KEYS)
        if not {"tenant_id", "template_tenant_id"} & set(row["columns"])
    }


async def revealing(url: str) -> set[str]:
    """Unique indexes by which one tenant could find out about another's values."""
    return {
        row["name"]
        for row in await fetch(url, _UNIQUE_INDEXES)
        if row["of"] not in NOT_OF_TENANTS and "tenant_id" not in row["columns"]
    }


def _is_of_shape(table: str, policy: Any) -> bool:
    column = "id" if table == "tenant" else "tenant_id"
    own = (
        f"({column} = ( SELECT (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::bigint AS \"nullif\"))"
    )
    return (
        policy is not None
        and policy["roles"] == ["windlass_app"]
        and policy["cmd"] == "ALL"
        and policy["qual"] == policy["with_check"] == own
    )


async def test_every_table_of_tenants_is_protected(database_url: str) -> None:
    there = {row["name"] for row in await fetch(database_url, _TABLES)}
    assert there == {table.name for table in tables()} | NOT_OF_TENANTS
    assert await unprotected(database_url) == set()


async def test_no_foreign_key_leaves_the_tenant(database_url: str) -> None:
    assert await crossing(database_url) == set()
    named = {row["name"] for row in await fetch(database_url, _FOREIGN_KEYS) if "tenant_id" not in row["columns"]}
    # A plan may use a public template of another tenant, so it names that tenant beside it.
    assert named == {"fk_deployment_plan_template", "fk_deployment_plan_template_revision"}


async def test_no_unique_index_reveals_another_tenant(database_url: str) -> None:
    assert await revealing(database_url) == IDENTITY_INDEXES | GLOBAL_INDEXES


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("ALTER TABLE gate NO FORCE ROW LEVEL SECURITY", unprotected),
        ("ALTER TABLE gate DISABLE ROW LEVEL SECURITY", unprotected),
        ("DROP POLICY tenant ON gate", unprotected),
        ("ALTER POLICY tenant ON gate USING (true)", unprotected),
        ("CREATE TABLE forgotten (id bigint PRIMARY KEY, tenant_id bigint)", unprotected),
        ("ALTER TABLE gate ADD CONSTRAINT loose FOREIGN KEY (step_run_id) REFERENCES step_run (id)", crossing),
        ("CREATE UNIQUE INDEX loose ON workflow (workflow_name)", revealing),
    ],
)
async def test_the_rules_find_a_planted_fault(database_url: str, fault: str, check: Any) -> None:
    before = await check(database_url)
    await run(database_url, fault)
    assert len(await check(database_url) - before) == 1


async def test_no_acting_role_owns_anything_or_gets_around_the_policies(database_url: str) -> None:
    roles = await fetch(
        database_url,
        "SELECT rolname::text, rolsuper, rolbypassrls, rolcanlogin, rolcreaterole, rolcreatedb FROM pg_roles"
        " WHERE rolname LIKE 'windlass\\_%'",
    )
    assert {row["rolname"] for row in roles} >= {
        "windlass_app",
        "windlass_tick",
        "windlass_auth",
        "windlass_platform",
    }
    assert [dict(row) for row in roles if any(list(row.values())[1:])] == []
    owners = {row["owner"] for row in await fetch(database_url, _TABLES)}
    assert not {owner for owner in owners if owner.startswith("windlass_")}


def test_every_tenant_table_says_whose_its_rows_are() -> None:
    assert [table.name for table in tables() if owner_of(table).nullable] == []
