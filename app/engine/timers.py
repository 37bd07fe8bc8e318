"""Deadlines of pauses and gates: found by the tick, acted on one job at a time.

Each is acted on in a transaction of its tenant, under the lock of its job, and only if it is still due there: whoever
answers in the same moment either was first or finds the question closed.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.db import jobs
from app.db.ledger import Ledger
from app.db.statements import Statement, dumps
from app.db.uow import Database, Transaction
from app.domain.decisions import StepMove
from app.domain.enums import FailureStrategy, GateKind, StatusReason
from app.domain.statuses import JOB, STEP, JobStatus, StepStatus

_OVERDUE = Statement(
    "(SELECT g.tenant_id, s.job_id, g.step_run_id FROM gate g JOIN step_run s ON s.tenant_id = g.tenant_id"
    " AND s.id = g.step_run_id WHERE g.deadline_at <= statement_timestamp() AND g.closed_at IS NULL"
    " ORDER BY g.deadline_at LIMIT 100)"
    " UNION ALL (SELECT tenant_id, id, NULL FROM orchestration_job WHERE pause_until <= statement_timestamp()"
    " ORDER BY pause_until LIMIT 100)"
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


@dataclass(frozen=True, slots=True)
class Overdue:
    """A deadline that has passed: of a gate's step, or without a step that of a job's pause."""

    tenant_id: int
    job_id: int
    step_run_id: int | None


async def overdue(transaction: Transaction) -> list[Overdue]:
    """The deadlines of all tenants that have passed, the oldest first; a bounded number of them."""
    rows = await transaction.fetch(_OVERDUE, {})
    return [Overdue(row["tenant_id"], row["job_id"], row["step_run_id"]) for row in rows]


async def fire(database: Database, timer: Overdue) -> None:
    """Do what the deadline calls for, if it still does."""
    async with database.machine(
        timer.tenant_id, actor="system:engine", correlation_id=f"job-{timer.job_id}"
    ) as transaction:
        transaction.authorize("engine: a deadline has passed")
        ledger = await Ledger.open(transaction, timer.job_id)
        if ledger is None:
            return
        await ledger.read_steps()
        if timer.step_run_id is not None:
            await _fire_gate(ledger, timer.step_run_id)
        elif ledger.row["overdue"] and ledger.status is JobStatus.PAUSED:
            pause = ledger.configuration.get("pause") or {}
            ledger.fallback = FailureStrategy(pause.get("then", FailureStrategy.HALT))
            ledger.advance()
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
