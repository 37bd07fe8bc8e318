from __future__ import annotations

from typing import Any

import pytest

from app.db.models import ProviderConnection
from app.db.places import connection_place
from app.db.sealing import SealBroken, masked
from app.domain.enums import Role
from app.domain.errors import (
    Conflict,
    DomainError,
    Forbidden,
    Invalid,
    NotFound,
    Several,
    StaleVersion,
    TypeMismatch,
    UnknownReference,
)
from app.domain.statuses import ResourceStatus
from app.domain.values import reveal
from app.services import connections
from app.services.connections import CreateConnection, DeleteConnection, UpdateConnection
from app.services.dependencies import Dependencies
from tests.factories import records
from tests.factories.databases import fetch
from tests.factories.tenants import Access, member

PASSWORD = "correct horse battery staple"
CONFIG = {"url": "postgresql://admin@db.example/app", "password": PASSWORD}


class Verbs:
    """The verbs as somebody in a tenant."""

    def __init__(self, access: Access, dependencies: Dependencies) -> None:
        self.access = access
        self.dependencies = dependencies

    async def create(self, name: str = "main", config: Any = CONFIG, **rest: Any) -> ProviderConnection:
        command = CreateConnection(name, rest.pop("provider", "postgres"), config, **rest)
        async with self.access.write() as transaction:
            return await connections.create(transaction, self.access.principal, command, self.dependencies)

    async def update(self, connection_id: int, expected_version: int | None = None, **rest: Any) -> ProviderConnection:
        command = UpdateConnection(connection_id, expected_version, **rest)
        async with self.access.write() as transaction:
            return await connections.update(transaction, self.access.principal, command, self.dependencies)

    async def delete(self, connection_id: int, expected_version: int | None = None) -> ProviderConnection:
        command = DeleteConnection(connection_id, expected_version)
        async with self.access.write() as transaction:
            return await connections.delete(transaction, self.access.principal, command)


@pytest.fixture
def verbs(acme: Access, dependencies: Dependencies) -> Verbs:
    return Verbs(acme, dependencies)


async def test_the_secrets_of_a_connection_are_sealed(verbs: Verbs, rival: Access, database_url: str) -> None:
    connection = await verbs.create()
    stored = await fetch(database_url, "SELECT provider_connection::text AS all FROM provider_connection")
    assert PASSWORD not in stored[0]["all"]
    place = connection_place("postgres", "main")
    opened = verbs.dependencies.sealer.open(connection.config, verbs.access.tenant_id, place)
    assert reveal(opened)["password"] == PASSWORD
    assert masked(connection.config)["password"] == {"$sensitive": True}
    with pytest.raises(SealBroken):
        verbs.dependencies.sealer.open(connection.config, rival.tenant_id, place)
    copied = await verbs.create("copy")
    for moved in (connection.config, {**copied.config, "user": copied.config["password"]}):
        with pytest.raises(SealBroken, match="in this place"):
            verbs.dependencies.sealer.open(moved, verbs.access.tenant_id, connection_place("postgres", "copy"))


async def test_a_new_configuration_replaces_the_old(verbs: Verbs) -> None:
    connection = await verbs.create()
    changed = await verbs.update(connection.id, 1, config={"url": "postgresql://other@db.example/app"})
    assert (changed.version, changed.name, changed.updated_by) == (2, "main", verbs.access.principal.actor)
    assert "password" not in changed.config
    with pytest.raises(StaleVersion) as refused:
        await verbs.update(connection.id, 1, config=CONFIG)
    assert refused.value.current == 2


@pytest.mark.parametrize(
    ("config", "kind", "path"),
    [
        ({}, Invalid, ("config",)),
        ({"host": "db.example", "user": "admin", "port": "5432"}, TypeMismatch, ("config", "port")),
        ({**CONFIG, "password": 5}, TypeMismatch, ("config", "password")),
        ({**CONFIG, "passwort": "x"}, Invalid, ("config", "passwort")),
    ],
)
async def test_a_configuration_is_checked_by_its_provider(
    verbs: Verbs, config: dict[str, Any], kind: type[DomainError], path: tuple[str, ...]
) -> None:
    with pytest.raises(kind) as refused:
        await verbs.create(config=config)
    assert refused.value.path == path
    assert PASSWORD not in str(refused.value)


