"""Workers that die at a named point, and a note that takes its time and can be reached late.

A death is a `Killed` that nothing catches. Afterwards the process does nothing any more: no transaction of it begins or
commits, whatever else it had in hands.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from app.db.ledger import Ledger
from app.db.uow import Database, Rings, Transaction
from app.domain.logs import LogLine
from app.engine.claims import Claim, Claimer
from app.engine.context import StepContext
from app.engine.executor import Executor
from app.engine.recorder import Recorder
from app.engine.work import Mode, Outcome, Work
from app.providers.base import Context, JsonObject, Pending, ResourceState, ResourceType
from app.providers.faults import FaultyType

Answer = TypeVar("Answer")


class Killed(BaseException):
    """The process is gone, here and now."""


class Point(StrEnum):
    """Where a worker may die, in the order in which it comes by.

    CLAIM, FINISH: the commit that takes the step, or writes its outcome. SEND: the request leaves. REPLY: the answer
    comes in. RING: others are told of the commit.
    """

    CLAIM = "claim"
    SEND = "send"
    REPLY = "reply"
    FINISH = "finish"
    RING = "ring"


@dataclass
class Death:
    """Who works on the step `key` in `mode` dies before or after `point`. It strikes once.

    `back`: who comes back to an undoing that is under way, and not who begins it. After SEND the request is on its way
    and nobody waits for it: it has its effect when the provider is asked next.
    """

    point: Point
    after: bool
    mode: Mode
    key: str
    struck: bool = False
    back: bool = False

    def strikes(self, point: Point, work: Work | None, *, after: bool) -> bool:
        """Whether this is the moment."""
        if self.struck or work is None or (point, after) != (self.point, self.after):
            return False
        if (work.mode, work.key, work.undoing is not None) != (self.mode, self.key, self.back):
            return False
        self.struck = True
        return True


# The call of a provider that a mode stands for: the one that acts, or the one that finds out.
_CALLS = {Mode.RUN: "create", Mode.UNDO: "delete", Mode.OBSERVE: "recover", Mode.POLL: "poll"}


def _call_of(work: Work) -> str:
    return "poll" if work.undoing is not None else _CALLS[work.mode]


class Fate:
    """The deaths that are planned, for whoever comes by."""

    def __init__(self, deaths: Sequence[Death] = ()) -> None:
        self.deaths = list(deaths)
        # What this task has in hands while it calls the provider, and whose hands they are.
        self.working: ContextVar[tuple[Work, MortalDatabase] | None] = ContextVar("working", default=None)

    @property
    def fulfilled(self) -> bool:
        return all(death.struck for death in self.deaths)

    def comes_by(self, worker: MortalDatabase, point: Point, work: Work | None, *, after: bool) -> None:
        """Raises Killed, and the worker is dead from now on, when its time has come."""
        worker.require_life()
        if any(death.strikes(point, work, after=after) for death in self.deaths):
            worker.dead = True
            raise Killed


@dataclass
class _Commit:
    """What a transaction is about to make true."""

    claimed: Work | None = None
    recorded: Work | None = None


class MortalDatabase(Database):
    """The connections of one worker that may die with it."""

    fate: Fate
    dead = False
    # By the transaction's rings, which are one object from its beginning until others are told.
    _commits: dict[int, _Commit]

    @classmethod
    def of(cls, url: str, fate: Fate, rung: Callable[[Rings], None]) -> MortalDatabase:
        """The connections of a new worker. `rung` hears what it rings."""
        database = cls.connect(url, name="test-mortal", pool_size=4, after_commit=rung, own_rings=lambda: 1_000_000)
        assert isinstance(database, cls)
        database.fate = fate
        database._commits = {}
        return database

    def require_life(self) -> None:
        if self.dead:
            raise Killed

    def about(self, transaction: Transaction) -> _Commit:
        """What the transaction is about to make true, to be filled in."""
        return self._commits.setdefault(id(transaction.rings), _Commit())

    @asynccontextmanager
    async def machine(self, tenant_id: int, *, actor: str, correlation_id: str) -> AsyncIterator[Transaction]:
        self.require_life()
        rings = Rings()
        try:
            async with super().machine(tenant_id, actor=actor, correlation_id=correlation_id) as transaction:
                rings = transaction.rings
                yield transaction
        finally:
            self._commits.pop(id(rings), None)

    def _committing(self, transaction: Transaction) -> None:
        super()._committing(transaction)
        self._meet(self.about(transaction), after=False)

    def _tell(self, rings: Rings) -> None:
        # The commit is done; its answer may never have come.
        commit = self._commits.get(id(rings), _Commit())
        self._meet(commit, after=True)
        self.fate.comes_by(self, Point.RING, commit.recorded, after=False)
        super()._tell(rings)
        self.fate.comes_by(self, Point.RING, commit.recorded, after=True)

    def _meet(self, commit: _Commit, *, after: bool) -> None:
        self.fate.comes_by(self, Point.FINISH, commit.recorded, after=after)
        self.fate.comes_by(self, Point.CLAIM, commit.claimed, after=after)


@dataclass(frozen=True)
class MortalClaimer(Claimer):
    """Says which claim a transaction is about to commit."""

    mortal: MortalDatabase

    async def claim(self, ledger: Ledger, step_id: int, *, inline: bool = False) -> Claim | None:
        claim = await super().claim(ledger, step_id, inline=inline)
        if claim is not None:
            self.mortal.about(ledger.transaction).claimed = claim.work
        return claim


@dataclass(frozen=True)
class MortalRecorder(Recorder):
    """Says which outcome a transaction is about to commit."""

    mortal: MortalDatabase

    async def record(self, ledger: Ledger, work: Work, outcome: Outcome, lines: list[LogLine]) -> bool:
        self.mortal.about(ledger.transaction).recorded = work
        return await super().record(ledger, work, outcome, lines)


@dataclass(frozen=True)
class MortalExecutor(Executor):
    """Says in whose hands a provider call is, and may die when its answer is there."""

    mortal: MortalDatabase

    async def execute(self, work: Work, context: StepContext) -> Outcome:
        fate = self.mortal.fate
        fate.working.set((work, self.mortal))
        outcome = await super().execute(work, context)
        fate.comes_by(self.mortal, Point.REPLY, work, after=True)
        return outcome


@dataclass(frozen=True, slots=True)
class Deed:
    """A change of the outside world: "create", "update" or "delete" of a note, by which operation."""

    verb: str
    name: str
    operation: str


@dataclass
class Deeds:
    """Everything that was done to the world, in order: a record that the engine knows nothing of."""

    done: list[Deed] = field(default_factory=list)

    def names(self, verb: str) -> list[str]:
        """What was created, updated or deleted, in order."""
        return [deed.name for deed in self.done if deed.verb == verb]


class MortalNotes(FaultyType):
    """Notes whose callers may die. Those named in `slow` are made, and those in `lasting` removed, while somebody
    polls; `asked` says of whom a removal was asked for, in order.

    A request whose sender died is delivered late: after the answer to the next question about the same note.
    """

    def __init__(self, inner: ResourceType, fate: Fate, slow: Sequence[str] = (), lasting: Sequence[str] = ()) -> None:
        super().__init__(inner, {})
        self._fate = fate
        self.slow, self.lasting = set(slow), set(lasting)
        self.asked: list[str] = []
        # Whether requests on their way stay there until somebody lets them arrive.
        self.held_back = False
        self.deeds = Deeds()
        self._on_their_way: list[tuple[str, Callable[[], Awaitable[Any]]]] = []

    async def create(self, context: Context, properties: JsonObject) -> ResourceState | Pending:
        async def make() -> ResourceState | Pending:
            before = await self._exists(context, properties)
            made = await self._inner.create(context, properties)
            if not before:
                self.deeds.done.append(Deed("create", properties["name"], context.operation_id))
            if properties["name"] not in self.slow or isinstance(made, Pending):
                return made
            return Pending({"name": made.id, "asked": 0, "properties": properties}, 0.1)

        return await self._call("create", context, make, properties["name"])

    async def poll(self, context: Context, handle: JsonObject) -> ResourceState | Pending | None:
        async def ask() -> ResourceState | Pending | None:
            if handle["asked"] == 0:
                return Pending({**handle, "asked": 1}, 0.1)
            if "removes" in handle:
                await self._take_away(context, ResourceState(handle["name"], {}, {}))
                return None
            return await self._inner.recover(context, handle["properties"])

        return await self._call("poll", context, ask, handle["name"])

    async def delete(self, context: Context, prior: ResourceState) -> Pending | None:
        async def remove() -> Pending | None:
            self.asked.append(prior.id)
            if prior.id in self.lasting:
                return Pending({"name": prior.id, "asked": 0, "removes": True}, 0.1)
            await self._take_away(context, prior)
            return None

        return await self._call("delete", context, remove, prior.id)

    async def _take_away(self, context: Context, prior: ResourceState) -> None:
        before = await self._inner.read(context, prior)
        await self._inner.delete(context, prior)
        if before is not None:
            self.deeds.done.append(Deed("delete", prior.id, context.operation_id))

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | Pending | None:
        return await self._call(
            "recover", context, lambda: self._inner.recover(context, properties), properties["name"]
        )

    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:
        return await self._call("read", context, lambda: self._inner.read(context, state), state.id)

    async def _exists(self, context: Context, properties: JsonObject) -> bool:
        return await self._inner.recover(context, properties) is not None

    async def _call(
        self, method: str, context: Context, inner: Callable[[], Awaitable[Answer]], name: str = ""
    ) -> Answer:
        work, worker = self._fate.working.get() or (None, None)
        if work is None or worker is None or _call_of(work) != method:
            return await self._late(name, await super()._call(method, context, inner))
        self._fate.comes_by(worker, Point.SEND, work, after=False)
        try:
            self._fate.comes_by(worker, Point.SEND, work, after=True)
        except Killed:
            self._on_their_way.append((name, inner))
            raise
        answer = await super()._call(method, context, inner)
        self._fate.comes_by(worker, Point.REPLY, work, after=False)
        return await self._late(name, answer)

    async def arrive(self) -> None:
        """Let everything that was held back have its effect now."""
        requests, self._on_their_way = self._on_their_way, []
        for _, request in requests:
            await request()

    def forget(self) -> None:
        """Whatever is still on its way never arrives."""
        self._on_their_way = []

    async def _late(self, name: str, answer: Answer) -> Answer:
        if self.held_back:
            return answer
        arriving = [request for request in self._on_their_way if request[0] == name]
        self._on_their_way = [request for request in self._on_their_way if request[0] != name]
        for _, request in arriving:
            await request()
        return answer


def mortal_hands(
    url: str, fate: Fate, rung: Callable[[Rings], None], claimer: Claimer, executor: Executor, recorder: Recorder
) -> tuple[MortalDatabase, MortalClaimer, MortalExecutor, MortalRecorder]:
    """The parts of a runner, as a mortal has them."""
    database = MortalDatabase.of(url, fate, rung)
    return (
        database,
        MortalClaimer(claimer.worker_id, claimer.registry, claimer.sealer, database),
        MortalExecutor(executor.registry, database),
        MortalRecorder(recorder.registry, recorder.sealer, recorder.random, database),
    )
