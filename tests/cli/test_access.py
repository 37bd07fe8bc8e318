"""`windlass access` as it is typed, on a real database."""

from __future__ import annotations

import asyncio

import pytest

from app.auth.authenticator import Authenticator, Unauthenticated
from app.cli import app
from app.db.uow import Database
from app.domain.enums import Role
from app.services.seeding import create_tenant


async def windlass(*words: str) -> int:
    return int(await asyncio.to_thread(app, ["access", *words], result_action="return_value") or 0)


async def test_an_access_is_opened_listed_and_closed(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WINDLASS_DATABASE_URL", database_url)
    monkeypatch.setenv("WINDLASS_PLATFORM_ACCESS_MINUTES", "60")
    database = Database.connect(database_url, name="windlass-tests", pool_size=1)
    await create_tenant(database, "Acme", "acme", "admin@acme.example")
    opening = ("open", "--tenant", "acme", "--reason", "ticket \x1b[2J4711", "--role", "operator", "--minutes")
    assert await windlass(*opening, "30") == 2
    assert "WINDLASS_PLATFORM_KEY is not set" in capsys.readouterr().err
    assert await windlass("admit", "ann@platform.example") == 0
    monkeypatch.setenv("WINDLASS_PLATFORM_KEY", capsys.readouterr().out.strip())
    assert await windlass(*opening, "61") == 1
    assert capsys.readouterr().err == "error: an access lasts from 1 to 60 minutes\n"
    assert await windlass(*opening, "60") == 0
    token = capsys.readouterr().out.strip()
    principal = await Authenticator(database).authenticate(token)
    assert (principal.tenant_slug, principal.role) == ("acme", Role.OPERATOR)
    assert await windlass("list", "--tenant", "acme") == 0
    number, *shown, why = capsys.readouterr().out.strip().split("\t")
    assert (shown[:3], why) == (["acme", "ann@platform.example", "OPERATOR"], r"ticket \u001b[2J4711")
    assert await windlass("close", number) == 0
    with pytest.raises(Unauthenticated):
        await Authenticator(database).authenticate(token)
    assert await windlass("dismiss", "ann@platform.example") == 0
    capsys.readouterr()
    assert await windlass("list") == 1
    assert "error: The credentials are missing" in capsys.readouterr().err
    await database.close()


async def test_a_tenant_is_made_with_its_administrator(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WINDLASS_DATABASE_URL", database_url)
    making = ["tenant", "create", "acme", "--admin", "ann@acme.example"]

    async def make() -> int:
        return int(await asyncio.to_thread(app, making, result_action="return_value") or 0)

    assert await make() == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("tenant acme is number ")
    database = Database.connect(database_url, name="windlass-tests", pool_size=1)
    principal = await Authenticator(database).authenticate(shown.out.strip())
    assert (principal.tenant_slug, principal.role) == ("acme", Role.ADMIN)
    await database.close()
    assert await make() == 1
    assert capsys.readouterr().err == "error: there already is a tenant 'acme'\n"
