"""Platform administration: nobody of the installation is in a tenant unasked, unseen, or for long."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app import clock
from app.auth.authenticator import Unauthenticated
from app.domain.enums import Permission, Role, UserKind
from app.domain.errors import Invalid, NotFound, Required
from app.services import platform
from app.services.platform import OpenAccess, OpenedAccess
from schema import guard
from schema.nodes import encode_id
from tests.factories.databases import fetch
from tests.schema.conftest import Access, Api
from tests.schema.test_mutations import NOTE, WAIT
from tests.schema.verbs import done, refused

ANN = "ann@platform.example"
REASON = "ticket 4711: a job hangs"
ACCESSES = """{ platformAccesses { nodes { id administrator reason role active openedAt expiresAt endedAt
  endedBy { __typename ... on User { email } } } } }"""
LOG = """{ auditLog(first: 50) { nodes { action outcome before after actor { __typename ... on PlatformAccess {
  administrator reason } } target { __typename id } } } }"""


async def opened(api: Api, key: str, role: Role = Role.ADMIN, minutes: int = 30) -> tuple[OpenedAccess, Access]:
    found = await platform.open_access(api.services.database, key, OpenAccess("acme", REASON, minutes, role))
    principal = await api.services.authenticator.authenticate(found.text)
    return found, replace(api.acme, token=found.text, principal=principal)


async def key_of(api: Api, email: str = ANN) -> str:
    return await platform.admit(api.services.database, email)


async def seen(api: Api) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = (await api.data(ACCESSES))["platformAccesses"]["nodes"]
    return nodes


async def log(api: Api) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = (await api.data(LOG))["auditLog"]["nodes"]
    return nodes


async def test_what_a_platform_administrator_does_is_in_the_tenants_log_with_the_reason(api: Api) -> None:
    key = await key_of(api)
    access, ann = await opened(api, key)
    gid = encode_id("PlatformAccess", access.row.id)
    made = (await done(api, "createResourceTemplate", ann, name="t", type="CUSTOM", content=NOTE))["resourceTemplate"]
    await refused(api, "deletePlan", ann, planId="nothing")
    as_viewer = (await opened(api, key, Role.VIEWER))[1]
    await refused(api, "createWorkflow", as_viewer, name="w", type="CUSTOM", definition={"steps": [WAIT]})
    tried, again, created, open_ = await log(api)
    who = {"__typename": "PlatformAccess", "administrator": ANN, "reason": REASON}
    assert (created["action"], created["actor"], created["target"]["id"]) == (
        "createResourceTemplate", who, made["id"],
    )  # fmt: skip
    assert (tried["action"], tried["outcome"], tried["actor"]) == ("createWorkflow", "REFUSED", who)
    for entry in (created, tried, open_, again):
        assert entry["after"]["$platformAdministration"] == {"reason": REASON}, entry["action"]
    assert (open_["action"], open_["target"]) == ("openPlatformAccess", {"__typename": "PlatformAccess", "id": gid})
    assert open_["after"][f"PlatformAccess:{access.row.id}"]["administrator"] == ANN
    # What was made says who made it.
    query = "query($id: ID!) { resourceTemplate(id: $id) { createdBy { ... on PlatformAccess { id reason } } } }"
    answer = await api.data(query, {"id": made["id"]})
    assert answer["resourceTemplate"]["createdBy"] == {"id": gid, "reason": REASON}


async def test_the_log_is_found_by_the_access(api: Api) -> None:
    access, ann = await opened(api, await key_of(api))
    await done(api, "createResourceTemplate", ann, name="t", type="CUSTOM", content=NOTE)
    await done(api, "createResourceTemplate", name="u", type="CUSTOM", content=NOTE)
    text_ = "query($id: ID!) { auditLog(filter: {actorId: $id}) { nodes { action } } }"
    found = await api.data(text_, {"id": encode_id("PlatformAccess", access.row.id)})
    assert found["auditLog"]["nodes"] == [{"action": "createResourceTemplate"}]


async def test_administrators_of_the_tenant_see_it_and_end_it(api: Api) -> None:
    access, ann = await opened(api, await key_of(api))
    (shown,) = await seen(api)
    assert (shown["administrator"], shown["reason"], shown["role"], shown["active"]) == (ANN, REASON, "ADMIN", True)
    assert (await api.ask("{ platformAccesses { nodes { id } } }", access=api.rival))["data"] == {
        "platformAccesses": {"nodes": []}
    }
    ended = (await done(api, "endPlatformAccess", id=shown["id"]))["platformAccess"]
    assert (ended["active"], ended["endedBy"]) == (False, {"email": "admin@acme.example"})
    assert await api.services.authenticator.still_good([ann.principal]) == set()
    # Once more changes nothing.
    assert (await done(api, "endPlatformAccess", id=shown["id"]))["platformAccess"]["endedAt"] == ended["endedAt"]
    rows = await fetch(api_url(api), "SELECT revoked_at FROM api_token WHERE platform_access_id = $1", access.row.id)
    assert [row["revoked_at"] is not None for row in rows] == [True]


async def test_viewers_do_not_see_who_was_let_in(api: Api) -> None:
    user = (await done(api, "createUser", email="v@acme.example", displayName="v", role="OPERATOR"))["user"]
    token = (await done(api, "createApiToken", name="t", userId=user["id"]))["text"]
    answer = await api.ask(ACCESSES, access=replace(api.acme, token=token))
    assert answer["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_revoking_its_token_ends_an_access(api: Api) -> None:
    access, ann = await opened(api, await key_of(api))
    await done(api, "revokeApiToken", id=encode_id("ApiToken", ann.principal.token_id))
    assert [one["active"] for one in await seen(api)] == [False]
    assert access.row.ended_at is None, "that row was read before"


async def test_an_end_ends_what_is_open(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LOOK_SECONDS", 0.05)
    key = await key_of(api)
    ends: dict[str, Any] = {}
    for name in ("closed", "dismissed", "expired"):
        access, ann = await opened(api, key)
        principal = ann.principal
        if name == "expired":
            principal = replace(principal, expires_at=clock.utc_now() + timedelta(milliseconds=50))
        waiting = asyncio.create_task(api.services.guard.until_gone(api.services.authenticator, principal))
        await asyncio.sleep(0)
        if name == "closed":
            await platform.close_access(api.services.database, key, access.row.id)
        elif name == "dismissed":
            await platform.dismiss(api.services.database, ANN)
            key = await key_of(api)
        async with asyncio.timeout(2):
            await waiting
        ends[name] = waiting.done()
    assert ends == dict.fromkeys(("closed", "dismissed", "expired"), True)


async def test_what_they_may_is_the_roles_and_lasts_as_long_as_the_access(api: Api) -> None:
    key = await key_of(api)
    for role in (Role.VIEWER, Role.OPERATOR):
        access, ann = await opened(api, key, role, 5)
        assert (ann.principal.role, ann.principal.kind) == (role, UserKind.PLATFORM)
        assert ann.principal.may(Permission.WRITE) is (role is Role.OPERATOR)
        assert ann.principal.expires_at == access.row.expires_at
        assert timedelta(minutes=4) < access.row.expires_at - clock.utc_now() <= timedelta(minutes=5)
    viewer = (await api.data("{ viewer { role actor { __typename ... on PlatformAccess { reason } } } }", access=ann))[
        "viewer"
    ]
    assert viewer == {"role": "OPERATOR", "actor": {"__typename": "PlatformAccess", "reason": REASON}}


async def test_nothing_that_lasts_longer_comes_of_it_for_themselves(api: Api) -> None:
    _, ann = await opened(api, await key_of(api))
    (error,) = await refused(api, "createApiToken", ann, name="t")
    assert (error["code"], error["path"]) == ("NOT_FOUND", ["userId"])
    own = encode_id("User", ann.principal.user_id)
    for name, given in (("updateUser", {"expectedVersion": 1, "role": "VIEWER"}), ("deleteUser", {})):
        assert [error["code"] for error in await refused(api, name, id=own, **given)] == ["NOT_FOUND"]
    assert [error["code"] for error in await refused(api, "inviteUser", userId=own)] == ["NOT_FOUND"]
    people = (await api.data('{ tenant(slug: "acme") { users { nodes { email } } } }'))["tenant"]["users"]["nodes"]
    assert people == [{"email": "admin@acme.example"}]


async def test_nobody_approves_in_one_access_what_they_made_in_another(api: Api) -> None:
    key = await key_of(api)
    one, other = (await opened(api, key))[1], (await opened(api, key))[1]
    assert one.principal.user_id == other.principal.user_id
    assert one.principal.actor != other.principal.actor


async def test_they_may_be_a_person_of_the_tenant_beside_it(api: Api) -> None:
    key = await key_of(api, "admin@acme.example")
    _, ann = await opened(api, key)
    assert ann.principal.user_id != api.acme.principal.user_id
    # Nobody is let in by a password or by the OpenID provider as what they are there for a while.
    assert await api.services.authenticator.password_of("acme", "admin@acme.example") is None


@pytest.mark.parametrize(
    ("given", "kind", "path"),
    [
        (OpenAccess("acme", " ", 10), Required, ("reason",)),
        (OpenAccess("acme", "x", 10), Invalid, ("reason",)),
        (OpenAccess("acme", "x" * 501, 10), Invalid, ("reason",)),
        (OpenAccess("acme", REASON, 0), Invalid, ("minutes",)),
        (OpenAccess("acme", REASON, 241), Invalid, ("minutes",)),
        (OpenAccess("nobody", REASON, 10), NotFound, ("tenant",)),
    ],
)
async def test_an_access_has_a_tenant_a_reason_and_an_end(
    api: Api, given: OpenAccess, kind: type[Invalid], path: tuple[str, ...]
) -> None:
    key = await key_of(api)
    with pytest.raises(kind) as refused_:
        await platform.open_access(api.services.database, key, given)
    assert refused_.value.path == path
    assert await seen(api) == []


async def test_only_a_key_that_is_good_opens(api: Api) -> None:
    database, given = api.services.database, OpenAccess("acme", REASON, 10)
    old = await key_of(api)
    await platform.open_access(database, old, given)
    await platform.open_access(database, old, replace(given, tenant="rival"))
    new = await key_of(api)
    assert [one["active"] for one in await seen(api)] == [False], "what an earlier key has opened ends"
    ended = (await log(api))[0]
    assert (ended["action"], ended["actor"]["__typename"]) == ("closePlatformAccess", "SystemActor")
    assert len([name for name in ended["after"] if name.startswith("PlatformAccess:")]) == 1
    await platform.open_access(database, new, given)
    await platform.dismiss(database, ANN)
    # One that was replaced, one of somebody who left, a token of the tenant's, and none at all.
    for key in (old, new, api.acme.token, ""):
        with pytest.raises(Unauthenticated):
            await platform.open_access(database, key, given)
        with pytest.raises(Unauthenticated):
            await platform.list_accesses(database, key, None)
        with pytest.raises(Unauthenticated):
            await platform.close_access(database, key, 1)
    assert [one["active"] for one in await seen(api)] == [False, False]
    # Nor does a key open what is for tokens.
    with pytest.raises(Unauthenticated):
        await api.services.authenticator.authenticate(new)


async def test_accesses_are_listed_across_tenants(api: Api) -> None:
    key, database = await key_of(api), api.services.database
    await platform.open_access(database, key, OpenAccess("acme", REASON, 10))
    await platform.open_access(database, key, OpenAccess("rival", REASON, 10))
    assert [slug for _, slug in await platform.list_accesses(database, key, None)] == ["rival", "acme"]
    ((access, slug),) = await platform.list_accesses(database, key, "acme")
    with pytest.raises(NotFound, match="there is no tenant 'nowhere'"):
        await platform.list_accesses(database, key, "nowhere")
    closed = await platform.close_access(database, key, access.id)
    assert (slug, closed.ended_by) == ("acme", f"platform:{ANN}")
    assert [entry["action"] for entry in await log(api)] == ["closePlatformAccess", "openPlatformAccess"]


async def test_whoever_acts_for_a_tenant_lets_nobody_in(api: Api) -> None:
    await opened(api, await key_of(api))
    for statement in (
        "INSERT INTO platform_access SELECT * FROM platform_access",
        "UPDATE platform_access SET expires_at = now() + interval '1 year'",
        "UPDATE platform_access SET reason = 'nothing'",
        "DELETE FROM platform_access",
        "SELECT email FROM platform_administrator",
    ):
        async with api.acme.rows.write() as transaction:
            with pytest.raises(DBAPIError) as error:
                await transaction.session.execute(text(statement))
            await transaction.session.rollback()
        assert getattr(error.value.orig, "sqlstate", None) == "42501"


def api_url(api: Api) -> str:
    return api.services.database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
