"""Groups against a model: whatever becomes of hints and sockets, each follower is told the stream once, in order.

The real followers and groups, over a stream, bells and sockets that are made up. Hints are lost, doubled or late; reads
take turns of the loop; sockets fill up and empty again; followers begin and go whenever they like.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.cursors import BEGINNING, Place
from app.domain.events import Stream
from app.reads import streams
from app.reads.streams import Batch, Head
from schema import followers
from schema.encoded import Encoded
from schema.followers import After
from schema.followers import Follower as Member
from schema.looks import Looks
from schema.openings import Entry
from schema.sharing import Course, Groups, Joining
from schema.subscriptions import following
from schema.subscriptions.following import Follower, Start
from schema.types.frames import FrameKind

# How often somebody looks without a hint: soon, so that a run is short.
_SWEEP = 0.005
_BATCH = 3


@dataclass
class World:
    """A stream of numbers, who may be told of new ones, and what becomes of the telling."""

    chance: random.Random
    head: int = 0
    closed: bool = False
    groups: Groups = field(default_factory=Groups)
    looks: Looks = field(default_factory=Looks)
    # Whether groups look at the stream together.
    crowded: bool = True
    bells: set[asyncio.Event] = field(default_factory=set)
    # How many frames were made for all, and whether the next of them cannot be.
    leads: int = 0
    failing: bool = False

    def write(self, count: int) -> None:
        self.head += count
        for bell in list(self.bells):
            # Lost, come at once, or late and doubled.
            match self.chance.randrange(3):
                case 1:
                    bell.set()
                case 2:
                    for late in (0.001, 0.002):
                        asyncio.get_running_loop().call_later(late, bell.set)

    async def turns(self) -> None:
        for _ in range(self.chance.randrange(3)):
            await asyncio.sleep(0)

    @asynccontextmanager
    async def watch(self, *_: object) -> AsyncIterator[Any]:
        rung = asyncio.Event()
        self.bells.add(rung)

        async def wait(seconds: float) -> None:
            del seconds
            try:
                async with asyncio.timeout(_SWEEP):
                    await rung.wait()
            except TimeoutError:
                return
            rung.clear()

        try:
            yield SimpleNamespace(wait=wait, has_company=self.crowded)
        finally:
            self.bells.discard(rung)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[World]:
        await self.turns()
        yield self

    def context(self, course: Course) -> Any:
        return SimpleNamespace(
            course=course, tenant_id=1, read=self.read, database=self, require_read=lambda: None, services=self,
            bus=SimpleNamespace(watch=self.watch, healthy=True), loaders=SimpleNamespace(forget=lambda: None),
        )  # fmt: skip


class Number(int):
    """An item of the stream."""

    at = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Numbers:
    """The source: numbers up to the head, a few at a time; sometimes it has the short way."""

    async def start(self, session: Any, row: Any) -> Start[Number]:
        del session, row
        return Start(BEGINNING)

    async def read(self, session: Any, *, after: Place, until: Place) -> Batch[Number]:
        await session.turns()
        last = min(after.seq + _BATCH, until.seq)
        return Batch([Number(n) for n in range(after.seq + 1, last + 1)], Place(last))

    async def read_on(self, database: Any, *, after: Place) -> tuple[Head, Batch[Number]] | None:
        head = Head(Place(database.head), database.closed)
        await database.turns()
        if database.chance.random() < 0.3:
            return None
        return head, Batch([Number(n) for n in range(after.seq + 1, head.place.seq + 1)], head.place)


class Client:
    """A socket with little room, and the operation behind it as `schema/live_protocol.py` runs it."""

    def __init__(self, world: World, name: int, *, pushes: bool, document: int = 0) -> None:
        self.world = world
        self.told: list[int] = []
        self.over = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._entry = Entry(document, "the beginning")
        self._tasks: set[asyncio.Task[None]] = set()
        self._member = Member(
            str(name).encode(), attrgetter("text"), self._push if pushes else None, self._send, self._wake
        )
        self._start(self._come_up(None))

    def fill(self) -> None:
        self._room.clear()
        asyncio.get_running_loop().call_later(self.world.chance.choice((0.001, 0.004, 0.02)), self._room.set)

    async def go(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.world.groups.leave(self._member)
        self.over.set()

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _wake(self) -> None:
        self._start(self._drain())

    def _push(self, head: bytes, rest: bytes) -> bool:
        del head
        if self._room.is_set():
            self._hear(rest)
        return self._room.is_set()

    async def _send(self, head: bytes, rest: bytes) -> None:
        del head
        await self._room.wait()
        # Whoever waits for room hears of it later than it is there.
        await asyncio.sleep(self.world.chance.choice((0.0, 0.003)))
        self._hear(rest)

    def _hear(self, rest: bytes) -> None:
        self.told += [int(number) for number in rest.split()]

    async def _drain(self) -> None:
        match await self._member.drain():
            case After.OVER:
                self.world.groups.leave(self._member)
                self.over.set()
            case After.ALONE:
                self.world.groups.leave(self._member)
                await self._come_up(self._member.place)

    async def _come_up(self, start: Place | None) -> None:
        course = Joining(self.world.groups, self._entry, self._member, self._lead, start=start)
        async with aclosing(self._frames(course)) as frames:
            async for encoded in frames:
                await self._member.send(encoded)
        if not course.joined:
            self.over.set()

    async def _frames(self, course: Course) -> AsyncGenerator[Encoded, None]:
        course.start = BEGINNING if course.start is None else course.start
        follower = Follower[Number](self.world.context(course), Stream.JOB, 1, Numbers())
        async with aclosing(follower.follow(None)) as deliveries:
            async for delivery in deliveries:
                await self.world.turns()
                if delivery.kind in {FrameKind.EVENTS, FrameKind.END}:
                    yield Encoded(b" ".join(b"%d" % number for number in delivery.items))

    async def _lead(self, course: Course) -> AsyncGenerator[Encoded, None]:
        async with aclosing(self._frames(course)) as frames:
            async for encoded in frames:
                self.world.leads += 1
                if self.world.failing:
                    self.world.failing = False
                    message = "this frame cannot be resolved"
                    raise RuntimeError(message)
                yield encoded


@pytest.fixture(autouse=True, scope="module")
def _made_up() -> Any:
    """The head of the stream is the world's, little may wait, and nobody waits long."""

    async def head(session: World, *_: object) -> Head:
        return Head(Place(session.head), session.closed)

    async def owner(*_: object) -> None:
        return None

    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(streams, "head", head)
        patches.setattr(streams, "owner", owner)
        patches.setattr(followers, "WAITING_FRAMES", 2)
        patches.setattr("schema.sharing.SWEEP_SECONDS", _SWEEP)
        patches.setattr(following, "sweep_seconds", lambda _: _SWEEP)
        yield


_STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 4)),
    st.tuples(st.just("come"), st.booleans()),
    st.tuples(st.just("fill"), st.integers(0, 9)),
    st.tuples(st.just("go"), st.integers(0, 9)),
    st.tuples(st.just("fail"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from((0.0, 0.001, 0.006))),
)


async def _take(world: World, here: list[Client], gone: list[Client], step: str, value: Any) -> None:
    match step:
        case "write":
            world.write(value)
        case "come":
            # Of two documents, whose groups look at the stream together where they can.
            here.append(Client(world, len(here), pushes=value, document=world.chance.randrange(2)))
        case "fill":
            here[value % len(here)].fill()
        case "go" if len(here) > 1:
            gone.append(here.pop(value % len(here)))
            await gone[-1].go()
        case "fail":
            world.failing = True
        case "wait":
            await asyncio.sleep(value)


@settings(max_examples=60, deadline=None)
@given(st.lists(_STEPS, min_size=5, max_size=40), st.integers(0, 2**32))
def test_everybody_is_told_everything_once_and_in_order(steps: list[tuple[str, Any]], seed: int) -> None:
    async def play() -> None:
        world = World(random.Random(seed), crowded=seed % 4 > 0)
        here, gone = [Client(world, 0, pushes=True)], list[Client]()
        for step, value in steps:
            await _take(world, here, gone, step, value)
            for client in here + gone:
                assert client.told == [*range(1, len(client.told) + 1)]
        world.closed = True
        async with asyncio.timeout(20):
            for client in here:
                await client.over.wait()
        assert [client.told for client in here] == [[*range(1, world.head + 1)]] * len(here)
        assert len(world.groups) == 0
        assert len(world.bells) == 0

    asyncio.run(play())


def test_five_thousand_who_follow_the_same_are_one_execution_an_event() -> None:
    async def play() -> None:
        world = World(random.Random(1))
        clients = [Client(world, number, pushes=True) for number in range(5_000)]
        async with asyncio.timeout(60):
            # Nothing tells when.
            while sum(len(group.members) for group in world.groups._groups.values()) < len(clients):  # noqa: ASYNC110
                await asyncio.sleep(0)
            for number in range(1, 6):
                world.write(1)
                while sum(len(client.told) for client in clients) < number * len(clients):  # noqa: ASYNC110
                    await asyncio.sleep(0)
            assert world.leads == 5
            world.closed = True
            for client in clients:
                await client.over.wait()
        assert all(client.told == [1, 2, 3, 4, 5] for client in clients)
        # The end is a frame as well.
        assert world.leads == 6

    asyncio.run(play())
