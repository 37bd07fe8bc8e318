"""Documents that mean harm: how soon each is refused, and whether others notice."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from typing import Any

import httpx

from app.embedded.processes import free_port
from benchmarks.dashboard import fill
from benchmarks.queries import questions
from benchmarks.surroundings import Surroundings, surroundings

_EACH = 200
_CLIENTS = 4
_SECONDS = 5.0
_DEEP = "deploymentPlans { nodes { jobs { nodes { plan { "
DOCUMENTS = {
    "24 fragments, each spreading the next twice": (
        "{ ...f0 } " + " ".join(f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(24))
        + " fragment f24 on Query { __typename }"
    ),
    "30 levels": "{ " + "node(id: 1) { id ... on DeploymentPlan { lastJob { plan { " * 8 + "id" + " } } } }" * 8 + " }",
    "1,000 aliases": "{ " + " ".join(f"a{n}: __typename" for n in range(1000)) + " }",
    "lists of 1,000 in lists of 1,000": (
        "{ workflows(first: 1000) { nodes { plans(first: 1000) { nodes { jobs(first: 1000) { nodes { id } } } } } } }"
    ),
    "60,000 brackets": "{" * 60_000,
}  # fmt: skip


async def run(rounds: int) -> str:
    """The tables."""
    async with surroundings() as where:
        await fill(where)
        port = free_port()
        with where.processes(["api"], WINDLASS_PORT=str(port)):
            limits = httpx.Limits(max_connections=20)
            address = f"http://127.0.0.1:{port}"
            headers = {"authorization": f"Bearer {where.token}"}
            async with httpx.AsyncClient(base_url=address, headers=headers, limits=limits, timeout=30) as client:
                await _ready(client)
                return "\n".join([*await _refusals(client, rounds), *await _noticed(client, where, rounds)])


async def _refusals(client: httpx.AsyncClient, rounds: int) -> list[str]:
    lines = ["\n### Documents that mean harm (one at a time)\n", "| | bytes | p50 ms | p99 ms |", "|---|--:|--:|--:|"]
    for name, document in {**DOCUMENTS, "`__typename`, for comparison": "{ __typename }"}.items():
        body, harms = {"query": document}, name in DOCUMENTS
        waits = sorted([await _ask(client, body, refused=harms) for _ in range(_EACH * rounds)])
        lines.append(
            f"| {name} | {len(document):,} | {statistics.median(waits) * 1e3:.2f}"
            f" | {waits[int(len(waits) * 0.99)] * 1e3:.2f} |"
        )
    return lines


async def _noticed(client: httpx.AsyncClient, where: Surroundings, rounds: int) -> list[str]:
    body = (await questions(where))["a"]
    lines = [
        f"\n### A client that reads plans, alone and beside {_CLIENTS} that send such documents all the time\n",
        "| | p50 ms | p99 ms | refused meanwhile, a second |",
        "|---|--:|--:|--:|",
    ]
    found: dict[str, list[float]] = {"alone": [], "beside them": []}
    refused = 0

    async def harm() -> None:
        nonlocal refused
        while True:
            for document in DOCUMENTS.values():
                await _ask(client, {"query": document}, refused=True)
                refused += 1

    for _ in range(rounds):
        for name, waits in found.items():
            clients = [asyncio.create_task(harm()) for _ in range(_CLIENTS if name != "alone" else 0)]
            until = time.perf_counter() + _SECONDS
            while time.perf_counter() < until:
                waits.append(await _ask(client, body, refused=False))
                await asyncio.sleep(0.005)
            for task in clients:
                task.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
    for name, waits in found.items():
        waits.sort()
        rate = refused / (rounds * _SECONDS) if name != "alone" else 0
        p50, p99 = statistics.median(waits) * 1e3, waits[int(len(waits) * 0.99)] * 1e3
        lines.append(f"| {name} | {p50:.2f} | {p99:.2f} | {rate:,.0f} |")
    return lines


async def _ask(client: httpx.AsyncClient, body: dict[str, Any], *, refused: bool) -> float:
    began = time.perf_counter()
    answer = await client.post("/graphql", json=body)
    took = time.perf_counter() - began
    if ("errors" in answer.json()) is not refused:
        raise RuntimeError(answer.text[:300])
    return took


async def _ready(client: httpx.AsyncClient) -> None:
    for _ in range(300):
        with contextlib.suppress(httpx.TransportError):
            await client.get("/healthz")
            return
        await asyncio.sleep(0.1)
