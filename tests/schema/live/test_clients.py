"""Real clients through a bad day: cut connections, and a server that goes and comes back."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from app.cli.client import Client, CommandFailed, Server
from app.db import models
from app.domain.events import Stream
from schema import http
from schema.root import build_schema
from tests.schema import node
from tests.schema.conftest import Api
from tests.schema.live.conftest import JOB, LOGS, Live, job_id, progressed, seqs

CUTS = 4


class Restartable:
    """A server that can be stopped and started again on its port."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        config = uvicorn.Config(
            self.live.api.app,
            host="127.0.0.1",
            port=self.live.port,
            lifespan="off",
            log_level="error",
            ws="websockets-sansio",
            ws_ping_interval=None,
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve())
        while not self._server.started:  # noqa: ASYNC110  uvicorn has a flag and no event
            await asyncio.sleep(0.01)
        self.live.port = self._server.servers[0].sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving


@pytest.fixture
async def server(api: Api) -> AsyncIterator[Restartable]:
    restartable = Restartable(Live(api, 0))
    await restartable.start()
    yield restartable
    await restartable.stop()


async def write_through_a_restart(server: Restartable, job: models.OrchestrationJob) -> int:
    """Facts and lines, slowly, with a restart of the server in the middle; the number of the last."""
    rows = server.live.api.acme.rows
    for n in range(30):
        await rows.events(Stream.JOB, job.id, progressed(job, n))
        await rows.lines(job, f"line {n}", f"and {n}")
        await asyncio.sleep(0.02)
        if n == 15:
            await server.stop()
            await server.start()
    await server.live.finish(job)
    return 30 * 3 + 1


@pytest.mark.node
@pytest.mark.parametrize(("document", "items"), [(JOB, "events"), (LOGS, "lines")])
async def test_graphql_ws_misses_nothing(server: Restartable, document: str, items: str) -> None:
    try:
        await asyncio.to_thread(node.install)
    except node.NoPackages as error:
        pytest.skip(f"no packages from the npm registry: {error}")
    live = server.live
    job = await live.job()
    environment = {
        **os.environ,
        "URL": live.websocket,
        "TOKEN": live.api.acme.token,
        "ID": job_id(job),
        "DOCUMENT": document,
        "ITEMS": items,
        "CUTS": str(CUTS),
    }
    process = await asyncio.create_subprocess_exec(
        node.NODE,
        "live.mjs",
        cwd=node.FOLDER,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    assert await process.stderr.readline() == b"seen 0\n"  # the snapshot is there; now things may happen
    communicating = asyncio.create_task(process.communicate())
    await write_through_a_restart(server, job)
    output, complaints = await asyncio.wait_for(communicating, 30)
    assert process.returncode == 0, complaints.decode()
    result: dict[str, Any] = json.loads(output)
    facts = [*range(1, 91, 3), 91]
    assert result["seqs"] == (facts if items == "events" else [n for n in range(1, 91) if n not in facts])
    # Cut by the client four times, by the server's restart once, and closed at the end.
    assert result["closes"].count(1006) >= CUTS
    assert 1012 in result["closes"]
    assert result["kinds"].count("SNAPSHOT") == 1
    assert result["kinds"][-1] == "END"


async def test_the_command_line_client_misses_nothing(server: Restartable) -> None:
    live = server.live
    job = await live.job()

    async def follow(document: str) -> list[dict[str, Any]]:
        async with Client(Server(live.http, live.websocket, live.api.acme.token)) as client:
            return [frame async for frame in client.follow(document, {"id": job_id(job)})]

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        facts, lines = group.create_task(follow(JOB)), group.create_task(follow(LOGS))
        async with asyncio.timeout(5):
            while len(live.api.services.bus._bells) < 2:  # noqa: ASYNC110  both have begun
                await asyncio.sleep(0.01)
        last = await write_through_a_restart(server, job)
    assert sorted(seqs(facts.result()) + seqs(lines.result(), "lines")) == list(range(1, last + 1))


async def test_the_command_line_client_does_not_insist(live: Live) -> None:
    for token, document, variables, message in (
        ("wl_wrong", JOB, {"id": "x"}, "the token is not accepted"),
        (live.api.acme.token, JOB, {"id": "x"}, r"there is no such job \(NOT_FOUND\)"),
        (live.api.acme.token, "subscription { nonsense }", {}, "nonsense"),
    ):
        async with Client(Server(live.http, live.websocket, token)) as client:
            with pytest.raises(CommandFailed, match=message):
                async for _ in client.follow(document, variables):
                    pass


async def test_who_does_not_introduce_themselves_is_shown_out(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "INIT_TIMEOUT", http.INIT_TIMEOUT / 50)
    endpoint = http.GraphQLEndpoint(build_schema(), live.api.services)
    config = uvicorn.Config(endpoint, host="127.0.0.1", port=0, lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    protocols = [Subprotocol("graphql-transport-ws")]
    async with connect(f"ws://127.0.0.1:{port}/graphql", subprotocols=protocols) as socket, asyncio.timeout(5):
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4408
    server.should_exit = True
    await serving
