"""The same five no-op steps on ours and on the peers, in turn in one run.

Ours: processes as in production, journal, tries, intents and logs on. Peers: see `benchmarks/peers`; a database each on
the same server. Bounds: what our engine's statements alone do (`benchmarks/replay.py`), and the seven commits that such
a job needs at the least, each one row, by eight connections of the bare driver.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections import defaultdict

import asyncpg

from benchmarks.peers import PEERS, PeerFailed, has_what_it_needs, install, measure
from benchmarks.replay import record, replay
from benchmarks.surroundings import Surroundings, surroundings
from benchmarks.workload import AT_A_TIME, STEPS, carried, handed_in_and_carried

JOBS = 300
ONE, TWO, HANDED_IN = "ours, 1 worker", "ours, 2 workers", "ours, 1 worker, handing in counted"
ALONE, COMMITS = "bound: our SQL alone", "bound: bare commits"
Rates = dict[str, list[float]]


async def run(rounds: int) -> str:
    """The table."""
    rates: Rates = defaultdict(list)
    failed: dict[str, str] = {}
    notes: list[str] = []
    loads: list[float] = []
    used: list[float] = []
    for peer in PEERS:
        try:
            await install(peer)
        except PeerFailed as error:
            failed[peer.name] = f"cannot be installed: {error}"
    async with surroundings() as where:
        recording = await record(where, JOBS)
        notes += [
            f"{peer.name} keeps its data in SQLite, its default: our PostgreSQL has no {peer.extension}."
            for peer in PEERS
            if not await has_what_it_needs(peer, where.database_url)
        ]
        for number in range(rounds):
            loads.append(os.getloadavg()[0])
            rates[ONE].append(await carried(where, JOBS, 1))
            for peer in PEERS:
                if peer.name in failed:
                    continue
                try:
                    for name, rate in (await measure(peer, where.database_url)).items():
                        rates[name].append(rate)
                except PeerFailed as error:
                    failed[peer.name] = f"does not run: {error}"
            rates[TWO].append(await carried(where, JOBS, 2))
            rates[HANDED_IN].append(await handed_in_and_carried(where, JOBS))
            alone, share = await replay(where, recording)
            rates[ALONE].append(alone)
            used.append(share)
            rates[COMMITS].append(await commits(where))
            print(f"round {number + 1}:", {name: round(found[-1], 1) for name, found in rates.items()}, file=sys.stderr)
    notes += [f"{name} {reason}." for name, reason in failed.items()]
    notes.append(
        f"Our SQL alone: {recording.round_trips:.0f} round trips a job; the sender took"
        f" {statistics.median(used):.0%} of one processor."
    )
    return table(rates, rounds, loads, notes)


def table(rates: Rates, rounds: int, loads: list[float], notes: list[str]) -> str:
    versions = ", ".join(f"{peer.name} {peer.version} ({peer.jobs} jobs)" for peer in PEERS)
    before = ", ".join(f"{load:.1f}" for load in loads)
    lines = [
        f"\n### Jobs of {STEPS} no-op steps (medians of {rounds} rounds, in turn; load before each: {before})\n",
        f"Ours {JOBS} jobs a round; {versions}.\n",
        "| | jobs/s | min–max | ours with 1 worker is × | with 2 × |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, found in rates.items():
        places = 0 if statistics.median(found) >= 20 else 1
        span = f"{min(found):.{places}f}–{max(found):.{places}f}"
        one, two = (ratio(rates[ours], found) for ours in (ONE, TWO))
        lines.append(f"| {name} | {statistics.median(found):.{places}f} | {span} | {one} | {two} |")
    return "\n".join([*lines, "", *notes])


def ratio(ours: list[float], theirs: list[float]) -> str:
    """The median of the rounds' ratios: what slows a round slows both sides of it."""
    found = statistics.median(a / b for a, b in zip(ours, theirs, strict=False))
    return f"{found:.0f}" if found >= 20 else f"{found:.2f}" if found < 2 else f"{found:.1f}"


async def commits(where: Surroundings) -> float:
    """Jobs a second if a job were nothing but the commits that make its steps durable."""
    pool = await asyncpg.create_pool(where.database_url, min_size=AT_A_TIME, max_size=AT_A_TIME)
    await pool.execute("DROP TABLE IF EXISTS bare; CREATE TABLE bare (id int PRIMARY KEY, n int NOT NULL)")
    await pool.executemany("INSERT INTO bare VALUES ($1, 0)", [(number,) for number in range(AT_A_TIME)])

    async def work(number: int) -> None:
        for _ in range(JOBS * (STEPS + 2) // AT_A_TIME):
            async with pool.acquire() as connection:
                await connection.execute("UPDATE bare SET n = n + 1 WHERE id = $1", number)

    began = time.perf_counter()
    await asyncio.gather(*(work(number) for number in range(AT_A_TIME)))
    seconds = time.perf_counter() - began
    await pool.close()
    return JOBS / seconds
