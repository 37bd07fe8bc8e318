"""What an outcome means for its step: pure, and total over modes and outcomes."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.enums import ChangeAction, ErrorClass, StatusReason
from app.domain.statuses import STEP, StepStatus
from app.engine.work import (
    Absent,
    Asking,
    Failed,
    Mode,
    NotUndoable,
    Outcome,
    Succeeded,
    Unclear,
    Undone,
    Waiting,
    Work,
)

# An outcome that cannot be observed is asked for again this often before a person has to look.
OBSERVATIONS = 8
# How often in a row nobody may say how pending work stands before its outcome counts as unknown: some seven minutes.
SILENCES = 12
_OBSERVE_AGAIN_SECONDS = 2.0
_NO_PATIENCE = frozenset({ErrorClass.CONFLICT, ErrorClass.POLICY})


@dataclass(frozen=True, slots=True)
class Verdict:
    """The status a step takes. `again`: it has to be looked at once more, after `pause` seconds unless known better."""

    status: StepStatus
    reason: StatusReason = StatusReason.NONE
    message: str | None = None
    again: bool = False
    pause: float = 0.0
    error: Failed | None = None


def judge(work: Work, outcome: Outcome) -> Verdict:
    """The verdict on `outcome`."""
    match work.mode:
        case Mode.UNDO:
            return _judge_undo(work, outcome)
        case Mode.OBSERVE:
            return _judge_observation(work, outcome)
        case Mode.POLL if isinstance(outcome, Unclear) or (isinstance(outcome, Failed) and outcome.unanswered):
            return _judge_silence(work, outcome)
        case _:
            return _judge_run(work, outcome)


def _judge_run(work: Work, outcome: Outcome) -> Verdict:
    match outcome:
        case Succeeded():
            unchanged = work.action in (ChangeAction.NO_CHANGE, ChangeAction.DETACH)
            return Verdict(STEP.after(StepStatus.RUNNING, "no_diff" if unchanged else "ok"))
        case Waiting():
            status = STEP.after(StepStatus.RUNNING, "external_wait")
            return Verdict(status, message=outcome.message or None, again=True)
        case Asking():
            return Verdict(STEP.after(StepStatus.RUNNING, "external_wait"), StatusReason.GATE, outcome.prompt)
        case Failed(error_class=ErrorClass.CANCELLED) if outcome.partial is None:
            return Verdict(STEP.after(StepStatus.RUNNING, "interrupted_clean"), StatusReason.USER, outcome.message)
        case Failed():
            if work.retry.covers(outcome.error_class, outcome.code) and work.attempts_left > 0:
                status = STEP.after(StepStatus.RUNNING, "retryable")
                return Verdict(status, StatusReason.STEP_FAILED, outcome.message, again=True)
            status = STEP.after(StepStatus.RUNNING, "permanent_or_exhausted")
            unclear = outcome.error_class is ErrorClass.INDETERMINATE
            reason = StatusReason.NEEDS_ATTENTION if unclear else StatusReason.STEP_FAILED
            return Verdict(status, reason, outcome.message)
        case Unclear():
            reason = StatusReason.STEP_TIMEOUT if outcome.error_class is ErrorClass.TIMEOUT else StatusReason.NONE
            error = Failed(outcome.error_class, outcome.error_class.value, outcome.message)
            status = STEP.after(StepStatus.RUNNING, "timeout")
            return Verdict(status, reason, outcome.message, again=True, error=error)
        case _:
            return _impossible(work, outcome)


def _judge_silence(work: Work, outcome: Failed | Unclear) -> Verdict:
    """Nobody said how the pending work stands: it is under way all the same, and must not be begun again."""
    if work.observations < SILENCES:
        return Verdict(STEP.after(StepStatus.RUNNING, "external_wait"), message=outcome.message, again=True)
    error = Failed(outcome.error_class, outcome.error_class.value, outcome.message)
    return Verdict(STEP.after(StepStatus.RUNNING, "timeout"), message=outcome.message, again=True, error=error)


def _judge_observation(work: Work, outcome: Outcome) -> Verdict:
    match outcome:
        case Waiting():
            status = STEP.after(StepStatus.UNKNOWN, "observed_pending")
            return Verdict(status, message=outcome.message or None, again=True)
        case Succeeded():
            return Verdict(STEP.after(StepStatus.UNKNOWN, "observed_applied"))
        case Absent() if work.attempts_left > 0:
            event = "observed_partial" if outcome.partial else "observed_absent"
            return Verdict(STEP.after(StepStatus.UNKNOWN, event), again=True)
        case Absent():
            message = "the last attempt left nothing behind, and no attempt is left"
            error = Failed(ErrorClass.TIMEOUT, "EXHAUSTED", message)
            return Verdict(
                STEP.after(StepStatus.UNKNOWN, "indeterminate"), StatusReason.STEP_FAILED, message, error=error
            )
        case Failed(error_class=ErrorClass.TRANSIENT) | Unclear() if work.observations < OBSERVATIONS:
            return Verdict(
                StepStatus.UNKNOWN, StatusReason.NONE, outcome.message, again=True, pause=_OBSERVE_AGAIN_SECONDS
            )
        case Failed() | Unclear():
            # Nobody can tell, so a person has to: the effect stays open.
            error = Failed(ErrorClass.INDETERMINATE, "INDETERMINATE", outcome.message)
            status = STEP.after(StepStatus.UNKNOWN, "indeterminate")
            return Verdict(status, StatusReason.NEEDS_ATTENTION, outcome.message, error=error)
        case _:
            return _impossible(work, outcome)


def is_silence(work: Work, outcome: Outcome) -> bool:
    """Whether a question about an undoing that is under way was not answered, and may be put again."""
    unanswered = isinstance(outcome, Unclear) or (isinstance(outcome, Failed) and outcome.unanswered)
    return work.undoing is not None and unanswered and work.observations < SILENCES


def _judge_undo(work: Work, outcome: Outcome) -> Verdict:
    match outcome:
        case Waiting():
            return Verdict(StepStatus.COMPENSATING, message=outcome.message or None, again=True)
        case Failed() | Unclear() if is_silence(work, outcome):
            return Verdict(StepStatus.COMPENSATING, message=outcome.message, again=True)
        case Undone():
            return Verdict(STEP.after(StepStatus.COMPENSATING, "nothing_to_undo" if outcome.nothing else "ok"))
        case NotUndoable():
            return Verdict(STEP.after(StepStatus.COMPENSATING, "operator_skip"), message=outcome.message)
        case Failed() | Unclear():
            impatient = isinstance(outcome, Failed) and outcome.error_class in _NO_PATIENCE
            if work.attempts_left > 0 and not impatient:
                status = STEP.after(StepStatus.COMPENSATING, "retryable")
                return Verdict(status, StatusReason.STEP_FAILED, outcome.message, again=True, pause=1.0)
            status = STEP.after(StepStatus.COMPENSATING, "exhausted")
            return Verdict(status, StatusReason.STEP_FAILED, outcome.message)
        case _:
            return _impossible(work, outcome)


def _impossible(work: Work, outcome: Outcome) -> Verdict:
    message = f"{type(outcome).__name__} cannot come of {work.mode}"
    raise AssertionError(message)
