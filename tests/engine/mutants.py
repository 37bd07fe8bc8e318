"""Planted bugs: each is a few lines that break one promise of the engine, and each must be caught.

`python -m tests.engine.hunting` plants them one by one and prints which proof has caught which.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from app.db import journal, turns
from app.db.ledger import Ledger
from app.db.models import DeploymentPlan
from app.db.statements import Statement
from app.db.step_rows import StepRow
from app.db.uow import Transaction
from app.db.webhooks import Endpoint
from app.domain import decisions, webhooks
from app.domain.decisions import JobMove, Move, StepView
from app.domain.logs import LogLine
from app.domain.scheduling import Schedule
from app.domain.statuses import JOB, JobStatus, StepStatus
from app.engine import claims, dispatching, orphans, sweeping
from app.engine.claims import Claimer
from app.engine.context import StepContext
from app.engine.executor import Executor
from app.engine.log import StepLog
from app.engine.recorder import Recorder
from app.engine.webhooks import Message, Sender
from app.engine.work import Mode, Outcome, Succeeded, Work
from app.services.plans import passage, spawning

Patch = tuple[Any, str, Any]

_Decision = decisions._Decision


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug. `caught_by`: what is known to catch it: crash points, games, chaos, or a test of its own."""

    name: str
    what: str
    patches: Callable[[], Sequence[Patch]]
    caught_by: str


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The bug, for as long as the block lasts."""
    before = plant(name)
    try:
        yield
    finally:
        for place, attribute, value in before:
            setattr(place, attribute, value)


def plant(name: str) -> list[Patch]:
    """The bug, for good; what was there before it."""
    before = []
    for place, attribute, value in MUTANTS[name].patches():
        before.append((place, attribute, getattr(place, attribute)))
        setattr(place, attribute, value)
    return before


# ── claims and outcomes ──────────────────────────────────────────────────────────────────────────────────────────────

_SEIZE = Statement(
    "UPDATE step_run SET fence = :fence, worker_id = :worker WHERE tenant_id = :tenant AND id = :id RETURNING id"
)
_FREE = Statement(
    "UPDATE step_run SET worker_id = NULL, status = 'READY', due_at = clock_timestamp()"
    " WHERE tenant_id = :tenant AND id = :id AND status = 'RUNNING' RETURNING id"
)
_FORGET = Statement("UPDATE step_run SET touched = false WHERE tenant_id = :tenant AND id = :id RETURNING id")


def _finish_without_fence() -> Sequence[Patch]:
    record = Recorder.record

    async def seize(self: Recorder, ledger: Ledger, work: Work, outcome: Outcome, lines: list[LogLine]) -> bool:
        key = {"tenant": work.tenant_id, "id": work.step_id, "fence": work.fence, "worker": work.worker_id}
        await ledger.transaction.fetch(_SEIZE, key)
        return await record(self, ledger, work, outcome, lines)

    return [(Recorder, "record", seize)]


def _claim_takes_running() -> Sequence[Patch]:
    claim = Claimer.claim

    async def take(self: Claimer, ledger: Ledger, step_id: int, *, inline: bool = False) -> Any:
        await ledger.transaction.fetch(_FREE, {"tenant": ledger.transaction.tenant_id, "id": step_id})
        return await claim(self, ledger, step_id, inline=inline)

    return [(Claimer, "claim", take)]


def _intent_not_written() -> Sequence[Patch]:
    take = Ledger.take

    async def forget(self: Ledger, key: str, claim: Mapping[str, Any], *, last: bool) -> int:  # noqa: ARG001
        fence = await take(self, key, claim, last=False)
        await self.transaction.fetch(_FORGET, {"tenant": self.transaction.tenant_id, "id": claim["step"]})
        return fence

    return [(Ledger, "take", forget)]


def _memory_trusted() -> Sequence[Patch]:
    recall = Ledger.recall

    def trust(self: Ledger, transaction: Transaction) -> None:
        recall(self, transaction)
        self._expected = None

    return [(Ledger, "recall", trust)]


def _turn_always_holds() -> Sequence[Patch]:
    held = turns._WRITE.sql.replace("j.event_seq = i.expected", "j.event_seq >= i.expected")
    statement = Statement(held)
    statement.names = turns._WRITE.names
    return [(turns, "_WRITE", statement)]


def _operation_per_attempt() -> Sequence[Patch]:
    def fresh(self: StepContext) -> str:
        work = self._work
        if work.mode is Mode.UNDO:
            return work.operation_id.hex
        return uuid5(UUID(int=work.operation_id.int), str(work.attempt)).hex

    return [(StepContext, "operation_id", property(fresh))]


def _unknown_taken_for_done() -> Sequence[Patch]:
    async def believe(self: Executor, work: Work, context: StepContext) -> Outcome:  # noqa: ARG001
        return Succeeded()

    return [(Executor, "_observe", believe)]


def _late_effect_left() -> Sequence[Patch]:
    async def leave(ledger: Ledger, work: Work) -> None:  # noqa: ARG001
        return None

    return [(orphans, "left_behind", leave)]


def _late_request_left() -> Sequence[Patch]:
    async def leave(*_: Any) -> None:
        return None

    return [(sweeping, "arm", leave)]


def _closed_resource_kept() -> Sequence[Patch]:
    return [(claims, "_is_stale", lambda _row: False)]


# ── the tick ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _no_second_ring() -> Sequence[Patch]:
    pick = dispatching.pick

    async def once(transaction: Transaction, ring_again_seconds: float, limit: int) -> int:  # noqa: ARG001
        return await pick(transaction, 1_000_000, limit)

    return [(dispatching, "pick", once)]


# ── decisions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _undo_forward() -> Sequence[Patch]:
    def go_back(self: Any) -> None:
        clear: dict[str, bool] = {}
        for step in self.job.steps:
            free = all(clear.get(key, True) for key in step.needs)
            if free and self.now[step.key] in decisions._UNDOABLE and step.touched and not step.claimed:
                self._move(step, "rollback")
            clear[step.key] = free and not self._has_effect(step)
        if any(self.now[step.key] is StepStatus.COMPENSATING or step.claimed for step in self.job.steps):
            return
        failed = any(self._has_effect(step) for step in self.job.steps)
        self._move_job("compensation_failed" if failed else "all_compensated")

    return [(_Decision, "_go_back", go_back)]


def _undo_only_succeeded() -> Sequence[Patch]:
    return [(decisions, "_UNDOABLE", frozenset({StepStatus.SUCCEEDED}))]


def _undo_while_running() -> Sequence[Patch]:
    view = StepRow.view

    def free(self: StepRow) -> StepView:
        return replace(view(self), claimed=False)

    # Both the wait before a rollback and the order within it look at who holds what: each would do for the other.
    return [(StepRow, "view", free)]


def _nothing_stops() -> Sequence[Patch]:
    return [(_Decision, "_wind_down", lambda _self, _reason, _culprit: None)]


def _needs_not_awaited() -> Sequence[Patch]:
    return [(_Decision, "_satisfied", lambda _self, _key: True)]


def _cancelled_still_due() -> Sequence[Patch]:
    moves = _Decision.moves

    def idle(self: Any) -> tuple[Move, ...]:
        return () if self.status is JobStatus.CANCELLED else moves(self)

    return [(_Decision, "moves", idle)]


def _failure_forgotten() -> Sequence[Patch]:
    def none(self: Any) -> list[StepView]:  # noqa: ARG001
        return []

    return [(_Decision, "_failures", none)]


# ── the record ───────────────────────────────────────────────────────────────────────────────────────────────────────

_LOCK_AGAIN = Statement(
    "INSERT INTO resource_lock (tenant_id, lock_key, job_id) VALUES (:tenant, 'stack/' || :stack, :job)"
    " ON CONFLICT DO NOTHING RETURNING job_id"
)


def _gap_in_journal() -> Sequence[Patch]:
    parameters = journal.parameters

    def skip(transaction: Transaction, stream_id: int, entries: Sequence[journal.Entry]) -> dict[str, Any]:
        values = parameters(transaction, stream_id, entries)
        return {**values, "total": values["total"] + (len(entries) > 2)}

    return [(journal, "parameters", skip)]


def _event_lost() -> Sequence[Patch]:
    parameters = journal.parameters

    def lose(transaction: Transaction, stream_id: int, entries: Sequence[journal.Entry]) -> dict[str, Any]:
        return parameters(transaction, stream_id, [*entries[:-2], entries[-1]] if len(entries) > 2 else entries)

    return [(journal, "parameters", lose)]


def _lock_kept() -> Sequence[Patch]:
    write = Ledger.write

    async def keep(self: Ledger) -> None:
        await write(self)
        if self.status in JOB.closed:
            key = {"tenant": self.transaction.tenant_id, "stack": self.row["stack"], "job": self.job_id}
            await self.transaction.fetch(_LOCK_AGAIN, key)

    return [(Ledger, "write", keep)]


def _told_twice() -> Sequence[Patch]:
    move = Ledger.move_job

    def twice(self: Ledger, to: JobMove) -> None:
        move(self, to)
        if to.status in JOB.closed:
            move(self, to)

    return [(Ledger, "move_job", twice)]


def _secrets_in_lines() -> Sequence[Patch]:
    return [(StepLog, "_redact", lambda _self, line: line)]


# ── what goes on beside jobs ──────────────────────────────────────────────────────────────────────────────────────────


def _time_left_out() -> Sequence[Patch]:
    set_clock = passage.set_clock

    def leave_out(plan: DeploymentPlan, schedule: Schedule, time: datetime | None) -> None:
        skips = time is not None and schedule.recurrence is not None and random.random() < 0.5
        set_clock(plan, schedule, schedule.after(time) if skips and time is not None else time)

    return [(passage, "set_clock", leave_out)]


def _time_run_twice() -> Sequence[Patch]:
    spawn = spawning.spawn

    async def twice(*arguments: Any, **changes: Any) -> DeploymentPlan:
        if random.random() < 0.5:
            await spawn(*arguments, **changes)
        return await spawn(*arguments, **changes)

    return [(spawning, "spawn", twice)]


def _event_not_told() -> Sequence[Patch]:
    send = Sender.send

    async def lose(self: Sender, endpoint: Endpoint, message: Message) -> webhooks.Outcome:
        return webhooks.Outcome(1, 200) if random.random() < 0.02 else await send(self, endpoint, message)

    return [(Sender, "send", lose)]


MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for mutant in (
        Mutant("finish-without-fence", "an outcome is written whoever has the step now", _finish_without_fence, "late"),
        Mutant("claim-takes-running", "a claim takes a step that somebody has", _claim_takes_running, "random"),
        Mutant("intent-not-written", "a claim does not say that it will act", _intent_not_written, "crash"),
        Mutant("memory-trusted", "what is remembered of a job is taken for what it is", _memory_trusted, "pausing"),
        Mutant("turn-always-holds", "a turn is written whatever was in between", _turn_always_holds, "pausing"),
        Mutant("operation-per-attempt", "each attempt has an operation id of its own", _operation_per_attempt, "crash"),
        Mutant("unknown-taken-for-done", "nobody asks what a lost attempt has done", _unknown_taken_for_done, "crash"),
        Mutant("late-effect-left", "what is made after its step was undone is left", _late_effect_left, "late"),
        Mutant("late-request-left", "nobody looks behind an undone effect", _late_request_left, "sweep"),
        Mutant("closed-resource-kept", "a waiting plan works on a deleted resource", _closed_resource_kept, "stacks"),
        Mutant("no-second-ring", "a doorbell is rung once only", _no_second_ring, "random"),
        Mutant("undo-forward", "effects are undone in forward order", _undo_forward, "crash"),
        Mutant("undo-only-succeeded", "a failed step is not undone", _undo_only_succeeded, "random"),
        Mutant("undo-while-running", "a rollback does not wait for running steps", _undo_while_running, "random"),
        Mutant("nothing-stops", "a stopping job starts further steps", _nothing_stops, "random"),
        Mutant("needs-not-awaited", "a step starts before its needs", _needs_not_awaited, "crash"),
        Mutant("cancelled-still-due", "a job cancelled in time leaves its steps due", _cancelled_still_due, "random"),
        Mutant("failure-forgotten", "a failed step does not fail its job", _failure_forgotten, "crash"),
        Mutant("gap-in-journal", "a number of the journal is left out", _gap_in_journal, "crash"),
        Mutant("event-lost", "an event is not written", _event_lost, "crash"),
        Mutant("lock-kept", "an ended job keeps its stack", _lock_kept, "crash"),
        Mutant("told-twice", "the end of a job is told twice", _told_twice, "crash"),
        Mutant("secrets-in-lines", "log lines are not searched for secrets", _secrets_in_lines, "chaos"),
        Mutant("time-left-out", "a time of a recurring plan is passed over", _time_left_out, "schedules"),
        Mutant("time-run-twice", "a time of a recurring plan makes two runs", _time_run_twice, "schedules"),
        Mutant("event-not-told", "a webhook counts as told that was not sent", _event_not_told, "webhooks"),
    )
}
