"""Looks at resources as they are outside: for drift, and for what is imported.

No transaction is open while a provider is asked. A worker that dies meanwhile has lost nothing but time: its lease runs
out, and the next one to look has a newer fence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from app import clock
from app.db.uow import Database, SystemRole, Transaction
from app.domain.enums import ErrorClass, LogLevel
from app.domain.values import reveal
from app.engine import awaiting
from app.engine.connections import Connections
from app.engine.observations import Archivist, Due, Finding, Subject, claim, look
from app.engine.states import unpack
from app.providers.base import OperationCancelled, ProviderError, ResourceState, ResourceType

_logger = structlog.get_logger(__name__)

DEADLINE_SECONDS = 30.0
_GRACE_SECONDS = 5.0
# Longer than a look may take with all that is around it.
LEASE_SECONDS = 60.0
# A claim counts a lease that ran out, so this many workers have died at it.
_MOST_CRASHES = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Whose thing a provider is asked about, and in the name of which operation, so many times already."""

    tenant_id: int
    provider: str | None
    owner: str
    operation_id: str
    attempt: int

    @classmethod
    def of(cls, subject: Subject) -> Place:
        row = subject.row
        # What an operation in doubt has made, only that operation finds.
        operation_id = (row["effect_operation_id"] or uuid4()).hex
        owner = f"windlass:{row['slug']}:{row['stack']}:{row['resource_key']}"
        return cls(subject.due.tenant_id, row["provider"], owner, operation_id, row["observe_failures"] + 1)


