"""Pages of large tables: a tenant with 1,000,000 jobs, and 10,000,000 log lines in ten of them.

The rows are written by the database itself, the chunks of lines packed as the product packs them. Then everything goes
through the API, one request at a time by one client: whether a page costs the same at the end of a list as at its
beginning, in both directions, with and without filters.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import psutil

from app.db import chunks, pages
from app.domain.enums import LogLevel
from app.domain.logs import LogLine
from app.embedded.processes import free_port
from app.reads import jobs
from benchmarks.queries import Side, _once, _ready, _request
from benchmarks.surroundings import Surroundings, surroundings
from schema.nodes import encode_id

JOBS = int(os.environ.get("SCALE_JOBS", "1000000"))
LINES = int(os.environ.get("SCALE_LINES", "10000000"))
PLANS = 10_000
LOGS = 10
_CHUNK = 500
_REQUESTS = 300
_GOAL_MS = 20.0
_STATUSES = "(ARRAY['SUCCEEDED','SUCCEEDED','SUCCEEDED','SUCCEEDED','FAILED','CANCELLED','ROLLED_BACK'])[1 + n % 7]"
_FIELDS = "nodes { id name type status stack createdAt startedAt completedAt } pageInfo { startCursor endCursor }"
# What is asked for of each list: arguments beside the window.
_LISTS = {
    "all, newest first": "",
    "of one status": "filter: {status: [SUCCEEDED]}",
    "of two statuses": "filter: {status: [FAILED, CANCELLED]}",
    "of a stage that 300 have": "filter: {stage: [ACTIVE]}",
    "of one status and type": "filter: {status: [FAILED], type: [DEPLOY]}",
    "of one plan": 'filter: {planId: "PLAN"}',
    "by start": "orderBy: {field: STARTED_AT, direction: DESC}",
    "by duration, of one status": "filter: {status: [FAILED]}, orderBy: {field: DURATION, direction: ASC}",
}
_HALF = """SELECT * FROM orchestration_job WHERE tenant_id = $1 AND NOT is_deleted
  ORDER BY created_at DESC, id DESC OFFSET $2 LIMIT 1"""


async def run(rounds: int) -> str:
    """The table."""
    async with surroundings() as where:
        began = time.perf_counter()
        await _fill(where)
        filled = time.perf_counter() - began
        port = free_port()
        with where.processes(["api"], WINDLASS_PORT=str(port)) as (process,):
            side = Side("ours", port, psutil.Process(process.pid))
            await _ready(side)
            found = await _measured(side, where, rounds)
    lines = [
        f"\n### Large tables ({JOBS:,} jobs, {LINES:,} log lines of one tenant; {_REQUESTS * rounds} requests each)\n",
        f"Filled in {filled:.0f} s. A page is 50 jobs or 200 lines; milliseconds as a client sees them, alone.\n",
        "| | p50 ms | p99 ms | goal < 20 |",
        "|---|--:|--:|---|",
    ]
    for name, waits in found.items():
        waits.sort()
        p50, p99 = (waits[int(len(waits) * share)] * 1e3 for share in (0.5, 0.99))
        lines.append(f"| {name} | {p50:.2f} | {p99:.2f} | {'yes' if p99 < _GOAL_MS else '**no**'} |")
    return "\n".join(lines)


async def _measured(side: Side, where: Surroundings, rounds: int) -> dict[str, list[float]]:
    bodies = await _bodies(side, where)
    found: dict[str, list[float]] = {name: [] for name in bodies}
    for _ in range(rounds):
        for name, body in bodies.items():
            found[name] += await _waits(side, where, body)
    return found


async def _bodies(side: Side, where: Surroundings) -> dict[str, dict[str, Any]]:
    """What is asked, by what it is."""
    connection = await asyncpg.connect(where.database_url)
    plan = await connection.fetchval("SELECT min(id) FROM deployment_plan WHERE tenant_id = $1", where.tenant_id)
    half = await connection.fetchrow(_HALF, where.tenant_id, JOBS // 2)
    log = await connection.fetchval("SELECT min(job_id) FROM job_log WHERE tenant_id = $1", where.tenant_id)
    await connection.close()
    middle = pages.cursor_of(jobs.order(), _Row(half))
    bodies: dict[str, dict[str, Any]] = {}
    for name, arguments in _LISTS.items():
        said = arguments.replace("PLAN", encode_id("DeploymentPlan", plan))
        first, last = [await _page(side, where, f"{way}: 50 {said}") for way in ("first", "last")]
        windows = {
            "first page": ("first: 50", None),
            "second page": ("first: 50, after: $at", first["endCursor"]),
            "last page": ("last: 50", None),
            "last but one": ("last: 50, before: $at", last["startCursor"]),
        }
        # The place in the middle is one of the usual order.
        if not any(word in arguments for word in ("planId", "stage", "orderBy")):
            windows["middle, forwards"] = ("first: 50, after: $at", middle)
            windows["middle, backwards"] = ("last: 50, before: $at", middle)
        for which, (window, at) in windows.items():
            bodies[f"jobs {name}: {which}"] = _body(f"{window} {said}", at)
        if "orderBy" in arguments:
            continue
        counted = f"{{ orchestrationJobs({said or 'first: 1'}) {{ totalCount {{ value exact }} }} }}"
        bodies[f"jobs {name}: totalCount"] = {"query": counted}
    job = encode_id("OrchestrationJob", log)
    for which, window in {
        "first lines": "first: 200",
        "last lines": "last: 200",
        "first errors": "first: 200, filter: {minLevel: ERROR}",
        "last errors": "last: 200, filter: {minLevel: ERROR}",
    }.items():
        query = f'{{ orchestrationJob(id: "{job}") {{ logs({window}) {{ nodes {{ seq at level message }} }} }} }}'
        bodies[f"log of {LINES // LOGS:,} lines: {which}"] = {"query": query}
    return bodies


def _body(arguments: str, at: str | None) -> dict[str, Any]:
    if at is None:
        return {"query": f"{{ orchestrationJobs({arguments}) {{ {_FIELDS} }} }}"}
    query = f"query($at: Cursor) {{ orchestrationJobs({arguments}) {{ {_FIELDS} }} }}"
    return {"query": query, "variables": {"at": at}}


class _Row:
    """A record with attributes."""

    def __init__(self, record: Any) -> None:
        self.__dict__.update(record)


async def _page(side: Side, where: Surroundings, arguments: str) -> dict[str, Any]:
    answer = json.loads(await _once(side, where, "", _body(arguments, None)))
    found: dict[str, Any] = answer["data"]["orchestrationJobs"]["pageInfo"]
    return found


async def _waits(side: Side, where: Surroundings, body: dict[str, Any]) -> list[float]:
    request = _request(side, where, "", body)
    reader, writer = await asyncio.open_connection("127.0.0.1", side.port)
    waits = []
    for number in range(_REQUESTS + 7):
        began = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        answer = await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        # The first ones are planned and read for the first time.
        if number >= 7:
            waits.append(time.perf_counter() - began)
        if b"UNAVAILABLE" in answer:
            # Its statement was ended after five seconds.
            writer.close()
            return [5.0]
        if b'"errors"' in answer:
            raise RuntimeError(answer)
        if number == 7 and waits[0] > 0.2:
            # Nobody needs a hundred of these.
            break
    writer.close()
    return waits


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _fill(where: Surroundings) -> None:
    connection = await asyncpg.connect(where.database_url)
    try:
        await connection.execute("SET synchronous_commit = off")
        await connection.execute(
            "INSERT INTO deployment_plan (tenant_id, plan_name, plan_type, status, stack, created_at)"
            " SELECT $1::bigint, 'plan ' || n, 'IMMEDIATE', 'SUCCEEDED', 'stack ' || n,"
            " now() - n * interval '50 minutes' FROM generate_series(1, $2::int) n",
            where.tenant_id, PLANS,
        )  # fmt: skip
        first = await connection.fetchval("SELECT min(id) FROM deployment_plan WHERE tenant_id = $1", where.tenant_id)
        await connection.execute(
            "INSERT INTO orchestration_job (tenant_id, plan_id, job_name, job_type, stack, status, created_at,"
            " started_at, completed_at, duration_seconds)"
            " SELECT $1::bigint, $2::bigint + n % $3::int, 'job ' || n, CASE n % 3 WHEN 0 THEN 'DELETE'"
            f" ELSE 'DEPLOY' END, 'stack ' || n % $3::int, CASE WHEN n <= 300 THEN 'RUNNING' ELSE {_STATUSES} END,"
            " now() - n * interval '1 minute', CASE WHEN n % 10 > 0 THEN now() - n * interval '1 minute' END,"
            " CASE WHEN n % 10 > 0 THEN now() - n * interval '1 minute' + interval '9 seconds' END,"
            " CASE WHEN n % 10 > 0 THEN n % 600 END FROM generate_series(1, $4::int) n",
            where.tenant_id, first, PLANS, JOBS,
        )  # fmt: skip
        await _fill_logs(connection, where)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def _fill_logs(connection: Any, where: Surroundings) -> None:
    """Chunks as the product packs them, a hundred different ones."""
    now = datetime.now(UTC)
    bodies = []
    for batch in range(100):
        at = int((now - timedelta(minutes=100 - batch)).timestamp() * 1e6)
        lines = [
            LogLine(
                at + number * 1_000,
                LogLevel.ERROR if batch == 50 and number == 250 else LogLevel.INFO,
                "stdout",
                f"[{batch * _CHUNK + number:>9}] reading the state of resource {number % 37}, {number * 7 % 991} ms",
                {},
            )
            for number in range(_CHUNK)
        ]
        bodies.append(chunks.pack(lines))
    ids = [row["id"] for row in await connection.fetch(
        "SELECT id FROM orchestration_job WHERE tenant_id = $1 ORDER BY id LIMIT $2", where.tenant_id, LOGS
    )]  # fmt: skip
    each = LINES // LOGS
    for job_id in ids:
        await connection.copy_records_to_table(
            "job_log",
            columns=["tenant_id", "job_id", "first_seq", "last_seq", "at", "size", "levels", "codec", "step_key",
                     "attempt", "body"],
            records=[
                (where.tenant_id, job_id, start + 1, start + _CHUNK, now, packed.size, packed.levels, packed.codec,
                 "bench", 1, packed.body)
                for start, packed in ((start, bodies[start // _CHUNK % 100]) for start in range(0, each, _CHUNK))
            ],
        )  # fmt: skip
    await connection.execute(
        "UPDATE orchestration_job SET event_seq = $2, log_lines = $2 WHERE id = ANY($1::bigint[])", ids, each
    )
