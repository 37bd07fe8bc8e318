"""Queries of a dashboard: how many a second, how fast, and what one costs the server.

50 tenants, 1,000 workflows of ten steps, 20,000 plans, 60,000 jobs. Each side is asked the same in turn by one client
that keeps so many requests under way, and every answer must have the same length. The server has the first core,
PostgreSQL and the client have the second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil

from app.auth.principal import Principal
from app.db.uow import APP_ROLE
from app.domain.enums import Permission, Role
from app.embedded.processes import free_port
from app.settings import Settings
from benchmarks.dashboard import fill
from benchmarks.query_table import CONCURRENCY, Measured, table_of
from benchmarks.surroundings import Surroundings, surroundings
from schema.compiling.queries import CompiledQueries
from schema.context import Context
from schema.nodes import encode_id, number_in
from schema.root import build_schema

_SECONDS = 0.75
# The default of ours.
_POOL_SIZE = Settings().pool_size
_SLOW = "ours, field by field"
OBJECT = """query($id: ID!) { deploymentPlan(id: $id) { id name status createdAt
  workflow { id name type } resourceTemplate { id name } tenant { id slug } } }"""
PAGE = """{ deploymentPlans(first: 50) { nodes { id name status type stack createdAt
  workflow { id name steps { id key name type stepOrder } } resourceTemplate { id name type }
  jobs(first: 3) { nodes { id name status direction createdAt } } } pageInfo { hasNextPage endCursor } } }"""
LIST = """{ orchestrationJobs(first: 100, filter: {status: [SUCCEEDED]}) { nodes { id name type status direction stack
  statusReason createdAt startedAt completedAt durationSeconds retryCount } pageInfo { hasNextPage endCursor } } }"""
NOTHING = "{ __typename }"
# The same of PostGraphile, as it names things.
_PEER = "PostGraphile"
_PEER_FOLDER = Path(__file__).parent / "peers" / "postgraphile"
# `npm ci` in that folder brings it, and the Node that it needs.
_PEER_NODE = _PEER_FOLDER / "node_modules" / "node" / "bin" / "node"
_PEER_WORKFLOW, _PEER_TEMPLATE = "workflowByTenantIdAndWorkflowId", "resourceTemplateByTemplateTenantIdAndTemplateId"
PEER_OBJECT = f"""query($tenant: BigInt!, $id: BigInt!) {{
  deploymentPlanByTenantIdAndRowId(tenantId: $tenant, rowId: $id) {{ id planName status createdAt
  {_PEER_WORKFLOW} {{ id workflowName workflowType }}
  {_PEER_TEMPLATE} {{ id templateName }} tenantByTenantId {{ id slug }} }} }}"""
PEER_PAGE = f"""query($tenant: BigInt!) {{ allDeploymentPlans(first: 50, orderBy: [CREATED_AT_DESC, ROW_ID_DESC],
  condition: {{tenantId: $tenant, isDeleted: false}}) {{ nodes {{ id planName status planType stack createdAt
    {_PEER_WORKFLOW} {{ id workflowName workflowStepsByTenantIdAndWorkflowId(orderBy: [STEP_ORDER_ASC, ROW_ID_ASC],
      condition: {{isDeleted: false}}) {{ nodes {{ id stepKey stepName stepType stepOrder }} }} }}
    {_PEER_TEMPLATE} {{ id templateName templateType }}
    orchestrationJobsByTenantIdAndPlanId(first: 3, orderBy: [CREATED_AT_DESC, ROW_ID_DESC],
      condition: {{isDeleted: false}}) {{ nodes {{ id jobName status direction createdAt }} }} }}
  pageInfo {{ hasNextPage endCursor }} }} }}"""
PEER_LIST = """query($tenant: BigInt!) { allOrchestrationJobs(first: 100, orderBy: [CREATED_AT_DESC, ROW_ID_DESC],
  condition: {tenantId: $tenant, status: "SUCCEEDED", isDeleted: false}) { nodes { id jobName jobType status direction
  stack statusReason createdAt startedAt completedAt durationSeconds retryCount }
  pageInfo { hasNextPage endCursor } } }"""


@dataclass(frozen=True)
class Side:
    name: str
    port: int
    process: psutil.Process
    # What it is asked in its own words.
    words: dict[str, dict[str, Any]] | None = None

    def asked(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """What it is asked where ours is asked `body`."""
        return body if self.words is None else self.words[name]


async def run(rounds: int) -> str:
    """The table."""
    async with surroundings() as where:
        await fill(where)
        asked = await questions(where)
        with contextlib.ExitStack() as stack:
            sides = [stack.enter_context(side) for side in _sides(where, asked)]
            _pin(sides)
            for side in sides:
                await _ready(side)
            found: dict[tuple[str, int, str], Measured] = defaultdict(Measured)
            expected = {
                (side.name, name): await _once(side, where, name, side.asked(name, body))
                for side in sides
                for name, body in asked.items()
            }
            _compare(expected)
            for turn in range(rounds):
                # Each comes after each: whoever follows one that makes the machine hot is slower.
                order = sides[turn % len(sides) :] + sides[: turn % len(sides)]
                for name, body in asked.items():
                    for concurrency in CONCURRENCY:
                        for side in order:
                            if concurrency > 16 and side.name == _SLOW:
                                # Its batches wait for each other's connections until they give up.
                                continue
                            requests = (
                                _request(side, where, name, side.asked(name, body)),
                                expected[side.name, name],
                            )
                            await _measure(side, *requests, concurrency, found[name, concurrency, side.name])
    own = {name: expected[sides[0].name, name] for name in asked}
    return table_of(found, [side.name for side in sides], _PEER, own, _SECONDS)


def _compare(expected: dict[tuple[str, str], bytes]) -> None:
    """That all sides show the same plans, steps and jobs: by their names, which all of them tell."""
    names = re.compile(rb'"(?:\w*[nN]ame)":"((?:plan|step|job|workflow) [^"]*)"')
    told = {key: names.findall(body.lower()) for key, body in expected.items()}
    for (side, name), found in told.items():
        wanted = next(other for (_, one), other in told.items() if one == name)
        if sorted(found) != sorted(wanted):
            message = f"{side} answers {name} with other things than ours: {len(found)} names, and not {len(wanted)}"
            raise RuntimeError(message)


# ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────────────


async def questions(where: Surroundings) -> dict[str, dict[str, Any]]:
    """What is asked, by letter: the bodies of requests."""
    connection = await asyncpg.connect(where.database_url)
    plan = await connection.fetchval("SELECT max(id) FROM deployment_plan WHERE tenant_id = $1", where.tenant_id)
    await connection.close()
    return {
        "a": {"query": OBJECT, "variables": {"id": encode_id("DeploymentPlan", plan)}},
        "b": {"query": PAGE},
        "c": {"query": LIST},
        "d": {"query": NOTHING},
    }


def _plans(where: Surroundings, asked: dict[str, dict[str, Any]]) -> str:
    """The statements that ours are compiled to, with their parameters, for the bare server."""
    schema: Any = build_schema()
    until = datetime.now(UTC) + timedelta(hours=1)
    principal = Principal(where.tenant_id, "bench", 1, Role.ADMIN, frozenset(Permission), 1, until)
    nothing: Any = None
    compiled = {}
    for name, body in asked.items():
        variables = body.get("variables", {})
        plan = CompiledQueries(schema).plan(body["query"], variables, None, Context(nothing, principal, "", nothing))
        if plan is None:
            message = f"{name} is not compiled"
            raise RuntimeError(message)
        given = {**variables, "$tenant": where.tenant_id, "$user": 1}
        compiled[name] = {"sql": plan.sql, "parameters": [read(given) for read in plan.parameters]}
    return json.dumps(compiled)


# ── who is asked ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _sides(where: Surroundings, asked: dict[str, dict[str, Any]]) -> list[contextlib.AbstractContextManager[Side]]:
    return [
        _ours(where, "ours", "true"),
        _ours(where, _SLOW, "false"),
        *([_peer(where, asked["a"]["variables"]["id"])] if _PEER_NODE.exists() else []),
        _bare(where, _plans(where, asked)),
    ]


@contextlib.contextmanager
def _ours(where: Surroundings, name: str, compiled: str) -> Iterator[Side]:
    port = free_port()
    with where.processes(["api"], WINDLASS_PORT=str(port), WINDLASS_COMPILED_QUERIES=compiled) as (process,):
        yield Side(name, port, psutil.Process(process.pid))


@contextlib.contextmanager
def _peer(where: Surroundings, plan: str) -> Iterator[Side]:
    """PostGraphile with as many connections as ours may have, under the role and the tenant that ours are under."""
    port, tenant = free_port(), str(where.tenant_id)
    words: dict[str, dict[str, Any]] = {
        "a": {"query": PEER_OBJECT, "variables": {"tenant": tenant, "id": str(number_in(plan, "DeploymentPlan"))}},
        "b": {"query": PEER_PAGE, "variables": {"tenant": tenant}},
        "c": {"query": PEER_LIST, "variables": {"tenant": tenant}},
        "d": {"query": NOTHING},
    }
    command = [_PEER_NODE, _PEER_FOLDER / "server.mjs", where.database_url, APP_ROLE, tenant, port, _POOL_SIZE]
    process = subprocess.Popen(
        [str(word) for word in command], env={**os.environ, "NODE_ENV": "production", "GRAPHILE_ENV": "production"}
    )
    try:
        yield Side(_PEER, port, psutil.Process(process.pid), words)
    finally:
        process.kill()
        process.wait(10)


@contextlib.contextmanager
def _bare(where: Surroundings, plans: str) -> Iterator[Side]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "benchmarks.bare:application", "--port", str(port), "--loop", "uvloop",
         "--http", "httptools", "--log-level", "warning", "--no-access-log"],
        env={**where.environment, "BARE_PLANS": plans},
    )  # fmt: skip
    try:
        yield Side("bound: the same SQL, bare", port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(10)


def _pin(sides: list[Side]) -> None:
    """Servers on the first core, everything else on the second."""
    if (os.cpu_count() or 1) < 2:
        return
    for process in psutil.process_iter(["name"]):
        if "postgres" in (process.info["name"] or ""):
            with contextlib.suppress(psutil.Error):
                process.cpu_affinity([1])
    os.sched_setaffinity(0, {1})
    for side in sides:
        side.process.cpu_affinity([0])


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _request(side: Side, where: Surroundings, name: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    path = f"/{name}" if side.name.startswith("bound") else "/graphql"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
        f"Authorization: Bearer {where.token}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def _once(side: Side, where: Surroundings, name: str, body: dict[str, Any]) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", side.port)
    writer.write(_request(side, where, name, body))
    answer = await _answer(reader)
    writer.close()
    if b'"errors"' in answer:
        raise RuntimeError(answer)
    return answer


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    return await reader.readexactly(length)


@dataclass(eq=False)
class _Asking(asyncio.Protocol):
    """One connection that asks again as soon as it is answered, until a time.

    Without streams: what they take of the core that PostgreSQL is on would be counted against whoever is fast.
    """

    request: bytes
    length: int
    until: float
    over: asyncio.Future[None]
    waits: list[float] = field(default_factory=list)
    _began: float = 0.0
    _got: int = 0
    _whole: int = 0
    _head: bytes = b""
    _transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._got, self._whole, self._head = 0, 0, b""
        self._began = time.perf_counter()
        self._transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self._got += len(data)
        if not self._whole:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._head[:end].lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            if length != self.length or b" 200 " not in head.split(b"\r\n")[0]:
                self._end(RuntimeError(self._head[:500]))
                return
            self._whole = end + 4 + length
        if self._got < self._whole:
            return
        now = time.perf_counter()
        self.waits.append(now - self._began)
        if now < self.until:
            self._ask()
        else:
            self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionResetError())

    def _end(self, error: Exception | None) -> None:
        if self.over.done():
            return
        if error is None:
            self.over.set_result(None)
        else:
            self.over.set_exception(error)
        self._transport.close()


async def _measure(side: Side, request: bytes, expected: bytes, concurrency: int, found: Measured) -> None:
    """Ask for a while, and see that every answer is right."""
    # Connections are made, statements prepared and plans chosen before it counts.
    await _asked(side, request, expected, concurrency, 0.4)
    before, began = sum(side.process.cpu_times()[:2]), time.perf_counter()
    waits = await _asked(side, request, expected, concurrency, _SECONDS)
    found.rates.append(len(waits) / (time.perf_counter() - began))
    found.cpu.append((sum(side.process.cpu_times()[:2]) - before) / max(len(waits), 1))
    found.waits.append(sorted(waits))


async def _asked(side: Side, request: bytes, expected: bytes, concurrency: int, seconds: float) -> list[float]:
    """How long each answer took."""
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + seconds
    asking = [_Asking(request, len(expected), until, loop.create_future()) for _ in range(concurrency)]
    await asyncio.gather(*(loop.create_connection(lambda one=one: one, "127.0.0.1", side.port) for one in asking))  # type: ignore[misc]
    await asyncio.gather(*(one.over for one in asking))
    return [wait for one in asking for wait in one.waits]


async def _ready(side: Side) -> None:
    async with httpx.AsyncClient() as client:
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                await client.get(f"http://127.0.0.1:{side.port}/healthz", timeout=2)
                return
            await asyncio.sleep(0.1)
