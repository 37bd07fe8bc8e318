"""The engine's SQL alone: the statements of jobs as the engine sent them, sent again without the engine.

Once, jobs are carried by an engine in this process whose connections write down every statement and its values. Before
that a copy was made of the database; each round copies that copy and sends the same statements by eight bare
connections: the same rows, the same role, the same row-level security, prepared. What was sent when others had been
answered is sent when these have been answered again, and no later. What is left out is the engine's thinking, its
doorbells and the tick.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from app.db.driver import MachineConnection
from app.db.sealing import Sealer
from app.db.uow import APP_ROLE, Database
from app.engine.claims import Claimer
from app.engine.connections import Connections
from app.engine.executor import Executor
from app.engine.liveness import Worker
from app.engine.recorder import Recorder
from app.engine.runner import Runner
from app.messages import StepDue
from app.providers.registry import Registry
from app.providers.sessions import Sessions
from benchmarks.surroundings import Surroundings
from benchmarks.workload import AT_A_TIME, all_ended, connected, lying_there, release

Sent = tuple[str, str, tuple[Any, ...]]
_COPY = "replay_source"
_SETTINGS = {"role": APP_ROLE, "jit": "off", "plan_cache_mode": "force_generic_plan", "statement_timeout": "15s"}
_of_a_job: ContextVar[bool] = ContextVar("of_a_job", default=False)


@dataclass(slots=True)
class Piece:
    """A transaction, or a statement without one; `beside`: the earlier pieces that were not answered when it began."""

    beside: frozenset[int]
    sent: list[Sent] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Recording:
    """What was sent for `jobs` jobs, and the worker in whose name."""

    pieces: list[Piece]
    jobs: int
    worker: str

    @property
    def round_trips(self) -> float:
        """Statements a job, those that begin and end transactions included."""
        return sum(len(piece.sent) for piece in self.pieces) / self.jobs


async def record(where: Surroundings, jobs: int) -> Recording:
    """Carry `jobs` jobs here, eight at a time, and write down what is sent for them."""
    async with connected(where.database_url) as connection:
        await lying_there(where, jobs, connection)
    async with connected(_other(where, "postgres")) as connection:
        await connection.execute(f"CREATE DATABASE {_COPY} TEMPLATE windlass")
    async with connected(where.database_url) as connection:
        await release(connection)
        with _written_down() as sent:
            worker_id = await _carry(where, connection)
        await all_ended(connection)
        worker = await connection.fetchval("SELECT to_jsonb(w)::text FROM worker w WHERE id = $1", worker_id)
    return Recording(sent, jobs, worker)


async def replay(where: Surroundings, recording: Recording) -> tuple[float, float]:
    """Jobs a second, and the share of one processor that the sending itself took."""
    async with connected(_other(where, "postgres")) as connection:
        await connection.execute("DROP DATABASE IF EXISTS replay WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE replay TEMPLATE {_COPY}")
    url = _other(where, "replay")
    async with connected(url) as connection:
        await connection.execute(
            "INSERT INTO worker OVERRIDING SYSTEM VALUE"
            " SELECT * FROM jsonb_populate_record(NULL::worker, $1::jsonb || $2::jsonb)",
            recording.worker,
            '{"lease_until": "infinity", "dead_at": null}',
        )
        await connection.execute("ANALYZE")
        await release(connection)
        async with _bare(url, where.tenant_id) as bare:
            # Connections prepare what they send first, as the engine's do; that is not counted.
            warm_up = len(recording.pieces) // 8
            answered = [asyncio.Event() for _ in recording.pieces]
            await _send_all(bare, recording.pieces[:warm_up], answered)
            began, used = time.perf_counter(), time.process_time()
            await _send_all(bare, recording.pieces, answered)
            seconds, used = time.perf_counter() - began, time.process_time() - used
        await all_ended(connection)
    return recording.jobs * (1 - warm_up / len(recording.pieces)) / seconds, used / seconds


def _other(where: Surroundings, database: str) -> str:
    return f"{where.database_url.rpartition('/')[0]}/{database}"


@contextlib.contextmanager
def _written_down() -> Any:
    """While it is open, connections of the machinery write down what they send for jobs."""
    pieces: list[Piece] = []
    open_: dict[Any, int] = {}
    plain_machine = Database.machine

    def listening(method: str) -> Any:
        plain = getattr(asyncpg.Connection, method)

        async def send(self: Any, sql: str, *values: Any, **more: Any) -> Any:
            if not _of_a_job.get() or sql.startswith("SELECT set_config"):
                return await plain(self, sql, *values, **more)
            if self not in open_:
                pieces.append(Piece(frozenset(open_.values())))
                open_[self] = len(pieces) - 1
            pieces[open_[self]].sent.append((method, sql, values))
            try:
                return await plain(self, sql, *values, **more)
            finally:
                if not self.is_in_transaction() or sql in ("COMMIT", "ROLLBACK"):
                    del open_[self]

        return send

    @contextlib.asynccontextmanager
    async def machine(self: Database, tenant_id: int, *, actor: str, correlation_id: str) -> AsyncIterator[Any]:
        token = _of_a_job.set(True)
        try:
            async with plain_machine(self, tenant_id, actor=actor, correlation_id=correlation_id) as transaction:
                yield transaction
        finally:
            _of_a_job.reset(token)

    for method in ("execute", "fetch", "fetchrow"):
        setattr(MachineConnection, method, listening(method))
    Database.machine = machine  # type: ignore[method-assign]
    try:
        yield pieces
    finally:
        Database.machine = plain_machine  # type: ignore[method-assign]
        for method in ("execute", "fetch", "fetchrow"):
            delattr(MachineConnection, method)


async def _carry(where: Surroundings, connection: asyncpg.Connection) -> int:
    """An engine in this process carries what is due; the id of its worker."""
    database = Database.connect(
        where.database_url,
        name="benchmark",
        pool_size=AT_A_TIME,
        after_commit=lambda _: None,
        own_rings=lambda: AT_A_TIME,
    )
    worker = Worker(database, 600, "replay", "0")
    await worker.register()
    registry, sealer = Registry.default(sockets=False), Sealer(base64.b64decode(where.secret_key))
    runner = Runner(
        database,
        Claimer(worker.id, registry, sealer),
        Executor(registry),
        Recorder(registry, sealer, random.random),
        Connections(database, sealer, Sessions(registry), {"core": {}}),
        where.folder / "artifacts",
    )
    while due := await connection.fetch(
        "SELECT tenant_id, job_id, id FROM step_run WHERE status = 'READY' AND due_at <= now() ORDER BY id"
    ):
        left = iter(due)

        async def hand(left: Any = left) -> None:
            for row in left:
                await runner.run(StepDue(row["tenant_id"], row["job_id"], row["id"]))

        await asyncio.gather(*(hand() for _ in range(AT_A_TIME)))
    await worker.leave()
    await database.close()
    return worker.id


@contextlib.asynccontextmanager
async def _bare(url: str, tenant_id: int) -> AsyncIterator[list[asyncpg.Connection]]:
    connections = [await asyncpg.connect(url, server_settings=_SETTINGS) for _ in range(AT_A_TIME)]
    try:
        for connection in connections:
            await connection.execute("SELECT set_config('app.tenant_id', $1, false)", str(tenant_id))
        yield connections
    finally:
        for connection in connections:
            await connection.close()


async def _send_all(bare: list[asyncpg.Connection], pieces: list[Piece], answered: list[asyncio.Event]) -> None:
    """Send those that are not answered yet, each when all are answered that had been when it was sent first."""
    free: asyncio.LifoQueue[asyncpg.Connection] = asyncio.LifoQueue()
    for connection in bare:
        free.put_nowait(connection)
    earliest = 0

    async def send(number: int, connection: asyncpg.Connection) -> None:
        for method, sql, values in pieces[number].sent:
            await getattr(connection, method)(sql, *values)
        answered[number].set()
        free.put_nowait(connection)

    async with asyncio.TaskGroup() as group:
        for number, piece in enumerate(pieces):
            if answered[number].is_set():
                continue
            while earliest < number and answered[earliest].is_set():
                earliest += 1
            for other in range(earliest, number):
                if other not in piece.beside:
                    await answered[other].wait()
            group.create_task(send(number, await free.get()))
