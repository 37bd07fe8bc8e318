"""Logging in: what a browser gets, what it may do with it, and what another site cannot make it do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from app import clock
from app.auth.authenticator import Authenticator, Unauthenticated
from app.auth.rates import Rate
from app.auth.tokens import mint
from app.db import models
from app.services import sessions
from app.web.credentials import COOKIE
from tests.factories.databases import fetch, run
from tests.schema.conftest import Api
from tests.schema.verbs import done, refused

PASSWORD = "correct horse battery"
EMAIL = "admin@acme.example"
CSRF = {"x-windlass-csrf": "1"}
VIEWER = {"query": "{ viewer { actor { ... on User { email } } } }"}
OPEN = "SELECT expires_at FROM api_token WHERE kind = 'SESSION' AND revoked_at IS NULL"
AGE = "UPDATE api_token SET session_since = now() - interval '{}' WHERE revoked_at IS NULL"
NEW = {
    "query": 'mutation { createUser(input: {idempotencyKey: "k", email: "x@x.example", displayName: "x", role: VIEWER})'
    " { user { email } userErrors { code } } }"
}


async def post(api: Api, verb: str, body: Any, cookie: str | None = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if cookie is not None:
        named |= {"cookie": f"{COOKIE}={cookie}", **CSRF}
    return await api.client.post(f"/auth/{verb}", json=body, headers=named)


async def graphql(api: Api, body: Any, cookie: str, headers: dict[str, str]) -> httpx.Response:
    api.client.cookies.clear()
    return await api.client.post("/graphql", json=body, headers={"cookie": f"{COOKIE}={cookie}", **headers})


async def invitation(api: Api) -> str:
    text: str = (await done(api, "inviteUser", userId=await viewer_id(api)))["text"]
    return text


async def viewer_id(api: Api) -> str:
    found: str = (await api.data("{ viewer { actor { ... on User { id } } } }"))["viewer"]["actor"]["id"]
    return found


async def with_password(api: Api, password: str = PASSWORD) -> None:
    response = await post(api, "password", {"invitation": await invitation(api), "password": password})
    assert response.status_code == 200, response.text


async def log_in(api: Api, **given: str) -> httpx.Response:
    response = await post(api, "login", {"tenant": "acme", "email": EMAIL, "password": PASSWORD, **given})
    api.client.cookies.clear()
    return response


def cookie_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    header = response.headers["set-cookie"]
    assert {part.strip().lower() for part in header.split(";")} >= {"httponly", "secure", "path=/", "samesite=lax"}
    assert "domain" not in header.lower()
    return str(header.partition(";")[0].partition("=")[2])


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is slowed down but where that is what a test is about."""
    fast = Rate(1e6, 1e6)
    monkeypatch.setattr(sessions, "_ACCOUNT", fast)
    monkeypatch.setattr(sessions, "_ADDRESS", fast)


async def test_whoever_was_invited_sets_a_password_and_logs_in(api: Api) -> None:
    await with_password(api)
    response = await log_in(api, email=" Admin@ACME.example ")
    assert (response.json()["tenant"], response.json()["email"]) == ("acme", EMAIL)
    cookie = cookie_of(response)
    assert (await graphql(api, VIEWER, cookie, CSRF)).json() == {"data": {"viewer": {"actor": {"email": EMAIL}}}}
    # It may do what its owner may.
    assert (await graphql(api, NEW, cookie, CSRF)).json()["data"]["createUser"]["userErrors"] == []


async def test_it_is_all_in_the_audit_log(api: Api, database_url: str) -> None:
    await with_password(api)
    cookie = cookie_of(await log_in(api))
    await post(api, "logout", {}, cookie)
    found = await fetch(
        database_url, "SELECT action, target_type, actor, e::text AS text FROM audit_entry e ORDER BY id"
    )
    assert [row["action"] for row in found] == ["inviteUser", "setPassword", "login", "logout"]
    assert {row["actor"] for row in found} == {api.acme.principal.actor}
    assert {row["target_type"] for row in found[1:]} == {"User"}
    assert not [row for row in found if "argon2" in row["text"] or PASSWORD in row["text"]]


async def test_an_invitation_is_good_for_one_password_and_for_nothing_else(api: Api) -> None:
    first, second = await invitation(api), await invitation(api)
    assert (await post(api, "password", {"invitation": first, "password": PASSWORD})).status_code == 401
    assert (await api.post(VIEWER, token=second)).status_code == 401
    assert (await post(api, "password", {"invitation": second, "password": PASSWORD})).status_code == 200
    assert (await post(api, "password", {"invitation": second, "password": PASSWORD})).status_code == 401
    # Nor does another token do as an invitation.
    assert (await post(api, "password", {"invitation": api.acme.token, "password": PASSWORD})).status_code == 401


async def test_no_other_token_is_an_invitation(api: Api) -> None:
    """Whoever has got hold of a token of somebody's shall not be able to set their password."""
    await with_password(api)
    session = cookie_of(await log_in(api))
    for text in (session, api.acme.token, mint().text, "wl_nonsense"):
        response = await post(api, "password", {"invitation": text, "password": "another long one"})
        assert response.status_code == 401
    assert (await log_in(api)).status_code == 200


