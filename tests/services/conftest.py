"""Two tenants on a database of the test's own, and what services are given."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.db.sealing import Sealer
from app.db.uow import Database
from app.providers.registry import Registry
from app.services.dependencies import Dependencies
from tests.factories.tenants import Access, tenant


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The pool of a process."""
    database = Database.connect(database_url, name="windlass-tests", pool_size=4)
    yield database
    await database.close()


@pytest.fixture
async def acme(database: Database) -> Access:
    """A tenant, as its administrator."""
    return await tenant(database, "acme")


@pytest.fixture
async def rival(database: Database) -> Access:
    """Another tenant, as its administrator."""
    return await tenant(database, "rival")


@pytest.fixture
def dependencies() -> Dependencies:
    """The built-in providers, and a key."""
    return Dependencies(Registry.default(), Sealer(bytes(range(32))))
