"""What statements need to carry out the moves of a job and its steps (`app.db.transitions`, `app.db.turns`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from app.db import pausing
from app.db.transitions import PASSED
from app.domain.decisions import JobMove, StepMove
from app.domain.enums import RollbackCompleteness, StatusReason
from app.domain.events import Event, EventKind
from app.domain.statuses import JOB, STEP, JobStatus, StepStatus

# A step that comes to one of these is due at once.
DUE = frozenset({StepStatus.READY, StepStatus.COMPENSATING})
_ENDED = STEP.closed | STEP.settled


def of_steps(moved: Mapping[int, StepMove], rung: AbstractSet[int]) -> dict[str, Any]:
    """By the ids of the steps. `rung`: those that this process rings workers for, if they become due."""
    moves = moved.values()
    return {
        "moved_ids": list(moved),
        "moved_statuses": [move.status.value for move in moves],
        "moved_reasons": [move.reason.value for move in moves],
        "moved_because": [move.because for move in moves],
        "moved_due": [move.status in DUE for move in moves],
        "moved_rung": [move.status in DUE and step_id in rung for step_id, move in moved.items()],
        "moved_ended": [move.status in _ENDED for move in moves],
    }


def of_passed(passed: Sequence[dict[str, Any]], now: float) -> dict[str, Any]:
    """Of steps that have begun and ended (`Ledger.begin`). `now`: as `app.clock.monotonic` has it."""
    rows = [
        step
        | {name: step[f"f_{name}"] for name in ("status", "reason", "outputs")}
        | {name: now - step[name] for name in ("began", "ended")}
        for step in passed
    ]
    age = max((row["began"] for row in rows), default=0.0)
    return {f"passed_{name}s": [row[name] for row in rows] for name, _ in PASSED} | {"age": age, "p_age": age}


def of_job(moves: Sequence[JobMove], completeness: RollbackCompleteness | None) -> dict[str, Any]:
    """Nothing where there are no moves. `completeness`: of a rollback that is over with them."""
    if not moves:
        return {}
    last = moves[-1]
    entered = {move.status for move in moves}
    return {
        "status": last.status.value,
        "reason": last.reason.value,
        "message": f"because of step {last.because}" if last.because else None,
        "granted": JobStatus.DISPATCHED in entered,
        "started": bool(entered & {JobStatus.RUNNING, JobStatus.ROLLING_BACK}),
        "closed": last.status in JOB.closed,
        "pauses": last.status is JobStatus.PAUSED and last.reason is not StatusReason.GATE,
        "patience": pausing.PATIENCE_SECONDS,
        "completeness": completeness,
        "resumes": any(move.event == "resume" for move in moves),
    }


def told_of_job(
    job_id: int, plan_id: int, previous: JobStatus, move: JobMove, completeness: RollbackCompleteness | None
) -> Event:
    """The event of a job's move."""
    data: dict[str, Any] = {
        "jobId": job_id,
        "planId": plan_id,
        "previous": previous.value,
        "status": move.status.value,
        "reason": move.reason.value,
    }
    if move.because:
        data["message"] = f"because of step {move.because}"
    if completeness is not None:
        data["rollbackCompleteness"] = completeness.value
    return Event(EventKind.JOB_STATUS_CHANGED, data)


def told_of_step(
    step: Mapping[str, Any], move: Mapping[str, Any], because: str | None, error: Mapping[str, Any] | None
) -> Event:
    """The event of a step's move: which step it is, and {"previous", "status", "reason", "attempt"}."""
    data = {**step, **move}
    if because:
        data["message"] = f"because of step {because}"
    if error:
        data["error"] = error
    return Event(EventKind.STEP_STATUS_CHANGED, data)
