"""From the commit in a worker to the frame in a client: how long.

Ours: the journal is appended to as the engine does it, in a process of its own beside the API; a WebSocket client
(graphql-transport-ws) of `jobLogs` takes the time when the frame is there. Limit: a bare publish on Valkey to a bare
subscriber, taken in turn. Both clocks are the same machine's.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import asyncpg
import httpx
import orjson
import redis.asyncio as redis
from websockets.asyncio.client import connect

from app.bus.bus import Bus
from app.db import journal
from app.db.uow import Database
from app.embedded.processes import free_port
from benchmarks.surroundings import Surroundings, surroundings
from schema.nodes import encode_id

EVENTS = 300
PAUSE = 0.02
DOCUMENT = "subscription($id: ID!) { jobLogs(id: $id) { kind lines { seq message } } }"


async def run(rounds: int) -> str:
    """The table."""
    ours: list[float] = []
    bare: list[float] = []
    async with surroundings() as where:
        port = free_port()
        with where.processes(["api"], WINDLASS_PORT=str(port)):
            await _ready(port)
            job_id = await new_job(where)
            for _ in range(rounds):
                ours += await _stream(where, port, job_id)
                bare += await _publish(where)
    lines = [
        f"\n### Commit in the worker to frame in the client ({EVENTS} events × {rounds}, 50/s, one subscriber)\n",
        "| | p50 ms | p99 ms | × bare publish (p50) |",
        "|---|--:|--:|--:|",
    ]
    for name, found in (("ours", ours), ("bare publish on Valkey", bare)):
        ratio = statistics.median(found) / statistics.median(bare)
        p99 = statistics.quantiles(found, n=100)[98]
        lines.append(f"| {name} | {statistics.median(found) * 1e3:.2f} | {p99 * 1e3:.2f} | {ratio:.1f} |")
    return "\n".join(lines)


async def _stream(where: Surroundings, port: int, job_id: int) -> list[float]:
    bus = Bus(where.redis_url)
    await bus.start()
    database = Database.connect(where.database_url, name="benchmark", pool_size=2, after_commit=bus.ring)
    sent: dict[str, float] = {}
    found: list[float] = []
    uri = f"ws://127.0.0.1:{port}/graphql"
    async with connect(uri, subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]
        await socket.send(orjson.dumps({"type": "connection_init", "payload": {"token": where.token}}).decode())
        await socket.recv()
        variables = {"id": encode_id("OrchestrationJob", job_id)}
        payload = {"query": DOCUMENT, "variables": variables}
        await socket.send(orjson.dumps({"id": "1", "type": "subscribe", "payload": payload}).decode())
        await socket.recv()

        async def write() -> None:
            for number in range(EVENTS):
                message = f"{time.time_ns()}-{number}"
                line = {"at": "2026-01-01T00:00:00Z", "level": "INFO", "stream": "s", "message": message}
                async with database.write(where.tenant_id, actor="bench", correlation_id="bench") as transaction:
                    transaction.authorize("benchmark")
                    await journal.append_lines(
                        transaction, job_id, [line], step_run_id=None, step_key=None, attempt=None
                    )
                sent[message] = time.perf_counter()
                await asyncio.sleep(PAUSE)

        writing = asyncio.create_task(write())
        received: dict[str, float] = {}
        while len(received) < EVENTS:
            message = orjson.loads(await asyncio.wait_for(socket.recv(), 10))
            now = time.perf_counter()
            if message["type"] == "next":
                for line in message["payload"]["data"]["jobLogs"]["lines"]:
                    received[line["message"]] = now
            elif message["type"] == "ping":
                await socket.send('{"type": "pong"}')
        await writing
        # A frame may overtake the return of the commit call in this process: that is no time at all, not less.
        found = [max(received[message] - at, 0.0) for message, at in sent.items() if message in received]
    await bus.stop()
    await database.close()
    return found


async def _publish(where: Surroundings) -> list[float]:
    found: list[float] = []
    client = redis.Redis.from_url(where.redis_url)
    async with client.pubsub() as subscription:
        await subscription.subscribe("bare")
        await subscription.get_message(timeout=1)

        async def listen() -> None:
            while len(found) < EVENTS:
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=5)
                if message is not None:
                    found.append(time.perf_counter() - float(message["data"]))

        listening = asyncio.create_task(listen())
        for _ in range(EVENTS):
            await client.publish("bare", repr(time.perf_counter()))
            await asyncio.sleep(PAUSE)
        await listening
    await client.aclose()
    return found


async def new_job(where: Surroundings) -> int:
    """A job without steps, which nobody works at."""
    connection = await asyncpg.connect(where.database_url)
    try:
        plan = await connection.fetchval(
            "INSERT INTO deployment_plan (tenant_id, plan_name, plan_type, stack) VALUES ($1, 'p', 'IMMEDIATE', 'p')"
            " RETURNING id",
            where.tenant_id,
        )
        job: int = await connection.fetchval(
            "INSERT INTO orchestration_job (tenant_id, plan_id, job_name, job_type, stack, status)"
            " VALUES ($1, $2, 'j', 'CUSTOM', 'p', 'RUNNING') RETURNING id",
            where.tenant_id,
            plan,
        )
        return job
    finally:
        await connection.close()


async def _ready(port: int) -> None:
    async with httpx.AsyncClient() as client:
        for _ in range(300):
            try:
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    message = "the API does not come up"
    raise RuntimeError(message)
