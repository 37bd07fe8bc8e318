"""Delivery of webhooks: whoever is free leases an endpoint, sends what comes next in its tenant's feed, and records it.

Any number of processes may deliver. An endpoint belongs to one of them at a time; its events are sent one after the
other, and its place moves on in the transaction that writes the log. Between the answer and that transaction lies the
only gap: whoever dies in it leaves an event that is sent again, under the same id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any, Protocol

import orjson
import structlog

from app import clock
from app.auth.principal import Principal
from app.db import feed, webhooks
from app.db.feed import FedEvent, Position
from app.db.places import webhook_place
from app.db.sealing import Sealer
from app.db.uow import Database, SystemRole, Transaction
from app.db.webhooks import Endpoint, Lease, Request, Told
from app.domain.enums import Permission, Role
from app.domain.values import reveal
from app.domain.webhooks import PING, Outcome, event_message_id, event_type, sign
from app.egress import DEADLINE_SECONDS, EgressRefused, Poster, Unreachable

# Longer than the longest attempt: asking for the content, sending it, and writing down what came of it.
LEASE_SECONDS = 45.0
PROJECTION_SECONDS = 10.0
_RECORDING_SECONDS = 5.0
BATCH = 100
# After so long the next endpoint has its turn.
TURN_SECONDS = 20.0
BODY_LIMIT = 1024 * 1024
_VERSION = version("windlass")

_logger = structlog.get_logger(__name__)


class ProjectionFailed(Exception):
    """What an endpoint asks to be told of an event cannot be found out now. The message may be shown to its owner."""


class Projection(Protocol):
    """Answers an endpoint's own question about an event. Whoever knows GraphQL hands one in."""

    async def __call__(self, reader: Principal, event: FedEvent, selection: str | None) -> Mapping[str, Any]:
        """{"data": …} and perhaps {"errors": …}, as `reader` may see it; without a selection, all of the event itself.

        Raises ProjectionFailed.
        """


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: its id, by which a receiver knows it again, and its body."""

    id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Sender:
    """What it takes to say something to an endpoint."""

    sealer: Sealer
    poster: Poster
    project: Projection

    async def compose(self, endpoint: Endpoint, event: FedEvent) -> Message:
        """What an endpoint is told of an event. Raises ProjectionFailed."""
        try:
            async with asyncio.timeout(PROJECTION_SECONDS):
                answer = await self.project(_reader(endpoint), event, endpoint.selection)
        except TimeoutError as error:
            message = f"the selection was not answered within {PROJECTION_SECONDS:g} s"
            raise ProjectionFailed(message) from error
        body = orjson.dumps(
            {
                "type": event_type(event.kind),
                "timestamp": _written(event.at),
                **answer,
                "cursor": event.position.encode(),
                "seq": event.seq,
            }
        )
        if len(body) > BODY_LIMIT:
            message = f"what the selection selects has more than {BODY_LIMIT} bytes"
            raise ProjectionFailed(message)
        return Message(event_message_id(endpoint.id, event.stream, event.stream_id, event.seq), body)

    async def send(self, endpoint: Endpoint, message: Message) -> Outcome:
        """One attempt. Whatever happens is an outcome."""
        place = webhook_place(endpoint.id)
        secrets = [reveal(self.sealer.open(box, endpoint.tenant_id, place))["key"] for box in endpoint.secrets]
        timestamp = int(clock.utc_now().timestamp())
        headers = {
            "content-type": "application/json",
            "user-agent": f"Windlass/{_VERSION}",
            "webhook-id": message.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(secrets, message.id, timestamp, message.body),
        }
        began = clock.monotonic()
        try:
            reply = await self.poster.post(endpoint.url, headers, message.body)
        except (EgressRefused, Unreachable) as error:
            return Outcome(_since(began), error=str(error))
        return Outcome(_since(began), reply.status_code, None, reply.excerpt, reply.retry_after)


@dataclass(frozen=True, slots=True)
class Deliverer:
    """Delivers to the endpoints of all tenants. `random` gives numbers in [0, 1)."""

    database: Database
    sender: Sender
    random: Callable[[], float]
    poll_seconds: float = 0.5
    turns: int = 16
    lease_seconds: float = LEASE_SECONDS

    async def run(self, stopping: asyncio.Event) -> None:
        """Deliver until `stopping` is set, and what is under way then to its end. Trouble is waited out."""
        stop = asyncio.create_task(stopping.wait())
        under_way: set[asyncio.Task[None]] = set()
        while not stop.done():
            held = await self._lease_patiently() if len(under_way) < self.turns else None
            if held is not None:
                under_way.add(asyncio.create_task(self._take_turn(held)))
                continue
            done, _ = await asyncio.wait(
                {stop, *under_way}, timeout=self.poll_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            under_way -= done
        if under_way:
            await asyncio.wait(under_way, timeout=PROJECTION_SECONDS + DEADLINE_SECONDS + _RECORDING_SECONDS)

    async def deliver_next(self) -> bool:
        """Give one endpoint its turn. Returns False when none has anything to be told."""
        held = await self._lease()
        if held is not None:
            await Turn(self, held).take()
        return held is not None

    def transaction(self, held: Lease) -> AbstractAsyncContextManager[Transaction]:
        """A transaction of the endpoint's tenant."""
        return self.database.machine(
            held.tenant_id, actor="system:webhooks", correlation_id=f"webhook-{held.endpoint_id}"
        )

    async def _lease(self) -> Lease | None:
        async with self.database.system(SystemRole.TICK) as transaction:
            return await webhooks.lease(transaction, self.lease_seconds)

    async def _lease_patiently(self) -> Lease | None:
        try:
            return await self._lease()
        except Exception:  # asked again in a moment
            _logger.warning("webhooks wait for the database", exc_info=True)
            return None

    async def _take_turn(self, held: Lease) -> None:
        try:
            await Turn(self, held).take()
        except Exception:  # the lease runs out, and somebody does again what was not recorded
            told = {"tenant_id": held.tenant_id, "webhook_id": held.endpoint_id}
            _logger.warning("a webhook's turn ended early", **told, exc_info=True)