async def test_only_administrators_invite(api: Api) -> None:
    (error,) = await refused(api, "inviteUser", userId="VXNlcjo5OTk5")
    assert (error["code"], error["path"]) == ("NOT_FOUND", ["userId"])


@pytest.mark.parametrize("password", ["short", "x" * 257, "aaaaaaaaaaaaaaaa"])
async def test_a_password_is_long_and_not_of_one_letter(api: Api, password: str) -> None:
    given = await invitation(api)
    response = await post(api, "password", {"invitation": given, "password": password})
    assert (response.status_code, response.json()["path"]) == (400, ["password"])
    # The invitation was not used up by that.
    assert (await post(api, "password", {"invitation": given, "password": PASSWORD})).status_code == 200


async def test_whatever_is_wrong_the_answer_is_the_same(api: Api, database_url: str) -> None:
    await with_password(api)
    wrong = [
        {"password": "wrong horse battery"}, {"email": "nobody@acme.example"}, {"tenant": "rival"}, {"tenant": "none"},
        {"password": "x" * 900},
    ]  # fmt: skip
    answers = [await log_in(api, **given) for given in wrong]
    await run(database_url, "UPDATE app_user SET is_deleted = true")
    answers.append(await log_in(api))
    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
    assert not any("set-cookie" in answer.headers for answer in answers)


async def test_who_tries_too_often_waits_before_anything_is_compared(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await with_password(api)
    monkeypatch.undo()
    verbs = sessions.Sessions(api.services.database, api.services.authenticator)
    given = sessions.Credentials("acme", EMAIL, "wrong horse battery", "10.0.0.1")
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await verbs.log_in(given, "test")
    with pytest.raises(sessions.TooOften) as slowed:
        await verbs.log_in(given, "test")
    assert 0 < slowed.value.seconds <= 12
    compared: list[Any] = []
    monkeypatch.setattr(verbs._passwords, "proves", compared.append)
    with pytest.raises(sessions.TooOften):
        await verbs.log_in(sessions.Credentials("acme", EMAIL, PASSWORD, "10.0.0.2"), "test")
    assert compared == []


async def test_the_answer_of_whoever_is_slowed_down_says_when_to_come_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*_: Any) -> None:
        raise sessions.TooOften(2.5)

    monkeypatch.setattr(sessions.Sessions, "log_in", slow)
    response = await log_in(api)
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")


async def test_a_session_ends_when_its_owner_logs_out(api: Api) -> None:
    await with_password(api)
    one, other = cookie_of(await log_in(api)), cookie_of(await log_in(api))
    response = await post(api, "logout", {}, one)
    assert (response.status_code, 'windlass=""' in response.headers["set-cookie"]) == (200, True)
    fresh = Authenticator(api.services.database)
    with pytest.raises(Unauthenticated):
        await fresh.authenticate(one)
    assert (await fresh.authenticate(other)).user_id == api.acme.principal.user_id
    assert (await post(api, "logout", {})).status_code == 401


async def test_a_session_is_renewed_by_another_for_a_week_at_most(api: Api, database_url: str) -> None:
    await with_password(api)
    one = cookie_of(await log_in(api))
    other = cookie_of(await post(api, "refresh", {}, one))
    assert one != other
    (row,) = await fetch(database_url, OPEN)
    assert timedelta(hours=11) < row["expires_at"] - clock.utc_now() <= timedelta(hours=12)
    await run(
        database_url, "UPDATE api_token SET session_since = now() - interval '6 days 23 hours' WHERE revoked_at IS NULL"
    )
    last = cookie_of(await post(api, "refresh", {}, other))
    (row,) = await fetch(database_url, OPEN)
    assert row["expires_at"] - clock.utc_now() <= timedelta(hours=1)
    await run(database_url, AGE.format("7 days"))
    assert (await post(api, "refresh", {}, last)).status_code == 401
    # A token of a program is no session.
    response = await api.client.post("/auth/refresh", json={}, headers={"authorization": f"Bearer {api.acme.token}"})
    assert response.status_code == 401


async def test_a_new_password_ends_every_other_session(api: Api) -> None:
    await with_password(api)
    mine, theirs = cookie_of(await log_in(api)), cookie_of(await log_in(api))
    wrong = await post(api, "password", {"currentPassword": "wrong", "password": "another horse battery"}, mine)
    assert wrong.status_code == 401
    changed = await post(api, "password", {"currentPassword": PASSWORD, "password": "another horse battery"}, mine)
    assert changed.status_code == 200
    fresh = Authenticator(api.services.database)
    await fresh.authenticate(mine)
    # Programs are not cut off by it.
    await fresh.authenticate(api.acme.token)
    with pytest.raises(Unauthenticated):
        await fresh.authenticate(theirs)
    assert (await log_in(api)).status_code == 401
    assert (await log_in(api, password="another horse battery")).status_code == 200


