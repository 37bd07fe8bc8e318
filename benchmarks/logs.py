"""The log of a job: how fast it is written and read, what a line takes, and whether a long log costs more than a short.

Written by `StepLog`, as a step's lines are: chunks of a given size, as many as wait and have 2,000 lines in a
transaction that checks the fence, takes the job's lock and numbers its lines. Bounds, taken in turn: the same chunks,
packed beforehand, by bare inserts; the same lines, a row each, by COPY. Read through the API in a process of its own,
by one client in this process: `jobLogs` with `packed`, and the file.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson
from websockets.asyncio.client import connect

from app import garbage
from app.db import chunks, journal
from app.db.uow import APP_ROLE, Database
from app.domain.enums import LogLevel
from app.domain.logs import LogLine, LogRoom
from app.embedded.processes import free_port
from app.engine.log import StepLog
from benchmarks.latency import _ready, new_job
from benchmarks.surroundings import Surroundings, surroundings
from schema.nodes import encode_id

LINES = 100_000
LONG = 1_000_000
APPENDS = 150
_ROOM = LogRoom(lines=10 * LONG, bytes=2**40)
_FOLLOW = "subscription($id: ID!, $after: Cursor) { jobLogs(id: $id, after: $after) { kind cursor packed } }"
_PAGE = """query($id: ID!, $last: Int) { orchestrationJob(id: $id) {
  logs(first: 200, last: $last) { nodes { seq at level message } pageInfo { hasNextPage } } } }"""


async def run(rounds: int) -> str:
    """The tables."""
    # As the worker's process does, too.
    garbage.settle()
    async with surroundings() as where:
        written = await _writing(where, rounds)
        long_job = await new_job(where)
        database = _database(where)
        step = await _step(where, long_job)
        await _write(database, where, long_job, step, _messages(LINES), 500, LONG // LINES)
        short_job = await new_job(where)
        short_step = await _step(where, short_job)
        await _write(database, where, short_job, short_step, _messages(1_000), 500)
        appends = await _appending(database, where, (short_job, short_step), (long_job, step))
        await database.close()
        read = await _reading(where, long_job, rounds)
    return "\n".join([*written, *appends, *read])


async def _writing(where: Surroundings, rounds: int) -> list[str]:
    """Lines a second of ours and of the bounds, and bytes a line."""
    found: dict[str, list[float]] = {}
    stored: dict[str, float] = {}
    cpu: dict[str, list[float]] = {}
    database = _database(where)
    # A worker's process has written before: connections, prepared statements and the memory are there.
    first = await new_job(where)
    await _write(database, where, first, await _step(where, first), _messages(LINES), 500)
    for _ in range(rounds):
        for size in (50, 500):
            job_id = await new_job(where)
            step = await _step(where, job_id)
            before = await _stored(where)
            said = _messages(LINES)
            used = time.process_time()
            name = f"ours, chunks of {size}, at most 2,000 lines a commit"
            found.setdefault(name, []).append(LINES / await _write(database, where, job_id, step, said, size))
            cpu.setdefault(name, []).append((time.process_time() - used) / LINES * 1e6)
            stored[name] = (await _stored(where) - before) / LINES
            found.setdefault(f"of that, a statement and a commit every {size} lines, one after the other", []).append(
                LINES / await _one_by_one(database, where, said, size)
            )
            seconds = await _bare(where, await new_job(where), size)
            found.setdefault(f"bound: the same chunks, packed beforehand, bare inserts of {size}", []).append(
                LINES / seconds
            )
        found.setdefault("bound: a row a line, COPY of 500", []).append(LINES / await _copy(where))
    await database.close()
    lines = [
        f"\n### Writing a log ({LINES:,} lines of about 89 characters × {rounds}, one writer)\n",
        "| | lines/s | min–max | writer's CPU, µs a line | bytes stored a line |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, rates in found.items():
        used_up = f"{statistics.median(cpu[name]):.1f}" if name in cpu else ""
        size_of = f"{stored[name]:.0f}" if name in stored else ""
        span = f"{min(rates):,.0f}–{max(rates):,.0f}"
        lines.append(f"| {name} | {statistics.median(rates):,.0f} | {span} | {used_up} | {size_of} |")
    return lines


async def _write(
    database: Database, where: Surroundings, job_id: int, step: int, said: Sequence[str], batch: int, times: int = 1
) -> float:
    """Seconds that a step needs to say these lines so many times, and have them committed."""
    log = StepLog(
        database,
        tenant_id=where.tenant_id,
        job_id=job_id,
        step_id=step,
        step_key="bench",
        attempt=1,
        fence=1,
        room=_ROOM,
        batch_lines=batch,
    )
    began = time.perf_counter()
    for _ in range(times):
        for text in said:
            log.add(text, LogLevel.INFO, "stdout", {})
            if log.is_crowded:
                await log.drain()
    await log.drain()
    await log.settle()
    async with database.machine(where.tenant_id, actor="bench", correlation_id="bench") as transaction:
        transaction.authorize("benchmark")
        rest = log.take()
        await journal.append(
            transaction, journal.Stream.JOB, job_id, [journal.Lines(rest, step, "bench", 1, _ROOM)] if rest else []
        )
    return time.perf_counter() - began


async def _one_by_one(database: Database, where: Surroundings, said: Sequence[str], batch: int) -> float:
    """Seconds for the same statements without the step's log: each is packed, sent and waited for before the next."""
    job_id = await new_job(where)
    step = await _step(where, job_id)
    began = time.perf_counter()
    for start in range(0, LINES, batch):
        at = time.time_ns() // 1000
        lines = [LogLine(at, LogLevel.INFO, "stdout", text) for text in said[start : start + batch]]
        entry = journal.Lines(lines, step, "bench", 1, _ROOM)
        async with database.machine(where.tenant_id, actor="bench", correlation_id="bench") as transaction:
            transaction.authorize("benchmark")
            await journal.append_held(transaction, job_id, [entry], journal.Holder(step, 1), progress=False)
    return time.perf_counter() - began


