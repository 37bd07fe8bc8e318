"""The unit of work: the only place that opens transactions, and the only place that commits.

A transaction belongs to one tenant (row-level security sees `app.tenant_id`) or to one system role. What it did is told
to others only after its commit: `rings` are doorbells and hints, and losing them loses nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import asyncpg
import orjson
from sqlalchemy import text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from app.db.statements import Row, Statement
from app.domain.events import Stream
from app.messages import StepDue

# What comes up when the database cannot be reached, whether SQLAlchemy or the driver was asked.
DATABASE_AWAY = (
    InterfaceError,
    OperationalError,
    PoolTimeout,
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
)
APP_ROLE = "windlass_app"
READ_TIMEOUT = "5s"
WRITE_TIMEOUT = "15s"


class SystemRole(StrEnum):
    """Database roles that act for no tenant. TICK sees the machinery of all tenants, AUTH the credentials."""

    TICK = "windlass_tick"
    AUTH = "windlass_auth"


class NoReceipt(Exception):
    """A write was about to be committed that nobody had authorised: a bug of ours."""


@dataclass(slots=True)
class Rings:
    """What others should look at once the transaction is committed."""

    streams: set[tuple[int, Stream, int]] = field(default_factory=set)
    due: list[StepDue] = field(default_factory=list)


@dataclass(slots=True)
class Transaction:
    """One open transaction. `actor` goes into audit columns and events, `correlation_id` joins one request's events."""

    session: AsyncSession
    tenant_id: int
    actor: str
    correlation_id: str
    # Whether this process rings workers itself after its commits; if not, the tick does.
    rings_workers: bool = False
    rings: Rings = field(default_factory=Rings)
    receipt: str | None = None
    _driver: Any = None

    def authorize(self, receipt: str) -> None:
        """Leave word that somebody checked; `receipt` says what was checked."""
        self.receipt = receipt

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
        """Run a statement of the machinery; all its rows."""
        rows: list[Row] = await (await self._connection()).fetch(statement.sql, *statement.bind(parameters))
        return rows

    async def fetch_one(self, statement: Statement, parameters: Mapping[str, Any]) -> Row | None:
        """Run a statement of the machinery; its first row."""
        row: Row | None = await (await self._connection()).fetchrow(statement.sql, *statement.bind(parameters))
        return row

    async def _connection(self) -> Any:
        if self._driver is None:
            pooled = await (await self.session.connection()).get_raw_connection()
            self._driver = pooled.driver_connection
        return self._driver


AfterCommit = Callable[[Rings], None]


class Database:
    """The connections of one process."""

    def __init__(
        self, engine: AsyncEngine, after_commit: AfterCommit | None = None, *, rings_workers: bool = False
    ) -> None:
        self.engine = engine
        self._after_commit = after_commit
        self._rings_workers = rings_workers

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        name: str,
        pool_size: int = 10,
        after_commit: AfterCommit | None = None,
        rings_workers: bool = False,
    ) -> Database:
        """A pool on `url` (postgresql://…). Connects lazily. `name` shows in pg_stat_activity.

        `after_commit` hears what each committed transaction rings; it must neither block nor raise. With
        `rings_workers` it also takes on the ringing of workers for steps that became due.
        """
        engine = create_async_engine(
            url.replace("postgresql://", "postgresql+asyncpg://", 1),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=10,
            pool_pre_ping=False,
            pool_use_lifo=True,
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
            connect_args={
                "server_settings": {"role": APP_ROLE, "application_name": name, "jit": "off"},
                "timeout": 10,
                "command_timeout": 30,
            },
        )
        return cls(engine, after_commit, rings_workers=rings_workers)

    async def close(self) -> None:
        await self.engine.dispose()

    @asynccontextmanager
    async def write(self, tenant_id: int, *, actor: str, correlation_id: str) -> AsyncIterator[Transaction]:
        """A read-write transaction of one tenant; commits when the block ends well.

        Raises NoReceipt instead of committing when nothing in the block called `Transaction.authorize`.
        """
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            await session.execute(_ENTER, {"tenant": str(tenant_id), "role": APP_ROLE, "timeout": WRITE_TIMEOUT})
            transaction = Transaction(session, tenant_id, actor, correlation_id, self._rings_workers)
            yield transaction
            if transaction.receipt is None:
                message = "a write transaction ended without an authorisation receipt"
                raise NoReceipt(message)
            await session.commit()
        self._tell(transaction.rings)

    @asynccontextmanager
    async def read(self, tenant_id: int) -> AsyncIterator[AsyncSession]:
        """A read-only transaction of one tenant: one snapshot of the truth."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            await session.connection(execution_options={"postgresql_readonly": True})
            await session.execute(_ENTER, {"tenant": str(tenant_id), "role": APP_ROLE, "timeout": READ_TIMEOUT})
            yield session

    @asynccontextmanager
    async def system(self, role: SystemRole) -> AsyncIterator[Transaction]:
        """A transaction for no tenant, under a role that may do little but for all of them."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            await session.execute(_ENTER, {"tenant": "", "role": role.value, "timeout": WRITE_TIMEOUT})
            transaction = Transaction(session, 0, f"system:{role.name.lower()}", role.name.lower())
            transaction.authorize(role.value)
            yield transaction
            await session.commit()
        self._tell(transaction.rings)

    def _tell(self, rings: Rings) -> None:
        if self._after_commit is not None and (rings.streams or rings.due):
            self._after_commit(rings)


_ENTER: Any = text(
    "SELECT set_config('role', :role, true), set_config('app.tenant_id', :tenant, true),"
    " set_config('statement_timeout', :timeout, true)"
)