async def test_all_faults_are_named_at_once(verbs: Verbs) -> None:
    with pytest.raises(Several) as refused:
        await verbs.create(name="my connection", config={"password": 5})
    assert {error.path for error in refused.value.errors} == {("name",), ("config",), ("config", "password")}


async def test_an_unknown_provider_is_named(verbs: Verbs) -> None:
    with pytest.raises(UnknownReference, match="did you mean 'postgres'") as refused:
        await verbs.create(provider="postgress")
    assert refused.value.path == ("provider",)


async def test_a_name_is_taken_once(verbs: Verbs, rival: Access) -> None:
    first = await verbs.create()
    with pytest.raises(Conflict) as refused:
        await verbs.create()
    assert refused.value.path == ("name",)
    await Verbs(rival, verbs.dependencies).create()
    await verbs.delete(first.id, 1)
    assert (await verbs.create()).id != first.id


async def test_a_provider_has_one_default(verbs: Verbs, rival: Access, database_url: str) -> None:
    async def defaults() -> list[int]:
        rows = await fetch(database_url, "SELECT id FROM provider_connection WHERE is_default ORDER BY id")
        return [row["id"] for row in rows]

    others = await Verbs(rival, verbs.dependencies).create(is_default=True)
    first = await verbs.create("first", is_default=True)
    second = await verbs.create("second", is_default=True)
    assert await defaults() == [others.id, second.id]
    assert (await verbs.update(first.id, 2, is_default=True)).is_default
    assert await defaults() == [others.id, first.id]
    await verbs.update(first.id, is_default=False)
    assert await defaults() == [others.id]


async def test_a_connection_in_use_stays(verbs: Verbs) -> None:
    named = await verbs.create("named")
    default = await verbs.create("default", is_default=True)
    through = [
        await records.resource(verbs.access, "through-name", provider="postgres", connection="named"),
        await records.resource(verbs.access, "through-default", provider="postgres"),
    ]
    await records.resource(verbs.access, "elsewhere", connection="spare")
    spare = await verbs.create("spare")
    for connection, resource in zip((named, default), through, strict=True):
        with pytest.raises(Conflict, match=resource.resource_key) as refused:
            await verbs.delete(connection.id)
        assert refused.value.path == ("id",)
    assert (await verbs.delete(spare.id)).is_deleted
    async with verbs.access.write() as transaction:
        transaction.authorize("test")
        for resource in through:
            gone = await transaction.session.merge(resource)
            gone.status = ResourceStatus.DELETED
    assert (await verbs.delete(named.id)).is_deleted
    assert (await verbs.delete(default.id)).is_deleted


async def test_another_tenants_connection_is_not_there(verbs: Verbs, rival: Access) -> None:
    theirs = await Verbs(rival, verbs.dependencies).create()
    refusals = set()
    for connection_id in (theirs.id, 10**12):
        for attempt in (verbs.update(connection_id, config=CONFIG), verbs.delete(connection_id)):
            with pytest.raises(NotFound) as refused:
                await attempt
            refusals.add((refused.value.message, refused.value.path))
    assert refusals == {("there is no such connection", ("id",))}


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.APPROVER])
async def test_only_an_administrator_may(verbs: Verbs, role: Role) -> None:
    connection = await verbs.create()
    somebody = Verbs(await member(verbs.access, role), verbs.dependencies)
    for attempt in (
        somebody.create("mine"),
        somebody.update(connection.id, config=CONFIG),
        somebody.delete(connection.id),
    ):
        with pytest.raises(Forbidden) as refused:
            await attempt
        assert refused.value.required == "ADMIN"
