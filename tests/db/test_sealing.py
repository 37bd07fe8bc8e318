"""What is sealed opens with its tenant's key, in its place, and nowhere else."""

from __future__ import annotations

import base64
import os
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.db.keys import KeyRing, SealBroken, TenantKeys, WrappedKey, key_id
from app.db.sealing import ENGINE, Place, Sealer, connection_place, hook_place, masked, tofu_place, webhook_place
from app.db.uow import Database
from app.domain.values import Secret
from tests.factories.databases import fetch, run
from tests.factories.tenants import Access, tenant

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
HERE = connection_place("postgres", "main")
TREE = {"url": "postgresql://db", "password": Secret("correct-horse"), "list": [Secret({"a": 1}), Secret(7)]}


@pytest.fixture
async def acme(database: Database) -> Access:
    return await tenant(database, "acme")


@pytest.fixture
async def rival(database: Database) -> Access:
    return await tenant(database, "rival")


async def met(database: Database, ring: KeyRing, *whom: Access) -> Sealer:
    """A sealer as a process has it that has met these tenants."""
    sealer = Sealer(TenantKeys(ring)).serve(database)
    for access in whom:
        async with database.read(access.tenant_id):
            pass
    return sealer


def sealed_of_old(value: Any, tenant_id: int, key: bytes = OLD) -> dict[str, str]:
    """As version 0.1 sealed before there were data keys."""
    nonce = os.urandom(12)
    box = AESGCM(key).encrypt(nonce, orjson.dumps(value), b"windlass:%d" % tenant_id)
    return {"$sealed": base64.b64encode(nonce + box).decode()}


async def test_what_is_sealed_opens_where_it_belongs(database: Database, acme: Access) -> None:
    sealer = await met(database, KeyRing([OLD]), acme)
    for place in (HERE, ENGINE):
        stored = sealer.seal(TREE, acme.tenant_id, place)
        assert b"correct-horse" not in orjson.dumps(stored)
        assert masked(stored)["password"] == {"$sensitive": True}
        assert sealer.open(stored, acme.tenant_id, place) == TREE
    # Another process, by another connection.
    again = await met(database, KeyRing([NEW, OLD]), acme)
    assert again.open(stored, acme.tenant_id) == TREE


@pytest.mark.parametrize(
    "there",
    [
        ENGINE, connection_place("postgres", "other"), connection_place("http", "main"),
        Place("provider_connection", "other", ("postgres", "main")), hook_place(1), webhook_place(1), tofu_place(1, 1),
        connection_place("postgresmain", ""),
    ],
)  # fmt: skip
async def test_it_opens_in_no_other_place(database: Database, acme: Access, there: Place) -> None:
    sealer = await met(database, KeyRing([OLD]), acme)
    stored = sealer.seal(TREE, acme.tenant_id, HERE)
    with pytest.raises(SealBroken, match="in this place"):
        sealer.open(stored, acme.tenant_id, there)
    with pytest.raises(SealBroken, match="in this place"):
        sealer.open(sealer.seal(TREE, acme.tenant_id, there), acme.tenant_id, HERE)


async def test_it_opens_in_no_other_field_of_its_document(database: Database, acme: Access) -> None:
    sealer = await met(database, KeyRing([OLD]), acme)
    stored = sealer.seal(TREE, acme.tenant_id, HERE)
    for moved in (
        {**stored, "url": stored["password"]},
        {**stored, "password": stored["list"][0]},
        {**stored, "list": stored["list"][::-1]},
    ):
        with pytest.raises(SealBroken, match="in this place"):
            sealer.open(moved, acme.tenant_id, HERE)


async def test_it_opens_for_no_other_tenant(database: Database, acme: Access, rival: Access, database_url: str) -> None:
    sealer = await met(database, KeyRing([OLD]), acme, rival)
    stored = sealer.seal(TREE, acme.tenant_id)
    with pytest.raises(SealBroken, match="in this place"):
        sealer.open(stored, rival.tenant_id)
    # Nor does it help to bring the key along.
    keys = "(SELECT wrapped FROM tenant_key WHERE tenant_id = {})"
    await run(
        database_url,
        f"UPDATE tenant_key SET wrapped = {keys.format(acme.tenant_id)} WHERE tenant_id = {rival.tenant_id}",
    )
    robbed = await met(database, KeyRing([OLD]), acme, rival)
    with pytest.raises(SealBroken, match="is not known"):
        robbed.open(stored, rival.tenant_id)
    assert robbed.open(stored, acme.tenant_id) == TREE


async def test_old_values_open_for_their_tenant_with_any_key_of_the_ring(
    database: Database, acme: Access, rival: Access
) -> None:
    sealer = await met(database, KeyRing([NEW, OLD]), acme, rival)
    stored = {"password": sealed_of_old("correct-horse", acme.tenant_id)}
    assert sealer.open(stored, acme.tenant_id, HERE) == {"password": Secret("correct-horse")}
    with pytest.raises(SealBroken, match="no key of the ring"):
        sealer.open(stored, rival.tenant_id)
    with pytest.raises(SealBroken, match="no key of the ring"):
        (await met(database, KeyRing([NEW]), acme)).open(stored, acme.tenant_id)


@pytest.mark.parametrize("text", ["", "2:", "2:AAAA", "2:not base64", "not base64", "AAAA"])
async def test_garbage_does_not_open(database: Database, acme: Access, text: str) -> None:
    sealer = await met(database, KeyRing([OLD]), acme)
    with pytest.raises(SealBroken):
        sealer.open({"a": {"$sealed": text}}, acme.tenant_id)


async def test_nobody_seals_without_the_tenants_key(acme: Access) -> None:
    sealer = Sealer(OLD)
    with pytest.raises(SealBroken, match="is not known"):
        sealer.seal(TREE, acme.tenant_id)
    assert sealer.seal({"plain": 1}, acme.tenant_id) == {"plain": 1}


async def test_there_is_one_key_a_tenant_however_many_processes_meet_it(
    database: Database, acme: Access, rival: Access, database_url: str
) -> None:
    first = await met(database, KeyRing([OLD]), acme, rival)
    second = await met(database, KeyRing([NEW, OLD]), acme, rival)
    assert second.open(first.seal(TREE, acme.tenant_id), acme.tenant_id) == TREE
    rows = await fetch(database_url, "SELECT tenant_id, ring_key, wrapped FROM tenant_key ORDER BY 1")
    assert [(row["tenant_id"], row["ring_key"]) for row in rows] == [
        (acme.tenant_id, key_id(OLD)), (rival.tenant_id, key_id(OLD)),
    ]  # fmt: skip
    assert rows[0]["wrapped"] != rows[1]["wrapped"]


def test_a_wrapped_key_is_its_tenants_and_its_ring_keys() -> None:
    ring = KeyRing([NEW, OLD])
    wrapped = ring.wrap(bytes(32), 1)
    assert ring.unwrap(wrapped, 1) == bytes(32)
    for key, whose in ((wrapped, 2), (WrappedKey(key_id(OLD), wrapped.wrapped), 1), (WrappedKey("gone", b""), 1)):
        with pytest.raises(SealBroken):
            ring.unwrap(key, whose)
    for bad in ([], [b"short"]):
        with pytest.raises(ValueError, match="key"):
            KeyRing(bad)
