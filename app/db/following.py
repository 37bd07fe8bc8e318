"""How a plan follows its job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.db import journal, transitions
from app.db.uow import Transaction
from app.domain.decisions import JobMove
from app.domain.enums import StatusReason
from app.domain.events import Event, EventKind, Stream
from app.domain.statuses import JOB, PLAN, JobStatus, PlanStatus

# What a job's event means to its plan, where the names differ or the plan does not care.
_PLAN_EVENTS: dict[str, str | None] = {
    "granted": None,
    "claimed_forward": "job_started",
    "claimed_rollback": "rollback_job_started",
    "pause": None,
    "quiesced": "pause_or_gate",
    "gate_only": "pause_or_gate",
    "resume": "resume_run",
    "pause_timeout_halt": "pause_timeout",
    "recoveries_exhausted_halt": "failed_halt",
    "recoveries_exhausted_rollback": "failed_rollback",
}
# Somebody does not wait any longer: for a cancelled job to come to rest, or for a rollback to be done.
_FORCED = {PlanStatus.CANCELLING: "quiesced_keep", PlanStatus.ROLLING_BACK: "compensation_failed"}


async def follow(transaction: Transaction, plan_id: int, job_id: int, moves: Sequence[JobMove]) -> PlanStatus:
    """Let the plan take what its job went through, whatever its status is by now; returns the status it has then."""
    key = {"tenant": transaction.tenant_id, "id": plan_id}
    status, events, entered = _taken(
        plan_id, PlanStatus((await transaction.fetch(transitions.LOCK_PLAN, key))[0]["status"]), moves
    )
    if events:
        values = journal.parameters(transaction, plan_id, events) | _moved(status, entered, moves)
        await transaction.fetch(transitions.WRITE_PLAN, {**values, "job": job_id})
        transaction.rings.streams.add((transaction.tenant_id, Stream.PLAN, plan_id))
    return status


def values(transaction: Transaction, plan_id: int, expected: PlanStatus, moves: Sequence[JobMove]) -> dict[str, Any]:
    """What a statement about the job needs to let the plan follow, if it is in the status `expected`.

    Nothing where the plan does not move, or has to be asked first.
    """
    if not moves or any(move.because for move in moves):
        return {}
    if moves[-1].status in JOB.closed and moves[-1].status is not JobStatus.SUCCEEDED:
        return {}
    status, events, entered = _taken(plan_id, expected, moves)
    if not events:
        return {}
    needed = journal.parameters(transaction, plan_id, events) | _moved(status, entered, moves)
    return {f"p_{name}": value for name, value in needed.items()} | {"p_expected": expected.value}


def _taken(
    plan_id: int, status: PlanStatus, moves: Sequence[JobMove]
) -> tuple[PlanStatus, list[Event], set[PlanStatus]]:
    events: list[Event] = []
    entered: set[PlanStatus] = set()
    for move in moves:
        event = _FORCED.get(status) if move.event == "force" else _PLAN_EVENTS.get(move.event, move.event)
        if event is None or not PLAN.permits(status, event):
            continue
        previous, status = status, PLAN.after(status, event)
        entered.add(status)
        events.append(plan_event(plan_id, previous, status, move.reason, move.because))
    return status, events, entered


def _moved(status: PlanStatus, entered: set[PlanStatus], moves: Sequence[JobMove]) -> dict[str, Any]:
    last = moves[-1]
    return {
        "status": status.value,
        "reason": last.reason.value,
        "message": f"because of step {last.because}" if last.because else None,
        "started": bool(entered & {PlanStatus.RUNNING, PlanStatus.ROLLING_BACK}),
        "closed": status in PLAN.closed | PLAN.settled,
        "succeeded": status is PlanStatus.SUCCEEDED,
    }


def plan_event(
    plan_id: int, previous: PlanStatus, status: PlanStatus, reason: StatusReason, because: str | None = None
) -> Event:
    """The event of a plan's move."""
    data: dict[str, Any] = {
        "planId": plan_id,
        "previous": previous.value,
        "status": status.value,
        "reason": reason.value,
    }
    if because:
        data["message"] = f"because of step {because}"
    return Event(EventKind.PLAN_STATUS_CHANGED, data)
