"""The unit of work: the only place that opens transactions, and the only place that commits.

A transaction belongs to one tenant (row-level security sees `app.tenant_id`) or to one system role. What it did is told
to others only after its commit: `rings` are doorbells and hints, and losing them loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import asyncpg
import orjson
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from app.db.answering import STATEMENT_TIMEOUT, Answers
from app.db.away import as_away, renew
from app.db.changes import Changes, collect
from app.db.driver import (
    COMMAND_SECONDS,
    CONNECT_SECONDS,
    IDLE_TIMEOUT,
    OF_A_POOL,
    Machine,
    connection_settings,
)
from app.db.gathering import Answer, Ask, Gathering, Together
from app.db.opening import Opener
from app.db.replica import UNANSWERED, Replica
from app.db.statements import Row, Statement
from app.domain.events import Stream
from app.messages import StepDue

APP_ROLE = "windlass_app"
_SETTINGS = {"role": APP_ROLE, "jit": "off"}
READ_TIMEOUT = "5s"
WRITE_TIMEOUT = "15s"
_LOOK_SECONDS = 5.0
# The machinery's statements find rows by keys: planning one again for the length of an array gains nothing.
_MACHINE_SETTINGS = {**_SETTINGS, "plan_cache_mode": "force_generic_plan", "statement_timeout": WRITE_TIMEOUT}
# For how many tenants what was asked together is under way at a time, and how much goes into one statement.
_SENDERS = 4
_TOGETHER = 64


class SystemRole(StrEnum):
    """Database roles that act for no tenant.

    TICK sees the machinery of all tenants, AUTH the credentials; KEYS writes what is sealed, to seal it again.
    """

    TICK = "windlass_tick"
    AUTH = "windlass_auth"
    KEYS = "windlass_keys"


class NoReceipt(Exception):
    """A write was about to be committed that nobody had authorised: a bug of ours."""


@dataclass(slots=True)
class Rings:
    """What others should look at once the transaction is committed."""

    streams: set[tuple[int, Stream, int]] = field(default_factory=set)
    due: list[StepDue] = field(default_factory=list)
    # Whether a queued job may start now that could not before, or a step is due that the scheduler has to ring for.
    freed: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from: the token (0: none of ours) and the address that it was sent from.

    `reason` is why somebody acts in a tenant who is not of it.
    """

    token_id: int = 0
    address: str = ""
    reason: str = ""


@dataclass(slots=True)
class Transaction:
    """One open transaction. `actor` goes into audit columns and events, `correlation_id` joins one request's events."""

    session: AsyncSession
    tenant_id: int
    actor: str
    correlation_id: str
    # So many of the steps that become due this process rings for, and the scheduler for the others; None: it is the
    # scheduler, and picks them.
    own_rings: int | None = None
    rings: Rings = field(default_factory=Rings)
    receipt: str | None = None
    # Of a transaction that somebody's request is behind: for the audit log.
    origin: Origin | None = None
    changes: Changes | None = None
    # Of the machinery: the connection; its transaction begins with the first statement.
    _machine: Machine | None = None
    _database: Database | None = None
    _driver: Any = None

    def authorize(self, receipt: str) -> None:
        """Leave word that somebody checked; `receipt` says what was checked."""
        self.receipt = receipt

    def require_receipt(self) -> None:
        """Raises NoReceipt when nobody has left word."""
        if self.receipt is None:
            message = "a write transaction ended without an authorisation receipt"
            raise NoReceipt(message)

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
        """Run a statement of the machinery; all its rows."""
        rows: list[Row] = await (await self._connection()).fetch(statement.sql, *statement.bind(parameters))
        return rows

    async def fetch_one(self, statement: Statement, parameters: Mapping[str, Any]) -> Row | None:
        """Run a statement of the machinery; its first row."""
        row: Row | None = await (await self._connection()).fetchrow(statement.sql, *statement.bind(parameters))
        return row

    async def fetch_last(self, statement: Statement, parameters: Mapping[str, Any]) -> Row | None:
        """Run a statement after which nothing comes; its first row.

        Where it is the first as well it needs no transaction around it, and is committed with its answer.
        """
        if self._driver is not None or self._machine is None:
            return await self.fetch_one(statement, parameters)
        connection = await self._machine.alone(self.tenant_id)
        self._end()
        row: Row | None = await connection.fetchrow(statement.sql, *statement.bind(parameters))
        return row

    @property
    def is_untouched(self) -> bool:
        """Whether this is a transaction of the machinery that has not begun: it may end by being asked `together`."""
        return self._machine is not None and self._driver is None

    async def together(self, kind: Together[Ask, Answer], ask: Ask, *, ends: bool) -> Answer:
        """Ask beside other transactions of the tenant, outside of this one.

        `ends`: what is asked for is all that this transaction does, and is committed with its answer.
        """
        if self._machine is None or self._database is None:
            message = "only the machinery's transactions are asked for together"
            raise RuntimeError(message)
        if ends:
            self._end()
        return await self._database.together(self.tenant_id, kind, ask)

    def _end(self) -> None:
        """What is sent now commits the transaction, and nothing may follow."""
        if self._machine is not None and self._database is not None:
            self._database._committing(self)  # noqa: SLF001  the two are one thing in two classes
            self._machine.is_over = True

    async def _connection(self) -> Any:
        if self._driver is None and self._machine is not None:
            self._driver = await self._machine.begin(self.tenant_id)
        elif self._driver is None:
            pooled = await (await self.session.connection()).get_raw_connection()
            self._driver = pooled.driver_connection
        return self._driver