class ObservationContext:
    """The engine's side of `app.providers.base.Context` where no step is carried out and nobody follows a log."""

    def __init__(self, place: Place, connection: Any, workspace: Path, connections: Connections) -> None:
        self._place = place
        self._connections = connections
        self._cancelled = asyncio.Event()
        self.operation_id = place.operation_id
        self.attempt = place.attempt
        self.owner = place.owner
        self.connection = connection
        self.workspace = workspace
        self.deadline = clock.monotonic() + DEADLINE_SECONDS

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Tell the provider that its time is up."""
        self._cancelled.set()

    def connect(self, name: str) -> AbstractAsyncContextManager[Any]:
        return self._connections.session(self._place.tenant_id, self._place.provider, name)

    def log(self, message: str, level: LogLevel = LogLevel.INFO, stream: str = "provider", **fields: Any) -> None:
        # What a provider says may name what is the tenant's: it stays out of our own log unless asked for.
        del fields
        _logger.debug(message, level=level.value, stream=stream, owner=self.owner)

    def progress(self, percent: float | None, message: str = "") -> None:
        del percent, message

    async def drain(self) -> None:
        """Nothing waits here: what is said is not kept."""

    async def sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._cancelled.wait(), seconds)
        except TimeoutError:
            return
        raise OperationCancelled


class Observer:
    """Claims observations and carries them out, a few at a time."""

    def __init__(self, database: Database, archivist: Archivist, connections: Connections, artifacts: Path) -> None:
        self._database = database
        self._archivist = archivist
        self._connections = connections
        self._artifacts = artifacts

    async def round(self, limit: int) -> int:
        """Look at what is due, at most `limit` resources side by side; returns how many."""
        async with self._database.system(SystemRole.TICK) as transaction:
            claimed = await claim(transaction, limit, LEASE_SECONDS)
        results = await asyncio.gather(*(self.carry(due) for due in claimed), return_exceptions=True)
        for due, result in zip(claimed, results, strict=True):
            if isinstance(result, Exception):
                # Its lease runs out, and that counts as a failure of the observation.
                _logger.error("an observation came to nothing", resource_id=due.resource_id, exc_info=result)
        return len(claimed)

    async def carry(self, due: Due) -> bool:
        """Look at one claimed resource and write down what was found. False when that counts no more."""
        async with self._transaction(due) as transaction:
            subject = await look(transaction, due)
        if subject is None:
            return False
        finding = await self._find(subject)
        async with self._transaction(due) as transaction:
            return await self._archivist.record(transaction, subject, finding)

    async def _find(self, subject: Subject) -> Finding:
        kind = self._archivist.registry.resource(subject.row["type"])
        if not kind.observable and not (subject.imports or subject.is_unknown):
            return Finding(unsupported=True)
        if subject.row["observe_failures"] >= _MOST_CRASHES:
            return Finding(error={"code": "WORKER_LOST", "message": "workers died while they looked at it"})
        row = subject.row
        folder = self._artifacts / str(subject.due.tenant_id)
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        try:
            async with self._connections.session(subject.due.tenant_id, row["provider"], row["connection"]) as session:
                context = ObservationContext(Place.of(subject), session, folder, self._connections)
                return await self._ask(subject, context)
        except ProviderError as error:
            return _failure(error)

    async def _ask(self, subject: Subject, context: ObservationContext) -> Finding:
        call = asyncio.ensure_future(self._call(subject, context))
        try:
            done, _ = await asyncio.wait({call}, timeout=DEADLINE_SECONDS)
            if not done:
                context.cancel()
                done, _ = await asyncio.wait({call}, timeout=_GRACE_SECONDS)
        finally:
            call.cancel()
        if not done:
            await asyncio.wait({call}, timeout=_GRACE_SECONDS)
            message = f"no answer within {DEADLINE_SECONDS:g} s"
            return Finding(error={"code": "TIMEOUT", "message": message}, transient=True)
        return call.result()

    async def _call(self, subject: Subject, context: ObservationContext) -> Finding:
        row = subject.row
        kind = self._archivist.registry.resource(row["type"])
        try:
            if subject.imports:
                return Finding(await kind.import_(context, row["external_id"]))
            if subject.is_unknown and row["adopt_id"] not in (None, row["external_id"]):
                return Finding(await kind.import_(context, row["adopt_id"]))
            if subject.is_in_the_making and row["adopt_id"] is None:
                made = await self._made(kind, subject, context)
                if made is not None or row["external_id"] is None:
                    return Finding(made, made=made is not None)
            if row["external_id"] is None:
                message = "nothing is recorded by which it could be found"
                return Finding(error={"code": "NOT_RECORDED", "message": message})
            return Finding(await kind.read(context, self._recorded(subject)))
        except ProviderError as error:
            return _failure(error)
        except Exception:
            _logger.exception("a provider raised something that is not a ProviderError", type=row["type"])
            message = f"the provider of {row['type']} failed in an unexpected way"
            return Finding(error={"code": "PROVIDER_BUG", "message": message})

    async def _made(self, kind: ResourceType, subject: Subject, context: ObservationContext) -> ResourceState | None:
        """What the creation in doubt has made, as far as anybody can tell."""
        intended = self._archivist.sealer.open(subject.row["effect_intended"] or {}, subject.due.tenant_id)
        return await awaiting.made(kind, reveal(intended), context)

    def _recorded(self, subject: Subject) -> ResourceState:
        row = subject.row
        stored = {
            "id": row["external_id"],
            "properties": row["applied"] or {},
            "outputs": row["outputs"] or {},
            "private": row["private"],
            "version": row["state_version"],
        }
        state = unpack(stored, self._archivist.sealer, subject.due.tenant_id)
        if state is None:
            message = "a stored state is never nothing"
            raise AssertionError(message)
        return state

    @asynccontextmanager
    async def _transaction(self, due: Due) -> AsyncIterator[Transaction]:
        async with self._database.machine(
            due.tenant_id, actor="system:observer", correlation_id=f"observation-{due.resource_id}-{due.fence}"
        ) as transaction:
            transaction.authorize("engine: looking at what is the tenant's changes nothing of it")
            yield transaction


def _failure(error: ProviderError) -> Finding:
    told = {"code": error.code, "message": error.message}
    helps = error.kind.error_class in (ErrorClass.TRANSIENT, ErrorClass.INDETERMINATE, ErrorClass.CANCELLED)
    return Finding(error=told, transient=helps)
