"""Webhooks in this process: real tables, real requests to receivers on this machine, and deliverers that may die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from app.db import models
from app.domain.addresses import Allowed
from app.domain.events import Event, EventKind, Stream
from app.egress import Egress, Poster
from app.engine.webhooks import LEASE_SECONDS, Deliverer, Sender
from schema.context import Services
from schema.nodes import encode_id
from schema.selections import Projector
from tests.factories.databases import fetch, run
from tests.schema.conftest import Access, Api
from tests.schema.verbs import done
from tests.schema.webhooks.receiver import Received, Receiver, receiving

DEADLINE = 0.5
_PATIENCE = 20.0
WEBHOOK = """query($id: ID!) { webhook(id: $id) {
  id version status statusReason failures lastError cursor deliveredAt nextAttemptAt failingSince url
  deliveries(first: 100) { nodes {
    id source type messageId cursor attempt status statusCode error answer durationMs completedAt } } } }"""


@dataclass
class Desk:
    """What the tests of delivery do."""

    api: Api
    url: str
    receiver: Receiver
    stack: AsyncExitStack
    posters: list[Poster] = field(default_factory=list)

    def deliverer(self, lease_seconds: float = LEASE_SECONDS, project: Any = None) -> Deliverer:
        """One more process, so to speak. Its requests have half a second."""
        services = self.api.services
        poster = Poster(services.egress, deadline_seconds=DEADLINE)
        self.stack.push_async_callback(poster.close)
        sender = Sender(services.sealer, poster, project or Projector(services))
        return Deliverer(services.database, sender, lambda: 0.5, poll_seconds=0.02, lease_seconds=lease_seconds)

    async def another_receiver(self) -> Receiver:
        return await self.stack.enter_async_context(receiving(Receiver()))

    async def create(self, access: Access | None = None, receiver: Receiver | None = None, **given: Any) -> Hook:
        """A webhook to the receiver."""
        number = len(await fetch(self.url, "SELECT id FROM webhook_endpoint"))
        values = {"name": f"hook-{number}", "url": (receiver or self.receiver).url, **given}
        made = await done(self.api, "createWebhook", access or self.api.acme, **values)
        return Hook(made["webhook"]["id"], made["secret"])

    async def job(self, access: Access | None = None, name: str = "plan") -> models.OrchestrationJob:
        """A job that can say something."""
        rows = (access or self.api.acme).rows
        return await rows.job(await rows.plan(name))

    async def happen(self, job: models.OrchestrationJob, count: int = 1, access: Access | None = None) -> None:
        """So many events of a job, each in a transaction of its own."""
        data = {"jobId": job.id, "planId": job.plan_id, "previous": "QUEUED", "status": "RUNNING", "reason": "NONE"}
        for _ in range(count):
            await (access or self.api.acme).rows.events(Stream.JOB, job.id, Event(EventKind.JOB_STATUS_CHANGED, data))

    async def look(self, hook: Hook, access: Access | None = None) -> dict[str, Any]:
        """The webhook, and the attempts, oldest first."""
        found: dict[str, Any] = (await self.api.data(WEBHOOK, {"id": hook.id}, access=access))["webhook"]
        found["deliveries"] = found["deliveries"]["nodes"][::-1]
        return found

    async def settle(self, deliverer: Deliverer, until: Callable[[], bool] | None = None) -> None:
        """Let a deliverer work until it has nothing left to do, and `until` holds.

        What a transaction of anybody's on this server holds back is waited for.
        """
        async with asyncio.timeout(_PATIENCE):
            while await deliverer.deliver_next() or not (until is None or until()):  # noqa: ASYNC110  nobody would tell
                await asyncio.sleep(0.005)

    async def arrive(self, count: int, deliverer: Deliverer | None = None) -> list[Received]:
        """Let so many requests come in all, and no more."""
        await self.settle(deliverer or self.deliverer(), lambda: len(self.receiver.received) >= count)
        assert len(self.receiver.received) == count
        return self.receiver.received

    async def due_now(self) -> None:
        """Let time pass until the next attempts."""
        await run(self.url, "UPDATE webhook_endpoint SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL")

    async def leases_run_out(self) -> None:
        await run(self.url, "UPDATE webhook_endpoint SET lease_until = now()")


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook by its id, and the secret that its receiver was given."""

    id: str
    secret: str


@pytest.fixture
async def services(services: Services) -> Services:
    """This machine may be reached."""
    return replace(services, egress=Egress(Allowed.parse(["127.0.0.1"])))


@pytest.fixture
async def desk(api: Api, database_url: str) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving(Receiver()))
        yield Desk(api, database_url, receiver, stack)


def gid(job: models.OrchestrationJob) -> str:
    return encode_id("OrchestrationJob", job.id)
