"""Real clients follow streams while everything falls over: `make chaos-live ARGS="--seed 7 --rounds 5"`.

Each round a few jobs write thousands of lines, and clients of graphql-ws (npm) and gql (Python) follow them over two
API processes. APIs, workers, Valkey and PostgreSQL are killed or held, tokens expire, clients stop reading. Afterwards
what each client was told must be, byte for byte, what the database holds.

The exit code is 0 when it is, and enough was injected, delivered and come back to. With `--plant BUG` it is 0 when it
is not.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from app import clock
from app.db.models import Workflow
from app.domain import cursors
from app.domain.cursors import BEGINNING, Place
from app.domain.enums import DefinitionStatus, PlanType, WorkflowType
from app.domain.events import Stream
from app.reads import filters, streams
from app.services import plans, tokens
from app.services.plans import CreatePlan
from schema.nodes import encode_id
from tests.chaos.eyes import UNREACHABLE
from tests.chaos.live_bugs import LIVE_BUGS
from tests.chaos.load import AWAY, Customers
from tests.chaos.nemesis import Deeds, Nemesis, Track
from tests.chaos.part import Unfriendly
from tests.chaos.town import LEASE_SECONDS, Town, town
from tests.chaos.watchers import EVENTS, LOGS, NEEDLES, Watch, Watchers, digest_of
from tests.schema import node

_TENANT = "alpha"
_WORKERS = 3
_SCHEDULERS = 2
_APIS = 2
_JOBS = 4
_STEPS = 4
_LINES = 150
_TOKEN_SECONDS = 12.0
_DEADLINE_SECONDS = 120.0
# Of each client, and of each round; a kind of fault that is wanted comes in so many rounds.
_LEAST_LINES = 100
_LEAST_FAULTS = 5
_ENOUGH_ROUNDS = 3


class LiveNemesis(Nemesis):
    """Prefers whatever stands between a worker and those who watch."""

    @property
    def tracks(self) -> list[Track]:
        light, heavy, processes = self.light, self.heavy, self.processes
        chosen = {
            "worker kill -9": 2, "worker SIGSTOP > lease": 1, "Valkey kill -9": 2, "PostgreSQL kill -9": 1,
            "PostgreSQL immediate restart": 1, "API kill -9": 6,
        }  # fmt: skip
        deeds: Deeds = {
            **{kind: (weight, heavy[kind][1]) for kind, weight in chosen.items()},
            "Valkey FLUSHALL": (1, light["Valkey FLUSHALL"][1]),
            "connections terminated": (3, light["connections terminated"][1]),
            "API SIGTERM": (3, partial(processes.signal, kind="api", number=signal.SIGTERM)),
            "API SIGSTOP 2 s": (2, partial(processes.stop, kind="api", seconds=2.0)),
            f"API SIGSTOP {LEASE_SECONDS:.0f} s": (1, partial(processes.stop, kind="api", seconds=LEASE_SECONDS)),
        }
        return [Track(deeds, (0.4, 1.6))]


@dataclass
class Reckoning:
    """What came of all rounds."""

    seeds: list[int]
    clients: int = 0
    connections: int = 0
    lines: int = 0
    events: int = 0
    stored: int = 0
    jobs: Counter[str] = field(default_factory=Counter)
    closes: Counter[str] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    # The kinds of fault there are.
    kinds: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def lacks(self) -> list[str]:
        """What a run must have that proves something, and this one has not."""
        rounds, least = len(self.seeds), self.clients // 2
        found = []
        if self.connections - self.clients < least:
            found.append(f"{self.connections - self.clients} reconnects, and at least {least} are wanted")
        if self.lines < self.clients * _LEAST_LINES:
            found.append(f"{self.lines} lines delivered, and at least {self.clients * _LEAST_LINES} are wanted")
        if self.injected.total() < rounds * _LEAST_FAULTS:
            found.append(f"{self.injected.total()} faults, and at least {rounds * _LEAST_FAULTS} are wanted")
        if rounds >= _ENOUGH_ROUNDS:
            found += [f"no {kind} was injected" for kind in self.kinds if not self.injected[kind]]
        return found

    def table(self) -> str:
        """The report, as it stands in docs/reliability.md."""
        codes = ", ".join(f"{code} {number}×" for code, number in sorted(self.closes.items()))
        done = ", ".join(f"{n} {status}" for status, n in sorted(self.jobs.items()))
        lines = ["| fault | injected |", "|---|--:|"]
        lines += [f"| {kind} | {n} |" for kind, n in sorted(self.injected.items())]
        lines += [
            f"| all | {self.injected.total()} |",
            f"\nSeeds: {self.seeds[0]} to {self.seeds[-1]}; {self.seconds:.0f} s",
            f"Jobs: {self.jobs.total()} ({done}), with {self.stored} lines and events",
            f"Clients: {self.clients}; reconnects: {self.connections - self.clients} (closed with {codes})",
            f"Delivered: {self.lines} lines, {self.events} events",
            f"Violations: {len(self.wrong)}",
        ]
        return "\n".join([*lines, *(f"  {fault}" for fault in self.wrong[:40])])


@dataclass
class Stage:
    """One town in which rounds are played."""

    town: Town
    customers: Customers
    file: Path

    async def keep_token(self) -> None:
        """A file with a token that is good for some seconds: every client has to come back with another."""
        while True:
            with suppress(*UNREACHABLE):
                await self.renew()
            await asyncio.sleep(_TOKEN_SECONDS / 3)

    async def renew(self) -> None:
        principal = self.customers.principals[_TENANT]
        expires_at = clock.utc_now() + timedelta(seconds=_TOKEN_SECONDS)
        async with self.customers.database.write(
            principal.tenant_id, actor=principal.actor, correlation_id="chaos"
        ) as write:
            issued = await tokens.issue(write, principal, tokens.IssueToken("watcher", expires_at=expires_at))
        fresh = self.file.with_suffix(".new")
        fresh.write_text(issued.text)
        fresh.replace(self.file)

    async def begin(self, name: str) -> int:
        """A job that writes lines for some seconds; its id."""
        principal = self.customers.principals[_TENANT]
        steps = [
            {
                "key": f"step-{n}", "type": "CUSTOM", "order": n, "configuration": {"task": "core.log"},
                "inputs": {"message": f"{name} says {n}", "repeat": _LINES, "intervalSeconds": 0.02},
            }
            for n in range(_STEPS)
        ]  # fmt: skip
        async with self.customers.database.write(
            principal.tenant_id, actor=principal.actor, correlation_id="chaos"
        ) as write:
            write.authorize("chaos")
            workflow = Workflow(
                tenant_id=principal.tenant_id, workflow_name=name, workflow_type=WorkflowType.DEPLOYMENT,
                status=DefinitionStatus.PUBLISHED, definition={"steps": steps},
            )  # fmt: skip
            write.session.add(workflow)
            await write.session.flush()
            command = CreatePlan(name=name, type=PlanType.IMMEDIATE, workflow_id=workflow.id, stack=name)
            plan = await plans.create(write, principal, command, self.customers.dependencies)
        if plan.active_job_id is None:
            message = f"the plan {name} has no job: {plan.status}"
            raise AssertionError(message)
        return plan.active_job_id

    async def play(self, seed: int, clients: int, rage: float, found: Reckoning, raged: asyncio.Event) -> None:
        """One round: jobs write, clients follow, the nemesis rages for a while, until `raged`; then all is compared."""
        began = time.monotonic()
        chance = random.Random(seed)
        await self.renew()
        jobs = [await self.begin(f"seed-{seed}-{n}") for n in range(_JOBS)]
        watches = [_watch(number, jobs[number % _JOBS], chance) for number in range(clients)]
        watchers = Watchers([f"ws://127.0.0.1:{port}/graphql" for port in self.town.ports], self.file)
        nemesis = LiveNemesis(self.town, chance)
        until = time.monotonic() + rage
        found.kinds |= {kind for track in nemesis.tracks for kind in track.deeds}
        raging = asyncio.create_task(nemesis.rage(lambda: time.monotonic() > until))
        raging.add_done_callback(lambda _: raged.set())
        await watchers.follow(watches, _DEADLINE_SECONDS)
        await raging
        await self._compare(watches, watchers, jobs, found)
        found.injected += nemesis.injected
        found.wrong += nemesis.takeovers.lost
        sys.stderr.write(
            f"seed {seed}: {time.monotonic() - began:.0f} s, {nemesis.injected.total()} faults;"
            f" {len(found.wrong)} violations so far\n"
        )

    async def _compare(self, watches: list[Watch], watchers: Watchers, jobs: list[int], found: Reckoning) -> None:
        stored = {job_id: await self._stored(job_id, found) for job_id in jobs}
        for watch in watches:
            told = watchers.told[watch.name]
            lines, events = stored[watch.job_id]
            if watch.query == NEEDLES:
                lines = [line for line in lines if "7" in line["message"]]
            items = events if watch.query == EVENTS else lines
            expected = digest_of(items, watch.fields)
            if told.failure is not None:
                found.wrong.append(
                    f"{watch.name}: {told.failure}; {_difference(told.seqs, [item['seq'] for item in items])},"
                    f" {told.connections} connections {dict(told.closes)}"
                )
            elif told.digest != expected:
                found.wrong.append(f"{watch.name}: {_difference(told.seqs, [item['seq'] for item in items])}")
            if told.resyncs:
                found.wrong.append(f"{watch.name} was told to forget what it had")
            found.clients += 1
            found.connections += told.connections
            found.closes += told.closes
            found.lines += 0 if watch.query == EVENTS else len(told.seqs)
            found.events += len(told.seqs) if watch.query == EVENTS else 0

    async def _stored(self, job_id: int, found: Reckoning) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The lines and the events of a job; both together must fill all of its numbers, each once."""
        async with asyncio.timeout(_DEADLINE_SECONDS):
            while True:
                try:
                    head, events, lines = await self._read(job_id)
                    break
                except AWAY:
                    # The faults of the next round are under way.
                    await asyncio.sleep(0.5)
        numbers = sorted([line["seq"] for line in lines] + [event["seq"] for event in events])
        if numbers != list(range(1, head["event_seq"] + 1)):
            found.wrong.append(f"the journal of job {job_id} has gaps or repetitions")
        found.jobs[head["status"]] += 1
        found.stored += len(numbers)
        return lines, events

    async def _read(self, job_id: int) -> tuple[Any, list[dict[str, Any]], list[dict[str, Any]]]:
        """The job's row, its events and its lines."""
        tenant_id = self.customers.principals[_TENANT].tenant_id
        connection = await asyncpg.connect(self.town.environment["WINDLASS_DATABASE_URL"], timeout=5)
        try:
            head = await connection.fetchrow("SELECT event_seq, status FROM orchestration_job WHERE id = $1", job_id)
            rows = await connection.fetch(
                "SELECT seq, correlation_id FROM event_log WHERE stream = 'JOB' AND stream_id = $1 ORDER BY seq", job_id
            )
        finally:
            connection.terminate()
        events = [{"seq": row["seq"], "correlationId": row["correlation_id"]} for row in rows]
        lines, place, until = list[dict[str, Any]](), BEGINNING, Place(head["event_seq"])
        while place < until:
            async with self.customers.database.read(tenant_id) as session:
                batch = await streams.lines_after(
                    session, tenant_id, job_id, filters.LogFilter(), after=place, until=until
                )
            place = batch.place
            lines += [
                {"seq": line.seq, "level": line.level.value, "stepKey": line.step_key, "message": line.message}
                for line in batch.items
            ]
        return head, events, lines


