"""Connections of the machinery, as the driver has them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from app.db.away import DATABASE_AWAY

# A process that is held still in the middle of a transaction keeps its locks, and the tick's, for this long.
IDLE_TIMEOUT = "5s"
CONNECT_SECONDS = 10
COMMAND_SECONDS = 30
# What the driver's pool is told beside what each of its connections is.
OF_A_POOL = frozenset({"min_size", "max_size", "max_inactive_connection_lifetime", "init", "command_timeout"})


class MachineConnection(asyncpg.Connection):  # type: ignore[misc]  # the driver is untyped
    """A connection that is given back without being asked to forget.

    What it was told is for one transaction, or is the tenant of its last statement without one; whoever has it next
    says whose it is before anything else.
    """

    _tenant_id: int | None = None

    def get_reset_query(self) -> str:
        return ""

    async def enter(self, tenant_id: int) -> None:
        """Be of this tenant until another is named; a transaction may still be another's."""
        if self._tenant_id != tenant_id:
            await self.execute(f"SELECT set_config('app.tenant_id', '{int(tenant_id)}', false)")
            self._tenant_id = tenant_id


async def prepare(connection: asyncpg.Connection) -> None:
    """JSON goes in as text and comes out as values, as on the session's connections."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + value.encode(),
        decoder=lambda value: orjson.loads(value[1:]),
    )


def connection_settings(url: str, server_settings: Mapping[str, str], pool_size: int) -> dict[str, Any]:
    """What the driver is told of a pool of the machinery, and of each of its connections."""
    return {
        "dsn": url,
        "min_size": 1,
        "max_size": pool_size,
        "max_inactive_connection_lifetime": 0,
        "server_settings": dict(server_settings),
        "timeout": CONNECT_SECONDS,
        "command_timeout": COMMAND_SECONDS,
        "connection_class": MachineConnection,
        # A statement that was prepared stays so: the longest are those of queries, and bounded by their cache.
        "max_cacheable_statement_size": 0,
        "max_cached_statement_lifetime": 0,
        "init": prepare,
    }


@dataclass(slots=True)
class Machine:
    """The connection of one transaction of `app.db.uow`, from its first statement on, and how far it is."""

    pool: Callable[[], Awaitable[asyncpg.Pool]]
    connection: Any = None
    has_begun: bool = False
    # A statement was run by itself, and nothing may follow.
    is_over: bool = False

    async def begin(self, tenant_id: int) -> Any:
        """The connection, in a transaction of the tenant."""
        if self.is_over:
            message = "a statement after the last one would be a transaction of its own"
            raise RuntimeError(message)
        await self._acquire()
        # Only numbers and constants of ours: the protocol that takes several statements has no parameters.
        await self.connection.execute(
            f"BEGIN; SELECT set_config('app.tenant_id', '{int(tenant_id)}', true),"
            f" set_config('idle_in_transaction_session_timeout', '{IDLE_TIMEOUT}', true)"
        )
        self.has_begun = True
        return self.connection

    async def alone(self, tenant_id: int) -> Any:
        """The connection, for one statement that is a transaction by itself."""
        await self._acquire()
        await self.connection.enter(tenant_id)
        return self.connection

    async def commit(self) -> None:
        """Make true what was done, if anything was."""
        if self.has_begun:
            await self.connection.execute("COMMIT")
            self.has_begun = False

    async def give_back(self) -> None:
        """Give the connection back; what was not committed is undone."""
        if self.connection is None:
            return
        try:
            # Where this cannot be sent any more, the pool ends the transaction or the connection.
            if self.has_begun:
                with suppress(*DATABASE_AWAY):
                    await self.connection.execute("ROLLBACK")
        finally:
            await (await self.pool()).release(self.connection)

    async def _acquire(self) -> None:
        if self.connection is None:
            self.connection = await (await self.pool()).acquire()
