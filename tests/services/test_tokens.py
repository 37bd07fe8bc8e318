from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app import clock
from app.auth.authenticator import Authenticator, Unauthenticated
from app.db.models import ApiToken
from app.domain.enums import Permission, Role
from app.domain.errors import Forbidden, Invalid, NotFound, Required, Several
from app.domain.permissions import ROLE_PERMISSIONS
from app.services import tokens
from app.services.tokens import IssuedToken, IssueToken, RevokeToken
from tests.factories.databases import fetch
from tests.factories.tenants import Access, access, member, user


async def _issue(by: Access, command: IssueToken) -> IssuedToken:
    async with by.write() as transaction:
        return await tokens.issue(transaction, by.principal, command)


async def _revoke(by: Access, token_id: int) -> ApiToken:
    async with by.write() as transaction:
        return await tokens.revoke(transaction, by.principal, RevokeToken(token_id))


async def test_a_token_works_and_is_stored_as_a_hash_only(acme: Access, database_url: str) -> None:
    issued = await _issue(acme, IssueToken(" laptop "))
    assert issued.row.name == "laptop"
    assert issued.row.created_by == acme.principal.actor
    principal = await Authenticator(acme.database).authenticate(issued.text)
    assert (principal.user_id, principal.token_id) == (acme.principal.user_id, issued.row.id)
    stored = await fetch(database_url, "SELECT api_token::text AS all FROM api_token")
    secret = issued.text[15:58]
    assert len(stored) == 2
    assert not [row for row in stored if secret in row["all"] or secret.encode().hex() in row["all"]]
    assert secret not in repr(issued)


async def test_a_token_expires_in_ninety_days_unless_told_otherwise(acme: Access) -> None:
    issued = await _issue(acme, IssueToken("default"))
    assert abs(issued.row.expires_at - clock.utc_now() - timedelta(days=90)) < timedelta(minutes=1)
    wanted = clock.utc_now() + timedelta(hours=1)
    assert (await _issue(acme, IssueToken("short", expires_at=wanted))).row.expires_at == wanted


async def test_a_token_ends_with_the_one_it_is_made_with_at_the_latest(acme: Access) -> None:
    ann = await member(acme, Role.OPERATOR)
    soon = clock.utc_now() + timedelta(minutes=1)
    ann = replace(ann, principal=replace(ann.principal, token_id=1, expires_at=soon))
    assert (await _issue(ann, IssueToken("child"))).row.expires_at == soon
    with pytest.raises(Invalid, match="a token ends no later than the one it is made with") as refused:
        await _issue(ann, IssueToken("longer", expires_at=soon + timedelta(minutes=1)))
    assert refused.value.path == ("expiresAt",)
    # Whoever has logged in has said who they are, which no token can.
    browsing = replace(ann, principal=replace(ann.principal, is_session=True))
    assert (await _issue(browsing, IssueToken("own"))).row.expires_at > soon + timedelta(days=1)


@pytest.mark.parametrize(
    "expires_at",
    [
        datetime(2020, 1, 1, tzinfo=UTC),
        clock.utc_now() + timedelta(days=366),
        datetime(9999, 1, 1, tzinfo=UTC),
        datetime(2100, 1, 1),  # noqa: DTZ001  without an offset is what is refused
    ],
)
async def test_an_expiry_is_near_and_in_the_future(acme: Access, expires_at: datetime) -> None:
    with pytest.raises(Invalid) as refused:
        await _issue(acme, IssueToken("x", expires_at=expires_at))
    assert refused.value.path == ("expiresAt",)


async def test_all_faults_are_named_at_once(acme: Access) -> None:
    with pytest.raises(Several) as refused:
        await _issue(acme, IssueToken("", scopes=[], expires_at=datetime(2020, 1, 1, tzinfo=UTC)))
    assert [(type(error), error.path) for error in refused.value.errors] == [
        (Required, ("name",)),
        (Invalid, ("expiresAt",)),
        (Required, ("scopes",)),
    ]


async def test_scopes_are_those_asked_for(acme: Access) -> None:
    issued = await _issue(acme, IssueToken("robot", scopes=[Permission.EXECUTE, Permission.READ]))
    assert issued.row.scopes == ["READ", "EXECUTE"]
    principal = await Authenticator(acme.database).authenticate(issued.text)
    assert principal.permissions == {Permission.READ, Permission.EXECUTE}


@pytest.mark.parametrize("role", list(Role))
async def test_everyone_makes_tokens_of_their_own(acme: Access, role: Role) -> None:
    somebody = await member(acme, role)
    issued = await _issue(somebody, IssueToken("own"))
    assert issued.row.user_id == somebody.principal.user_id
    assert set(issued.row.scopes) == ROLE_PERMISSIONS[role]


async def test_a_token_cannot_make_one_that_reaches_further(acme: Access) -> None:
    narrow = await access(
        acme.database,
        (await _issue(acme, IssueToken("narrow", scopes=[Permission.READ, Permission.ADMIN]))).text,
    )
    assert (await _issue(narrow, IssueToken("same"))).row.scopes == ["READ", "ADMIN"]
    with pytest.raises(Forbidden) as refused:
        await _issue(narrow, IssueToken("wider", scopes=[Permission.READ, Permission.WRITE]))
    assert (refused.value.required, refused.value.path) == ("WRITE", ("scopes",))
    operator = await user(acme, Role.OPERATOR)
    assert (await _issue(narrow, IssueToken("for another", user_id=operator.id))).row.scopes == ["READ"]


async def test_a_token_cannot_have_what_the_role_has_not(acme: Access) -> None:
    viewer = await user(acme, Role.VIEWER)
    with pytest.raises(Invalid) as refused:
        await _issue(acme, IssueToken("x", user_id=viewer.id, scopes=[Permission.WRITE]))
    assert refused.value.path == ("scopes",)


async def test_only_an_administrator_makes_others_tokens(acme: Access, rival: Access) -> None:
    operator = await member(acme, Role.OPERATOR)
    with pytest.raises(Forbidden) as refused:
        await _issue(operator, IssueToken("x", user_id=acme.principal.user_id))
    assert refused.value.required == "ADMIN"
    for user_id in (rival.principal.user_id, 10**12):
        with pytest.raises(NotFound) as missing:
            await _issue(acme, IssueToken("x", user_id=user_id))
        assert (missing.value.message, missing.value.path) == ("there is no such user", ("userId",))


async def test_a_revoked_token_is_of_no_use(acme: Access) -> None:
    issued = await _issue(acme, IssueToken("lost"))
    revoked = await _revoke(acme, issued.row.id)
    assert revoked.revoked_at is not None
    assert revoked.updated_by == acme.principal.actor
    with pytest.raises(Unauthenticated):
        await Authenticator(acme.database).authenticate(issued.text)
    assert (await _revoke(acme, issued.row.id)).revoked_at == revoked.revoked_at


async def test_who_may_revoke(acme: Access, rival: Access) -> None:
    operator = await member(acme, Role.OPERATOR)
    own = await _issue(operator, IssueToken("own"))
    refusals = []
    for by, token_id in (
        (operator, acme.principal.token_id),
        (rival, own.row.id),
        (operator, 10**12),
    ):
        with pytest.raises(NotFound) as refused:
            await _revoke(by, token_id)
        refusals.append(refused.value.message)
    assert set(refusals) == {"there is no such token"}
    assert (await _revoke(operator, own.row.id)).revoked_at is not None
    assert (await _revoke(acme, operator.principal.token_id)).revoked_at is not None