async def test_nobody_has_more_than_twenty_sessions(
    api: Api, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setattr(sessions, "_SESSIONS", 2)
    await with_password(api)
    for _ in range(3):
        cookie_of(await log_in(api))
    found = await fetch(
        database_url, "SELECT revoked_at IS NULL AS open FROM api_token WHERE kind = 'SESSION' ORDER BY id"
    )
    assert [row["open"] for row in found] == [False, True, True]


async def test_sessions_are_listed_with_the_tokens_of_their_owner(api: Api) -> None:
    await with_password(api)
    cookie_of(await log_in(api))
    query = "{ viewer { actor { ... on User { tokens { nodes { kind name revokedAt } } } } } }"
    tokens = (await api.data(query))["viewer"]["actor"]["tokens"]["nodes"]
    assert [token["kind"] for token in tokens] == ["SESSION", "INVITATION", "API"]
    assert tokens[0]["name"].startswith("python-httpx")


async def test_no_hash_can_be_read_by_who_acts_for_a_tenant(api: Api) -> None:
    await with_password(api)
    async with api.services.database.read(api.acme.tenant_id) as session:
        assert await session.scalar(select(models.UserPassword.changed_at)) is not None
        with pytest.raises(DBAPIError, match="permission denied"):
            await session.execute(select(models.UserPassword.hash))


# ── other sites ──────────────────────────────────────────────────────────────────────────────────────────────────

HERE, ELSEWHERE = "http://windlass.test", "https://evil.example"
FORGED = [
    ({}, "no header of ours"),
    ({**CSRF, "origin": ELSEWHERE}, "another origin"),
    ({**CSRF, "origin": "null"}, "no origin"),
    ({**CSRF, "origin": "http://windlass.test:81"}, "another port"),
    ({**CSRF, "origin": "http://windlass.test.evil.example"}, "another host"),
    ({**CSRF, "sec-fetch-site": "cross-site"}, "another site"),
    ({**CSRF, "sec-fetch-site": "same-site"}, "another host of the same site"),
]


@pytest.mark.parametrize(("headers", "why"), FORGED, ids=[why for _, why in FORGED])
async def test_another_site_cannot_use_the_cookie(api: Api, headers: dict[str, str], why: str) -> None:
    del why
    await with_password(api)
    cookie = cookie_of(await log_in(api))
    response = await graphql(api, NEW, cookie, headers)
    assert response.status_code == 403
    assert response.json()["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    if headers:
        forged = {"cookie": f"{COOKIE}={cookie}", **headers}
        assert (await api.client.post("/auth/logout", json={}, headers=forged)).status_code == 403
    # A token that a page has to know is its own proof.
    assert (await api.post(VIEWER, **headers)).status_code == 200


async def test_a_page_of_this_origin_can(api: Api) -> None:
    await with_password(api)
    cookie = cookie_of(await log_in(api))
    for headers in ({"origin": HERE}, {"origin": "https://windlass.test"}, {"sec-fetch-site": "same-origin"}):
        assert (await graphql(api, VIEWER, cookie, {**CSRF, **headers})).status_code == 200, headers
    # Reading by GET needs no header of ours: EventSource cannot send one.
    params = {"query": "{ viewer { actor { ... on User { email } } } }"}
    got = await api.client.get("/graphql", params=params, headers={"cookie": f"{COOKIE}={cookie}", "origin": HERE})
    assert got.status_code == 200


async def test_a_token_that_nobody_logged_in_with_is_none_for_a_browser(api: Api) -> None:
    """Whoever could set a cookie would have its user work with a token of theirs."""
    for accepted in ("application/json", "text/event-stream"):
        response = await graphql(api, VIEWER, api.acme.token, {**CSRF, "origin": HERE, "accept": accepted})
        assert response.status_code == 401
        assert response.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    for path in ("/audit.ndjson", "/jobs/x/log.ndjson"):
        headers = {"cookie": f"{COOKIE}={api.acme.token}", "origin": HERE}
        assert (await api.client.get(path, headers=headers)).status_code == 401
    assert (await post(api, "logout", {}, api.acme.token)).status_code == 401
    # By itself, and said to be one, it is what it was.
    assert (await api.post(VIEWER)).status_code == 200


async def test_logging_in_from_another_site_is_refused(api: Api) -> None:
    await with_password(api)
    body = {"tenant": "acme", "email": EMAIL, "password": PASSWORD}
    assert (await post(api, "login", body, origin=ELSEWHERE)).status_code == 403
    form = await api.client.post("/auth/login", data=body)
    assert form.status_code == 415


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ('{"tenant": "a", "tenant": "b"}', ["tenant"]),
        ("[]", None), ("{", None), ('{"tenant": 7}', ["tenant"]), ("{}", ["tenant"]),
        ('{"tenant": "a", "email": "b"}', ["password"]), ('{"tenant": "a\\u0000"}', ["tenant"]),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused(api: Api, body: str, path: list[str] | None) -> None:
    response = await api.client.post("/auth/login", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json().get("path")) == (400, path)


@pytest.mark.parametrize("verb", ["refresh", "logout"])
async def test_the_body_is_not_read_before_the_session_is(api: Api, verb: str) -> None:
    response = await api.client.post(f"/auth/{verb}", content=b"{", headers={"content-type": "text/plain"})
    assert response.status_code == 401
