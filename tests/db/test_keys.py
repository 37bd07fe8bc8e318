"""The installation's key is replaced while everything goes on, and nothing stays under the old one."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db import models, resealing
from app.db.places import ENGINE, Place, connection_place, hook_place, place_of, tofu_place, webhook_place
from app.db.resealing import Resealed, reseal
from app.db.sealing import SealBroken, Sealer, name_of
from app.db.uow import Database, SystemRole, Transaction
from app.domain.values import Secret
from tests.factories.databases import fetch, run
from tests.factories.records import add
from tests.factories.specimens import specimens, tables
from tests.factories.tenants import tenant

OLD, NEW, OTHER = (os.urandom(32) for _ in range(3))
# Written once, by people or the machinery, and without secrets.
WRITTEN_ONCE = {"audit_entry", "event_log"}


def test_a_value_names_the_key_that_opens_it() -> None:
    tree = {"a": [Secret("x"), {"b": Secret({"c": 1})}], "d": "plain"}
    stored = Sealer(OLD).seal(tree, 7)
    assert stored["a"][0]["$sealed"].startswith(f"{name_of(OLD)}.")
    assert Sealer(NEW, [OLD]).open(stored, 7) == tree
    with pytest.raises(SealBroken, match="does not have"):
        Sealer(NEW).open(stored, 7)
    for another in (8, 0):
        with pytest.raises(SealBroken):
            Sealer(OLD).open(stored, another)


def test_what_was_sealed_before_keys_had_names_still_opens() -> None:
    old = {"$sealed": SEALED_IN_2026}
    assert Sealer(NEW, [bytes(range(32))]).open(old, 7) == Secret("hunter2")
    with pytest.raises(SealBroken):
        Sealer(NEW, [bytes(range(32))]).open(old, 8)
    with pytest.raises(SealBroken):
        Sealer(NEW, [OLD]).open(old, 7)


def sealed_without_place(value: str, tenant_id: int) -> dict[str, str]:
    """As it was before there were places, under the OLD key."""
    whose = b"windlass:%d" % tenant_id
    cipher = AESGCM(HKDF(SHA256(), 32, salt=None, info=whose).derive(OLD))
    nonce = os.urandom(12)
    box = cipher.encrypt(nonce, orjson.dumps(value), whose)
    return {"$sealed": f"{name_of(OLD)}.{base64.b64encode(nonce + box).decode()}"}


HERE = connection_place("postgres", "main")
TREE = {"url": "postgresql://db", "password": Secret("correct-horse"), "list": [Secret({"a": 1}), Secret(7)]}


@pytest.mark.parametrize(
    "there",
    [
        ENGINE, connection_place("postgres", "other"), connection_place("http", "main"),
        connection_place("postgresmain", ""), hook_place(1), webhook_place(1), tofu_place(1, 1),
        Place("provider_connection", "other", ("postgres", "main")),
    ],
)  # fmt: skip
def test_a_value_opens_in_its_place_and_in_no_other(there: Place) -> None:
    sealer = Sealer(NEW)
    for mine, other in ((HERE, there), (there, HERE)):
        stored = sealer.seal(TREE, 7, mine)
        assert b"correct-horse" not in orjson.dumps(stored)
        assert sealer.open(stored, 7, mine) == TREE
        assert sealer.renewed(stored, 7, mine) == (stored, 0)
        with pytest.raises(SealBroken, match="in this place"):
            sealer.open(stored, 7, other)
        with pytest.raises(SealBroken, match="in this place"):
            Sealer(OTHER, [NEW]).renewed(stored, 7, other)
        with pytest.raises(SealBroken, match="in this place"):
            sealer.open(stored, 8, mine)


def test_a_value_opens_in_no_other_field_of_its_document() -> None:
    sealer = Sealer(NEW)
    stored = sealer.seal(TREE, 7, HERE)
    for moved in (
        {**stored, "url": stored["password"]},
        {**stored, "password": stored["list"][1]},
        {**stored, "list": stored["list"][::-1]},
        stored["password"],
    ):
        with pytest.raises(SealBroken, match="in this place"):
            sealer.open(moved, 7, HERE)
    # What the engine carries is put together anew on its way.
    assert sealer.open(sealer.seal(TREE, 7)["password"], 7) == Secret("correct-horse")


def test_what_was_sealed_before_there_were_places_gets_one() -> None:
    old = {"password": sealed_without_place("x", 7)}
    both = Sealer(OLD, [NEW])
    assert both.open(old, 7, HERE) == {"password": Secret("x")}
    renewed, count = both.renewed(old, 7, HERE)
    assert (count, both.open(renewed, 7, HERE)) == (1, {"password": Secret("x")})
    with pytest.raises(SealBroken, match="in this place"):
        both.open(renewed, 7)


@pytest.mark.parametrize("box", ["2.", "2.AAAA", "2.not base64", "3.AAAA", "AAAA", ""])
def test_garbage_does_not_open(box: str) -> None:
    with pytest.raises(SealBroken):
        Sealer(NEW).open({"a": {"$sealed": f"{name_of(NEW)}.{box}"}}, 7)


async def test_the_standing_secrets_of_all_tables_open_in_their_places_after_a_rotation(
    database: Database, owner: AsyncEngine, database_url: str
) -> None:
    acme = await tenant(database)
    known = {
        "provider_connection": ("config",), "webhook_endpoint": ("secret", "previous_secret"),
        "plan_hook": ("signing_secret",), "tofu_state_version": ("body",),
    }  # fmt: skip
    async with owner.begin() as connection:
        rows = (await specimens(connection, acme.tenant_id)).rows
        for table, columns in known.items():
            for column in columns:
                place = place_of(table, column, rows[table])
                assert place is not ENGINE
                stored = orjson.dumps(Sealer(OLD).seal({"a": Secret("x")}, acme.tenant_id, place)).decode()
                await connection.execute(
                    sa.text(f"UPDATE {table} SET {column} = CAST(:new AS jsonb) WHERE tenant_id = :tenant"),
                    {"new": stored, "tenant": acme.tenant_id},
                )
    done = await reseal(database, Sealer(NEW, [OLD]))
    assert (done.values, done.rows, done.skipped) == (5, 5, 0)
    for table, columns in known.items():
        (row,) = await fetch(database_url, f"SELECT * FROM {table}")
        for column in columns:
            opened = Sealer(NEW).open(orjson.loads(row[column]), acme.tenant_id, place_of(table, column, row))
            assert opened == {"a": Secret("x")}


# Of the first format: the nonce and AES-256-GCM under bytes(range(32)), for tenant 7.
SEALED_IN_2026 = "AAECAwQFBgcICQoLZWqjdbGAsCmvezAs2KqEGSC0G7KePnZlTA=="


def test_renewing_leaves_what_is_renewed_already() -> None:
    both = Sealer(NEW, [OLD])
    tree = {"a": Secret("x"), "b": [1, Secret("y")]}
    stored = {**Sealer(OLD).seal({"a": Secret("x")}, 7), **both.seal({"b": [1, Secret("y")]}, 7)}
    renewed, count = both.renewed(stored, 7)
    assert count == 1
    assert renewed["b"] == stored["b"]
    assert Sealer(NEW).open(renewed, 7) == tree
    assert both.renewed(renewed, 7) == (renewed, 0)


def places() -> list[tuple[str, str]]:
    """Every column of JSON in which something may be sealed."""
    return [
        (table.name, column.name)
        for table in tables()
        if table.name not in WRITTEN_ONCE
        for column in table.columns
        if isinstance(column.type, JSONB)
    ]


async def under(url: str, key: bytes) -> set[tuple[str, str]]:
    """The places where something is sealed under this key."""
    found = set()
    for table, column in places():
        (row,) = await fetch(
            url, f'SELECT count(*) AS n FROM {table} WHERE "{column}"::text LIKE $1', f"%{name_of(key)}.%"
        )
        if row["n"]:
            found.add((table, column))
    return found


async def test_nothing_is_left_under_the_old_key(database: Database, owner: AsyncEngine, database_url: str) -> None:
    acme, rival = await tenant(database), await tenant(database, "rival")
    async with owner.begin() as connection:
        for access in (acme, rival):
            await specimens(connection, access.tenant_id)
            stored = orjson.dumps({"deep": [{"password": sealed_without_place("x", access.tenant_id)}]}).decode()
            for table, column in places():
                if table != "tenant":
                    await connection.execute(
                        sa.text(f'UPDATE {table} SET "{column}" = CAST(:new AS jsonb) WHERE tenant_id = :tenant'),
                        {"new": stored, "tenant": access.tenant_id},
                    )
    everywhere = set(places())
    assert await under(database_url, OLD) == everywhere
    assert len(everywhere) > 30
    done = await reseal(database, Sealer(NEW, [OLD]))
    assert (done.values, done.rows, done.skipped) == (2 * len(everywhere), 2 * len(everywhere), 0)
    assert (await under(database_url, OLD), await under(database_url, NEW)) == (set(), everywhere)
    assert await reseal(database, Sealer(NEW)) == Resealed()
    for access in (acme, rival):
        (row,) = await fetch(
            database_url,
            "SELECT provider, name, config FROM provider_connection WHERE tenant_id = $1",
            access.tenant_id,
        )
        place = connection_place(row["provider"], row["name"])
        opened = Sealer(NEW).open(orjson.loads(row["config"]), access.tenant_id, place)
        assert opened == {"deep": [{"password": Secret("x")}]}


async def test_many_rows_are_taken_a_few_at_a_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resealing, "_AT_A_TIME", 3)
    acme = await tenant(database)
    stored = {"password": sealed_without_place("x", acme.tenant_id)}
    for number in range(10):
        row = models.ProviderConnection(tenant_id=acme.tenant_id, name=f"c{number}", provider="postgres", config=stored)
        await add(acme, row)
    assert (await reseal(database, Sealer(NEW, [OLD]))).rows == 10


async def test_rows_that_go_away_meanwhile_end_nothing(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "_AT_A_TIME", 3)
    acme = await tenant(database)
    stored = {"password": sealed_without_place("x", acme.tenant_id)}
    for number in range(10):
        row = models.ProviderConnection(tenant_id=acme.tenant_id, name=f"c{number}", provider="postgres", config=stored)
        await add(acme, row)
    page = resealing._row
    deleted: list[str] = []

    async def and_gone(transaction: Transaction, *rest: Any) -> Resealed:
        """The last of the first page is deleted before the second is read."""
        done = await page(transaction, *rest)
        if done.rows and len(deleted) < 3:
            deleted.append(rest[-2]["place"][-1])
        return done

    monkeypatch.setattr(resealing, "_row", and_gone)
    read = database.system

    @asynccontextmanager
    async def system(role: SystemRole) -> AsyncIterator[Transaction]:
        if len(deleted) == 3:
            await run(database_url, f"DELETE FROM provider_connection WHERE id = {deleted[-1]}")
        async with read(role) as transaction:
            yield transaction

    monkeypatch.setattr(database, "system", system)
    assert (await reseal(database, Sealer(NEW, [OLD]))).rows == 10
    rows = await fetch(database_url, "SELECT config::text AS config FROM provider_connection")
    assert [name_of(NEW) in row["config"] for row in rows] == [True] * 9


async def test_what_somebody_holds_is_not_waited_for(database: Database, database_url: str) -> None:
    acme = await tenant(database)
    stored = {"password": sealed_without_place("x", acme.tenant_id)}
    for name in ("a", "b", "c"):
        row = models.ProviderConnection(tenant_id=acme.tenant_id, name=name, provider="postgres", config=stored)
        await add(acme, row)
    holder = await asyncpg.connect(database_url)
    try:
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM provider_connection WHERE name = 'b' FOR UPDATE")
            async with asyncio.timeout(5):
                assert await reseal(database, Sealer(NEW, [OLD])) == Resealed(2, 2, 1)
    finally:
        await holder.close()
    assert await reseal(database, Sealer(NEW, [OLD])) == Resealed(1, 1, 0)


@pytest.mark.parametrize("rows", [0, 2, 3, 7])
async def test_one_that_died_in_the_middle_is_run_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    acme = await tenant(database)
    monkeypatch.setattr(resealing, "_AT_A_TIME", 3)
    stored = {"password": sealed_without_place("x", acme.tenant_id)}
    for number in range(8):
        row = models.ProviderConnection(tenant_id=acme.tenant_id, name=f"c{number}", provider="postgres", config=stored)
        await add(acme, row)
    real, left = resealing._row, rows

    async def dies(*arguments: Any) -> Resealed:
        nonlocal left
        if left == 0:
            raise asyncpg.ConnectionDoesNotExistError
        left -= 1
        return await real(*arguments)

    with monkeypatch.context() as dying:
        dying.setattr(resealing, "_row", dies)
        with pytest.raises(asyncpg.ConnectionDoesNotExistError):
            await reseal(database, Sealer(NEW, [OLD]))
    # Whole pages stay done.
    assert await reseal(database, Sealer(NEW, [OLD])) == Resealed(8 - rows // 3 * 3, 8 - rows // 3 * 3, 0)
    assert await reseal(database, Sealer(NEW)) == Resealed()


async def test_a_value_that_no_key_opens_is_said_and_what_was_done_before_stays(database: Database) -> None:
    acme = await tenant(database)
    for name, key in (("a", OLD), ("b", OTHER)):
        stored = Sealer(key).seal({"password": Secret("x")}, acme.tenant_id, connection_place("postgres", name))
        row = models.ProviderConnection(tenant_id=acme.tenant_id, name=name, provider="postgres", config=stored)
        await add(acme, row)
    with pytest.raises(SealBroken, match=name_of(OTHER)):
        await reseal(database, Sealer(NEW, [OLD]))
    # With the key that was missing it goes on.
    assert (await reseal(database, Sealer(NEW, [OLD, OTHER]))).skipped == 0
    assert (await reseal(database, Sealer(NEW))).values == 0


async def test_the_role_of_keys_writes_what_may_be_sealed_and_nothing_else(database_url: str) -> None:
    rows = await fetch(
        database_url,
        "SELECT c.relname::text AS name, a.attname::text AS column FROM pg_class c JOIN pg_attribute a"
        " ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE c.relnamespace = 'public'::regnamespace"
        " AND c.relkind IN ('r', 'p') AND has_column_privilege('windlass_keys', c.oid, a.attnum, 'UPDATE')",
    )
    assert {(row["name"], row["column"]) for row in rows} == set(places())
