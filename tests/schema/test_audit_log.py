"""The audit log: nothing is done without it, nothing can be done to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.domain.audit import verify
from app.engine.sealing import seal_audit
from app.services import auditing
from schema.nodes import encode_id, number_in
from tests.factories.databases import fetch, run
from tests.schema.belongings import CANARY, belongings
from tests.schema.conftest import Access, Api
from tests.schema.test_matrix import given, order
from tests.schema.test_mutations import NOTE, WAIT
from tests.schema.verbs import done, refused, send

LOG = """query($f: AuditFilter, $first: Int!, $after: Cursor) { auditLog(filter: $f, first: $first, after: $after) {
  nodes { id at action outcome actor { ... on User { email } } ip requestId before after chainHash
    target { __typename id } } pageInfo { hasNextPage endCursor } } }"""


async def log(api: Api, access: Access | None = None, **wanted: Any) -> list[dict[str, Any]]:
    found = (await api.data(LOG, {"f": wanted or None, "first": 100}, access=access))["auditLog"]
    nodes: list[dict[str, Any]] = found["nodes"]
    return nodes


async def exported(api: Api, access: Access | None = None, after: int = 0) -> list[bytes]:
    headers = {"authorization": f"Bearer {(access or api.acme).token}"}
    response = await api.client.get("/audit.ndjson", params={"after": str(after)}, headers=headers)
    assert response.status_code == 200, response.text
    return response.content.splitlines(keepends=True)


async def test_what_somebody_does_is_written_with_what_it_changed(api: Api) -> None:
    user = (await done(api, "createUser", email="x@acme.example", displayName="X", role="VIEWER"))["user"]
    await done(api, "updateUser", id=user["id"], expectedVersion=user["version"], role="OPERATOR")
    changed, made = await log(api)
    assert (made["action"], made["outcome"], made["actor"]) == ("createUser", "DONE", {"email": "admin@acme.example"})
    assert made["target"] == {"__typename": "User", "id": user["id"]}
    ((_, after),) = made["after"].items()
    assert (made["before"], after["email"], after["role"]) == (None, "x@acme.example", "VIEWER")
    ((key, before),) = changed["before"].items()
    assert (before["role"], changed["after"][key]["role"]) == ("VIEWER", "OPERATOR")
    assert changed["ip"] == "127.0.0.1"
    assert len(changed["requestId"]) > 10


async def test_what_went_with_it_is_named_too(api: Api) -> None:
    user = (await done(api, "createUser", email="x@acme.example", displayName="X", role="VIEWER"))["user"]
    ids = [(await done(api, "createApiToken", name="t", userId=user["id"]))["apiToken"]["id"] for _ in range(2)]
    await done(api, "deleteUser", id=user["id"])
    entry = (await log(api))[0]
    tokens = [f"ApiToken:{number_in(gid, 'ApiToken')}" for gid in ids]
    assert list(entry["after"]) == [f"User:{number_in(user['id'], 'User')}", *tokens]
    assert [set(entry["after"][token]) for token in tokens] == [{"revoked_at"}] * 2
    assert [entry["before"][token] for token in tokens] == [{"revoked_at": None}] * 2


async def test_nothing_is_done_without_it(api: Api, database_url: str) -> None:
    ours = await belongings(api.acme, "ours")
    written = 0
    for name in order():
        before = await fetch(database_url, "SELECT count(*) AS n, max(id) AS last FROM audit_entry")
        payload = await send(api, name, given(name, ours, api.acme.principal.role))
        new = await fetch(
            database_url,
            "SELECT action, outcome, target_type FROM audit_entry WHERE id > $1",
            before[0]["last"] or 0,
        )
        if payload["userErrors"]:
            assert new == [], name
            continue
        (entry,) = new
        assert (entry["action"], entry["outcome"]) == (name, "DONE")
        assert entry["target_type"] is not None, name
        written += 1
        if name == "revokeApiToken":
            break
    assert written >= 25


async def test_what_is_sent_again_is_written_once(api: Api) -> None:
    for _ in range(2):
        given_ = {"idempotencyKey": "k", "name": "w", "type": "CUSTOM", "definition": {"steps": [WAIT]}}
        await send(api, "createWorkflow", given_)
    assert [entry["action"] for entry in await log(api)] == ["createWorkflow"]


async def test_what_somebody_was_refused_is_written_too(api: Api) -> None:
    user = (await done(api, "createUser", email="v@acme.example", displayName="v", role="VIEWER"))["user"]
    text_ = (await done(api, "createApiToken", name="t", userId=user["id"]))["text"]
    viewer = replace(api.acme, token=text_)
    await refused(api, "createWorkflow", viewer, name="w", type="CUSTOM", definition={"steps": [WAIT]})
    (entry,) = [entry for entry in await log(api) if entry["outcome"] == "REFUSED"]
    assert (entry["action"], entry["actor"]) == ("createWorkflow", {"email": "v@acme.example"})
    assert entry["after"] == {"reason": "this needs the permission WRITE"}
    answer = await api.ask(LOG, {"first": 10}, access=viewer)
    assert answer["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_no_secret_is_in_it(api: Api, database_url: str) -> None:
    config = {"host": "127.0.0.1", "user": "u", "password": "hunter2-hunter2"}
    await send(api, "createConnection", {"name": "c", "provider": "postgres", "config": config})
    await done(api, "createWebhook", name="w", url="https://hooks.example/x")
    await done(api, "createApiToken", name="t")
    secret = {**NOTE, "parameters": {"type": "object", "properties": {"p": {"type": "string", "x-sensitive": True}}}}
    made = await done(api, "createResourceTemplate", name="t", type="CUSTOM", content=secret)
    published = await done(api, "publishResourceTemplate", id=made["resourceTemplate"]["id"], expectedVersion=1)
    await done(
        api, "createPlan", name="p", type="MANUAL", parameters={"p": "hunter2-hunter2"},
        templateRevisionId=published["revision"]["id"],
    )  # fmt: skip
    rows = await fetch(database_url, "SELECT e::text AS text FROM audit_entry e")
    assert len(rows) >= 5
    for word in ("hunter2", "$sealed", "whsec_", "wl_", "secret_hash"):
        assert not [row["text"] for row in rows if word in row["text"]], word


async def test_it_is_found_by_who_what_and_when(api: Api) -> None:
    one = (await done(api, "createWorkflow", name="w", type="CUSTOM", definition={"steps": [WAIT]}))["workflow"]
    await done(api, "createResourceTemplate", name="t", type="CUSTOM", content=NOTE)
    gid = encode_id("User", api.acme.principal.user_id)
    assert [entry["action"] for entry in await log(api, targetId=one["id"])] == ["createWorkflow"]
    found = await log(api, action={"startsWith": "createRes"})
    assert [entry["action"] for entry in found] == ["createResourceTemplate"]
    assert len(await log(api, actorId=gid)) == 2
    assert await log(api, targetId="nonsense") == []
    assert await log(api, at={"to": "2020-01-01T00:00:00Z"}) == []
    first = (await api.data(LOG, {"first": 1}))["auditLog"]
    assert first["pageInfo"]["hasNextPage"]
    second = (await api.data(LOG, {"first": 1, "after": first["pageInfo"]["endCursor"]}))["auditLog"]
    assert [found["nodes"][0]["action"] for found in (first, second)] == ["createResourceTemplate", "createWorkflow"]


async def test_no_tenant_sees_anothers(api: Api) -> None:
    theirs = await belongings(api.rival, CANARY)
    await done(api, "updateTenant", api.rival, name=f"{CANARY} now", expectedVersion=2)
    await done(api, "createWorkflow", name="ours", type="CUSTOM", definition={"steps": [WAIT]})
    await seal_audit(api.services.database)
    assert CANARY not in str(await log(api))
    assert await log(api, targetId=theirs.gid("Tenant"), actorId=theirs.gid("User")) == []
    lines = await exported(api)
    assert (len(lines), CANARY.encode() in b"".join(lines)) == (1, False)
    assert CANARY.encode() in b"".join(await exported(api, api.rival))


# ── the chain ────────────────────────────────────────────────────────────────────────────────────────────────────


async def entries(api: Api, count: int) -> None:
    for number in range(count):
        await done(api, "createWorkflow", name=f"w ä {number}", type="CUSTOM", definition={"steps": [WAIT]})


async def test_entries_are_sealed_in_order_and_verified_from_the_file(api: Api) -> None:
    await entries(api, 3)
    assert (await log(api))[0]["chainHash"] is None
    assert await seal_audit(api.services.database) == 3
    assert await seal_audit(api.services.database) == 0
    await entries_more(api)
    lines = await exported(api)
    found = verify(lines)
    assert (found.entries, found.fault) == (4, None)
    assert (await log(api))[0]["chainHash"] == found.hash
    assert await exported(api, after=3) == lines[3:]


async def entries_more(api: Api) -> None:
    await done(api, "createWorkflow", name="later", type="CUSTOM", definition={"steps": [WAIT]})
    assert await seal_audit(api.services.database) == 1


TAMPERED = {
    "changed": "UPDATE audit_entry SET action = 'deleteWorkflow' WHERE id = (SELECT min(id) + 1 FROM audit_entry)",
    "another actor": "UPDATE audit_entry SET actor = 'user:1000' WHERE id = (SELECT min(id) + 1 FROM audit_entry)",
    "another time": "UPDATE audit_entry SET at = at + interval '1 microsecond'",
    "removed": "DELETE FROM audit_entry WHERE id = (SELECT min(id) + 1 FROM audit_entry)",
    "swapped": "UPDATE audit_seal SET entry_id = -entry_id;"
    " UPDATE audit_seal s SET entry_id = (SELECT max(e.id) + 1 - s.seq FROM audit_entry e)",
    "another hash": "UPDATE audit_seal SET hash = sha256('x') WHERE seq = 2",
}


@pytest.mark.parametrize("how", TAMPERED)
async def test_whoever_owns_the_tables_cannot_change_it_unseen(api: Api, database_url: str, how: str) -> None:
    await entries(api, 3)
    await seal_audit(api.services.database)
    assert verify(await exported(api)).fault is None
    await run(database_url, TAMPERED[how])
    found = verify(await exported(api)).fault
    assert found is not None
    assert found.seq in (1, 2)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entry SET action = 'x'", "DELETE FROM audit_entry", "TRUNCATE audit_entry",
        "UPDATE audit_seal SET seq = 7", "DELETE FROM audit_seal",
    ],
)  # fmt: skip
async def test_whoever_acts_cannot_change_it_at_all(api: Api, statement: str) -> None:
    await entries(api, 1)
    async with api.acme.rows.write() as transaction:
        with pytest.raises(DBAPIError, match="permission denied"):
            await transaction.session.execute(text(statement))
        await transaction.session.rollback()


async def test_what_is_not_committed_yet_is_sealed_later_and_not_forgotten(api: Api) -> None:
    database = api.services.database
    context = api.services.context(api.acme.principal, "slow")
    async with context.write() as slow:
        slow.authorize("test")
        await auditing.record(slow, "slow")
        await entries(api, 2)
        # Somebody is still at work below them.
        assert await seal_audit(database) == 0
    assert await seal_audit(database) == 3
    assert verify(await exported(api)).entries == 3


async def test_many_who_seal_at_once_make_one_chain(api: Api) -> None:
    await entries(api, 6)
    sealed = await asyncio.gather(*(seal_audit(api.services.database) for _ in range(3)))
    assert sum(sealed) == 6
    found = verify(await exported(api))
    assert (found.entries, found.fault) == (6, None)


@pytest.mark.parametrize(("query", "status"), [("after=x", 400), ("after=-1", 400), ("more=1", 400), ("after=7", 200)])
async def test_the_file_is_asked_for_in_bounds(api: Api, query: str, status: int) -> None:
    headers = {"authorization": f"Bearer {api.acme.token}"}
    assert (await api.client.get(f"/audit.ndjson?{query}", headers=headers)).status_code == status
    assert (await api.client.get("/audit.ndjson")).status_code == 401
