"""The state backend as OpenTofu speaks with it, without OpenTofu: locks, lineage, passes, versions."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest

from app.domain.tofu import OutOfTurn, Pass, Version, signing_key
from app.services.tofu_states import KEPT_VERSIONS
from tests.providers.tofu import KEY, Keeper, client, keeping

NOW = int(datetime.now(UTC).timestamp())
MINE = Pass("windlass:acme:stack:net", "net", "op-1", NOW + 600)
LOCK = {"ID": "lock-1", "Operation": "OperationTypeApply", "Who": "me"}


@pytest.fixture
async def keeper(database_url: str) -> AsyncIterator[Keeper]:
    connection = await asyncpg.connect(database_url)
    try:
        for slug in ("acme", "rival"):
            await connection.execute("INSERT INTO tenant (name, slug) VALUES ($1, $1)", slug)
    finally:
        await connection.close()
    async with keeping(database_url) as made:
        yield made


def state(serial: int, lineage: str = "l", **more: Any) -> bytes:
    return json.dumps({"version": 4, "lineage": lineage, "serial": serial, "resources": [], **more}).encode()


def holder(keeper: Keeper, given: Pass = MINE, key: bytes = KEY) -> httpx.AsyncClient:
    return client(keeper.backend, given.written(key))


def md5(body: bytes) -> dict[str, str]:
    return {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()}


async def codes(*answers: Any) -> list[int]:
    return [(await answer).status_code for answer in answers]


async def test_a_state_is_kept_in_turn(keeper: Keeper) -> None:
    async with holder(keeper) as me:
        assert (await me.get("/net")).status_code == 204
        assert (await me.request("LOCK", "/net", json=LOCK)).status_code == 200
        body = state(1)
        assert (await me.post("/net?ID=lock-1", content=body, headers=md5(body))).status_code == 200
        answer = await me.get("/net")
        assert (answer.status_code, answer.content, answer.headers["x-windlass-operation"]) == (200, body, "op-1")
        # A second time the same is fine; what is older, another, or of another lineage, is not.
        assert await codes(
            me.post("/net?ID=lock-1", content=body),
            me.post("/net?ID=lock-1", content=state(1, resources=[1])),
            me.post("/net?ID=lock-1", content=state(0)),
            me.post("/net?ID=lock-1", content=state(5, "other")),
            me.post("/net?ID=lock-1", content=state(5)),
        ) == [200, 409, 409, 409, 200]
        assert (await me.request("UNLOCK", "/net", json=LOCK)).status_code == 200


async def test_what_is_damaged_or_no_state_is_refused(keeper: Keeper) -> None:
    async with holder(keeper) as me:
        assert await codes(
            me.post("/net", content=state(1), headers=md5(b"another")),
            me.post("/net", content=b"{"),
            me.post("/net", content=b"[]"),
            me.post("/net", content=b'{"lineage": "l", "serial": "1"}'),
            me.request("LOCK", "/net", content=b"{}"),
            me.get("/net"),
        ) == [400, 400, 400, 400, 400, 204]


async def test_a_lock_keeps_others_out_and_says_whose_it_is(keeper: Keeper) -> None:
    other = replace(MINE, operation="op-2")
    async with holder(keeper) as me, holder(keeper, other) as them:
        await me.request("LOCK", "/net", json=LOCK)
        answer = await them.request("LOCK", "/net", json={**LOCK, "ID": "lock-2"})
        assert (answer.status_code, answer.json()) == (423, LOCK)
        assert (
            await codes(
                them.post("/net", content=state(1)),
                them.post("/net?ID=lock-2", content=state(1)),
                them.request("UNLOCK", "/net", json={"ID": "lock-2"}),
                them.delete("/net"),
            )
            == [423] * 4
        )
        await me.request("UNLOCK", "/net", json=LOCK)
        assert (await them.request("LOCK", "/net", json={**LOCK, "ID": "lock-2"})).status_code == 200


async def test_the_next_attempt_takes_over_and_the_one_before_writes_nothing_more(keeper: Keeper) -> None:
    async with holder(keeper) as dead, holder(keeper) as heir:
        await dead.request("LOCK", "/net", json=LOCK)
        assert (await heir.request("LOCK", "/net", json={**LOCK, "ID": "lock-2"})).status_code == 200
        assert (await dead.post("/net?ID=lock-1", content=state(1))).status_code == 423
        assert (await heir.post("/net?ID=lock-2", content=state(1))).status_code == 200


async def test_a_lock_ends_with_its_holders_pass(keeper: Keeper, database_url: str) -> None:
    async with holder(keeper) as gone, holder(keeper, replace(MINE, operation="op-2")) as them:
        await gone.request("LOCK", "/net", json=LOCK)
        connection = await asyncpg.connect(database_url)
        await connection.execute("UPDATE tofu_state SET lock_until = now()")
        await connection.close()
        assert (await them.request("LOCK", "/net", json={**LOCK, "ID": "lock-2"})).status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        replace(MINE, until=NOW - 1),
        replace(MINE, workspace="other"),
        replace(MINE, owner="windlass:nobody:stack:net"),
        replace(MINE, owner="acme"),
    ],
)
async def test_a_pass_leads_to_its_workspace_while_it_is_good(given: Pass, keeper: Keeper) -> None:
    async with holder(keeper, given) as visitor:
        assert (await visitor.get("/net")).status_code == 401


async def test_a_pass_of_anybody_elses_making_is_none(keeper: Keeper) -> None:
    good = MINE.written(KEY)
    content, _, signature = good.partition(".")
    forged = Pass("windlass:rival:stack:net", "net", "op-1", NOW + 600).written(KEY).partition(".")[0]
    async with httpx.AsyncClient(base_url=keeper.backend.url, trust_env=False) as nobody:
        assert (await nobody.get("/tofu/states/net")).status_code == 401
    for password in (MINE.written(signing_key(b"x" * 32)), f"{forged}.{signature}", f"{content}.", "", "a.b.c", "ä"):
        async with client(keeper.backend, password) as visitor:
            assert (await visitor.get("/net")).status_code == 401, password


async def test_another_resource_and_another_tenant_have_nothing_to_do_with_it(keeper: Keeper) -> None:
    async with holder(keeper) as me:
        await me.post("/net", content=state(1))
    async with holder(keeper, replace(MINE, owner="windlass:acme:stack:other")) as neighbour:
        assert await codes(
            neighbour.get("/net"), neighbour.post("/net", content=state(2)), neighbour.delete("/net"),
            neighbour.request("LOCK", "/net", json=LOCK),
        ) == [403] * 4  # fmt: skip
    async with holder(keeper, replace(MINE, owner="windlass:rival:stack:net")) as rival:
        assert (await rival.get("/net")).status_code == 204
        assert (await rival.post("/net", content=state(7, "theirs"))).status_code == 200
    async with holder(keeper) as me:
        assert (await me.get("/net")).json()["serial"] == 1


async def test_what_was_begun_and_never_written_is_anybodys(keeper: Keeper) -> None:
    async with holder(keeper) as me, holder(keeper, replace(MINE, owner="windlass:acme:stack:other")) as other:
        await me.request("LOCK", "/net", json=LOCK)
        assert (await other.request("LOCK", "/net", json=LOCK)).status_code == 403
        await me.request("UNLOCK", "/net", json=LOCK)
        assert (await other.post("/net", content=state(1))).status_code == 200


async def test_the_newest_versions_are_kept_and_sealed(keeper: Keeper, database_url: str) -> None:
    async with holder(keeper) as me:
        for serial in range(1, KEPT_VERSIONS + 4):
            await me.post("/net", content=state(serial, password="word-of-a-state"))
        assert (await me.delete("/net")).status_code == 200
        assert (await me.get("/net")).status_code == 204
        # A new one of that name begins anew.
        assert (await me.post("/net", content=state(1, "new"))).status_code == 200
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT serial, body::text AS body FROM tofu_state_version ORDER BY id")
    finally:
        await connection.close()
    assert [row["serial"] for row in rows] == [*range(4, KEPT_VERSIONS + 4), 1]
    assert not any("word-of-a-state" in row["body"] for row in rows)


async def test_states_may_be_larger_than_other_bodies(keeper: Keeper) -> None:
    async with holder(keeper) as me:
        assert (await me.post("/net", content=state(1, filler="x" * 100_000))).status_code == 200
        assert (await me.post("/net", content=b" " * (17 * 1024 * 1024))).status_code == 413
    async with httpx.AsyncClient(base_url=keeper.backend.url, trust_env=False) as anybody:
        assert (await anybody.post("/elsewhere", content=b"x" * 2000)).status_code in {404, 413}


def test_versions_follow_each_other() -> None:
    first = Version.of(state(1))
    assert first.follow(None)
    assert not first.follow(first)
    assert Version.of(state(2)).follow(first)
    for wrong in (state(1, x=1), state(0), state(2, "other")):
        with pytest.raises(OutOfTurn):
            Version.of(wrong).follow(first)