async def _bare(where: Surroundings, job_id: int, batch: int) -> float:
    """Seconds that the same chunks take without us: packed before the clock starts, one insert and commit each."""
    said = _messages(LINES)
    at = time.time_ns() // 1000
    packed = [
        chunks.pack([LogLine(at, LogLevel.INFO, "stdout", text) for text in said[start : start + batch]])
        for start in range(0, LINES, batch)
    ]
    connection = await _connected(where)
    statement = await connection.prepare(
        "INSERT INTO job_log (tenant_id, job_id, first_seq, last_seq, step_key, attempt, size, levels, codec, body)"
        " VALUES ($1, $2, $3, $4, 'bench', 1, $5, $6, $7, $8)"
    )
    began = time.perf_counter()
    for number, one in enumerate(packed):
        first = 1 + number * batch
        await statement.fetch(
            where.tenant_id, job_id, first, first + batch - 1, one.size, one.levels, one.codec, one.body
        )
    seconds = time.perf_counter() - began
    await connection.close()
    return seconds


async def _copy(where: Surroundings) -> float:
    """Seconds for a row a line, 500 at a time, into a table of its own with the key that it would need."""
    connection = await asyncpg.connect(where.database_url)
    await connection.execute(
        "DROP TABLE IF EXISTS line; CREATE TABLE line (tenant_id bigint, job_id bigint, seq bigint, at timestamptz,"
        " level text, stream text, step_key text, attempt int, message text, PRIMARY KEY (tenant_id, job_id, seq))"
    )
    now = await connection.fetchval("SELECT now()")
    said = _messages(LINES)
    rows = [(1, 1, number, now, "INFO", "stdout", "bench", 1, text) for number, text in enumerate(said)]
    began = time.perf_counter()
    for start in range(0, LINES, 500):
        await connection.copy_records_to_table("line", records=rows[start : start + 500])
    seconds = time.perf_counter() - began
    await connection.execute("DROP TABLE line")
    await connection.close()
    return seconds


