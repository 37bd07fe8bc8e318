from __future__ import annotations

import asyncio

import pytest

from app.auth.authenticator import Authenticator
from app.db.uow import Database
from app.domain.enums import Role
from app.domain.errors import Conflict, Required, Several
from app.services.seeding import create_tenant, seed_demo
from app.settings import Settings
from tests.factories.databases import fetch, run


def _settings(database_url: str) -> Settings:
    return Settings.from_environment({"WINDLASS_DATABASE_URL": database_url})


async def _counts(database_url: str) -> tuple[int, int, int]:
    rows = await fetch(
        database_url,
        "SELECT (SELECT count(*) FROM tenant), (SELECT count(*) FROM app_user), (SELECT count(*) FROM api_token)",
    )
    tenants, users, tokens = rows[0]
    return tenants, users, tokens


async def test_a_demo_tenant_is_made_once_and_a_token_that_works_is_kept(database_url: str, database: Database) -> None:
    settings = _settings(database_url)
    first = await seed_demo(settings)
    principal = await Authenticator(database).authenticate(first.token)
    assert (first.tenant_slug, principal.tenant_slug, principal.role) == ("demo", "demo", Role.ADMIN)
    assert first.token not in repr(first)
    assert await seed_demo(settings, first.token) == first
    assert await _counts(database_url) == (1, 1, 1)


async def test_a_token_that_works_no_more_is_replaced(database_url: str, database: Database) -> None:
    settings = _settings(database_url)
    first = await seed_demo(settings)
    await run(database_url, "UPDATE api_token SET revoked_at = now()")
    second = await seed_demo(settings, first.token)
    assert second.token != first.token
    assert (await Authenticator(database).authenticate(second.token)).tenant_slug == "demo"
    assert await _counts(database_url) == (1, 1, 2)


async def test_another_tenants_token_is_not_the_demos(database_url: str, database: Database) -> None:
    _, token = await create_tenant(database, "Acme", "acme", "admin@acme.example")
    assert (await seed_demo(_settings(database_url), token)).token != token


async def test_seeding_at_the_same_time_makes_one_tenant(database_url: str) -> None:
    await asyncio.gather(*(seed_demo(_settings(database_url)) for _ in range(3)))
    assert await _counts(database_url) == (1, 1, 3)


async def test_seeding_needs_a_database() -> None:
    with pytest.raises(Required):
        await seed_demo(Settings.from_environment({}))


async def test_a_slug_is_taken_once(database: Database, database_url: str) -> None:
    await create_tenant(database, "Acme", "acme", "admin@acme.example")
    with pytest.raises(Conflict) as refused:
        await create_tenant(database, "Acme", "acme", "admin@acme.example")
    assert refused.value.path == ("slug",)
    assert await _counts(database_url) == (1, 1, 1)


async def test_a_tenant_needs_sensible_names(database: Database) -> None:
    with pytest.raises(Several) as refused:
        await create_tenant(database, "", "-Acme-", "nobody")
    assert [error.path for error in refused.value.errors] == [("name",), ("slug",), ("email",)]
