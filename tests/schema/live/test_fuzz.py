"""Anything that can be sent through a WebSocket, by two tenants at a time: no connection is dropped, nothing is told.

FUZZ_EXAMPLES says how many operations; docs/reliability.md has what five thousand of them came to.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import structlog
from graphql import OperationType
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.factories.databases import fetch
from tests.schema.belongings import belongings
from tests.schema.conftest import Access
from tests.schema.live.conftest import Live
from tests.schema.live.test_protocol import NOT_THE_PROTOCOL, VIEWER, dial
from tests.schema.test_fuzz import MINE, THEIRS, Dice

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
SEED = os.environ.get("FUZZ_SEED", "1")
AT_ONCE = 4
# Of the server's own accord; 4408 and 4499 take longer than anybody here is silent.
DOCUMENTED = {1000, 1002, 1007, 1009, 4000, 4400, 4401, 4403, 4409, 4429}
SUBPROTOCOL_KINDS = ["next", "error", "connection_ack", "start", "stop", "connection_terminate", "", "Subscribe"]
# Queries, mutations, subscriptions.
_SHARES = [3, 2, 5]
_MASK = bytes(4)
# Frames as no library sends them: what is said by RFC 6455 to end the connection.
WIRE = [
    b"\x81\x82" + _MASK + b"\xc3\x28",  # text that is not UTF-8
    b"\x81\x02{}",  # without a mask
    b"\xc1\x80" + _MASK,  # a reserved bit
    b"\x83\x80" + _MASK,  # a reserved kind of frame
    b"\x80\x80" + _MASK,  # a continuation of nothing
    b"\x01\x81" + _MASK + b"{" + b"\x81\x81" + _MASK + b"}",  # text within text
    b"\x09\x80" + _MASK,  # a ping in parts
    b"\x89\xfe\x00\x80" + _MASK + bytes(128),  # a ping that is too long
    b"\x88\x81" + _MASK + b"\x03",  # a close with half a code
    b"\x88\x82" + _MASK + b"\x03\xed",  # a close with a code that nobody may send
    b"\x81\xff\xff" + bytes(7) + _MASK,  # a length beyond 63 bits
    b"\x81\xff\x00\x00\x00\x00\x7f\xff\xff\xff" + _MASK + b"{",  # two gigabytes to come
    b"GET /graphql HTTP/1.1\r\n\r\n",
]
Move = Callable[["Visit"], Awaitable[None]]


@dataclass
class Visit:
    """One connection from its first frame to its last."""

    live: Live
    socket: ClientConnection
    access: Access
    canary: str
    dice: Dice
    counted: Counter[str]
    ids: list[str] = field(default_factory=list)
    # Operations that owe an answer, by id.
    owed: set[str] = field(default_factory=set)
    pings: int = 0
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def chance(self) -> random.Random:
        return self.dice.chance

    async def send(self, message: Any) -> None:
        self.counted["messages"] += 1
        if isinstance(message, dict) and message["type"] == "ping":
            self.pings += 1
        await self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def read(self) -> None:
        """Everything that comes, up to the end."""
        with suppress(ConnectionClosed):
            async for text in self.socket:
                assert isinstance(text, str)
                assert self.canary not in text, (self.access.slug, text)
                message = json.loads(text)
                self.counted[message["type"]] += 1
                if message["type"] == "pong":
                    self.pings -= 1
                payload = message.get("payload")
                errors = payload if message["type"] == "error" else (payload or {}).get("errors", ())
                codes = {(error.get("extensions") or {}).get("code") for error in errors}
                assert not {"INTERNAL", None} & codes, message
                if message["type"] in {"complete", "error"}:
                    self.owed.discard(message["id"])
                self.look()

    def look(self) -> None:
        """Note whether anything is still to come."""
        if self.owed or self.pings:
            self.answered.clear()
        else:
            self.answered.set()

    async def operate(self) -> None:
        """An operation that the schema admits, or nearly."""
        kind = self.chance.choices(list(OperationType), _SHARES)[0]
        text, variables = self.dice.operation(kind)
        if self.chance.random() < 0.05:
            text = _spoilt(text, self.chance)
        name = f"op{len(self.ids)}"
        self.ids.append(name)
        self.counted["operations"] += 1
        if kind is not OperationType.SUBSCRIPTION:
            self.owed.add(name)
        await self.send({"type": "subscribe", "id": name, "payload": {"query": text, "variables": variables}})


async def introduce(visit: Visit) -> None:
    await visit.send({"type": "connection_init", "payload": {"token": visit.access.token}})


async def introduce_badly(visit: Visit) -> None:
    token = visit.chance.choice([None, 7, "", "wl_", visit.access.token[:-1], visit.access.token + "\0", {"a": 1}])
    await visit.send({"type": "connection_init", "payload": {"token": token}})


async def use_an_id_again(visit: Visit) -> None:
    name = visit.chance.choice(visit.ids or ["none"])
    payload = {"query": VIEWER, "operationName": visit.chance.choice([None, "other"])}
    await visit.send({"type": "subscribe", "id": name, "payload": payload})


async def complete(visit: Visit) -> None:
    name = visit.chance.choice([*visit.ids, "unknown"])
    visit.owed.discard(name)
    await visit.send({"type": "complete", "id": name})


async def say_the_wrong_thing(visit: Visit) -> None:
    await visit.send({"type": visit.chance.choice(SUBPROTOCOL_KINDS), "id": "op0", "payload": {"data": None}})


async def say_nothing_sensible(visit: Visit) -> None:
    whole = json.dumps({"type": "subscribe", "id": "s", "payload": {"query": VIEWER}})
    await visit.send(visit.chance.choice([*NOT_THE_PROTOCOL, _spoilt(whole, visit.chance)]))


async def send_bytes(visit: Visit) -> None:
    whole = json.dumps({"type": "ping"}).encode()
    await visit.send(visit.chance.choice([whole, visit.chance.randbytes(40), b""]))


async def send_much(visit: Visit) -> None:
    """Deep or long: within what a message may have, or beyond it."""
    size = visit.chance.choice([900, 20_000, 40_000, 70_000])
    documents = ["{" + "a{" * size, "{a" * size + "}" * size, f'{{ node(id: "{"x" * size * 2}") {{ id }} }}']
    query = {"query": visit.chance.choice(documents)}
    subscribe = {"type": "subscribe", "id": "much", "payload": query}
    nested = f'{{"type": "ping", "payload": {{"a": {"[" * size}{"]" * size}}}}}'
    chosen = visit.chance.choice([json.dumps(subscribe), nested, "[" * size])
    # Too deep for an answer, it ends the connection.
    visit.pings += chosen is nested
    await visit.send(chosen)


async def send_in_pieces(visit: Visit) -> None:
    whole = json.dumps({"type": "ping", "payload": {"a": "ä" * 50}}, ensure_ascii=False)
    cuts = sorted(visit.chance.choices(range(len(whole)), k=4))
    visit.counted["messages"] += 1
    visit.pings += 1
    await visit.socket.send([whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)])


async def ping(visit: Visit) -> None:
    await visit.send({"type": visit.chance.choice(["ping", "pong"]), "payload": visit.chance.choice([None, {}])})


async def break_the_wire(visit: Visit) -> None:
    visit.counted["messages"] += 1
    visit.socket.transport.write(visit.chance.choice(WIRE))


ODD: list[Move] = [
    introduce, introduce_badly, use_an_id_again, complete, complete, complete, ping, ping, ping, say_the_wrong_thing,
    say_nothing_sensible, send_bytes, send_much, send_much, send_in_pieces, send_in_pieces, break_the_wire,
]  # fmt: skip


def _spoilt(text: str, chance: random.Random) -> str:
    """A part missing, a character too many, or both."""
    start, end = sorted(chance.choices(range(len(text)), k=2))
    inserted = chance.choice(["", "\0", "{", '"', "\u2028", "\\", "$", "fragment F on Query { ...F }"])
    return text[:start] + inserted + text[min(end, start + 5) :]


async def play(visit: Visit) -> None:
    """Come in, mostly as one should, say this and that, and see that the server still answers, or has said goodbye."""
    chance = visit.chance
    with suppress(ConnectionClosed):
        await (introduce if chance.random() < 0.9 else chance.choice([*ODD, Visit.operate]))(visit)
        for _ in range(chance.randint(1, 12)):
            await (Visit.operate if chance.random() < 0.9 else chance.choice(ODD))(visit)
        await visit.send({"type": "ping"})


async def visit_once(live: Live, number: int, dice: Dice, access: Access, canary: str, counted: Counter[str]) -> None:
    async with asyncio.timeout(60):
        socket = await dial(live)
        visit = Visit(live, socket, access, canary, dice, counted)
        reading = asyncio.create_task(visit.read())
        if dice.chance.random() < 0.05:
            await play(visit)
            socket.transport.abort()
            counted["left without a word"] += 1
            await asyncio.wait([reading])
            return
        await play(visit)
        visit.look()
        # Alive, with every answer given that is owed; or else the server has ended it.
        waiting = asyncio.create_task(visit.answered.wait())
        await asyncio.wait([reading, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        await socket.close(4000)
        await reading
    assert socket.protocol.close_rcvd is not None, (SEED, number, "dropped without a close frame")
    code = socket.protocol.close_rcvd.code
    assert code in DOCUMENTED, (SEED, number, code, socket.protocol.close_rcvd.reason)
    counted[f"closed {code}"] += 1


# graphql-core leaves resolvers that it has called and not yet begun, where an operation ends with its connection.
@pytest.mark.filterwarnings("ignore:coroutine 'GraphQLCoreConverter:RuntimeWarning")
async def test_whatever_is_sent_ends_in_an_answer_or_a_close_frame(
    live: Live, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    api = live.api
    sides = {
        MINE: (api.acme, await belongings(api.acme, MINE)),
        THEIRS: (api.rival, await belongings(api.rival, THEIRS)),
    }
    owned = [things for _, things in sides.values()]
    counted: Counter[str] = Counter()
    numbers = iter(range(EXAMPLES * 20))

    async def visitor() -> None:
        while counted["operations"] < EXAMPLES:
            number = next(numbers)
            chance = random.Random(f"{SEED}:{number}")
            mine, other = chance.sample([MINE, THEIRS], 2)
            counted["connections"] += 1
            await visit_once(live, number, Dice(chance, owned), sides[mine][0], other, counted)

    with structlog.testing.capture_logs([structlog.processors.format_exc_info]) as said:
        async with asyncio.TaskGroup() as visitors:
            for _ in range(AT_ONCE):
                visitors.create_task(visitor())
        async with httpx.AsyncClient() as client:
            assert (await client.get(live.http.replace("/graphql", "/healthz"))).status_code == 200
    for access, _ in sides.values():
        await api.data(VIEWER, access=access)
    print(dict(sorted(counted.items())))  # noqa: T201  for docs/reliability.md
    # Nothing of anybody is in the logs, and nothing in them is a fault of ours.
    logged = [*map(str, said), *(record.getMessage() for record in caplog.records)]
    assert not [line for line in logged if MINE in line or THEIRS in line]
    assert not [line for line in said if line["log_level"] in {"error", "critical"}]
    assert not [
        record
        for record in caplog.records
        # uvicorn says so when it closes with 1007; what was sent is not in it.
        if record.levelno >= logging.ERROR and record.getMessage() != "Invalid UTF-8 sequence received from client."
    ]
    for word, foreign in ((THEIRS, api.acme), (MINE, api.rival)):
        events = "SELECT count(*) FROM event_log WHERE tenant_id = $1 AND event_log::text LIKE $2"
        assert (await fetch(database_url, events, foreign.tenant_id, f"%{word}%"))[0][0] == 0
    assert counted["next"] > EXAMPLES * 0.2, counted
    assert counted["closed 4000"] > 0.2 * counted["connections"], counted
