"""A backup is restored, and the same numbers become other facts: whoever comes with a place in what was is told so.

The whole data directory of a server is put back, so that even the numbers of transactions come again.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.db import models
from app.db.feed import Position
from app.db.journal import Lines, append
from app.db.migrating import migrate
from app.db.uow import Database
from app.domain import cursors
from app.domain.cursors import Place
from app.domain.enums import LogLevel
from app.domain.events import Event, EventKind, Stream
from app.domain.logs import LogLine
from app.embedded.postgres import EmbeddedPostgres
from schema.nodes import encode_id
from tests.schema.live.conftest import JOB, LOGS, PLAN, Live, job_id, progressed
from tests.schema.live.test_sse import all_of, asked, events
from tests.schema.live.test_tenant_events import TENANT

pytestmark = pytest.mark.slow

_LINES_PAGE = """query($id: ID!) { orchestrationJob(id: $id) { cursor logs(last: 1) { edges { cursor } }
  events(first: 500) { edges { cursor node { cursor } } } } }"""


@pytest.fixture
def server(server_folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(server_folder / "postgres", durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def database_url(server: EmbeddedPostgres) -> str:
    await asyncio.to_thread(migrate, server.url)
    return server.url


@dataclass(slots=True)
class Installation:
    """An API that goes on running while its database is taken back to an earlier day."""

    live: Live
    server: EmbeddedPostgres
    job: models.OrchestrationJob
    plan: models.DeploymentPlan

    @property
    def _data(self) -> Path:
        return self.server.folder / "data"

    async def back_up(self) -> None:
        await asyncio.to_thread(self.server.stop)
        await _copy(self._data, self._data.with_name("backup"))
        await asyncio.to_thread(self.server.start)

    async def restore(self, name: str, facts: int) -> None:
        """Put the backup back; `facts` of another history are there before anybody can look."""
        await asyncio.to_thread(self.server.stop)
        await _copy(self._data.with_name("backup"), self._data)
        elsewhere = EmbeddedPostgres(self.server.folder)
        await asyncio.to_thread(elsewhere.start)
        try:
            await self.write(name, facts, elsewhere.url)
        finally:
            await asyncio.to_thread(elsewhere.stop)
        await asyncio.to_thread(self.server.start)

    async def write(self, name: str, facts: int, url: str | None = None) -> None:
        """So many times: a line and an event of the job, an event of its plan."""
        async with self._hand(url or self.server.url) as hand:
            for number in range(facts):
                line = LogLine(1_700_000_000_000_000, LogLevel.INFO, "s", f"{name}-{number}")
                data = {"planId": self.plan.id, "previous": "RUNNING", "status": "RUNNING", "reason": "NONE"}
                async with hand.api.acme.rows.write() as transaction:
                    await append(transaction, Stream.JOB, self.job.id, [Lines([line], None, None, None)])
                    await append(transaction, Stream.JOB, self.job.id, [progressed(self.job, float(number))])
                    await append(transaction, Stream.PLAN, self.plan.id, [Event(EventKind.PLAN_STATUS_CHANGED, data)])

    async def finish(self) -> None:
        async with self._hand(self.server.url) as hand:
            await hand.finish(self.job)

    @asynccontextmanager
    async def _hand(self, url: str) -> AsyncIterator[Live]:
        """What writes, and not over the API's connections: those of before the restoration may be among them."""
        api = self.live.api
        database = Database.connect(url, name="writer", pool_size=1, after_commit=api.services.bus.ring)
        acme = replace(api.acme, rows=replace(api.acme.rows, database=database))
        yield replace(self.live, api=replace(api, acme=acme))
        await database.close()

    async def reachable(self) -> None:
        """Until the API has connections to the database again."""
        async with asyncio.timeout(30):
            while True:
                # Both ways have connections of their own: one statement, and field by field.
                one = await self.live.api.ask("{ orchestrationJobs(first: 1) { nodes { id } } }")
                each = await self.live.api.ask(
                    "{ orchestrationJobs(first: 1) { nodes { id logs(first: 1) { edges { cursor } } } } }"
                )
                if "errors" not in one and "errors" not in each:
                    return
                await asyncio.sleep(0.1)

    async def first(self, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(20), aclosing(self.live.frames(document, variables)) as frames:
            return await anext(frames)

    async def arrived(self, document: str, variables: dict[str, Any], items: str, last: int) -> list[dict[str, Any]]:
        """The frames up to the one that holds the item with the number `last`."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(20), aclosing(self.live.frames(document, variables)) as frames:
            async for frame in frames:
                found.append(frame)
                if any(int(item["seq"]) == last for item in frame[items]):
                    return found
        raise AssertionError(found)


async def _copy(source: Path, target: Path) -> None:
    def copy() -> None:
        subprocess.run(["rm", "-rf", str(target)], check=True)
        # With owners and modes: under root the server is another user.
        subprocess.run(["cp", "-a", str(source), str(target)], check=True)

    await asyncio.to_thread(copy)


@pytest.fixture
async def installation(live: Live, server: EmbeddedPostgres) -> Installation:
    plan = await live.api.acme.rows.plan("plan")
    made = Installation(live, server, await live.api.acme.rows.job(plan), plan)
    await made.write("common", 3)
    return made


def _messages(frames: list[dict[str, Any]]) -> list[str]:
    return [line["message"] for frame in frames for line in frame["lines"]]


async def test_places_of_a_history_that_was_undone_are_told_from_those_of_the_one_that_is(
    installation: Installation,
) -> None:
    live, job, plan = installation.live, installation.job, installation.plan
    gid, plan_gid = job_id(job), encode_id("DeploymentPlan", plan.id)
    beginning = cursors.encode(Stream.JOB, job.id, Place(0))
    # Numbers 1 to 6 of the job are in the backup.
    [common] = [
        frame["cursor"] for frame in await installation.arrived(LOGS, {"id": gid, "after": beginning}, "lines", 5)
    ]
    common_feed = (await installation.first(TENANT, {}))["cursor"]
    await installation.back_up()
    await installation.reachable()
    await installation.write("undone", 2)
    facts = (await installation.arrived(JOB, {"id": gid, "after": beginning}, "events", 10))[-1]
    lines = (await installation.arrived(LOGS, {"id": gid, "after": beginning}, "lines", 9))[-1]
    of_plan = (await installation.first(PLAN, {"id": plan_gid}))["cursor"]
    of_feed = (await installation.first(TENANT, {}))["cursor"]
    found = (await live.api.data(_LINES_PAGE, {"id": gid}))["orchestrationJob"]
    edge = found["events"]["edges"][-1]
    undone = {
        facts["cursor"], facts["events"][-1]["cursor"], lines["cursor"], found["cursor"], edge["cursor"],
        edge["node"]["cursor"], found["logs"]["edges"][0]["cursor"],
    }  # fmt: skip
    assert {cursors.decode(cursor, Stream.JOB, job.id).seq for cursor in undone} == {9, 10}

    await installation.restore("true", 4)
    await installation.reachable()
    truth = [*(f"common-{n}" for n in range(3)), *(f"true-{n}" for n in range(4))]
    for cursor in undone:
        frame = await installation.first(JOB, {"id": gid, "after": cursor})
        assert (frame["kind"], cursors.decode(frame["cursor"], Stream.JOB, job.id)) == ("RESYNC", Place(14))
        frames = await installation.arrived(LOGS, {"id": gid, "after": cursor}, "lines", 13)
        assert [frame["kind"] for frame in frames] == ["RESYNC", "EVENTS"]
        assert _messages(frames) == truth
    # A number alone, as cursors were once, and the place that both histories have.
    for cursor in (cursors.encode(Stream.JOB, job.id, Place(6)), common):
        frames = await installation.arrived(LOGS, {"id": gid, "after": cursor}, "lines", 13)
        assert {frame["kind"] for frame in frames} == {"EVENTS"}
        assert _messages(frames) == truth[3:]
    assert (await installation.first(PLAN, {"id": plan_gid, "after": of_plan}))["kind"] == "RESYNC"
    # The true history has passed that place, by the numbers of its transactions, too.
    now = (await installation.first(TENANT, {}))["cursor"]
    assert Position.decode(now) > Position.decode(of_feed)
    assert (await installation.first(TENANT, {"after": of_feed}))["kind"] == "RESYNC"
    frame = await installation.first(TENANT, {"after": common_feed})
    assert (frame["kind"], len(frame["events"])) == ("EVENTS", 8)
    await _elsewhere(installation, lines["cursor"], common, truth)


async def _elsewhere(installation: Installation, undone: str, common: str, truth: list[str]) -> None:
    """Events that are sent by the server, and the file."""
    live, gid = installation.live, job_id(installation.job)
    async with (
        asyncio.timeout(20),
        asked(live, LOGS, {"id": gid}, headers={"last-event-id": undone}) as response,
        aclosing(events(response)) as sent,
    ):
        frames = [(await anext(sent)).frame() for _ in range(2)]
    assert ([frame["kind"] for frame in frames], _messages(frames)) == (["RESYNC", "EVENTS"], truth)
    url = f"http://127.0.0.1:{live.port}/jobs/{gid}/log.ndjson"
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {live.api.acme.token}"}) as client:
        refused = await client.get(url, params={"after": undone})
        assert (refused.status_code, refused.json()["error"].partition(":")[0]) == (400, "after")
        answer = await client.get(url, params={"after": common})
        assert answer.status_code == 200
        assert answer.text.count("\n") == 4
        assert "true-0" in answer.text
    await installation.finish()
    ended = await all_of(live, LOGS, {"id": gid}, headers={"last-event-id": common})
    assert _messages([one.frame() for one in ended if one.data and one.event == "next"]) == truth[3:]


async def test_whoever_follows_while_a_backup_is_restored_is_told(installation: Installation) -> None:
    live, job = installation.live, installation.job
    await installation.back_up()
    await installation.reachable()
    await installation.write("undone", 2)
    told, again = list[str](), asyncio.Event()

    async def follow(document: str, items: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after = cursors.encode(Stream.JOB, job.id, Place(0))
        async with aclosing(live.frames(document, {"id": job_id(job), "after": after})) as frames:
            async for frame in frames:
                found = [frame] if frame["kind"] == "RESYNC" else [*found, frame]
                told.append(frame["kind"])
                if any(int(item["seq"]) >= 9 for item in frame[items]) and "RESYNC" not in told:
                    again.set()
                if frame["kind"] == "END":
                    return found
        raise AssertionError(told)

    following = asyncio.create_task(follow(LOGS, "lines"))
    async with asyncio.timeout(60):
        await again.wait()
        await installation.restore("true", 4)
        await installation.reachable()
        await installation.finish()
        frames = await following
    assert told.count("RESYNC") == 1
    assert _messages(frames) == [*(f"common-{n}" for n in range(3)), *(f"true-{n}" for n in range(4))]