class Turn:
    """One endpoint's turn, under one lease: what somebody asked for, then events, in order, until one fails."""

    def __init__(self, deliverer: Deliverer, held: Lease) -> None:
        self._deliverer = deliverer
        self._held = held
        self._began = clock.monotonic()
        # Until when the lease is surely ours; a process that was held still finds this passed.
        self._until = self._began + deliverer.lease_seconds

    async def take(self) -> None:
        async with self._deliverer.transaction(self._held) as transaction:
            transaction.authorize("engine: a webhook is delivered")
            opened = await webhooks.opened(transaction, self._held)
            if opened is None:
                return
            endpoint, asked = opened
            events = await feed.read(transaction, endpoint.position, BATCH) if endpoint.is_due else []
        if await self._answer_all(endpoint, asked):
            await self._tell_all(endpoint, events)
        async with self._deliverer.transaction(self._held) as transaction:
            transaction.authorize("engine: a webhook is released")
            await webhooks.release(transaction, self._held)

    async def _tell_all(self, endpoint: Endpoint, events: list[FedEvent]) -> None:
        place = passed = endpoint.position
        for event in events:
            if endpoint.wants(event.kind):
                if not self._lasts(PROJECTION_SECONDS) or clock.monotonic() - self._began > TURN_SECONDS:
                    break
                if not await self._tell(endpoint, place, event):
                    return
                place = event.position
            passed = event.position
        if passed != place:
            async with self._deliverer.transaction(self._held) as transaction:
                transaction.authorize("engine: a webhook passes events over")
                await webhooks.pass_over(transaction, self._held, place, passed)

    async def _tell(self, endpoint: Endpoint, place: Position, event: FedEvent) -> bool:
        """Send an event and record what came of it. Returns whether the next one may follow."""
        outcome = await self._attempt(endpoint, event)
        if outcome is None:
            return False
        message_id = event_message_id(endpoint.id, event.stream, event.stream_id, event.seq)
        told = Told(place, event.position, event_type(event.kind), message_id, outcome)
        renewed = clock.monotonic()
        async with self._deliverer.transaction(self._held) as transaction:
            transaction.authorize("engine: a webhook was delivered")
            goes_on = await webhooks.record(
                transaction,
                self._held,
                endpoint,
                told,
                random=self._deliverer.random(),
                lease_seconds=self._deliverer.lease_seconds,
            )
        self._until = renewed + self._deliverer.lease_seconds
        return goes_on

    async def _attempt(self, endpoint: Endpoint, event: FedEvent) -> Outcome | None:
        """None when the lease would not last for it."""
        try:
            message = await self._deliverer.sender.compose(endpoint, event)
        except ProjectionFailed as error:
            return Outcome(0, error=str(error))
        return await self._deliverer.sender.send(endpoint, message) if self._lasts() else None

    async def _answer_all(self, endpoint: Endpoint, asked: list[Request]) -> bool:
        """Make the attempts that were asked for: each once, whatever comes of it. Returns whether the turn goes on."""
        for request in asked:
            outcome = await self._answer(endpoint, request) if self._lasts(PROJECTION_SECONDS) else None
            if outcome is None:
                return False
            renewed, seconds = clock.monotonic(), self._deliverer.lease_seconds
            async with self._deliverer.transaction(self._held) as transaction:
                transaction.authorize("engine: a webhook was sent what was asked for")
                goes_on = await webhooks.record_request(transaction, self._held, endpoint, request, outcome, seconds)
            if not goes_on:
                return False
            self._until = renewed + seconds
        return True

    async def _answer(self, endpoint: Endpoint, request: Request) -> Outcome | None:
        if request.cursor is None:
            body = {"type": PING, "timestamp": _written(clock.utc_now()), "data": {"webhook": endpoint.name}}
            return await self._deliverer.sender.send(endpoint, Message(request.message_id, orjson.dumps(body)))
        position = Position.decode(request.cursor)
        before = Position(position.feed, position.stream, position.stream_id, position.seq - 1)
        async with self._deliverer.transaction(self._held) as transaction:
            transaction.authorize("engine: an event is looked up")
            found = await feed.read(transaction, before, 1)
        if not found or found[0].position != position:
            return Outcome(0, error="the event is no longer kept")
        return await self._attempt(endpoint, found[0])

    def _lasts(self, more_seconds: float = 0.0) -> bool:
        """Whether the lease lasts for sending and recording, and for `more_seconds` before."""
        return clock.monotonic() + more_seconds + DEADLINE_SECONDS + _RECORDING_SECONDS < self._until


def _reader(endpoint: Endpoint) -> Principal:
    """Who an endpoint's questions are answered to: its tenant, who may read, and nobody in person.

    Not the one who made the webhook: it goes on when they leave, and never tells more than everybody there may read.
    """
    return Principal(
        tenant_id=endpoint.tenant_id,
        tenant_slug=endpoint.tenant_slug,
        user_id=0,
        role=Role.VIEWER,
        permissions=frozenset({Permission.READ}),
        token_id=0,
        expires_at=clock.utc_now() + timedelta(minutes=5),
    )


def _written(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _since(began: float) -> int:
    return round((clock.monotonic() - began) * 1000)
