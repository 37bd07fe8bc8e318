from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.db.uow import Database


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The pool of a process."""
    database = Database.connect(database_url, name="windlass-tests", pool_size=2)
    yield database
    await database.close()
