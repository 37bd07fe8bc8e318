"""A plan on a real server undone by a plan: everything as it was, as somebody else's connection sees it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.db.models import ProviderConnection
from app.domain.enums import RetryMode
from app.domain.statuses import JobStatus
from app.providers.postgres.provider import PostgresProvider
from app.providers.registry import Registry
from app.services import plans
from app.services.plans import RetryPlan
from tests.engine.harness import Workshop
from tests.engine.test_restoring import _deploy, _execute, _revert
from tests.engine.test_rollback import failing
from tests.factories.databases import elsewhere, fetch, run

DATABASES = "SELECT datname, pg_get_userbyid(datdba) AS owner, oid FROM pg_database WHERE datname LIKE 'undo_%'"
ROLES = (
    "SELECT r.rolname, r.rolconnlimit, r.rolcanlogin, ARRAY(SELECT pg_get_userbyid(m.roleid) FROM pg_auth_members m"
    " WHERE m.member = r.oid ORDER BY 1) AS groups FROM pg_roles r WHERE r.rolname LIKE 'undo_%'"
)
SECRETS = "SELECT rolpassword FROM pg_authid WHERE rolname = 'undo_app'"


async def _clear(url: str) -> None:
    for row in await fetch(url, DATABASES):
        await run(url, f'DROP DATABASE "{row["datname"]}" WITH (FORCE)')
    for row in await fetch(url, "SELECT rolname FROM pg_roles WHERE rolname LIKE 'undo_%'"):
        await run(url, f'DROP OWNED BY "{row["rolname"]}"', f'DROP ROLE "{row["rolname"]}"')


@pytest.fixture
async def workshop(database_url: str, new_server_url: str, tmp_path: Path) -> AsyncIterator[Workshop]:
    # The server is that of all tests of the process, and these give the same names each time.
    await _clear(new_server_url)
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
    for row in await fetch(new_server_url, DATABASES):
        await run(new_server_url, f"DROP DATABASE {row['datname']} WITH (FORCE)")
    for row in await fetch(new_server_url, ROLES):
        await run(new_server_url, f"DROP ROLE {row['rolname']}")


def role(name: str, **properties: Any) -> dict[str, Any]:
    return {"type": "postgres.role", "properties": {"name": f"undo_{name}", **properties}}


def database(owner: str) -> dict[str, Any]:
    properties = {"name": "undo_db", "owner": f"${{resources.{owner}.outputs.name}}"}
    return {"type": "postgres.database", "properties": properties}


# `db` stands before `owner` in any list: only the graph of before says that the owner has to be there first.
BEFORE = {
    "db": database("owner"),
    "owner": role("owner", connectionLimit=3),
    "app": role("app", login=True, connectionLimit=5, password="first word"),
    # By its name alone nobody sees that it has to be there first.
    "named": {**role("old", connectionLimit=7, memberOf=["undo_app"]), "dependsOn": ["app"]},
}
AFTER = {
    "db": database("successor"),
    "successor": role("successor"),
    "app": role("app", login=False, connectionLimit=9, password="second word"),
    "named": role("new", connectionLimit=7),
}


async def _seen(url: str) -> tuple[set[tuple[Any, ...]], set[tuple[Any, ...]]]:
    roles = {(row[0], row[1], row[2], tuple(row[3])) for row in await fetch(url, ROLES)}
    return {tuple(row) for row in await fetch(url, DATABASES)}, roles


async def _opens_with(url: str, password: str) -> bool:
    """Whether that is the password of `app`, by what the server keeps of it."""
    (row,) = await fetch(url, SECRETS)
    iterations, _, rest = row["rolpassword"].removeprefix("SCRAM-SHA-256$").partition(":")
    salt, _, keys = rest.partition("$")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored: str = keys.partition(":")[0]
    return base64.b64encode(hashlib.sha256(client).digest()).decode() == stored


async def test_created_updated_replaced_and_deleted_are_as_they_were(workshop: Workshop, new_server_url: str) -> None:
    await _deploy(workshop, BEFORE, "before")
    inside = elsewhere(new_server_url, database="undo_db")
    await run(inside, "CREATE TABLE kept AS SELECT 42 AS answer")
    was = await _seen(new_server_url)
    done = await _deploy(workshop, AFTER, "after")
    assert await _seen(new_server_url) != was
    assert await _opens_with(new_server_url, "second word")

    undo = await _revert(workshop, done)
    changes = {change["key"]: change["action"] for change in undo.preview["changes"]}
    assert changes == {"db": "UPDATE", "owner": "CREATE", "app": "UPDATE", "named": "REPLACE", "successor": "DELETE"}
    job = await _execute(workshop, undo)
    assert (job.status, job.error_message) == (JobStatus.SUCCEEDED, None)
    assert await _seen(new_server_url) == was
    assert await _opens_with(new_server_url, "first word")
    assert [row["answer"] for row in await fetch(inside, "SELECT answer FROM kept")] == [42]
    for table, column, owner in (("deployment_plan", "id", undo.id), ("step_run", "job_id", job.id),
                                 ("step_effect", "job_id", job.id)):  # fmt: skip
        stored = await workshop.rows(f"SELECT t::text AS text FROM {table} t WHERE {column} = :owner", owner=owner)
        assert stored
        assert not any("first word" in row.text or "second word" in row.text for row in stored), table


async def test_an_undoing_that_fails_is_rolled_back_and_can_be_tried_again(
    workshop: Workshop, new_server_url: str
) -> None:
    await _deploy(workshop, BEFORE, "before")
    was = await _seen(new_server_url)
    done = await _deploy(workshop, AFTER, "after")
    undo = await _revert(workshop, done)
    await run(new_server_url, "CREATE ROLE undo_owner")
    in_the_way = await _seen(new_server_url)
    job = await _execute(workshop, undo)
    assert job.status is JobStatus.ROLLED_BACK
    assert job.error is not None
    assert job.error["stepKey"] == "owner"
    assert await _seen(new_server_url) == in_the_way

    await run(new_server_url, "DROP ROLE undo_owner")
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = RetryPlan(undo.id, RetryMode.RESTART)
        again = await plans.retry(transaction, workshop.principal, command, workshop.dependencies)
    assert again is not None
    assert (await workshop.settle(again.id)).status is JobStatus.SUCCEEDED
    assert await _seen(new_server_url) == was


async def test_a_password_is_put_back_when_its_plan_fails_but_not_over_somebody_elses(
    workshop: Workshop, new_server_url: str
) -> None:
    await _deploy(workshop, {"app": role("app", password="first word")}, "before")
    changed = {"app": role("app", password="second word")}
    job = await workshop.settle(await failing(workshop, changed))
    assert job.status is JobStatus.ROLLED_BACK
    assert await _opens_with(new_server_url, "first word")

    workshop.provider.notes._call = meddling(workshop, new_server_url)  # type: ignore[method-assign]
    late = {**changed, "late": {"type": "core.note", "properties": {"name": "late"}, "dependsOn": ["app"]}}
    job = await workshop.settle(await failing(workshop, late, "meddled"))
    assert job.status is JobStatus.ROLLBACK_FAILED
    assert await _opens_with(new_server_url, "third word")


def meddling(workshop: Workshop, url: str) -> Any:
    """Calls of notes, beside which somebody sets the password."""
    inner = workshop.provider.notes._call

    async def call(method: str, context: Any, proceed: Any) -> Any:
        if method == "create":
            await run(url, "ALTER ROLE undo_app PASSWORD 'third word'")
        return await inner(method, context, proceed)

    return call
