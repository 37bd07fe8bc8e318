from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from app import clock
from app.auth import authenticator, tokens
from app.auth.authenticator import Authenticator, Unauthenticated
from app.db.uow import Database
from app.domain.enums import Permission, Role
from app.domain.permissions import ROLE_PERMISSIONS
from app.services import users
from tests.factories.databases import fetch, run
from tests.factories.tenants import Access, member, tenant


async def test_a_token_leads_to_its_principal(database: Database) -> None:
    acme = await tenant(database)
    principal = await Authenticator(database).authenticate(acme.token)
    assert principal.tenant_slug == "acme"
    assert principal.actor == f"user:{principal.user_id}"
    assert principal.role is Role.ADMIN
    assert principal.permissions == frozenset(Permission)
    assert principal.may(Permission.ADMIN)


async def test_scopes_narrow_the_role(database: Database) -> None:
    acme = await tenant(database)
    operator = await member(acme, Role.OPERATOR, scopes=[Permission.READ, Permission.EXECUTE])
    assert operator.principal.permissions == {Permission.READ, Permission.EXECUTE}
    viewer = await member(acme, Role.VIEWER)
    assert viewer.principal.permissions == ROLE_PERMISSIONS[Role.VIEWER]
    assert not viewer.principal.may(Permission.WRITE)


async def test_a_lower_role_takes_scopes_away(database: Database) -> None:
    acme = await tenant(database)
    operator = await member(acme, Role.OPERATOR)
    async with acme.write() as transaction:
        await users.update(
            transaction, acme.principal, users.UpdateUser(operator.principal.user_id, role=Role.APPROVER)
        )
    principal = await Authenticator(database).authenticate(operator.token)
    assert principal.permissions == {Permission.READ}


Spoil = Callable[[Access, str], Awaitable[None]]


def _by(statement: str) -> Spoil:
    async def spoil(access: Access, url: str) -> None:
        await run(url, statement.format(token=access.principal.token_id, user=access.principal.user_id))

    return spoil


ENDS = {
    "expired": _by("UPDATE api_token SET expires_at = now() - interval '1 second' WHERE id = {token}"),
    "revoked": _by("UPDATE api_token SET revoked_at = now() WHERE id = {token}"),
    "user deleted": _by("UPDATE app_user SET is_deleted = true WHERE id = {user}"),
    "tenant deleted": _by("UPDATE tenant SET is_deleted = true"),
    "unknown": _by("DELETE FROM api_token WHERE id = {token}"),
    "another secret": _by("UPDATE api_token SET secret_hash = sha256('') WHERE id = {token}"),
}


@pytest.mark.parametrize("end", list(ENDS))
async def test_all_ends_of_a_token_look_the_same(database: Database, database_url: str, end: str) -> None:
    acme = await tenant(database)
    await ENDS[end](acme, database_url)
    with pytest.raises(Unauthenticated) as refused:
        await Authenticator(database).authenticate(acme.token)
    with pytest.raises(Unauthenticated) as malformed:
        await Authenticator(database).authenticate("nonsense")
    assert str(refused.value) == str(malformed.value)
    assert refused.value.reason != malformed.value.reason


@pytest.mark.parametrize("end", [end for end in ENDS if end != "another secret"])
async def test_a_principal_is_revalidated(database: Database, database_url: str, end: str) -> None:
    acme = await tenant(database)
    subject = Authenticator(database)
    assert await subject.still_good([acme.principal]) == {acme.principal}
    await ENDS[end](acme, database_url)
    assert await subject.still_good([acme.principal]) == set()


async def test_a_principal_whose_rights_changed_is_not_valid_any_more(database: Database, database_url: str) -> None:
    acme = await tenant(database)
    await run(database_url, "UPDATE app_user SET role = 'VIEWER'")
    assert await Authenticator(database).still_good([acme.principal]) == set()


async def test_a_malformed_token_asks_nobody() -> None:
    nowhere = Database.connect("postgresql://nobody@127.0.0.1:1/none", name="nowhere")
    with pytest.raises(Unauthenticated):
        await Authenticator(nowhere).authenticate(tokens.mint().text[:-1] + "!")
    with pytest.raises(OSError, match="Connect call failed"):
        await Authenticator(nowhere).authenticate(tokens.mint().text)
    await nowhere.close()


async def test_what_was_just_seen_is_remembered_for_a_moment(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = await tenant(database)
    subject = Authenticator(database)
    principal = await subject.authenticate(acme.token)
    await ENDS["revoked"](acme, database_url)
    assert await subject.authenticate(acme.token) == principal
    later = clock.monotonic() + authenticator.CACHE_SECONDS + 0.01
    monkeypatch.setattr(clock, "monotonic", lambda: later)
    with pytest.raises(Unauthenticated):
        await subject.authenticate(acme.token)


async def test_what_was_remembered_still_expires(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    acme = await tenant(database)
    subject = Authenticator(database)
    principal = await subject.authenticate(acme.token)
    monkeypatch.setattr(clock, "utc_now", lambda: principal.expires_at)
    with pytest.raises(Unauthenticated):
        await subject.authenticate(acme.token)


async def test_a_remembered_id_with_another_secret_is_not_let_in(database: Database) -> None:
    acme = await tenant(database)
    subject = Authenticator(database)
    await subject.authenticate(acme.token)
    other = tokens.mint().text
    forged = acme.token[:15] + other[15:58]
    forged += tokens._checksum(forged)
    assert tokens.parse(forged) is not None
    with pytest.raises(Unauthenticated):
        await subject.authenticate(forged)


async def test_use_is_noted_once_a_minute(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = await tenant(database)
    now = clock.utc_now()

    async def used_at(after: timedelta) -> object:
        monkeypatch.setattr(clock, "utc_now", lambda: now + after)
        await Authenticator(database).authenticate(acme.token)
        rows = await fetch(database_url, "SELECT last_used_at FROM api_token WHERE id = $1", acme.principal.token_id)
        return rows[0]["last_used_at"]

    first = await used_at(timedelta())
    assert first is not None
    assert await used_at(timedelta(seconds=30)) == first
    assert await used_at(timedelta(seconds=90)) == now + timedelta(seconds=90)