AfterCommit = Callable[[Rings], None]


class Database:
    """The connections of one process."""

    def __init__(
        self,
        engine: AsyncEngine,
        after_commit: AfterCommit | None = None,
        *,
        own_rings: Callable[[], int] = lambda: 0,
        driver: Mapping[str, Any] | None = None,
        opener: Opener | None = None,
        replica_url: str | None = None,
    ) -> None:
        self.engine = engine
        self._driver = dict(driver or {})
        self._opener = opener or Opener()
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        self._given_back: set[asyncio.Task[None]] = set()
        self._gatherings: dict[Together[Any, Any], Gathering[Any, Any]] = {}
        size = self._driver.get("max_size", 1)
        self._answers = Answers(self._connect_alone, size)
        self._replica: Replica | None = None
        if replica_url is not None:
            self._replica = Replica(self._answers, lambda: self._connect_alone(dsn=replica_url), size)
        self._after_commit = after_commit
        self._own_rings = own_rings

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        name: str,
        pool_size: int = 10,
        after_commit: AfterCommit | None = None,
        own_rings: Callable[[], int] = lambda: 0,
        replica_url: str | None = None,
    ) -> Database:
        """A pool on `url` (postgresql://…). Connects lazily. `name` shows in pg_stat_activity.

        Queries of one statement may be answered by `replica_url` (app.db.replica).

        `after_commit` hears what each committed transaction rings; it must neither block nor raise. Of the steps that
        became due in one it has to ring workers for as many as `own_rings` says when the transaction begins.
        """
        opener = Opener()
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
                "server_settings": {**_SETTINGS, "application_name": name},
                "timeout": CONNECT_SECONDS,
                "command_timeout": COMMAND_SECONDS,
                "async_creator_fn": opener.connect,
            },
        )
        event.listen(engine.sync_engine, "handle_error", as_away, retval=True)
        event.listen(engine.sync_engine, "checkout", renew)
        driver = connection_settings(url, {**_MACHINE_SETTINGS, "application_name": name}, pool_size)
        return cls(engine, after_commit, own_rings=own_rings, driver=driver, opener=opener, replica_url=replica_url)

    async def close(self) -> None:
        await self.engine.dispose()
        if self._replica is not None:
            await self._replica.close()
        await self._answers.close()
        if self._pool is not None:
            await self._pool.close()
        await self._opener.close()

    @asynccontextmanager
    async def write(
        self, tenant_id: int, *, actor: str, correlation_id: str, origin: Origin | None = None
    ) -> AsyncIterator[Transaction]:
        """A read-write transaction of one tenant; commits when the block ends well.

        Raises NoReceipt instead of committing when nothing in the block called `Transaction.authorize`.
        """
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            await session.execute(_ENTER, {"tenant": str(tenant_id), "role": APP_ROLE, "timeout": WRITE_TIMEOUT})
            transaction = Transaction(session, tenant_id, actor, correlation_id, self._own_rings())
            if origin is not None:
                transaction.origin, transaction.changes = origin, collect(session)
            yield transaction
            transaction.require_receipt()
            await session.commit()
        if self._replica is not None:
            self._replica.wrote(tenant_id)
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
            await session.execute(_ENTER_SYSTEM, {"role": role.value, "timeout": WRITE_TIMEOUT, "idle": IDLE_TIMEOUT})
            transaction = Transaction(session, 0, f"system:{role.name.lower()}", role.name.lower())
            transaction.authorize(role.value)
            yield transaction
            await session.commit()
        self._tell(transaction.rings)

    @asynccontextmanager
    async def machine(self, tenant_id: int, *, actor: str, correlation_id: str) -> AsyncIterator[Transaction]:
        """A read-write transaction of one tenant for the machinery: statements only, no session.

        It begins with its first statement, and does without a transaction where that is the only one. Raises NoReceipt
        as `write` does.
        """
        machine = Machine(self._machine_pool)
        transaction = Transaction(
            _NO_SESSION, tenant_id, actor, correlation_id, self._own_rings(), _machine=machine, _database=self
        )
        try:
            yield transaction
            if not machine.is_over:
                self._committing(transaction)
                await machine.commit()
        finally:
            await machine.give_back()
        self._tell(transaction.rings)

    async def together(self, tenant_id: int, kind: Together[Ask, Answer], ask: Ask) -> Answer:
        """Ask for the tenant, in one statement with what others of this process ask at the moment."""
        gathering = self._gatherings.get(kind)
        if gathering is None:

            async def send(tenant_id: int, asks: Sequence[Ask]) -> Sequence[Answer]:
                pool = await self._machine_pool()
                async with pool.acquire() as connection:
                    await connection.enter(tenant_id)
                    return await kind.send(connection, tenant_id, asks)

            gathering = self._gatherings[kind] = Gathering(send, senders=_SENDERS, most=_TOGETHER)
        answer: Answer = await gathering.ask(tenant_id, ask)
        return answer

    def answer(self, tenant_id: int, sql: str, parameters: Sequence[Any]) -> Awaitable[str | None]:
        """The one text that a query of one statement comes to. The statement says itself which tenant asks.

        The copy answers where it may, and the primary where that comes to nothing.
        """
        if self._replica is not None and self._replica.may_answer(tenant_id):
            return self._answer_of(self._replica, sql, parameters)
        return self._answers.value(sql, parameters)

    async def _answer_of(self, replica: Replica, sql: str, parameters: Sequence[Any]) -> str | None:
        text: str | None
        with suppress(*UNANSWERED):
            text = await replica.value(sql, parameters)
            return text
        text = await self._answers.value(sql, parameters)
        return text

    async def answers(self, sql: str, parameters: Sequence[Any]) -> list[str | None]:
        """The texts that a statement for several objects comes to, in order; of the primary, as what was changed is."""
        texts: list[str | None] = await self._answers.value(sql, parameters)
        return texts

    async def _connect_alone(self, **more: Any) -> Any:
        """A connection as those of the machinery's pool, that only reads."""
        settings = {key: value for key, value in self._driver.items() if key not in OF_A_POOL} | more
        settings["server_settings"] = settings["server_settings"] | {
            "statement_timeout": STATEMENT_TIMEOUT,
            "default_transaction_read_only": "on",
        }
        return await self._opener.connect(**settings)

    async def look(self, tenant_id: int, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
        """All rows of one statement of the tenant that only reads: one round trip, and one snapshot of the truth."""
        pool = await self._machine_pool()
        connection = await pool.acquire()
        try:
            await connection.enter(tenant_id)
            rows: list[Row] = await connection.fetch(statement.sql, *statement.bind(parameters), timeout=_LOOK_SECONDS)
            return rows
        finally:
            # Somebody waits for the rows, and nobody for the connection: it is given back behind them.
            back = asyncio.create_task(pool.release(connection))
            self._given_back.add(back)
            back.add_done_callback(self._given_back.discard)

    def _committing(self, transaction: Transaction) -> None:
        """The last moment before what a transaction of the machinery did is made true."""
        transaction.require_receipt()

    async def _machine_pool(self) -> asyncpg.Pool:
        if self._pool is not None:
            return self._pool
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(connect=self._opener.connect, **self._driver)
            return self._pool

    def _tell(self, rings: Rings) -> None:
        if self._after_commit is not None and (rings.streams or rings.due or rings.freed):
            self._after_commit(rings)


# The machinery has statements of its own; whoever asks its transactions for a session has come to the wrong place.
_NO_SESSION: Any = None
_ENTER: Any = text(
    "SELECT set_config('role', :role, true), set_config('app.tenant_id', :tenant, true),"
    " set_config('statement_timeout', :timeout, true)"
)
_ENTER_SYSTEM: Any = text(
    "SELECT set_config('role', :role, true), set_config('app.tenant_id', '', true),"
    " set_config('statement_timeout', :timeout, true),"
    " set_config('idle_in_transaction_session_timeout', :idle, true)"
)
