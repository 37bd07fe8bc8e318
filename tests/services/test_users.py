from __future__ import annotations

import asyncio

import pytest

from app.auth.authenticator import Authenticator, Unauthenticated
from app.db.models import User
from app.domain.enums import Role
from app.domain.errors import Conflict, DomainError, Forbidden, Invalid, NotFound, Required, Several, StaleVersion
from app.services import users
from app.services.users import CreateUser, DeleteUser, UpdateUser
from tests.factories.tenants import Access, member, user


async def _create(access: Access, email: str, name: str = "Ann", role: Role = Role.VIEWER) -> User:
    async with access.write() as transaction:
        return await users.create(transaction, access.principal, CreateUser(email, name, role))


async def _update(access: Access, command: UpdateUser) -> User:
    async with access.write() as transaction:
        return await users.update(transaction, access.principal, command)


async def _delete(access: Access, command: DeleteUser) -> User:
    async with access.write() as transaction:
        return await users.delete(transaction, access.principal, command)


async def test_a_person_is_added(acme: Access) -> None:
    ann = await _create(acme, " Ann@Acme.Example ", " Ann ", Role.OPERATOR)
    assert (ann.email, ann.display_name, ann.role, ann.version) == ("ann@acme.example", "Ann", Role.OPERATOR, 1)
    assert ann.tenant_id == acme.tenant_id
    assert ann.created_by == ann.updated_by == acme.principal.actor


async def test_an_address_is_taken_once_in_a_tenant(acme: Access, rival: Access) -> None:
    ann = await _create(acme, "ann@acme.example")
    with pytest.raises(Conflict) as refused:
        await _create(acme, "ANN@acme.example")
    assert refused.value.path == ("email",)
    await _create(rival, "ann@acme.example")
    await _delete(acme, DeleteUser(ann.id))
    await _create(acme, "ann@acme.example")


@pytest.mark.parametrize(
    ("email", "kind"),
    [
        ("", Required),
        ("ann", Invalid),
        ("ann@", Invalid),
        ("@acme.example", Invalid),
        ("ann@acme", Invalid),
        ("a b@acme.example", Invalid),
        ("a@b@acme.example", Invalid),
        ("a" * 320 + "@acme.example", Invalid),
    ],
)
async def test_what_is_no_address_is_refused(acme: Access, email: str, kind: type[DomainError]) -> None:
    with pytest.raises(kind) as refused:
        await _create(acme, email)
    assert refused.value.path == ("email",)


async def test_all_faults_are_named_at_once(acme: Access) -> None:
    with pytest.raises(Several) as refused:
        await _create(acme, "ann", "")
    assert [(type(error), error.path) for error in refused.value.errors] == [
        (Invalid, ("email",)),
        (Required, ("displayName",)),
    ]


async def test_a_person_is_changed(acme: Access) -> None:
    ann = await _create(acme, "ann@acme.example")
    ann = await _update(acme, UpdateUser(ann.id, 1, display_name="Anna"))
    assert (ann.display_name, ann.role, ann.version) == ("Anna", Role.VIEWER, 2)
    ann = await _update(acme, UpdateUser(ann.id, 2, role=Role.ADMIN))
    assert (ann.display_name, ann.role, ann.version) == ("Anna", Role.ADMIN, 3)
    with pytest.raises(StaleVersion) as refused:
        await _update(acme, UpdateUser(ann.id, 2, role=Role.VIEWER))
    assert refused.value.current == 3
    with pytest.raises(Required) as nameless:
        await _update(acme, UpdateUser(ann.id, display_name=" "))
    assert nameless.value.path == ("displayName",)


async def test_another_tenants_person_is_not_there(acme: Access, rival: Access) -> None:
    ann = await _create(rival, "ann@rival.example")
    refusals = []
    for user_id in (ann.id, 10**12):
        for attempt in (_update(acme, UpdateUser(user_id, display_name="x")), _delete(acme, DeleteUser(user_id))):
            with pytest.raises(NotFound) as refused:
                await attempt
            refusals.append((refused.value.message, refused.value.path))
    assert set(refusals) == {("there is no such user", ("id",))}


async def test_deleting_ends_their_tokens(acme: Access) -> None:
    ann = await member(acme, Role.OPERATOR)
    await _delete(acme, DeleteUser(ann.principal.user_id, 1))
    assert await Authenticator(acme.database).still_good([ann.principal]) == set()
    with pytest.raises(Unauthenticated) as refused:
        await Authenticator(acme.database).authenticate(ann.token)
    assert refused.value.reason == "revoked token"
    with pytest.raises(NotFound):
        await _delete(acme, DeleteUser(ann.principal.user_id))


async def test_an_administrator_always_remains(acme: Access) -> None:
    own = acme.principal.user_id
    with pytest.raises(Conflict) as refused:
        await _delete(acme, DeleteUser(own))
    assert refused.value.path == ("id",)
    with pytest.raises(Conflict) as refused:
        await _update(acme, UpdateUser(own, role=Role.OPERATOR))
    assert refused.value.path == ("role",)
    await user(acme, Role.ADMIN, "second@acme.example")
    assert (await _update(acme, UpdateUser(own, role=Role.OPERATOR))).role is Role.OPERATOR


async def test_two_administrators_cannot_remove_each_other_at_once(acme: Access) -> None:
    second = await member(acme, Role.ADMIN, "second@acme.example")
    outcomes = await asyncio.gather(
        _delete(acme, DeleteUser(second.principal.user_id)),
        _delete(second, DeleteUser(acme.principal.user_id)),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "User"]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.APPROVER])
async def test_only_an_administrator_may(acme: Access, role: Role) -> None:
    somebody = await member(acme, role)
    for attempt in (
        _create(somebody, "x@acme.example"),
        _update(somebody, UpdateUser(somebody.principal.user_id, role=Role.ADMIN)),
        _delete(somebody, DeleteUser(acme.principal.user_id)),
    ):
        with pytest.raises(Forbidden) as refused:
            await attempt
        assert refused.value.required == "ADMIN"
