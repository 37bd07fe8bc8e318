"""Deadlines of jobs and steps: found by the tick, acted on one job at a time.

Each is acted on in a transaction of its tenant, under the lock of its job, and only if it is still due there: whoever
answers in the same moment either was first or finds the question closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.db import jobs, losing
from app.db.ledger import Ledger
from app.db.statements import Statement, dumps
from app.db.uow import Database, Transaction
from app.domain.decisions import StepMove
from app.domain.enums import FailureStrategy, GateKind, StatusReason
from app.domain.statuses import JOB, STEP, JobStatus, StepStatus


class Timer(StrEnum):
    """What was given so much time: an answer, a pause, all attempts of a step, or a job to begin."""

    GATE = "GATE"
    PAUSE = "PAUSE"
    STEP = "STEP"
    QUEUE = "QUEUE"


# An index can be asked for what was before the statement began, but not for what is before a clock that goes on.
_OVERDUE = Statement(
    "(SELECT 'GATE' AS timer, g.tenant_id, s.job_id, g.step_run_id FROM gate g JOIN step_run s"
    " ON s.tenant_id = g.tenant_id AND s.id = g.step_run_id WHERE g.deadline_at <= statement_timestamp()"
    " AND g.closed_at IS NULL ORDER BY g.deadline_at LIMIT 100)"
    " UNION ALL (SELECT 'PAUSE', tenant_id, id, NULL FROM orchestration_job WHERE pause_until <= statement_timestamp()"
    " ORDER BY pause_until LIMIT 100)"
    # Whoever has such a step is waited for: an attempt has a time of its own.
    " UNION ALL (SELECT 'STEP', tenant_id, job_id, id FROM step_run WHERE expires_at <= statement_timestamp()"
    " AND worker_id IS NULL AND status IN ('READY', 'RETRY_WAIT', 'WAITING') ORDER BY expires_at LIMIT 100)"
    " UNION ALL (SELECT 'QUEUE', tenant_id, id, NULL FROM orchestration_job"
    " WHERE queue_until <= statement_timestamp() AND started_at IS NULL AND status IN ('QUEUED', 'DISPATCHED')"
    " ORDER BY queue_until LIMIT 100)"
)
_CLOSE = Statement(
    "UPDATE gate SET closed_at = clock_timestamp(),"
    " answered_at = CASE WHEN kind = 'TIMER' AND :waits THEN clock_timestamp() END"
    " WHERE tenant_id = :tenant AND step_run_id = :step AND closed_at IS NULL AND deadline_at <= clock_timestamp()"
    " RETURNING kind, on_timeout"
)
_BLAME = Statement(
    "UPDATE step_run SET error = :error::jsonb, status_message = :message WHERE tenant_id = :tenant AND id = :step"
)
_EXPIRED = Statement(
    "SELECT status, total_seconds FROM step_run WHERE tenant_id = :tenant AND id = :step AND worker_id IS NULL"
    " AND expires_at <= clock_timestamp() AND status IN ('READY', 'RETRY_WAIT', 'WAITING')"
)
_OUTWAITED = Statement(
    "UPDATE orchestration_job SET error = :error::jsonb, error_message = :message WHERE tenant_id = :tenant"
    " AND id = :id AND queue_until <= clock_timestamp() AND started_at IS NULL AND status IN ('QUEUED', 'DISPATCHED')"
    " RETURNING id"
)


@dataclass(frozen=True, slots=True)
class Overdue:
    """A deadline that has passed: of a step, or of its job where none is named."""

    timer: Timer
    tenant_id: int
    job_id: int
    step_run_id: int | None


async def overdue(transaction: Transaction) -> list[Overdue]:
    """The deadlines of all tenants that have passed, the oldest first; a bounded number of them."""
    rows = await transaction.fetch(_OVERDUE, {})
    return [Overdue(Timer(row["timer"]), row["tenant_id"], row["job_id"], row["step_run_id"]) for row in rows]


async def fire(database: Database, overdue: Overdue) -> None:
    """Do what the deadline calls for, if it still does."""
    async with database.machine(
        overdue.tenant_id, actor="system:engine", correlation_id=f"job-{overdue.job_id}"
    ) as transaction:
        transaction.authorize("engine: a deadline has passed")
        ledger = await Ledger.open(transaction, overdue.job_id)
        if ledger is None:
            return
        await ledger.read_steps()
        match overdue.timer:
            case Timer.GATE:
                await _fire_gate(ledger, overdue.step_run_id or 0)
            case Timer.STEP:
                await _end_step(ledger, overdue.step_run_id or 0)
            case Timer.PAUSE:
                await _end_pause(ledger)
            case Timer.QUEUE:
                await _end_waiting(ledger)


async def _end_pause(ledger: Ledger) -> None:
    if ledger.row["overdue"] and ledger.status is JobStatus.PAUSED:
        pause = ledger.configuration.get("pause") or {}
        ledger.fallback = FailureStrategy(pause.get("then", FailureStrategy.HALT))
        ledger.advance()
        await ledger.write()


async def _end_step(ledger: Ledger, step_id: int) -> None:
    """Its attempts have had the time that they have together. What it may have begun outside is not known."""
    key = {"tenant": ledger.transaction.tenant_id, "step": step_id}
    row = await ledger.transaction.fetch_one(_EXPIRED, key)
    if row is None or ledger.status in JOB.closed:
        return
    step = next(step for step in ledger.steps.values() if step.id == step_id)
    message = f"not done within {row['total_seconds']:g} s"
    error = {"class": "TIMEOUT", "code": "TOTAL_TIMEOUT", "message": message, "retryable": False}
    await ledger.transaction.fetch(_BLAME, {**key, "error": dumps(error), "message": message})
    event = "timeout" if step.status is StepStatus.WAITING else "abandoned"
    ledger.move_step(StepMove(step.key, event, STEP.after(step.status, event), StatusReason.STEP_TIMEOUT))
    await losing.lose(ledger, step_id)
    ledger.advance()
    await ledger.write()


async def _end_waiting(ledger: Ledger) -> None:
    """No worker has begun with the job in the time that it had for that: nothing was done, and nothing will be."""
    message = "no worker began with it in time"
    error = {"class": "TIMEOUT", "code": "QUEUE_TIMEOUT", "message": message, "retryable": False}
    key = {"tenant": ledger.transaction.tenant_id, "id": ledger.job_id}
    if await ledger.transaction.fetch_one(_OUTWAITED, {**key, "error": dumps(error), "message": message}) is None:
        return
    if ledger.status is JobStatus.DISPATCHED:
        ledger.apply("claim_timeout", StatusReason.NO_WORKER)
    for step in ledger.steps.values():
        if STEP.permits(step.status, "cancel"):
            cancelled = STEP.after(step.status, "cancel")
            ledger.move_step(StepMove(step.key, "cancel", cancelled, StatusReason.QUEUE_TIMEOUT))
    ledger.apply("queue_timeout", StatusReason.QUEUE_TIMEOUT)
    await ledger.write()


async def _fire_gate(ledger: Ledger, step_id: int) -> None:
    step = next(step for step in ledger.steps.values() if step.id == step_id)
    waits = step.status is StepStatus.WAITING and ledger.status not in JOB.closed
    key = {"tenant": ledger.transaction.tenant_id, "step": step_id}
    gate = await ledger.transaction.fetch_one(_CLOSE, {**key, "waits": waits})
    if gate is None or not waits:
        return
    if gate["kind"] == GateKind.TIMER:
        ledger.move_step(StepMove(step.key, "signal_or_poll", STEP.after(step.status, "signal_or_poll")))
    else:
        message = "nobody answered in time"
        error = {"class": "TIMEOUT", "code": "GATE_TIMEOUT", "message": message, "retryable": False}
        await ledger.transaction.fetch(_BLAME, {**key, "error": dumps(error), "message": message})
        failed = STEP.after(step.status, "timeout")
        ledger.move_step(StepMove(step.key, "timeout", failed, StatusReason.APPROVAL_TIMEOUT))
        step.strategy = FailureStrategy(gate["on_timeout"])
    await jobs.go_on(ledger)
