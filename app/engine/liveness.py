"""A worker's proof of life, and what it does when it no longer has one.

The lease is a row that is renewed; the session lock beside it lets others notice within two seconds that the process
is gone. A worker that finds its lease taken, or that could not renew it in time, ends at once: somebody else may
already be doing its work, and every provider call from now on would be a double.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app import clock
from app.db.statements import Statement
from app.db.uow import Database, SystemRole, Transaction

LOCK_CLASS = 77
EXIT_DECLARED_DEAD = 70
EXIT_LEASE_LOST = 71

_REGISTER = Statement(
    "INSERT INTO worker (name, host, pid, app_version, hands, lease_until)"
    " VALUES (:name, :host, :pid, :version, :hands, clock_timestamp() + make_interval(secs => :lease)) RETURNING id"
)
_RENEW = Statement(
    "UPDATE worker SET lease_until = clock_timestamp() + make_interval(secs => :lease), draining = :draining"
    " WHERE id = :id AND dead_at IS NULL RETURNING id"
)
_LEAVE = Statement("UPDATE worker SET dead_at = clock_timestamp() WHERE id = :id AND dead_at IS NULL")
_TOLD_TO_STOP = Statement(
    "SELECT s.id FROM step_run s JOIN orchestration_job j ON j.tenant_id = s.tenant_id AND j.id = s.job_id"
    " WHERE s.worker_id = :id AND j.status = 'CANCELLING' AND j.cancel_mode IN ('INTERRUPT', 'FORCE')"
)
_HELD = Statement("SELECT id FROM step_run WHERE worker_id = :id")
_GIVE_UP = Statement(
    "UPDATE step_run SET deadline_at = clock_timestamp() - interval '1 hour' WHERE worker_id = :id AND id = ANY(:steps)"
)
# Without the session lock a worker counts as lost after 1.5 seconds.
_HOLD_AGAIN_SECONDS = 0.2
_HOLD = text("SELECT pg_try_advisory_lock(:class, :id)")

_logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Worker:
    """One process as a worker: registered, alive as long as `run` goes on."""

    database: Database
    lease_seconds: float
    name: str
    version: str
    # How many steps it has at a time.
    hands: int = 1
    on_cancel: Callable[[int], None] = lambda _step_id: None
    # The step runs that this process knows it has.
    working: Callable[[], frozenset[int]] = frozenset
    id: int = 0
    draining: bool = False
    _renewed: float = 0.0
    _cut: asyncio.Event = field(default_factory=asyncio.Event)
    _forgotten: frozenset[int] = frozenset()

    async def register(self) -> int:
        """Enter the list of workers; the id is this process's for its whole life."""
        async with self.database.system(SystemRole.TICK) as transaction:
            row = await transaction.fetch_one(
                _REGISTER,
                {
                    "name": self.name,
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "version": self.version,
                    "hands": self.hands,
                    "lease": self.lease_seconds,
                },
            )
            self.id = int(row["id"]) if row is not None else 0
        self._renewed = clock.monotonic()
        return self.id

    async def run(self) -> None:
        """Renew the lease until cancelled. Ends the process when the lease is lost."""
        lock: AsyncConnection | None = None
        pause = self.lease_seconds / 5
        try:
            while True:
                asked = clock.monotonic()
                try:
                    lock = await self._hold(lock)
                    # Not at once again where only the session lock had to be taken anew.
                    if asked - self._renewed > pause / 2:
                        await asyncio.wait_for(self._renew(), timeout=self.lease_seconds / 2)
                        self._renewed = asked
                except Exception:  # any trouble is the same: the lease runs on, and decides
                    _logger.warning("the lease could not be renewed", worker_id=self.id, exc_info=True)
                    await self._let_go(lock)
                    lock = None
                if clock.monotonic() > self._renewed + self.lease_seconds:
                    self._end(EXIT_LEASE_LOST, "the lease ran out")
                await self._rest(pause if lock is not None else min(pause, _HOLD_AGAIN_SECONDS))
        finally:
            await self._let_go(lock)

    async def _rest(self, seconds: float) -> None:
        """Wait so long, or until the connection that holds the session lock is cut."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._cut.wait()
        self._cut.clear()

    async def leave(self) -> None:
        """Say that this worker is done, so that nobody has to wait for its lease to run out."""
        async with self.database.system(SystemRole.TICK) as transaction:
            await transaction.fetch(_LEAVE, {"id": self.id})

    async def _renew(self) -> None:
        async with self.database.system(SystemRole.TICK) as transaction:
            renewed = await transaction.fetch_one(
                _RENEW, {"id": self.id, "lease": self.lease_seconds, "draining": self.draining}
            )
            if renewed is None:
                self._end(EXIT_DECLARED_DEAD, "this worker was declared dead")
            for step in await transaction.fetch(_TOLD_TO_STOP, {"id": self.id}):
                self.on_cancel(step["id"])
            await self._give_up_forgotten(transaction)

    async def _give_up_forgotten(self, transaction: Transaction) -> None:
        """Let the tick take steps that are written down as ours and that we know nothing of.

        A commit whose answer was lost may have claimed a step; nobody here works on it. Twice in a row, because a
        claim is written before the process knows of it.
        """
        held = {row["id"] for row in await transaction.fetch(_HELD, {"id": self.id})}
        unknown = held - self.working()
        lost = sorted(unknown & self._forgotten)
        self._forgotten = frozenset(unknown)
        if lost:
            _logger.warning("steps are given up that nobody works on", worker_id=self.id, steps=lost)
            await transaction.fetch(_GIVE_UP, {"id": self.id, "steps": lost})

    async def _hold(self, lock: AsyncConnection | None) -> AsyncConnection | None:
        """Keep a connection of our own whose session lock says that this process lives."""
        if lock is not None and not lock.closed:
            await lock.execute(text("SELECT 1"))
            return lock
        connection = await self.database.engine.connect()
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        if not await connection.scalar(_HOLD, {"class": LOCK_CLASS, "id": self.id}):
            await self._let_go(connection)
            message = "an earlier connection of this worker still has its lock"
            raise ConnectionError(message)
        driver: Any = (await connection.get_raw_connection()).driver_connection
        driver.add_termination_listener(lambda _: self._cut.set())
        return connection

    async def _let_go(self, lock: AsyncConnection | None) -> None:
        """End the connection for good, so that another one can have the lock."""
        with contextlib.suppress(Exception):
            if lock is not None:
                await lock.invalidate()
                await lock.close()

    def _end(self, code: int, why: str) -> None:
        _logger.error("the worker ends itself", worker_id=self.id, reason=why)
        os._exit(code)
