"""Turning the keys: everything opens afterwards without the old key, whatever happened in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import orjson
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from app.db.keys import KeyRing, SealBroken, key_id
from app.db.models import ProviderConnection
from app.db.sealing import Sealer, connection_place, is_old, place_of
from app.db.uow import Database
from app.domain.values import Secret
from app.services import keys
from tests.db.test_sealing import NEW, OLD, met, sealed_of_old
from tests.factories.databases import fetch, run
from tests.factories.specimens import specimens
from tests.factories.tenants import Access

RING = KeyRing([NEW, OLD])
WORD = "correct-horse"


async def furnish(url: str, *whom: Access) -> int:
    """Every column that may hold something sealed holds something sealed as of old; how many rows that are."""
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
    try:
        for access in whom:
            async with engine.begin() as connection:
                made = await specimens(connection, access.tenant_id)
            rows = 0
            for place in keys.sealed_places():
                old = orjson.dumps({"deep": [sealed_of_old(WORD, access.tenant_id)]}).decode()
                columns = ", ".join(f"{column.name} = '{old}'" for column in place.columns)
                key = " AND ".join(
                    f"{column.name} = '{made.rows[place.table.name][column.name]}'"
                    for column in place.table.primary_key
                )
                await run(url, f"UPDATE {place.table.name} SET {columns} WHERE {key}")
                rows += 1
    finally:
        await engine.dispose()
    return rows


async def found(url: str, sealer: Sealer) -> list[Any]:
    """What opens of all that is stored, with the place it is in."""
    values = []
    for place in keys.sealed_places():
        for row in await fetch(url, f"SELECT * FROM {place.table.name}"):
            for column in place.columns:
                stored = None if row[column.name] is None else orjson.loads(row[column.name])
                if not is_sealed(stored):
                    continue
                assert not is_old(stored), (place.table.name, column.name)
                where = place_of(place.table.name, column.name, row)
                values.append(sealer.open(stored, row["tenant_id"], where))
    return values


def is_sealed(tree: Any) -> bool:
    return b'"$sealed"' in orjson.dumps(tree)


async def connect(access: Access, count: int, key: bytes = OLD) -> Sequence[int]:
    """Connections with passwords sealed as of old."""
    rows = [
        ProviderConnection(
            tenant_id=access.tenant_id, name=f"c{number}", provider="postgres", config={
                "password": sealed_of_old(WORD, access.tenant_id, key)
            },
        )
        for number in range(count)
    ]  # fmt: skip
    async with access.write() as transaction:
        transaction.authorize("test")
        transaction.session.add_all(rows)
        await transaction.session.flush()
    return [row.id for row in rows]


async def test_everything_opens_without_the_old_key(
    database: Database, acme: Access, rival: Access, database_url: str
) -> None:
    rows = await furnish(database_url, acme, rival)
    # Specimens of keys open nothing.
    await run(database_url, "DELETE FROM tenant_key")
    old = await met(database, KeyRing([OLD]), acme, rival)
    async with acme.write() as transaction:
        transaction.authorize("test")
        config = old.seal({"password": Secret("of now")}, acme.tenant_id, connection_place("http", "now"))
        transaction.session.add(
            ProviderConnection(tenant_id=acme.tenant_id, name="now", provider="http", config=config)
        )
    stamps = "SELECT updated_at FROM provider_connection ORDER BY id"
    before = await fetch(database_url, stamps)
    told: list[int] = []
    rotation = await keys.rotate(database, RING, lambda so_far: told.append(so_far.tenants))
    assert (rotation.tenants, rotation.wrapped, rotation.resealed) == (2, 2, 2 * rows)
    assert (rotation.held, rotation.broken, rotation.is_done, told) == (0, {}, True, [1, 2])
    assert await fetch(database_url, stamps) == before
    ring_keys = await fetch(database_url, "SELECT DISTINCT ring_key FROM tenant_key")
    assert [row["ring_key"] for row in ring_keys] == [key_id(NEW)]

    opened = await found(database_url, await met(database, KeyRing([NEW]), acme, rival))
    assert opened.count({"deep": [Secret(WORD)]}) == 2 * sum(len(place.columns) for place in keys.sealed_places())
    assert opened.count({"password": Secret("of now")}) == 1
    # A process that knew the data keys goes on with them.
    assert old.open(config, acme.tenant_id, connection_place("http", "now")) == {"password": Secret("of now")}
    with pytest.raises(SealBroken):
        (await met(database, KeyRing([OLD]), acme)).open(config, acme.tenant_id, connection_place("http", "now"))

    again = await keys.rotate(database, RING)
    assert (again.tenants, again.wrapped, again.resealed, again.is_done) == (2, 0, 0, True)


@pytest.mark.parametrize("windows", [0, 1, 2, 3])
async def test_one_that_died_in_the_middle_is_run_again(
    database: Database, acme: Access, rival: Access, database_url: str, monkeypatch: pytest.MonkeyPatch, windows: int
) -> None:
    await met(database, KeyRing([OLD]), acme, rival)
    monkeypatch.setattr(keys, "_WINDOW", 3)
    monkeypatch.setattr(keys, "_BATCH", 2)
    for access in (acme, rival):
        await connect(access, 8)
    real, left = keys._count_old, windows

    async def dies(*arguments: Any) -> int:
        """After a window was sealed anew and before that is committed."""
        nonlocal left
        if left == 0:
            raise asyncpg.ConnectionDoesNotExistError
        left -= 1
        return await real(*arguments)

    with monkeypatch.context() as dying:
        dying.setattr(keys, "_count_old", dies)
        with pytest.raises(asyncpg.ConnectionDoesNotExistError):
            await keys.rotate(database, RING)
    rows = await fetch(database_url, "SELECT config::text AS config FROM provider_connection")
    done = sum(not is_old(orjson.loads(row["config"])) for row in rows)
    assert done == min(3 * windows, 8)
    rotation = await keys.rotate(database, RING)
    assert (rotation.wrapped, rotation.resealed, rotation.is_done) == (int(done < 8), 16 - done, True)
    opened = await found(database_url, await met(database, KeyRing([NEW]), acme, rival))
    assert opened == [{"password": Secret(WORD)}] * 16


async def test_what_somebody_holds_is_not_waited_for(database: Database, acme: Access, database_url: str) -> None:
    await met(database, KeyRing([OLD]), acme)
    first, *_ = await connect(acme, 3)
    holder = await asyncpg.connect(database_url)
    try:
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM provider_connection WHERE id = $1 FOR UPDATE", first)
            rotation = await keys.rotate(database, RING)
            assert (rotation.resealed, rotation.held, rotation.is_done) == (2, 1, False)
    finally:
        await holder.close()
    rotation = await keys.rotate(database, RING)
    assert (rotation.resealed, rotation.held, rotation.is_done) == (1, 0, True)


async def test_what_does_not_open_is_told_and_holds_nobody_up(
    database: Database, acme: Access, rival: Access, database_url: str
) -> None:
    await met(database, KeyRing([OLD]), acme, rival)
    await connect(acme, 2, key=bytes(32))
    # No secret of ours, whatever it looks like.
    await run(database_url, """UPDATE provider_connection SET config = '{"$sealed": "x", "b": 1}' WHERE name = 'c1'""")
    await connect(rival, 2)
    await run(database_url, f"UPDATE tenant_key SET ring_key = 'gone' WHERE tenant_id = {acme.tenant_id}")
    rotation = await keys.rotate(database, RING)
    assert rotation.broken == {f"{acme.tenant_id}/tenant_key.wrapped": 1}
    assert (rotation.tenants, rotation.wrapped, rotation.resealed, rotation.is_done) == (2, 1, 2, False)
    await run(database_url, f"DELETE FROM tenant_key WHERE tenant_id = {acme.tenant_id}")
    rotation = await keys.rotate(database, RING)
    assert rotation.broken == {f"{acme.tenant_id}/provider_connection": 1}
    assert (rotation.resealed, rotation.held, rotation.is_done) == (0, 0, False)
