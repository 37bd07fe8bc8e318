"""A session with one PostgreSQL server: a small pool on the database to work from, and single connections to others."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from app.providers.base import ErrorKind, ProviderError
from app.providers.postgres.address import Address
from app.providers.postgres.failures import DRIVER_ERRORS, connecting, speaking

IDENTIFIER_BYTES = 63
CONNECT_SECONDS = 10.0
# A statement that waits longer for a lock gives up as CONFLICT, and is tried again later.
SETTINGS = {"application_name": "windlass", "lock_timeout": "30s"}


def identifier(name: str) -> str:
    """The name quoted for SQL. Refuses what PostgreSQL would cut off silently."""
    if not name or "\0" in name or len(name.encode()) > IDENTIFIER_BYTES:
        message = f"{name!r} is not a name of 1 to {IDENTIFIER_BYTES} bytes"
        raise ProviderError(ErrorKind.INVALID, message)
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """The text quoted for SQL where no parameter can stand."""
    if "\0" in text:
        message = "a text for PostgreSQL may not contain the character NUL"
        raise ProviderError(ErrorKind.INVALID, message)
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"


def digest(text: str) -> str:
    """Sixteen hex digits that stand for the text in a name."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Server:
    """One server under one account. Belongs to one event loop; used by several operations at a time."""

    def __init__(self, address: Address, *, pool_size: int = 4) -> None:
        self.address = address
        self._pool_size = pool_size
        self._opening = asyncio.Lock()
        self._pool: asyncpg.Pool | None = None
        self._facts: tuple[int, str] | None = None

    async def close(self) -> None:
        """Ends every connection of the pool, at once."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    @asynccontextmanager
    async def reading(self, database: str | None = None) -> AsyncIterator[Any]:
        """A connection that will only ask."""
        async with self._connection(database) as connection, speaking(writes=False):
            yield connection

    @asynccontextmanager
    async def writing(self, database: str | None = None) -> AsyncIterator[Any]:
        """A connection that may change something."""
        async with self._connection(database) as connection, speaking(writes=True):
            yield connection

    async def major_version(self) -> int:
        """The server's major version, for example 18."""
        return (await self._known())[0]

    async def system_identifier(self) -> str:
        """What tells this cluster from every other one."""
        return (await self._known())[1]

    async def _known(self) -> tuple[int, str]:
        if self._facts is None:
            async with self.reading() as connection:
                identity = await connection.fetchval("SELECT system_identifier::text FROM pg_control_system()")
                self._facts = (connection.get_server_version().major, identity)
        return self._facts

    @asynccontextmanager
    async def _connection(self, database: str | None) -> AsyncIterator[Any]:
        if database is None:
            async with connecting():
                pool = await self._opened_pool()
                connection = await pool.acquire(timeout=CONNECT_SECONDS)
            try:
                yield connection
            finally:
                await self._give_back(pool, connection)
        else:
            async with connecting():
                connection = await asyncpg.connect(**self._arguments(database))
            try:
                yield connection
            finally:
                await _part(connection)

    async def _opened_pool(self) -> Any:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    **self._arguments(None), min_size=0, max_size=self._pool_size, max_inactive_connection_lifetime=60
                )
            return self._pool

    async def _give_back(self, pool: Any, connection: Any) -> None:
        """Returns a connection. One that cannot be reset is cut: the operation's own outcome must stay the news."""
        try:
            await pool.release(connection, timeout=CONNECT_SECONDS)
        except (asyncpg.PostgresError, *DRIVER_ERRORS):
            connection.terminate()

    def _arguments(self, database: str | None) -> dict[str, Any]:
        return {
            "dsn": self.address.url(database),
            "password": self.address.password,
            "timeout": CONNECT_SECONDS,
            # Poolers between us and the server may give every transaction another backend.
            "statement_cache_size": 0,
            "server_settings": SETTINGS,
        }


async def _part(connection: Any) -> None:
    try:
        await connection.close(timeout=CONNECT_SECONDS)
    except (asyncpg.PostgresError, *DRIVER_ERRORS):
        connection.terminate()
