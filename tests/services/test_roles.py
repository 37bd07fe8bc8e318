"""Roles that a tenant names: who may define and give them, and that nobody gets more than whoever gave it had."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import pytest

from app.auth.authenticator import Authenticator
from app.db.models import CustomRole, User
from app.db.uow import Transaction
from app.domain.enums import Permission, Role
from app.domain.errors import Conflict, DomainError, Forbidden, Invalid, NotFound, Required, StaleVersion
from app.services import roles, sessions, tokens, users
from app.services.roles import CreateRole, UpdateRole
from app.services.tokens import IssueToken
from app.services.users import CreateUser, UpdateUser
from tests.factories.databases import run
from tests.factories.tenants import Access, access, member, user

READ, WRITE, APPROVE, ADMIN = Permission.READ, Permission.WRITE, Permission.APPROVE, Permission.ADMIN


async def role(by: Access, name: str = "own", permissions: Collection[Permission] = (READ, WRITE)) -> CustomRole:
    async with by.write() as transaction:
        return await roles.create(transaction, by.principal, CreateRole(name, permissions))


async def change(by: Access, number: int, **given: Any) -> CustomRole:
    async with by.write() as transaction:
        return await roles.update(transaction, by.principal, UpdateRole(number, **given))


async def remove(by: Access, number: int) -> CustomRole:
    async with by.write() as transaction:
        return await roles.delete(transaction, by.principal, number, None)


async def person(by: Access, name: str, number: int) -> User:
    async with by.write() as transaction:
        command = CreateUser(f"{name}@acme.example", name, custom_role_id=number)
        return await users.create(transaction, by.principal, command)


async def token_of(by: Access, owner: User, **given: Any) -> Access:
    async with by.write() as transaction:
        issued = await tokens.issue(transaction, by.principal, IssueToken("t", user_id=owner.id, **given))
    return await access(by.database, issued.text)


async def narrow(admin: Access, *permissions: Permission) -> Access:
    """Somebody whose custom role is these."""
    own = await role(admin, "narrow", permissions)
    return await token_of(admin, await person(admin, "narrow", own.id))


async def refusal(by: Access, attempt: Callable[[Transaction], Awaitable[Any]]) -> tuple[str, ...]:
    """Where what somebody tried is forbidden."""
    with pytest.raises(Forbidden) as refused:
        async with by.write() as transaction:
            await attempt(transaction)
    return refused.value.path


async def test_whoever_has_a_role_may_what_it_says_and_nothing_else(acme: Access) -> None:
    somebody = await narrow(acme, READ, APPROVE)
    assert somebody.principal.permissions == {READ, APPROVE}
    # To whatever knows only the four, they are the least.
    assert somebody.principal.role is Role.VIEWER


async def test_a_changed_role_holds_at_once_for_users_and_tokens(acme: Access) -> None:
    own = await role(acme)
    ann = await person(acme, "ann", own.id)
    everything = await token_of(acme, ann, scopes=[READ, WRITE])
    narrowed = await token_of(acme, await user(acme, Role.OPERATOR), custom_role_id=own.id)
    assert everything.principal.permissions == narrowed.principal.permissions == {READ, WRITE}
    await change(acme, own.id, permissions=[READ])
    both = [everything.principal, narrowed.principal]
    assert await Authenticator(acme.database).still_good(both) == set()
    assert [(await access(acme.database, one.token)).principal.permissions for one in (everything, narrowed)] == [
        {READ},
        {READ},
    ]


async def test_a_name_alone_ends_nothing(acme: Access) -> None:
    somebody = await narrow(acme, READ)
    own = await role(acme, "other")
    await change(acme, own.id, name="another", description="x")
    assert await Authenticator(acme.database).still_good([somebody.principal]) == {somebody.principal}


async def test_a_token_with_a_role_never_does_more_than_its_owner(acme: Access) -> None:
    own = await role(acme, permissions=[READ, WRITE, ADMIN])
    narrowed = await token_of(acme, await user(acme, Role.VIEWER), custom_role_id=own.id)
    assert narrowed.principal.permissions == {READ}


async def test_nobody_gets_more_through_a_role_than_they_have(acme: Access) -> None:
    wide, reading = await role(acme, "wide", list(Permission)), await role(acme, "reading", [READ])
    other = await user(acme, Role.VIEWER)
    boss = acme.principal.user_id
    somebody = await narrow(acme, READ, ADMIN)
    principal = somebody.principal

    attempts: list[Callable[[Transaction], Awaitable[Any]]] = [
        lambda transaction: roles.create(transaction, principal, CreateRole("x", [READ, WRITE])),
        lambda transaction: roles.update(transaction, principal, UpdateRole(reading.id, permissions=[READ, WRITE])),
        lambda transaction: users.create(transaction, principal, CreateUser("x@x.example", "x", Role.ADMIN)),
        lambda transaction: users.create(
            transaction, principal, CreateUser("x@x.example", "x", custom_role_id=wide.id)
        ),
        lambda transaction: users.update(transaction, principal, UpdateUser(other.id, role=Role.APPROVER)),
        lambda transaction: users.update(transaction, principal, UpdateUser(other.id, custom_role_id=wide.id)),
        lambda transaction: users.update(transaction, principal, UpdateUser(principal.user_id, role=Role.ADMIN)),
        lambda transaction: tokens.issue(transaction, principal, IssueToken("t", user_id=boss, scopes=[READ, WRITE])),
        lambda transaction: tokens.issue(transaction, principal, IssueToken("t", custom_role_id=wide.id)),
        # Whoever has the invitation of somebody sets their password, and is them.
        lambda transaction: sessions.invite(transaction, principal, boss),
    ]
    assert [await refusal(somebody, attempt) for attempt in attempts] == [
        ("permissions",), ("permissions",), ("role",), ("customRoleId",), ("role",), ("customRoleId",), ("role",),
        ("scopes",), ("customRoleId",), ("userId",),
    ]  # fmt: skip
    # What they have they may pass on, and take away.
    assert (await role(somebody, "theirs", [READ, ADMIN])).permissions == ["READ", "ADMIN"]
    assert (await change(somebody, wide.id, permissions=[READ, APPROVE])).permissions == ["READ", "APPROVE"]


async def test_a_tenant_keeps_somebody_with_the_built_in_role_of_administrators(acme: Access) -> None:
    own = await role(acme, permissions=list(Permission))
    await person(acme, "deputy", own.id)
    command = UpdateUser(acme.principal.user_id, custom_role_id=own.id)
    with pytest.raises(Conflict) as refused:
        async with acme.write() as transaction:
            await users.update(transaction, acme.principal, command)
    assert refused.value.path == ("customRoleId",)


async def test_a_role_that_somebody_has_is_not_deleted(acme: Access) -> None:
    by_user, by_token = await role(acme, "a"), await role(acme, "b")
    ann = await person(acme, "ann", by_user.id)
    issued = await token_of(acme, ann, custom_role_id=by_token.id)
    for used in (by_user, by_token):
        with pytest.raises(Conflict) as refused:
            await remove(acme, used.id)
        assert refused.value.path == ("id",)
    async with acme.write() as transaction:
        await tokens.revoke(transaction, acme.principal, tokens.RevokeToken(issued.principal.token_id))
        await users.update(transaction, acme.principal, UpdateUser(ann.id, role=Role.VIEWER))
    for unused in (by_user, by_token):
        await remove(acme, unused.id)
    with pytest.raises(NotFound):
        await person(acme, "bob", by_user.id)
    # Its name is free again.
    await role(acme, "a")


async def test_a_role_is_not_given_while_it_is_deleted(acme: Access) -> None:
    own = await role(acme)
    found = await asyncio.gather(person(acme, "ann", own.id), remove(acme, own.id), return_exceptions=True)
    refusals = [type(one) for one in found if isinstance(one, BaseException)]
    assert refusals in ([Conflict], [NotFound]), found


async def test_a_role_that_is_no_more_gives_nothing(acme: Access, database_url: str) -> None:
    somebody = await narrow(acme, READ)
    await run(database_url, "UPDATE custom_role SET is_deleted = true")
    assert (await access(acme.database, somebody.token)).principal.permissions == frozenset()


@pytest.mark.parametrize(
    ("name", "permissions", "kind", "path"),
    [
        (" ", [READ], Required, ("name",)),
        ("x" * 121, [READ], Invalid, ("name",)),
        ("Admin", [READ], Conflict, ("name",)),
        ("taken", [READ], Conflict, ("name",)),
        ("empty", [], Required, ("permissions",)),
    ],
)
async def test_what_is_no_role_is_refused(
    acme: Access, name: str, permissions: list[Permission], kind: type[DomainError], path: tuple[str, ...]
) -> None:
    await role(acme, "taken")
    with pytest.raises(kind) as refused:
        await role(acme, name, permissions)
    assert (type(refused.value), refused.value.path) == (kind, path)


async def test_either_kind_of_role_is_needed_and_not_both(acme: Access) -> None:
    own = await role(acme)
    for command, path in (
        (CreateUser("a@a.example", "a"), ("role",)),
        (CreateUser("a@a.example", "a", Role.VIEWER, own.id), ("customRoleId",)),
    ):
        with pytest.raises(Invalid) as refused:
            async with acme.write() as transaction:
                await users.create(transaction, acme.principal, command)
        assert refused.value.path == path


async def test_somebody_with_a_custom_role_may_have_a_built_in_one_again(acme: Access) -> None:
    somebody = await narrow(acme, READ)
    async with acme.write() as transaction:
        await users.update(transaction, acme.principal, UpdateUser(somebody.principal.user_id, role=Role.ADMIN))
    now = (await access(acme.database, somebody.token)).principal
    # The token was made when they might only read.
    assert now.role is Role.ADMIN
    assert now.permissions == {READ}


async def test_only_administrators_define_roles_and_only_their_own_tenants(acme: Access, rival: Access) -> None:
    operator = await member(acme, Role.OPERATOR)
    with pytest.raises(Forbidden):
        await role(operator)
    theirs = await role(rival)
    for attempt in (change(acme, theirs.id, name="x"), remove(acme, theirs.id), person(acme, "ann", theirs.id)):
        with pytest.raises(NotFound):
            await attempt


async def test_nobody_overwrites_what_they_have_not_seen(acme: Access) -> None:
    own = await role(acme)
    await change(acme, own.id, expected_version=own.version, name="new")
    with pytest.raises(StaleVersion):
        await change(acme, own.id, expected_version=own.version, name="newer")
