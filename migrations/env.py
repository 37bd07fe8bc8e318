"""How Alembic reaches the database: as the login role, who owns the tables, one migration run at a time."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.db.models import Base

# Any number, as long as nothing else in this database takes it.
_LOCK = 7_707_700


def run(connection: Connection) -> None:
    """Bring the database to the wanted revision in one transaction: it succeeds or leaves no trace."""
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with context.begin_transaction():
        # Taken before the timeouts are set: whoever starts second waits for the first, however long that takes.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        # Waiting for a lock on a busy table would make everybody else wait behind us.
        connection.execute(text("SELECT set_config('lock_timeout', '5s', true)"))
        # The owner is subject to the policies too: a migration that would silently see no rows fails instead.
        connection.execute(text("SELECT set_config('row_security', 'off', true)"))
        context.run_migrations()


async def connect() -> None:
    """Open the one connection of the run."""
    engine = create_async_engine(context.config.attributes["url"], poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


if context.is_offline_mode():
    MESSAGE = "migrations look at the database they change: there is no offline mode"
    raise RuntimeError(MESSAGE)
asyncio.run(connect())