async def _appending(
    database: Database, where: Surroundings, short: tuple[int, int], long: tuple[int, int]
) -> list[str]:
    """What 50 lines more cost where there are a thousand, and where there are a million, in turn."""
    said = _messages(50)
    found: dict[str, list[float]] = {"1,000": [], "1,000,000": []}
    for _ in range(APPENDS):
        for name, (job_id, step) in zip(found, (short, long), strict=True):
            at = time.time_ns() // 1000
            lines = [LogLine(at, LogLevel.INFO, "stdout", text) for text in said]
            entry = journal.Lines(lines, step, "bench", 1, _ROOM)
            began = time.perf_counter()
            async with database.machine(where.tenant_id, actor="bench", correlation_id="bench") as transaction:
                transaction.authorize("benchmark")
                await journal.append_held(transaction, job_id, [entry], journal.Holder(step, 1), progress=False)
            found[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    ratio = medians["1,000,000"] / medians["1,000"]
    told = (
        f"\nAppending 50 lines behind line 1,000: {medians['1,000'] * 1e3:.2f} ms; behind line 1,000,000:"
        f" {medians['1,000,000'] * 1e3:.2f} ms, {ratio:.2f} × as much (medians of {APPENDS}, in turn)."
    )
    return [told]


async def _reading(where: Surroundings, job_id: int, rounds: int) -> list[str]:
    port = free_port()
    lines = [
        f"\n### Reading a log of {LONG:,} lines through the API, one client ({rounds} rounds)\n",
        "| | lines/s | min–max | API's memory before, MB | at most during it |",
        "|---|--:|--:|--:|--:|",
    ]
    with where.processes(["api"], WINDLASS_PORT=str(port)) as (api,):
        await _ready(port)
        pages = [await _pages(where, port, job_id, last) for last in (None, 200)]
        ways: dict[str, Any] = {
            "`jobLogs { packed }`": _follow,
            "the file": _download,
            "the file, packed with gzip": _download_packed,
        }
        for name, way in ways.items():
            rates, before, most = [], _resident(api.pid), 0.0
            for _ in range(rounds):
                watching = asyncio.create_task(_peak(api.pid))
                rates.append(LONG / await way(where, port, job_id))
                watching.cancel()
                most = max(most, await watching)
            lines.append(
                f"| {name} | {statistics.median(rates):,.0f} | {min(rates):,.0f}–{max(rates):,.0f} | {before:.0f}"
                f" | {most:.0f} |"
            )
    for name, (first, usual) in zip(("First", "Last"), pages, strict=True):
        lines.append(
            f"\n{name} page (200 lines, typed) of a million: {first:.1f} ms the first time, {usual:.1f} ms after"
            " that (median of 30)."
        )
    return lines


async def _follow(where: Surroundings, port: int, job_id: int) -> float:
    uri = f"ws://127.0.0.1:{port}/graphql"
    async with connect(uri, subprotocols=["graphql-transport-ws"], max_size=None) as socket:  # type: ignore[list-item]
        await socket.send(orjson.dumps({"type": "connection_init", "payload": {"token": where.token}}).decode())
        await socket.recv()
        payload = {"query": _FOLLOW, "variables": {"id": encode_id("OrchestrationJob", job_id)}}
        began = time.perf_counter()
        await socket.send(orjson.dumps({"id": "1", "type": "subscribe", "payload": payload}).decode())
        seen = 0
        while seen < LONG:
            message = orjson.loads(await asyncio.wait_for(socket.recv(), 30))
            if message["type"] == "next":
                for line in message["payload"]["data"]["jobLogs"]["packed"]:
                    assert line[0] == seen + 1
                    seen += 1
        return time.perf_counter() - began


async def _download(where: Surroundings, port: int, job_id: int, accept: str = "identity") -> float:
    url = f"http://127.0.0.1:{port}/jobs/{encode_id('OrchestrationJob', job_id)}/log.ndjson"
    headers = {"authorization": f"Bearer {where.token}", "accept-encoding": accept}
    began = time.perf_counter()
    seen = 0
    async with httpx.AsyncClient(timeout=60) as client, client.stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200
        async for part in answer.aiter_bytes():
            seen += part.count(b"\n")
    assert seen >= LONG
    return time.perf_counter() - began


async def _download_packed(where: Surroundings, port: int, job_id: int) -> float:
    return await _download(where, port, job_id, "gzip")


async def _pages(where: Surroundings, port: int, job_id: int, last: int | None) -> tuple[float, float]:
    """Milliseconds of the first request for a page, and of later ones."""
    found = []
    body = {"query": _PAGE, "variables": {"id": encode_id("OrchestrationJob", job_id), "last": last}}
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {where.token}"}) as client:
        for _ in range(31):
            began = time.perf_counter()
            answer = (await client.post(f"http://127.0.0.1:{port}/graphql", json=body)).json()
            found.append((time.perf_counter() - began) * 1e3)
            assert len(answer["data"]["orchestrationJob"]["logs"]["nodes"]) == 200
    return found[0], statistics.median(found[1:])


async def _peak(pid: int) -> float:
    """The most memory that the process has until this is cancelled, in MB."""
    most = _resident(pid)
    try:
        while True:
            await asyncio.sleep(0.05)
            most = max(most, _resident(pid))
    except asyncio.CancelledError:
        return most


def _resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _messages(count: int) -> Sequence[str]:
    """Lines as tools write them: the same words again and again, with numbers, ids and names that are new each time."""
    chance = random.Random(7)
    verbs = ("applied", "checked", "copied", "created", "read", "skipped", "waited for", "wrote")
    return [
        f"[{number:07d}] {chance.choice(verbs)} resource/{chance.randrange(5_000)} of stack-{chance.randrange(40)}"
        f" in {chance.randrange(90_000)} us, checksum {chance.getrandbits(48):012x}, ok={chance.random() < 0.98}"
        for number in range(count)
    ]


async def _stored(where: Surroundings) -> float:
    """Bytes of all the lines, with indexes and whatever else they need."""
    connection = await asyncpg.connect(where.database_url)
    size: int = await connection.fetchval(
        "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'job_log'::regclass"
    )
    await connection.close()
    return float(size)


async def _step(where: Surroundings, job_id: int) -> int:
    """A running step of the job in the hands of a worker, with fence 1."""
    connection = await asyncpg.connect(where.database_url)
    worker = await connection.fetchval(
        "INSERT INTO worker (name, host, pid, app_version, lease_until) VALUES ('w', 'h', 1, '0', 'infinity')"
        " RETURNING id"
    )
    step: int = await connection.fetchval(
        "INSERT INTO step_run (tenant_id, job_id, step_key, name, step_type, operation, change, status, needs, spec,"
        " timeout_seconds, operation_id, worker_id, fence) VALUES ($1, $2, 'bench', 'Bench', 'CUSTOM', 'RUN', 'RUN',"
        " 'RUNNING', '{}', '{}', 60, gen_random_uuid(), $3, 1) RETURNING id",
        where.tenant_id,
        job_id,
        worker,
    )
    await connection.close()
    return step


async def _connected(where: Surroundings) -> asyncpg.Connection:
    connection = await asyncpg.connect(where.database_url, server_settings={"role": APP_ROLE, "jit": "off"})
    await connection.execute("SELECT set_config('app.tenant_id', $1, false)", str(where.tenant_id))
    return connection


def _database(where: Surroundings) -> Database:
    return Database.connect(where.database_url, name="benchmark", pool_size=2, after_commit=lambda _: None)
