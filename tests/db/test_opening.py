"""Whoever waits for a connection may leave, and nobody complains."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from app.db.opening import Opener
from app.db.statements import Statement
from app.db.uow import Database, SystemRole
from tests.factories.tenants import tenant

_ONE = Statement("SELECT 1 AS one")


async def _answers(database: Database, tenant_id: int) -> None:
    await database.answer(tenant_id, "SELECT 'x'", [])


async def _looks(database: Database, tenant_id: int) -> None:
    await database.look(tenant_id, _ONE, {})


async def _reads(database: Database, tenant_id: int) -> None:
    async with database.read(tenant_id):
        pass


async def _acts(database: Database, tenant_id: int) -> None:
    del tenant_id
    async with database.system(SystemRole.TICK):
        pass


@pytest.mark.parametrize("ask", [_answers, _looks, _reads, _acts])
async def test_whoever_leaves_while_a_connection_is_opened_harms_nobody(
    database: Database,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[Database, int], Awaitable[None]],
) -> None:
    acme = await tenant(database)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    begun, opened = asyncio.Event(), list[asyncpg.Connection]()
    real = asyncpg.connect

    async def slowly(*where: Any, **settings: Any) -> asyncpg.Connection:
        begun.set()
        opened.append(await real(*where, **settings))
        return opened[-1]

    monkeypatch.setattr(asyncpg, "connect", slowly)
    subject = Database.connect(database_url, name="test", pool_size=1)
    for turns in range(12):
        begun.clear()
        asking, beginning = asyncio.ensure_future(ask(subject, acme.tenant_id)), asyncio.ensure_future(begun.wait())
        done, _ = await asyncio.wait({asking, beginning}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        assert done
        beginning.cancel()
        # At another place of the attempt each time.
        await asyncio.sleep(turns / 2000)
        asking.cancel()
        if (await asyncio.gather(asking, return_exceptions=True))[0] is None:
            # There is a connection now: one was opened in time.
            break
    await asyncio.wait_for(ask(subject, acme.tenant_id), 20)
    await subject.close()
    assert len(opened) > 1
    assert all(connection.is_closed() for connection in opened)
    assert complaints == []


async def test_an_attempt_that_fails_after_everybody_left_is_nobodys() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    opener = Opener()
    asking = asyncio.ensure_future(opener.connect("postgresql://127.0.0.1:1/x", timeout=5))
    await asyncio.sleep(0)
    asking.cancel()
    await opener.close()
    assert (await asyncio.gather(asking, return_exceptions=True))[0].__class__ is asyncio.CancelledError
    assert complaints == []
