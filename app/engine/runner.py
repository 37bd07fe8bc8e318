"""Carries one step of a job at a time: look, decide, act, record; then the next one of the same job, if there is one.

Between the transactions nothing is held: no lock, no connection. Whatever happens to this process in between, the step
row says who had it, the effect row says what was meant, and somebody else finds out the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.exc import DBAPIError

from app import clock
from app.db.away import DATABASE_AWAY
from app.db.ledger import Ledger, Overtaken
from app.db.uow import Database, Transaction
from app.domain.enums import ErrorClass
from app.domain.logs import LogLine
from app.domain.statuses import JobStatus
from app.engine import breaking, orphans, outputs
from app.engine.ahead import Ahead
from app.engine.claims import Claim, Claimer
from app.engine.connections import Connections
from app.engine.context import StepContext
from app.engine.executor import Executor
from app.engine.log import StepLog
from app.engine.recorder import Recorder
from app.engine.work import Failed, Outcome, Succeeded, Work
from app.messages import StepDue
from app.providers.base import ProviderError

_logger = structlog.get_logger(__name__)

# How long one worker thread stays with one job before it lets others have a turn.
_TURN_SECONDS = 2.0
_RECORD_FOR_SECONDS = 60.0
# Anything that the database says while an outcome is written leaves it open whether it was: the fence decides.
_LOST_CONNECTION = (*DATABASE_AWAY, DBAPIError)


@dataclass(frozen=True, slots=True)
class Hand:
    """A step that this process holds, and what it remembers of the step's job, if anything."""

    work: Work
    ledger: Ledger | None = None


