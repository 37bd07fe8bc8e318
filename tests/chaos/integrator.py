"""An integrator who listens to a tenant's events while everything falls over: none is missing, all in order."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from sqlalchemy import text
from standardwebhooks import WebhookVerificationError

from app.db.sealing import Sealer
from app.domain.events import Stream
from app.domain.webhooks import event_message_id
from app.egress import Egress
from app.services import webhooks
from app.services.webhooks import CreateWebhook, Tools
from app.settings import Settings
from tests.chaos.eyes import Eyes
from tests.chaos.load import Customers
from tests.schema.webhooks.receiver import OK, Answer, Receiver

_TENANT = "beta"
_NAME = "integrator"
# A failing receiver is left alone for five seconds: more of it would leave no time for what is to be proved.
_REFUSES, _LOSES = 0.002, 0.002
_PLACE = text("SELECT id, feed, feed_stream, feed_stream_id, feed_seq FROM webhook_endpoint WHERE name = :name")
_EVENTS = (
    "SELECT stream, stream_id, seq FROM event_log WHERE tenant_id = $1"
    " AND (feed, stream, stream_id, seq) > ($2, $3, $4, $5) ORDER BY feed, stream, stream_id, seq"
)
_LEFT = (
    "SELECT count(*) FROM event_log e JOIN webhook_endpoint w ON w.tenant_id = e.tenant_id AND w.name = $1"
    " WHERE (e.feed, e.stream, e.stream_id, e.seq) > (w.feed, w.feed_stream, w.feed_stream_id, w.feed_seq)"
)


@dataclass
class UnsteadyReceiver(Receiver):
    """Refuses now and then, and now and then closes the connection when it has taken what came. `taken` are the ids of
    the messages that it took, in the order in which they came.
    """

    chance: random.Random = field(default_factory=random.Random)
    taken: list[str] = field(default_factory=list)
    secret: str = ""
    # What does not bear our signature.
    forged: list[str] = field(default_factory=list)

    def choose(self) -> Answer:
        try:
            self.received[-1].verified(self.secret)
        except WebhookVerificationError as error:
            self.forged.append(f"webhooks: {self.received[-1].id} is not to be believed: {error}")
        fate = self.chance.random()
        if fate < _REFUSES:
            return Answer(status=503)
        self.taken.append(self.received[-1].id)
        return Answer(drops=True) if fate < _REFUSES + _LOSES else OK


@dataclass
class Integrator:
    """Has one webhook, for all events of the smaller tenant."""

    customers: Customers
    receiver: UnsteadyReceiver
    _endpoint: int = 0
    _place: tuple[int, str, int, int] = (0, "", 0, 0)
    _events: int = 0

    async def begin(self) -> None:
        """Have the webhook before anything happens."""
        principal = self.customers.principals[_TENANT]
        sealer = Sealer(base64.b64decode(self.customers.town.environment["WINDLASS_SECRET_KEY"]))
        tools = Tools(sealer, Egress.of(Settings(webhook_allowed_targets=("127.0.0.0/8",))), lambda _selection: [])
        async with self.customers.writing(principal) as write:
            issued = await webhooks.create(write, principal, CreateWebhook(_NAME, self.receiver.url), tools)
            self.receiver.secret = issued.secret
        async with self.customers.database.read(principal.tenant_id) as session:
            self._endpoint, *place = (await session.execute(_PLACE, {"name": _NAME})).one()
        self._place = (place[0], place[1], place[2], place[3])

    async def go(self, more: Callable[[], bool]) -> None:
        """Nothing of its own: it listens."""

    async def rests(self, eyes: Eyes) -> bool:
        return await eyes.number(_LEFT, _NAME) == 0

    async def faults(self, eyes: Eyes, folder: Path) -> list[str]:
        del folder
        rows = await eyes.rows(_EVENTS, self.customers.principals[_TENANT].tenant_id, *self._place)
        self._events = len(rows)
        expected = [
            event_message_id(self._endpoint, Stream(row["stream"]), row["stream_id"], row["seq"]) for row in rows
        ]
        return [*wrong_deliveries(expected, self.receiver.taken), *self.receiver.forged]

    @property
    def proved(self) -> bool:
        return bool(self.receiver.taken)

    def said(self) -> str:
        twice = len(self.receiver.taken) - len(set(self.receiver.taken))
        asked = len(self.receiver.received)
        return f"Webhooks: {self._events} events in {asked} requests, {twice} of those that were taken told again"


def wrong_deliveries(expected: Sequence[str], taken: Sequence[str]) -> Iterator[str]:
    """What is wrong with the messages that a receiver took: each event at least once, in order when those that it had
    already are left out, and nothing else.
    """
    first = list(dict.fromkeys(taken))
    missing = set(expected) - set(first)
    if missing:
        yield f"webhooks: {len(missing)} of {len(expected)} events were never told"
    strange = set(first) - set(expected)
    if strange:
        yield f"webhooks: {len(strange)} messages are of no event"
    places = {message: place for place, message in enumerate(expected)}
    told = [places[message] for message in first if message in places]
    late = sum(one > other for one, other in pairwise(told))
    if late:
        yield f"webhooks: {late} times an event was told after a later one"
