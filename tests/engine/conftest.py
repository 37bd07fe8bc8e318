from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import asyncpg
import pytest

from app.providers.faults import Fault
from tests.engine.harness import Workshop

Open = Callable[..., Awaitable[Workshop]]


@pytest.fixture
async def open_workshop(database_url: str, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the engine on a database of its own, with planned accidents if any are given."""
    connection = await asyncpg.connect(database_url)
    try:
        tenant = await connection.fetchval("INSERT INTO tenant (name, slug) VALUES ('Acme', 'acme') RETURNING id")
        user = await connection.fetchval(
            "INSERT INTO app_user (tenant_id, email, display_name, role) VALUES ($1, 'a@acme.test', 'A', 'ADMIN')"
            " RETURNING id",
            tenant,
        )
    finally:
        await connection.close()
    opened: list[Workshop] = []

    async def open_it(accidents: Mapping[str, Sequence[Fault | None]] | None = None) -> Workshop:
        workshop = await Workshop.open(database_url, tenant, user, tmp_path, accidents)
        opened.append(workshop)
        return workshop

    yield open_it
    for workshop in opened:
        await workshop.close()


@pytest.fixture
async def workshop(open_workshop: Open) -> Workshop:
    return await open_workshop()