def _difference(told: list[int], stored: list[int]) -> str:
    """How what somebody was told differs from what is stored, by numbers."""
    counted, known = Counter(told), set(stored)
    missing = [seq for seq in stored if seq not in counted]
    twice = [seq for seq, times in counted.items() if times > 1]
    strange = [seq for seq in told if seq not in known]
    return (
        f"told {len(told)} of {len(stored)}: {len(missing)} missing {missing[:5]}, {len(twice)} twice {twice[:5]},"
        f" {len(strange)} that are not there {strange[:5]}, in order: {told == sorted(told)}"
    )


def _watch(number: int, job_id: int, chance: random.Random) -> Watch:
    """Three in ten are gql's, the others graphql-ws; most read the whole log."""
    kind = "gql" if number % 10 < 3 else "npm"
    query = chance.choice([LOGS, LOGS, NEEDLES, EVENTS])
    pauses = kind == "npm" and chance.random() < 0.15
    # Events are told from where the job is, unless one asks for those from before.
    after = cursors.encode(Stream.JOB, job_id, BEGINNING) if query == EVENTS else None
    return Watch(f"{kind}-{number}", job_id, encode_id("OrchestrationJob", job_id), query, after, pauses)


async def run(
    seeds: list[int], clients: int, rage: float, bug: str | None = None, log: Path | None = None
) -> Reckoning:
    """All rounds in one town."""
    found, began = Reckoning(seeds), time.monotonic()
    async with town(_WORKERS, _SCHEDULERS, Unfriendly(bug=bug), apis=_APIS) as here:
        stage = Stage(here, await Customers.of(here), here.folder / "token")
        await _until_ready(here)
        keeping = asyncio.create_task(stage.keep_token())
        try:
            await _play_all(stage, seeds, clients, rage, found)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await stage.customers.database.close()
            if log is not None:
                await asyncio.to_thread(shutil.copy, here.log, log)
        found.wrong += here.unexpected_ends(())
    found.seconds = time.monotonic() - began
    return found


