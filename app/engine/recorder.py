"""Writes what came of a step: its status, its effect, the resource, the lines still waiting; all in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from app.db import journal
from app.db.ledger import Ledger
from app.db.sealing import Sealer
from app.db.statements import Statement, dumps
from app.domain.enums import ChangeAction, JobDirection, StatusReason
from app.domain.logs import DEFAULT_ROOM, LogLine, LogRoom
from app.domain.operations import EffectState, OperationKind, Phase
from app.domain.retrying import RetryPolicy, delay
from app.domain.statuses import STEP, StepStatus
from app.engine import inheriting, resources, sweeping
from app.engine.states import Hidden, pack
from app.engine.verdicts import Verdict, is_silence, judge
from app.engine.work import Failed, Mode, NotUndoable, Outcome, Succeeded, Unclear, Undone, Waiting, Work
from app.messages import StepDue
from app.providers.base import ResourceState
from app.providers.registry import Registry

_ARTIFACT = Statement(
    "UPDATE orchestration_job SET artifacts = coalesce(artifacts, '[]'::jsonb) || :artifact::jsonb"
    " WHERE tenant_id = :tenant AND id = :job"
)
# What a resource was before goes after everything that pointed at it as it was: predecessors that are retired too, and
# what is deleted; and what it pointed at itself is deleted after it.
_RETIRE = Statement(
    "WITH behind AS (UPDATE step_run d SET needs = array_append(d.needs, 'retire:' || s.step_key) FROM step_run s"
    "  WHERE s.tenant_id = :tenant AND s.id = :id AND d.tenant_id = :tenant AND d.job_id = s.job_id"
    "  AND d.operation = 'DELETE' AND d.status = 'PENDING' AND d.phase = :phase"
    "  AND jsonb_exists(s.spec->'predecessorNeeds', d.spec->>'resourceKey')"
    "  AND ('retire:' || s.step_key) <> ALL(d.needs))"
    " INSERT INTO step_run (tenant_id, job_id, step_key, name, step_type, operation, phase, change, status, wave,"
    " needs, spec, resource_id, timeout_seconds, total_seconds, operation_id, max_attempts)"
    " SELECT s.tenant_id, s.job_id, 'retire:' || s.step_key, 'retire ' || s.name, 'RESOURCE_DELETE', 'RETIRE', :phase,"
    " 'DELETE', 'PENDING', s.wave + 1,"
    " coalesce((SELECT array_agg(CASE d.operation WHEN 'DELETE' THEN d.step_key ELSE 'retire:' || d.step_key END)"
    "   FROM step_run d WHERE d.tenant_id = s.tenant_id AND d.job_id = s.job_id AND d.operation IN ('APPLY', 'DELETE')"
    "   AND d.id <> s.id AND jsonb_exists(d.spec->'predecessorNeeds', s.spec->>'resourceKey')), '{}'),"
    " s.spec || jsonb_build_object('effectOf', s.id, 'when', NULL, 'strategy', 'CONTINUE'), s.resource_id,"
    " s.timeout_seconds, s.total_seconds, :operation, 5 FROM step_run s WHERE s.tenant_id = :tenant AND s.id = :id"
    " ON CONFLICT (tenant_id, job_id, step_key) DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records outcomes. `random` gives numbers in [0, 1) for the jitter of retries."""

    registry: Registry
    sealer: Sealer
    random: Callable[[], float]
    room: LogRoom = field(default=DEFAULT_ROOM, kw_only=True)

    async def record(self, ledger: Ledger, work: Work, outcome: Outcome, lines: list[LogLine]) -> bool:
        """Collect the outcome for the ledger to write. False, and nothing is, when the step is no longer ours."""
        if not ledger.steps:
            await ledger.read_steps()
        if not ledger.is_held(work.key, work.fence, work.worker_id):
            return False
        hidden = Hidden.of(work, self.registry)
        if isinstance(outcome, Failed | Unclear):
            # Servers repeat what they were told in what they refuse.
            outcome = replace(outcome, message=hidden.masked(outcome.message))
        verdict = judge(work, outcome)
        error = self._error(outcome, verdict)
        attempt = None if work.mode is Mode.UNDO else work.attempt
        ledger.finish(work.key, self._finish(work, outcome, verdict, error, hidden), attempt)
        if lines:
            ledger.event(journal.Lines(lines, work.step_id, work.key, work.attempt, self.room))
        if isinstance(outcome, Succeeded) and work.mode is not Mode.UNDO:
            ledger.outputs[work.key] = hidden.outputs(outcome.outputs)
            await self._after_success(ledger, work, outcome)
        await self._record_resource(ledger, work, outcome, verdict, hidden)
        await sweeping.arm(ledger, self.registry, work, outcome)
        if self._wait(work, outcome, verdict) == 0:
            ledger.due.append(StepDue(work.tenant_id, work.job_id, work.step_id))
        held = StepStatus.RUNNING if work.mode in (Mode.RUN, Mode.POLL) else work.status
        if verdict.status is not held:
            ledger.step_event(work.step_id, work.key, held, verdict.status, work.attempt, verdict.reason, error=error)
        return True

    def _finish(
        self, work: Work, outcome: Outcome, verdict: Verdict, error: dict[str, Any] | None, hidden: Hidden
    ) -> dict[str, Any]:
        outputs = None
        if isinstance(outcome, Succeeded) and work.mode is not Mode.UNDO:
            outputs = dumps(self.sealer.seal(hidden.outputs(outcome.outputs), work.tenant_id))
        waiting = outcome if isinstance(outcome, Waiting) else None
        handle = waiting.handle if waiting else None
        lost = work.mode is Mode.POLL and verdict.status is StepStatus.UNKNOWN
        asks_again = work.mode is Mode.UNDO and is_silence(work, outcome)
        if handle is None and (asks_again or verdict.status in (StepStatus.WAITING, StepStatus.UNKNOWN)):
            handle = work.handle
        state, after, undo = self._effect(work, outcome, verdict)
        stored = pack(after, hidden, self.sealer, work.tenant_id)
        return {
            "f_id": work.step_id,
            "f_effect_of": work.effect_of,
            "f_fence": work.fence,
            "f_worker": work.worker_id,
            "f_status": verdict.status.value,
            "f_reason": verdict.reason.value,
            "f_message": verdict.message,
            "f_wait": self._wait(work, outcome, verdict),
            # What a provider wants to remember may hold what it was told.
            "f_handle": dumps(self.sealer.seal(hidden.outputs(handle), work.tenant_id)) if handle else None,
            # How often in a row nobody said how the pending work stands.
            "f_observations": 0 if waiting or lost else None,
            "f_outputs": outputs,
            "f_error": dumps(error) if error is not None else None,
            "f_percent": waiting.percent if waiting else None,
            "f_ended": verdict.status in STEP.closed | STEP.settled,
            "f_direction": (JobDirection.ROLLBACK if work.mode is Mode.UNDO else JobDirection.FORWARD).value,
            "f_number": work.attempt,
            # An observation is no try: how the observed one ended stays as it was noticed.
            "f_tried": work.mode is not Mode.OBSERVE,
            # Why the step failed stays known when it is undone.
            "f_keeps_error": work.mode is Mode.UNDO,
            "f_effect": state.value if state is not None else None,
            "f_after": dumps(stored) if stored is not None else None,
            "f_undo": dumps(undo) if undo is not None else None,
        }

    def _effect(
        self, work: Work, outcome: Outcome, verdict: Verdict
    ) -> tuple[EffectState | None, ResourceState | None, dict[str, Any] | None]:
        """What the outcome says of the journalled effect: its state, the resource after it, what undoes it."""
        if work.action in (ChangeAction.NO_CHANGE, ChangeAction.DETACH):
            return None, None, None
        if isinstance(outcome, Undone):
            return EffectState.UNDONE, None, None
        if work.mode is Mode.UNDO:
            return None, None, None
        if isinstance(outcome, Succeeded):
            return EffectState.DONE, outcome.state, outcome.undo
        if verdict.reason is StatusReason.NEEDS_ATTENTION:
            return EffectState.UNKNOWN, None, None
        if isinstance(outcome, Failed):
            untouched = work.effect is None or work.effect.state is EffectState.UNDONE
            if outcome.unsent and untouched and work.mode is Mode.RUN:
                return EffectState.UNDONE, None, None
            return EffectState.FAILED, outcome.partial, None
        if isinstance(outcome, Waiting):
            return EffectState.INTENT, outcome.partial, None
        return (EffectState.UNKNOWN if verdict.status is StepStatus.UNKNOWN else None), None, None

    def _wait(self, work: Work, outcome: Outcome, verdict: Verdict) -> float | None:
        """Seconds until somebody has to look at the step again; None when nobody has to."""
        if not verdict.again:
            return None
        if work.rehearsal is not None:
            return 0.0
        if isinstance(outcome, Waiting):
            return max(outcome.seconds, 0.1)
        if work.mode is Mode.POLL or is_silence(work, outcome):
            known = outcome.retry_after_seconds if isinstance(outcome, Failed) else None
            return max(delay(_SILENCE, work.observations, self.random()), known or 0.0)
        if isinstance(outcome, Failed):
            policy = _UNDO_RETRY if work.mode is Mode.UNDO else work.retry
            pause = delay(policy, work.attempt, self.random())
            return max(pause, outcome.retry_after_seconds or 0.0)
        return verdict.pause

    def _error(self, outcome: Outcome, verdict: Verdict) -> dict[str, Any] | None:
        if isinstance(outcome, Failed):
            return outcome.document(retryable=verdict.again)
        if verdict.error is not None:
            return verdict.error.document(retryable=verdict.again)
        return None

    async def _after_success(self, ledger: Ledger, work: Work, outcome: Succeeded) -> None:
        fetch = ledger.transaction.fetch
        if outcome.artifact is not None:
            artifact = outcome.artifact
            document = {
                "name": f"{work.key}-{artifact.kind}",
                "kind": artifact.kind,
                "uri": artifact.uri,
                "size": artifact.size,
                "sha256": artifact.sha256,
                "metadata": artifact.metadata,
                "stepKey": work.key,
            }
            await fetch(_ARTIFACT, {"tenant": work.tenant_id, "job": work.job_id, "artifact": dumps([document])})
        replaced = (
            work.operation is OperationKind.APPLY
            and work.action is ChangeAction.REPLACE
            and not self.registry.resource(work.spec["type"]).delete_first
        )
        if replaced or outcome.undo is not None:
            await fetch(
                _RETIRE,
                {
                    "tenant": work.tenant_id,
                    "id": work.step_id,
                    "operation": uuid4(),
                    "phase": Phase.COMMIT.value,
                },
            )
            await ledger.read_steps()

    async def _record_resource(
        self, ledger: Ledger, work: Work, outcome: Outcome, verdict: Verdict, hidden: Hidden
    ) -> None:
        if work.resource_id is None or work.operation in (OperationKind.RETIRE, OperationKind.VERIFY):
            return
        if isinstance(outcome, Succeeded | Undone):
            await self._record_aim(ledger, work, outcome, hidden)
            await inheriting.close(ledger, work)
            return
        if isinstance(outcome, NotUndoable) and outcome.seen:
            await self._record_aim(ledger, work, Undone(state=outcome.state), hidden)
            return
        partial = outcome.partial if isinstance(outcome, Failed | Waiting) else None
        if partial is not None and work.mode is not Mode.UNDO:
            await resources.settle(ledger, work, partial, hidden, self.sealer)
        if verdict.status is StepStatus.UNKNOWN or verdict.reason is StatusReason.NEEDS_ATTENTION:
            await resources.lose(ledger, work)
        elif verdict.status in (StepStatus.FAILED, StepStatus.COMPENSATION_FAILED):
            await resources.fail(ledger, work)
        elif verdict.status is StepStatus.CANCELLED:
            await resources.rest(ledger, work)

    async def _record_aim(self, ledger: Ledger, work: Work, outcome: Succeeded | Undone, hidden: Hidden) -> None:
        """The resource is where the step, or its undoing, wanted it."""
        if outcome.state is not None:
            if work.action is ChangeAction.NO_CHANGE:
                return
            if isinstance(outcome, Undone) and work.resource_status == "DELETED":
                work = replace(work, resource_id=await resources.revive(ledger, work))
            connection = outcome.connection if isinstance(outcome, Succeeded) else None
            await resources.settle(ledger, work, outcome.state, hidden, self.sealer, connection)
        elif work.action is ChangeAction.DETACH:
            await resources.detach(ledger, work)
        elif work.operation is OperationKind.ACT:
            await resources.rest(ledger, work)
        else:
            await resources.gone(ledger, work)


# Whoever does not say how pending work stands is asked less and less often.
_SILENCE = RetryPolicy(max_attempts=12, initial_seconds=1.0, multiplier=2.0, max_seconds=60.0, jitter=False)
# More patient than forward: nobody is left to undo the undoing.
_UNDO_RETRY = RetryPolicy(max_attempts=5, initial_seconds=1.0, multiplier=3.0, max_seconds=60.0, jitter=True)