class Runner:
    """Runs steps for one worker process."""

    def __init__(
        self,
        database: Database,
        claimer: Claimer,
        executor: Executor,
        recorder: Recorder,
        connections: Connections,
        artifacts: Path,
    ) -> None:
        self._database = database
        self._claimer = claimer
        self._executor = executor
        self._recorder = recorder
        self._connections = connections
        self._artifacts = artifacts
        self._folders: dict[int, Path] = {}
        self._running: dict[int, StepContext] = {}
        self.draining = False

    @property
    def running(self) -> frozenset[int]:
        """The ids of the step runs in this process's hands."""
        return frozenset(self._running)

    def cancel(self, step_id: int) -> None:
        """Tell the provider of a running step that somebody asked to stop."""
        context = self._running.get(step_id)
        if context is not None:
            context.cancel()

    async def run(self, message: StepDue) -> None:
        """Answer a doorbell. A ring for a step that is not to be had is answered by doing nothing."""
        began = clock.monotonic()
        hand = await self._claim(message)
        while hand is not None:
            log = self._log(hand.work)
            outcome = await self._act(hand.work, log)
            stay = not self.draining and clock.monotonic() - began < _TURN_SECONDS
            hand = await self._record(hand, outcome, log, stay=stay)

    async def _claim(self, message: StepDue) -> Hand | None:
        try:
            try:
                return await self._try_claim(message, alone=False)
            except Overtaken:
                return await self._try_claim(message, alone=True)
        except Overtaken:
            # Under the lock: this process has no lease any more; the step is rung for again.
            return None
        except _LOST_CONNECTION:
            raise
        except Exception:
            _logger.exception("a step could not be looked at", step_run_id=message.step_run_id)
            async with self._transaction(message.tenant_id, message.job_id) as transaction:
                await breaking.count(transaction, message.job_id, message.step_run_id)
            return None

    async def _try_claim(self, message: StepDue, *, alone: bool) -> Hand | None:
        """Claim the step; under the job's lock where `alone` says so, or where rows of others are changed with it."""
        async with self._transaction(message.tenant_id, message.job_id) as transaction:
            ledger = None if alone else await Ledger.look(transaction, message.job_id)
            if ledger is None or message.step_run_id not in ledger.untried:
                ledger = await Ledger.open(transaction, message.job_id)
                if ledger is None:
                    return None
                await ledger.read_untried()
            return await self._take(ledger, message.step_run_id)

    async def _take(self, ledger: Ledger, step_id: int | None, *, inline: bool = False) -> Hand | None:
        """Claim the step; carry on with whatever follows while nobody outside has to be asked."""
        held: Work | None = None
        ahead = Ahead()
        while step_id is not None and held is None:
            claim = await self._claimer.claim(ledger, step_id, inline=inline)
            if claim is None:
                break
            if claim.take is not None and not await self._passed(ledger, claim, claim.take, ahead):
                fence = await ledger.take(claim.work.key, claim.take, last=claim.outcome is None)
                work = replace(claim.work, fence=fence)
                if claim.outcome is None:
                    held = work
                    break
                await self._recorder.record(ledger, work, claim.outcome, [])
            step_id = await self._advance(ledger)
            inline = True
        await ledger.write()
        return None if held is None else Hand(held, ledger if ledger.is_memorable else None)

    async def _passed(self, ledger: Ledger, claim: Claim, take: Mapping[str, Any], ahead: Ahead) -> bool:
        """Carry out the step before anything is written of it, where that does no harm; whether it has succeeded.

        If not, it is taken as any other, and run again.
        """
        if not (claim.is_pure and ledger.is_unlocked and ahead.has_room):
            return False
        work = claim.work
        log = self._log(work, speaks=False)
        context = StepContext(work, None, log, await self._folder(work.tenant_id), self._connect(work, None))
        began = clock.monotonic()
        outcome = ahead.run(self._executor, work, context)
        if not isinstance(outcome, Succeeded):
            return False
        # Nobody else has seen it.
        work.fence = ledger.begin(work.key, take, began)
        return await self._recorder.record(ledger, work, outcome, log.take())

    async def _advance(self, ledger: Ledger, *, stay: bool = True) -> int | None:
        """Collect what follows; the step to go on with, if this process shall."""
        if not ledger.steps:
            await ledger.read_steps()
        ledger.advance()
        if ledger.status is JobStatus.SUCCEEDED:
            await outputs.write(ledger, self._claimer.sealer)
        return ledger.due[0].step_run_id if stay and ledger.due else None

    async def _act(self, work: Work, log: StepLog) -> Outcome:
        folder = await self._folder(work.tenant_id)
        provider = work.spec.get("provider") if work.rehearsal is None else None
        sent = False
        try:
            async with self._connections.session(work.tenant_id, provider, work.spec.get("connection")) as session:
                context = StepContext(work, session, log, folder, self._connect(work, provider))
                self._running[work.step_id] = context
                sent = True
                try:
                    outcome = await self._executor.execute(work, context)
                finally:
                    # A step that was taken from this process may be in its hands again, in another attempt.
                    if self._running.get(work.step_id) is context:
                        del self._running[work.step_id]
        except ProviderError as error:
            outcome = Failed(
                error.kind.error_class, error.code, error.message, error.retry_after_seconds, unsent=not sent
            )
        if isinstance(outcome, Failed) and outcome.error_class is not ErrorClass.CANCELLED:
            log.failure(outcome.message)
        return outcome

    def _connect(self, work: Work, provider: str | None) -> Callable[[str], AbstractAsyncContextManager[Any]]:
        return lambda name: self._connections.session(work.tenant_id, provider, name)

    async def _folder(self, tenant_id: int) -> Path:
        """The tenant's folder for files."""
        folder = self._folders.get(tenant_id)
        if folder is None:
            folder = self._artifacts / str(tenant_id)
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            self._folders[tenant_id] = folder
        return folder

    async def _record(self, hand: Hand, outcome: Outcome, log: StepLog, *, stay: bool) -> Hand | None:
        """Write the outcome, however long the database takes to come back; writing it twice is impossible."""
        await log.settle()
        lines = log.take()
        until = clock.monotonic() + _RECORD_FOR_SECONDS
        pause = 0.1
        while True:
            try:
                return await self._try_record(hand, outcome, lines, stay=stay)
            except Overtaken:
                # Under the lock this can only be the next step, which a worker without a lease may not take.
                stay, hand = stay and hand.ledger is not None, Hand(hand.work)
            except _LOST_CONNECTION:
                hand = Hand(hand.work)
                if clock.monotonic() > until:
                    raise
                _logger.warning("an outcome could not be written yet", step_run_id=hand.work.step_id, exc_info=True)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
            except Exception:
                # The outcome shall not be lost for what is wrong with the next step: that one is looked at apart.
                if not stay:
                    raise
                _logger.exception("the turn after a step went wrong", step_run_id=hand.work.step_id)
                stay, hand = False, Hand(hand.work)

    async def _try_record(self, hand: Hand, outcome: Outcome, lines: list[LogLine], *, stay: bool) -> Hand | None:
        work = hand.work
        async with self._transaction(work.tenant_id, work.job_id) as transaction:
            ledger = hand.ledger if _is_plain(work, outcome) else None
            if ledger is not None:
                ledger.recall(transaction)
            else:
                ledger = await Ledger.open(transaction, work.job_id)
            if ledger is None:
                return None
            if not await self._recorder.record(ledger, work, outcome, lines):
                _logger.warning("a late outcome is refused: the step has another holder", step_run_id=work.step_id)
                orphan = await orphans.left_behind(ledger, work)
                return None if orphan is None else Hand(orphan)
            step_id = await self._advance(ledger, stay=stay)
            return await self._take(ledger, step_id, inline=True)

    @asynccontextmanager
    async def _transaction(self, tenant_id: int, job_id: int) -> AsyncIterator[Transaction]:
        async with self._database.machine(
            tenant_id, actor="system:engine", correlation_id=f"job-{job_id}"
        ) as transaction:
            transaction.authorize("engine: the job was authorised when it was made")
            yield transaction

    def _log(self, work: Work, *, speaks: bool = True) -> StepLog:
        return StepLog(
            self._database,
            tenant_id=work.tenant_id,
            job_id=work.job_id,
            step_id=work.step_id,
            step_key=work.key,
            attempt=work.attempt,
            fence=work.fence,
            secrets=work.secrets,
            words=work.words,
            room=self._recorder.room,
            watched=work.heartbeat_seconds is not None,
            speaks=speaks,
        )


def _is_plain(work: Work, outcome: Outcome) -> bool:
    """Whether all that the outcome changes are rows of the job: others are changed under the job's lock only."""
    beside = isinstance(outcome, Succeeded) and (outcome.artifact is not None or outcome.undo is not None)
    return work.resource_id is None and not beside
