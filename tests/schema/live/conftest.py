"""The API behind a real server on a free port, with live bells that a test may silence."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from gql import Client, GraphQLRequest
from gql.transport.websockets import WebsocketsTransport
from gql.transport.websockets_protocol import WebsocketsProtocolTransportBase
from starlette.types import ASGIApp

from app.auth.authenticator import Authenticator
from app.bus.bus import Bus
from app.db import models
from app.db.journal import append
from app.db.sealing import Sealer
from app.db.uow import Database
from app.domain.events import Event, EventKind, Stream
from app.domain.statuses import JobStatus, PlanStatus
from app.providers.registry import Registry
from app.web.sockets import Socket
from app.web.straight import StraightHttp
from schema.context import Services
from schema.nodes import encode_id
from tests.bus.valkey import Valkey
from tests.schema.conftest import SECRET_KEY, Access, Api

JOB = """subscription($id: ID!, $after: Cursor) { jobUpdated(id: $id, after: $after) {
  kind cursor lagMs job { id status } events { __typename seq cursor correlationId
    ... on JobStatusChanged { jobStatus previousJobStatus reason job { id } }
    ... on StepStatusChanged { stepKey stepStatus attempt step { key } }
    ... on StepProgressed { stepKey percent message }
    ... on ResourceChanged { resourceKey resourceStatus driftStatus resource { name } } } } }"""
LOGS = """subscription($id: ID!, $after: Cursor, $tail: Int, $filter: LogFilter) {
  jobLogs(id: $id, after: $after, tail: $tail, filter: $filter) { kind cursor skippedBefore
    lines { seq level stepKey message } } }"""
PLAN = """subscription($id: ID!, $after: Cursor) { planUpdated(id: $id, after: $after) {
  kind cursor plan { id status } events { __typename seq ... on PlanStatusChanged { planStatus plan { id } } } } }"""


@dataclass(slots=True)
class Live:
    """A running server, and what the tests write into its database."""

    api: Api
    port: int

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}/graphql"

    @property
    def websocket(self) -> str:
        return f"ws://127.0.0.1:{self.port}/graphql"

    async def frames(
        self, document: str, variables: dict[str, Any], *, access: Access | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The frames of one subscription, as the client library `gql` sees them."""
        token = (access or self.api.acme).token
        transport = WebsocketsTransport(
            url=self.websocket,
            init_payload={"authorization": f"Bearer {token}"},
            subprotocols=[WebsocketsProtocolTransportBase.GRAPHQLWS_SUBPROTOCOL],
        )
        request = GraphQLRequest(document, variable_values=variables)
        async with Client(transport=transport) as session, aclosing(session.subscribe(request)) as results:
            async for result in results:
                yield next(iter(result.values()))

    async def collect(self, document: str, variables: dict[str, Any]) -> list[dict[str, Any]]:
        """All frames up to the end."""
        async with asyncio.timeout(30), aclosing(self.frames(document, variables)) as frames:
            return [frame async for frame in frames]

    async def job(self, name: str = "plan") -> models.OrchestrationJob:
        return await self.api.acme.rows.job(await self.api.acme.rows.plan(name))

    async def finish(self, job: models.OrchestrationJob, status: JobStatus = JobStatus.SUCCEEDED) -> None:
        """Let the job reach a terminal status, as the engine does: row and event in one transaction."""
        data = {"jobId": job.id, "planId": job.plan_id, "previous": "RUNNING", "status": status, "reason": "NONE"}
        async with self.api.acme.rows.write() as transaction:
            await append(transaction, Stream.JOB, job.id, [Event(EventKind.JOB_STATUS_CHANGED, data)])
            row = await transaction.session.get_one(models.OrchestrationJob, job.id)
            row.status = status

    async def settle(self, plan: models.DeploymentPlan, status: PlanStatus) -> None:
        data = {"planId": plan.id, "previous": "RUNNING", "status": status, "reason": "NONE"}
        async with self.api.acme.rows.write() as transaction:
            await append(transaction, Stream.PLAN, plan.id, [Event(EventKind.PLAN_STATUS_CHANGED, data)])
            row = await transaction.session.get_one(models.DeploymentPlan, plan.id)
            row.status = status


def job_id(job: models.OrchestrationJob) -> str:
    return encode_id("OrchestrationJob", job.id)


def progressed(job: models.OrchestrationJob, percent: float) -> Event:
    data = {"jobId": job.id, "stepRunId": 1, "stepKey": "a", "percent": percent, "message": "going on"}
    return Event(EventKind.STEP_PROGRESSED, data)


def seqs(frames: list[dict[str, Any]], items: str = "events") -> list[int]:
    return [int(item["seq"]) for frame in frames for item in frame[items]]


@pytest.fixture
async def valkey() -> AsyncIterator[Valkey]:
    server = Valkey()
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
async def services(database_url: str, valkey: Valkey) -> AsyncIterator[Services]:
    bus = Bus(valkey.url)
    database = Database.connect(database_url, name="windlass-tests", pool_size=5, after_commit=bus.ring)
    yield Services(
        database=database,
        catalogue=Registry.default(),
        sealer=Sealer(base64.b64decode(SECRET_KEY)),
        bus=bus,
        authenticator=Authenticator(database),
    )
    await bus.stop()
    await database.close()


def server_config(app: ASGIApp, **otherwise: Any) -> uvicorn.Config:
    """How `windlass api` serves, but for what is said `otherwise`."""
    return uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        lifespan="off",
        log_level="error",
        ws=Socket,
        ws_ping_interval=None,
        ws_max_size=128 * 1024,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=5,
        **{"http": StraightHttp, **otherwise},
    )


@asynccontextmanager
async def started(server: uvicorn.Server) -> AsyncIterator[int]:
    """The port of a server that is stopped afterwards."""
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  uvicorn has a flag and no event
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


@asynccontextmanager
async def serving(api: Api, **otherwise: Any) -> AsyncIterator[Live]:
    """The API behind a server as `windlass api` has it, but for what is said `otherwise`."""
    async with started(uvicorn.Server(server_config(api.app, **otherwise))) as port:
        yield Live(api, port)


@pytest.fixture
async def live(api: Api) -> AsyncIterator[Live]:
    async with serving(api) as live:
        yield live
