"""A pool as the processes have it, and one that row-level security does not bind."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.db.uow import Database


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Connections that begin as windlass_app."""
    database = Database.connect(database_url, name="windlass-tests", pool_size=2)
    yield database
    await database.close()


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Connections as the login role of the tests, a superuser."""
    engine = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://", 1), poolclass=NullPool)
    yield engine
    await engine.dispose()