async def _play_all(stage: Stage, seeds: list[int], clients: int, rage: float, found: Reckoning) -> None:
    """The next round begins when the faults of one are over: whoever still follows then, meets those of the next."""
    rounds: list[asyncio.Task[None]] = []
    try:
        for seed in seeds:
            raged = asyncio.Event()
            rounds.append(asyncio.create_task(stage.play(seed, clients, rage, found, raged)))
            waiting = asyncio.create_task(raged.wait())
            await asyncio.wait([rounds[-1], waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            # Two at a time: the machine shall be busy with faults, and not with clients.
            await asyncio.gather(*rounds[:-1])
        await asyncio.gather(*rounds)
    finally:
        for task in rounds:
            task.cancel()
        await asyncio.gather(*rounds, return_exceptions=True)


async def _until_ready(here: Town) -> None:
    async with asyncio.timeout(60):
        for port in here.ports:
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos-live", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first round; the others count on")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=40, help="in each round")
    parser.add_argument("--rage", type=float, default=18, help="seconds of faults in each round")
    parser.add_argument("--plant", choices=sorted(LIVE_BUGS), help="a bug that must be found")
    parser.add_argument("--log", type=Path, help="where to keep what the processes have said")
    given = parser.parse_args()
    node.install()
    found = asyncio.run(
        run(list(range(given.seed, given.seed + given.rounds)), given.clients, given.rage, given.plant, given.log)
    )
    sys.stdout.write(found.table() + "\n")
    if found.lacks():
        sys.stdout.write(f"too little was proved: {'; '.join(found.lacks())}\n")
        return 1
    if given.plant:
        sys.stdout.write(f"the planted {given.plant} was {'found' if found.wrong else 'NOT found'}\n")
    return 1 if bool(found.wrong) != bool(given.plant) else 0


if __name__ == "__main__":
    sys.exit(main())
