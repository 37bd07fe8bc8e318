"""Service accounts: what they may, what they may not, and that their tokens are replaced without a break."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app import clock
from app.auth.authenticator import Authenticator, Unauthenticated
from app.auth.principal import Principal
from app.db.models import User
from app.db.uow import Transaction
from app.domain.approvals import ApprovalPolicy, Council
from app.domain.enums import Permission, Role, TokenKind, UserKind
from app.domain.errors import Conflict, DomainError, Forbidden, IllegalState, Invalid, NotFound, Required
from app.services import roles, rotating, service_accounts, sessions, tokens, users
from app.services.plans import councils
from app.services.rotating import RotateToken
from app.services.service_accounts import CreateServiceAccount, UpdateServiceAccount
from app.services.tokens import IssuedToken, IssueToken
from tests.factories.tenants import Access, access, member

READ, WRITE, APPROVE, ADMIN = Permission.READ, Permission.WRITE, Permission.APPROVE, Permission.ADMIN


async def account(by: Access, name: str = "robot", role: Role | None = Role.OPERATOR, **given: Any) -> User:
    async with by.write() as transaction:
        command = CreateServiceAccount(name, role, **given)
        return await service_accounts.create(transaction, by.principal, command)


async def change(by: Access, number: int, **given: Any) -> User:
    async with by.write() as transaction:
        return await service_accounts.update(transaction, by.principal, UpdateServiceAccount(number, **given))


async def issued(by: Access, user_id: int | None = None, **given: Any) -> IssuedToken:
    async with by.write() as transaction:
        return await tokens.issue(transaction, by.principal, IssueToken("t", user_id=user_id, **given))


async def robot(by: Access, **given: Any) -> Access:
    made = await account(by, **given)
    return await access(by.database, (await issued(by, made.id)).text)


async def rotate(by: Access, number: int, grace: timedelta = timedelta()) -> IssuedToken:
    async with by.write() as transaction:
        return await rotating.rotate(transaction, by.principal, RotateToken(number, grace))


async def test_it_is_named_as_what_it_is(acme: Access) -> None:
    found = await robot(acme)
    assert found.principal.kind is UserKind.SERVICE_ACCOUNT
    assert found.principal.actor == f"service-account:{found.principal.user_id}"
    assert found.principal.permissions == {
        READ, WRITE, Permission.EXECUTE, Permission.CANCEL, Permission.ROLLBACK, Permission.DELETE,
    }  # fmt: skip


async def test_it_approves_nothing_unless_somebody_who_may_has_said_so(acme: Access) -> None:
    found = await robot(acme, role=Role.ADMIN)
    number = found.principal.user_id
    assert not found.principal.may(APPROVE)
    await change(acme, number, may_approve=True)
    # The token was made for less.
    assert not (await access(acme.database, found.token)).principal.may(APPROVE)
    token = (await issued(acme, number)).text
    assert (await access(acme.database, token)).principal.may(APPROVE)
    await change(acme, number, may_approve=False)
    assert not (await access(acme.database, token)).principal.may(APPROVE)
    lesser = await member(acme, Role.ADMIN, scopes=[READ, ADMIN])
    for attempt in (change(lesser, number, may_approve=True), account(lesser, "x", Role.VIEWER, may_approve=True)):
        with pytest.raises(Forbidden) as refused:
            await attempt
        assert refused.value.path == ("mayApprove",)


def test_it_never_approves_what_it_asked_for() -> None:
    soon = clock.utc_now() + timedelta(hours=1)
    robot_ = Principal(1, "acme", 7, Role.ADMIN, frozenset(Permission), 1, soon, UserKind.SERVICE_ACCOUNT)
    members = Council(ApprovalPolicy(required=1, author_may_approve=True), {7}, 0, "hash")
    assert councils.bars(members, robot_)
    assert not councils.bars(members, replace(robot_, user_id=8))
    assert not councils.bars(members, replace(robot_, kind=UserKind.PERSON))


async def test_it_has_tokens_and_nothing_else(acme: Access) -> None:
    made = await account(acme)
    # Nor is it a person that the verbs of people would find.
    attempts: list[Callable[[Transaction], Awaitable[Any]]] = [
        lambda transaction: sessions.invite(transaction, acme.principal, made.id),
        lambda transaction: users.update(transaction, acme.principal, users.UpdateUser(made.id, role=Role.ADMIN)),
        lambda transaction: users.delete(transaction, acme.principal, users.DeleteUser(made.id)),
    ]
    for attempt in attempts:
        with pytest.raises(NotFound):
            async with acme.write() as transaction:
                await attempt(transaction)
    assert await Authenticator(acme.database).password_of("acme", "") is None


async def test_it_makes_itself_no_tokens(acme: Access) -> None:
    found = await robot(acme)
    with pytest.raises(Forbidden):
        await issued(found)


async def test_it_is_no_administrator_that_a_tenant_could_be_left_with(acme: Access) -> None:
    await account(acme, role=Role.ADMIN)
    with pytest.raises(Conflict):
        async with acme.write() as transaction:
            await users.delete(transaction, acme.principal, users.DeleteUser(acme.principal.user_id))


async def test_a_deleted_one_is_nobody(acme: Access) -> None:
    found = await robot(acme)
    async with acme.write() as transaction:
        await service_accounts.delete(transaction, acme.principal, found.principal.user_id, None)
    with pytest.raises(Unauthenticated):
        await access(acme.database, found.token)
    await account(acme)


@pytest.mark.parametrize(
    ("given", "kind", "path"),
    [
        ({"name": " "}, Required, ("name",)),
        ({"name": "x" * 201}, Invalid, ("name",)),
        ({"name": "taken"}, Conflict, ("name",)),
        ({"role": None}, Required, ("role",)),
        ({"custom_role_id": 1}, Invalid, ("customRoleId",)),
        ({"role": None, "custom_role_id": 99}, NotFound, ("customRoleId",)),
    ],
)
async def test_what_is_none_is_refused(
    acme: Access, given: dict[str, Any], kind: type[DomainError], path: tuple[str, ...]
) -> None:
    await account(acme, "taken")
    with pytest.raises(kind) as refused:
        await account(acme, **given)
    assert refused.value.path == path


async def test_a_name_that_is_taken_is_not_given_beside_another_role(acme: Access) -> None:
    await account(acme, "taken")
    async with acme.write() as transaction:
        own = await roles.create(transaction, acme.principal, roles.CreateRole("readers", [READ]))
    made = await account(acme)
    with pytest.raises(Conflict) as refused:
        await change(acme, made.id, name="taken", custom_role_id=own.id)
    assert refused.value.path == ("name",)
    changed = await change(acme, made.id, name="reader", custom_role_id=own.id)
    assert (changed.display_name, changed.role, changed.custom_role_id) == ("reader", Role.VIEWER, own.id)


async def test_only_administrators_make_them_and_only_their_own_tenants(acme: Access, rival: Access) -> None:
    theirs = await account(rival)
    with pytest.raises(Forbidden):
        await account(await member(acme, Role.OPERATOR))
    with pytest.raises(NotFound):
        await change(acme, theirs.id, name="x")
    with pytest.raises(NotFound):
        await issued(acme, theirs.id)


async def test_a_token_is_replaced_and_the_old_one_works_on_for_a_while(acme: Access) -> None:
    found = await robot(acme)
    new = await rotate(found, found.principal.token_id, timedelta(minutes=5))
    both = [await access(acme.database, text) for text in (found.token, new.text)]
    assert both[0].principal.permissions == both[1].principal.permissions
    assert both[0].principal.expires_at <= clock.utc_now() + timedelta(minutes=5)
    assert timedelta(days=89) < both[1].principal.expires_at - clock.utc_now() <= timedelta(days=90)
    # What is open with the old one goes on until then.
    assert await Authenticator(acme.database).still_good([found.principal]) == {found.principal}
    await rotate(acme, both[0].principal.token_id)
    with pytest.raises(Unauthenticated):
        await access(acme.database, found.token)
    assert await Authenticator(acme.database).still_good([found.principal]) == set()


async def test_a_token_that_is_of_no_use_is_not_replaced(acme: Access) -> None:
    found = await robot(acme)
    async with acme.write() as transaction:
        await tokens.revoke(transaction, acme.principal, tokens.RevokeToken(found.principal.token_id))
    with pytest.raises(IllegalState) as refused:
        await rotate(acme, found.principal.token_id)
    assert refused.value.path == ("id",)
    with pytest.raises(Invalid):
        await rotate(acme, found.principal.token_id, timedelta(days=8))


async def test_nobody_gets_at_more_by_replacing_a_token(acme: Access) -> None:
    lesser = await member(acme, Role.ADMIN, scopes=[READ, ADMIN])
    boss = acme.principal.token_id
    own = (await issued(acme, lesser.principal.user_id)).row
    for number in (boss, own.id):
        with pytest.raises(Forbidden) as refused:
            await rotate(lesser, number)
        assert refused.value.path == ("id",)
    viewer = await member(acme, Role.VIEWER)
    with pytest.raises(NotFound):
        await rotate(viewer, boss)


async def test_a_replaced_token_keeps_its_role(acme: Access) -> None:
    async with acme.write() as transaction:
        own = await roles.create(transaction, acme.principal, roles.CreateRole("readers", [READ]))
    made = await account(acme)
    old = await issued(acme, made.id, custom_role_id=own.id)
    new = await rotate(acme, old.row.id)
    assert new.row.custom_role_id == own.id
    assert (await access(acme.database, new.text)).principal.permissions == {READ}


async def test_sessions_and_invitations_are_not_replaced(acme: Access) -> None:
    async with acme.write() as transaction:
        invited = await sessions.invite(transaction, acme.principal, acme.principal.user_id)
    assert invited.row.kind is TokenKind.INVITATION
    with pytest.raises(NotFound):
        await rotate(acme, invited.row.id)
