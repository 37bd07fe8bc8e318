"""Two tenants with a row in every table: neither can read, change, delete, take over or refer to the other's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.db.uow import Database
from app.domain.enums import DefinitionStatus
from tests.factories import records
from tests.factories.specimens import Specimens, owner_of, specimens, tables
from tests.factories.tenants import Access, tenant

# Raised by PostgreSQL: insufficient_privilege, for a missing grant as well as for a policy.
FORBIDDEN = "42501"
FOREIGN_KEY_VIOLATION = "23503"


@dataclass(frozen=True, slots=True)
class Two:
    """The tenant that acts, and the one it must not reach."""

    acme: Access
    own: Specimens
    other: Specimens


@pytest.fixture
async def two(database: Database, owner: AsyncEngine) -> Two:
    acme, rival = await tenant(database, "acme"), await tenant(database, "rival")
    async with owner.begin() as connection:
        own, other = await specimens(connection, acme.tenant_id), await specimens(connection, rival.tenant_id)
    return Two(acme, own, other)


async def _refusals(
    access: Access, attempt: Callable[[AsyncSession, sa.Table], Awaitable[str | None]]
) -> dict[str, str]:
    """What `attempt` says of each table, each in a transaction of its own; nothing is kept."""
    said = {}
    for table in tables():
        async with AsyncSession(access.database.engine) as session:
            await session.execute(
                sa.text("SELECT set_config('app.tenant_id', :tenant, true)"), {"tenant": str(access.tenant_id)}
            )
            answer = await attempt(session, table)
            if answer is not None:
                said[table.name] = answer
    return said


def _state(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", error))


async def test_without_a_tenant_nothing_is_there(two: Two, database: Database) -> None:
    async with AsyncSession(database.engine) as session:
        counts = {table.name: await session.scalar(sa.select(sa.func.count()).select_from(table)) for table in tables()}
    assert counts == dict.fromkeys(counts, 0)
    async with AsyncSession(database.engine) as session:
        with pytest.raises(DBAPIError) as refused:
            await session.execute(sa.insert(tables()[1]).values(two.own.values(tables()[1])))
    assert _state(refused.value) == FORBIDDEN


async def test_after_a_commit_nothing_is_there_either(two: Two, database: Database) -> None:
    """The setting does not leak to whoever takes the connection next."""
    async with two.acme.write() as transaction:
        transaction.authorize("test")
    async with AsyncSession(database.engine) as session:
        assert await session.scalar(sa.text("SELECT count(*) FROM app_user")) == 0


async def test_own_rows_are_seen_and_others_are_not(two: Two) -> None:
    async def count(session: AsyncSession, table: sa.Table) -> str | None:
        owners = (await session.scalars(sa.select(owner_of(table)))).all()
        return None if set(owners) == {two.acme.tenant_id} else str(owners)

    assert await _refusals(two.acme, count) == {}


async def test_others_rows_cannot_be_written(two: Two) -> None:
    async def insert(session: AsyncSession, table: sa.Table) -> str | None:
        try:
            await session.execute(sa.insert(table).values(two.other.values(table)))
        except DBAPIError as error:
            return _state(error)
        return "written"

    assert await _refusals(two.acme, insert) == {table.name: FORBIDDEN for table in tables()}


@pytest.mark.parametrize("verb", ["update", "delete"])
async def test_others_rows_cannot_be_changed_or_deleted(two: Two, verb: str) -> None:
    async def change(session: AsyncSession, table: sa.Table) -> str | None:
        theirs = owner_of(table) == two.other.tenant_id
        column = next(column for column in table.columns if column.name in two.other.rows[table.name])
        statement: Any = (
            sa.delete(table).where(theirs)
            if verb == "delete"
            else sa.update(table).where(theirs).values({column: column})
        )
        try:
            result: Any = await session.execute(statement)
        except DBAPIError as error:
            return None if _state(error) == FORBIDDEN else _state(error)
        return None if result.rowcount == 0 else f"{result.rowcount} rows"

    assert await _refusals(two.acme, change) == {}


async def test_own_rows_cannot_be_given_away(two: Two) -> None:
    async def give(session: AsyncSession, table: sa.Table) -> str | None:
        column = owner_of(table)
        try:
            await session.execute(
                sa.update(table).where(column == two.acme.tenant_id).values({column: two.other.tenant_id})
            )
        except DBAPIError as error:
            return _state(error)
        return "given away"

    # The id of a tenant is an identity that the database gives; it cannot be set to anything.
    assert {state for name, state in (await _refusals(two.acme, give)).items() if name != "tenant"} == {FORBIDDEN}
    assert len(await _refusals(two.acme, give)) == len(tables())


async def test_others_rows_cannot_be_referred_to(two: Two, owner: AsyncEngine) -> None:
    """Foreign keys are checked past the policies, so the keys themselves have to hold the tenant: whoever asks."""
    tried = []
    for table in tables():
        for constraint in table.foreign_key_constraints:
            columns = {element.parent.name: element.column for element in constraint.elements}
            if "tenant_id" not in columns or len(columns) == 1:
                continue
            values = {
                name: two.other.rows[target.table.name][target.name]
                for name, target in columns.items()
                if name != "tenant_id"
            }
            own = [table.columns["tenant_id"] == two.acme.tenant_id]
            if table.name == "app_user":
                # An administrator has no custom role, whosever.
                own.append(table.columns["role"] == "VIEWER")
            async with owner.connect() as connection:
                with pytest.raises(IntegrityError) as refused:
                    await connection.execute(sa.update(table).where(*own).values(values))
            assert _state(refused.value) == FOREIGN_KEY_VIOLATION, (table.name, columns)
            tried.append((table.name, *values))
    assert len(tried) > 20


async def test_a_public_template_is_read_and_not_written(database: Database) -> None:
    acme, rival = await tenant(database, "acme"), await tenant(database, "rival")
    shown = await records.template(rival, "shown", is_public=True)
    await records.revision(rival, shown)
    hidden = [
        await records.template(rival, "private"),
        await records.template(rival, "draft", is_public=True, status=DefinitionStatus.DRAFT),
        await records.template(rival, "deleted", is_public=True, is_deleted=True),
    ]
    for of in hidden:
        await records.revision(rival, of, is_public=False)
    async with acme.write() as transaction:
        transaction.authorize("test")
        session = transaction.session
        names = await session.scalars(sa.text("SELECT template_name FROM resource_template"))
        assert names.all() == ["shown"]
        assert (await session.scalars(sa.text("SELECT template_id FROM template_revision"))).all() == [shown.id]
        changed: Any = await session.execute(sa.text("UPDATE resource_template SET is_public = false"))
        assert changed.rowcount == 0
        changed = await session.execute(sa.text("UPDATE template_revision SET is_public = false"))
        assert changed.rowcount == 0
        locked = await session.scalars(sa.text("SELECT id FROM resource_template FOR UPDATE"))
        assert locked.all() == []
