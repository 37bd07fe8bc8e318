"""Claims: a due step becomes one worker's work. The intent to act is committed with the claim.

Whoever holds the newest fence may write the step's outcome. Claiming raises it; so does taking a step from a worker
that is lost or that was told to let go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.db.ledger import Ledger
from app.db.sealing import Sealer
from app.db.statements import Row, Statement, dumps
from app.domain.enums import ChangeAction, DriftStatus, ErrorClass, JobDirection, StatusReason
from app.domain.errors import DomainError, Invalid, Severity
from app.domain.expressions import embedded
from app.domain.operations import LOOKING, EffectState, OperationKind
from app.domain.retrying import MAX_CRASHES, RetryPolicy
from app.domain.statuses import RESOURCE, STEP, JobStatus, ResourceStatus, StepStatus
from app.domain.values import Value, reveal
from app.engine import gates, inheriting, rehearsing, resources
from app.engine.records import record_of
from app.engine.scope import read_scope
from app.engine.states import Hidden, found_state, pack, unpack, words_in
from app.engine.work import Absent, Effect, Failed, Mode, Outcome, Succeeded, Undone, Work
from app.providers.registry import Registry

UNDO_ATTEMPTS = 5

_CLAIMABLE = frozenset(
    {JobStatus.DISPATCHED, JobStatus.RUNNING, JobStatus.PAUSING, JobStatus.CANCELLING, JobStatus.ROLLING_BACK}
)
_MODES = {
    StepStatus.READY: Mode.RUN,
    StepStatus.RETRY_WAIT: Mode.RUN,
    StepStatus.WAITING: Mode.POLL,
    StepStatus.UNKNOWN: Mode.OBSERVE,
    StepStatus.COMPENSATING: Mode.UNDO,
}

_BACK = {StepStatus.RETRY_WAIT: "timer", StepStatus.WAITING: "signal_or_poll"}

# What is so of a step that nobody has tried and that has no resource.
_UNTRIED: Row = dict.fromkeys(
    (
        "outputs", "handle", "resource_id", "record_id", "effect_action", "resource_status", "external_id", "applied",
        "total_seconds",
    )
)  # fmt: skip
_SKIP = Statement(
    "UPDATE step_run SET status = 'SKIPPED', status_reason = 'CONDITION_FALSE', due_at = NULL,"
    " completed_at = clock_timestamp() WHERE tenant_id = :tenant AND id = :id"
)


# Not frozen, as `Work`: one is made for each step.
@dataclass(slots=True)
class Claim:
    """A step that may be taken: `take` is what `Ledger.take` needs, None for one that is over without being held.

    Where the outcome is known without asking anybody (nothing to change, inputs that make no sense), it is there.
    `is_pure`: it is run from what is in `work` alone, touches nothing outside, and may be run any number of times.
    """

    work: Work
    take: Mapping[str, Any] | None
    outcome: Outcome | None = None
    is_pure: bool = False


@dataclass(frozen=True, slots=True)
class Claimer:
    """Claims for one worker."""

    worker_id: int
    registry: Registry
    sealer: Sealer

    async def claim(self, ledger: Ledger, step_id: int, *, inline: bool = False) -> Claim | None:
        """Look at the step. None when it is not to be had: another has it, or it is not due.

        `inline`: the step became due by what the ledger has collected, and its row does not say so yet.
        """
        if ledger.status not in _CLAIMABLE:
            return None
        transaction, record = ledger.transaction, record_of(ledger)
        key = {"tenant": transaction.tenant_id, "id": step_id, "inline": inline}
        row = _remembered(ledger, step_id, inline=inline)
        if row is None:
            # What has just been collected is in the row then.
            await ledger.flush()
            row = await transaction.fetch_one(record.step, key)
        if row is not None and _is_stale(row):
            await resources.renew(ledger, row["record_id"])
            row = await transaction.fetch_one(record.step, key)
        status = ledger.status_of(step_id) if inline else StepStatus(row["status"]) if row is not None else None
        if row is None or status not in _MODES:
            return None
        mode = _MODES[status]
        if ledger.status is JobStatus.PAUSING and mode not in (Mode.POLL, Mode.OBSERVE):
            return None
        if ledger.status is JobStatus.DISPATCHED:
            ledger.apply("claimed_forward")
        work = await inheriting.inherit(ledger, row, self._work(ledger, row, mode, status), self.sealer)
        outcome: Outcome | None = None
        if mode is Mode.RUN:
            work, outcome = await self._prepare(ledger, row, work)
            if isinstance(outcome, Absent):
                await self._skip(ledger, row, status)
                return Claim(work, None)
            outcome = rehearsing.decided(work, outcome)
        elif mode is Mode.UNDO:
            work, outcome = await self._prepare_undo(ledger, work)
        is_pure = outcome is None and self._is_pure(work)
        take = await self._begin(ledger, row, work, acts=outcome is None and not is_pure)
        return Claim(work, take, outcome, is_pure)

    def _work(self, ledger: Ledger, row: Row, mode: Mode, status: StepStatus) -> Work:
        tenant_id = ledger.transaction.tenant_id
        spec = self.sealer.open(row["spec"], tenant_id)
        retry = RetryPolicy.from_document(spec.get("retry") or {})
        effect = self._effect(row, tenant_id)
        handle = reveal(self.sealer.open(row["handle"], tenant_id)) if row["handle"] else None
        # An undoing that comes back to what it has begun is no further attempt.
        comes_back = mode is Mode.UNDO and "undoing" in (handle or ())
        attempt = row["undo_attempt"] if mode is Mode.UNDO else row["attempt"]
        if mode in (Mode.RUN, Mode.UNDO) and not comes_back:
            attempt += 1
        allowed = UNDO_ATTEMPTS if mode is Mode.UNDO else row["max_attempts"] + row["crashes"]
        return Work(
            tenant_id=tenant_id,
            job_id=ledger.job_id,
            plan_id=ledger.plan_id,
            stack=ledger.row["stack"],
            tenant_slug=ledger.configuration.get("tenant", {}).get("slug", ""),
            step_id=row["id"],
            effect_of=row["effect_of"],
            key=row["step_key"],
            mode=mode,
            operation=OperationKind(row["operation"]),
            action=ChangeAction(row["effect_action"] or row["change"]),
            status=status,
            spec=spec,
            inputs=self.sealer.open(row["inputs"] or {}, tenant_id),
            attempt=attempt,
            fence=row["fence"],
            worker_id=self.worker_id,
            operation_id=row["effect_operation_id"] if mode is Mode.UNDO and effect else row["operation_id"],
            timeout_seconds=row["timeout_seconds"],
            heartbeat_seconds=row["heartbeat_seconds"],
            total_seconds=row["total_seconds"],
            retry=retry,
            attempts_left=allowed - attempt if row["crashes"] < MAX_CRASHES else 0,
            observations=row["observations"] + 1 if mode in (Mode.OBSERVE, Mode.POLL) or comes_back else 0,
            prior=self._recorded(row, tenant_id),
            effect=effect,
            handle=handle,
            resource_id=row["record_id"],
            resource_status=row["resource_status"],
            outputs=self.sealer.open(row["outputs"] or {}, tenant_id),
            words=self._words(row, tenant_id),
            rehearsal=rehearsing.rehearsal_of(ledger, row["step_key"], mode),
        )

    def _is_pure(self, work: Work) -> bool:
        """Whether running the work leaves nothing behind that would have to be journalled or taken back."""
        runs = work.mode is Mode.RUN and work.operation is OperationKind.RUN and work.effect is None
        return runs and bool(work.spec.get("pure")) and self.registry.task(work.spec["task"]).pure

    def _words(self, row: Row, tenant_id: int) -> frozenset[str]:
        recorded = ("applied", "resource_outputs", "before", "after")
        return words_in(*(self.sealer.open(row[name], tenant_id) for name in recorded if row.get(name)))

    def _effect(self, row: Row, tenant_id: int) -> Effect | None:
        if row["effect_action"] is None:
            return None
        return Effect(
            action=ChangeAction(row["effect_action"]),
            state=EffectState(row["effect_state"]),
            operation_id=row["effect_operation_id"],
            before=unpack(row["before"], self.sealer, tenant_id),
            intended=self.sealer.open(row["intended"], tenant_id),
            after=unpack(row["after"], self.sealer, tenant_id),
            undo=row["undo"],
        )

    def _recorded(self, row: Row, tenant_id: int) -> Any:
        if row["external_id"] is None or row["applied"] is None:
            return None
        if row["drift_status"] == DriftStatus.MISSING and row["operation"] == OperationKind.APPLY:
            return None
        return found_state(
            {
                "drift": row["drift"],
                "id": row["external_id"],
                "properties": row["applied"],
                "outputs": row["resource_outputs"] or {},
                "private": row["private"],
                "version": row["state_version"],
            },
            self.sealer,
            tenant_id,
        )

    async def _prepare(self, ledger: Ledger, row: Row, work: Work) -> tuple[Work, Outcome | None]:
        """Evaluate the step's expressions and find out what it has to do. Absent stands for a false condition."""
        try:
            scope = await read_scope(ledger, self.sealer, work.spec)
            condition = work.spec.get("when")
            if condition is not None and reveal(embedded.render(condition, scope)) is not True:
                return work, Absent()
            if row["crashes"] >= MAX_CRASHES:
                message = f"the worker died {row['crashes']} times while it ran this step"
                return work, Failed(ErrorClass.WORKER_LOST, "POISON", message)
            if work.operation is OperationKind.GATE:
                return work, await gates.look(ledger, work, scope, self.sealer)
            return self._resolve(work, scope)
        except DomainError as error:
            return work, Failed(ErrorClass.PERMANENT, error.code, error.message)

    async def _prepare_undo(self, ledger: Ledger, work: Work) -> tuple[Work, Outcome | None]:
        """Evaluate the inputs of a declared compensation; they may read what the step itself has given."""
        effect = work.effect
        if effect is not None and effect.state is EffectState.UNDONE:
            # Nothing was ever sent, so nobody has to be asked, who may be out of reach.
            return work, Undone(state=effect.before, nothing=True)
        compensate = work.spec.get("compensate")
        if not compensate:
            return work, None
        try:
            scope = await read_scope(ledger, self.sealer, work.spec)
            scope["steps"] = {**scope["steps"], work.key: {"outputs": work.outputs}}
            inputs = embedded.render(compensate.get("inputs") or {}, scope)
        except DomainError as error:
            return work, Failed(ErrorClass.PERMANENT, error.code, error.message)
        return replace(work, spec={**work.spec, "compensate": {**compensate, "inputs": inputs}}), None

    def _resolve(self, work: Work, scope: Mapping[str, Value]) -> tuple[Work, Outcome | None]:
        spec = work.spec
        match work.operation:
            case OperationKind.APPLY:
                return self._resolve_application(work, scope)
            case OperationKind.DELETE:
                unmade = work.prior is None and work.inherited is None
                gone = unmade or work.resource_status in ("DELETED", "DETACHED")
                if gone or spec.get("detach"):
                    return replace(work, action=ChangeAction.DETACH), Succeeded()
                return replace(work, action=ChangeAction.DELETE), None
            case OperationKind.RETIRE | OperationKind.PREFLIGHT:
                return work, None
            case OperationKind.VERIFY:
                return work, _nothing_to_verify(work)
            case OperationKind.ACT:
                if work.prior is None:
                    message = f"'{work.resource_key}' does not exist, so there is nothing to {spec['action']}"
                    return work, Failed(ErrorClass.PERMANENT, "NOT_FOUND", message)
                rendered = embedded.render(spec.get("inputs") or {}, scope)
                inputs, faults = self.registry.check_action(spec["type"], spec["action"], rendered)
                _refuse(work, faults)
                return work.told(inputs, ChangeAction.RUN), None
            case OperationKind.RUN:
                inputs, faults = self.registry.check_task(
                    spec["task"], embedded.render(spec.get("inputs") or {}, scope)
                )
                _refuse(work, faults)
                return work.told(inputs, ChangeAction.RUN), None
            case OperationKind.GATE:
                message = f"the gate '{work.key}' has nothing to resolve"
                raise AssertionError(message)

    def _resolve_application(self, work: Work, scope: Mapping[str, Value]) -> tuple[Work, Outcome | None]:
        spec = work.spec
        if spec.get("overlay") is not None:
            if work.prior is None:
                message = f"'{work.resource_key}' does not exist, so it cannot be scaled"
                return work, Failed(ErrorClass.PERMANENT, "NOT_FOUND", message)
            rendered = {**work.prior.properties, **embedded.render(spec["overlay"], scope)}
        else:
            rendered = embedded.render(spec.get("properties") or {}, scope)
        inputs, faults = self.registry.check(spec["type"], rendered)
        _refuse(work, faults)
        difference = self.registry.compare(spec["type"], work.prior.properties if work.prior else None, inputs)
        work = replace(work, inputs=inputs, difference=difference, action=difference.action)
        if difference.action is ChangeAction.NO_CHANGE and work.resource_status == "ACTIVE":
            return work, Succeeded(state=work.prior)
        if difference.action is ChangeAction.NO_CHANGE:
            return replace(work, action=ChangeAction.UPDATE), None
        return work, None

    async def _skip(self, ledger: Ledger, row: Row, status: StepStatus) -> None:
        """The condition is false: the step is over without a claim."""
        ledger.overtake(row["id"])
        skipped = STEP.after(_ready(status), "when_false")
        ledger.step_event(row["id"], row["step_key"], status, skipped, row["attempt"], StatusReason.CONDITION_FALSE)
        await ledger.transaction.fetch(_SKIP, {"tenant": ledger.transaction.tenant_id, "id": row["id"]})
        ledger.ended(row["step_key"], skipped)

    async def _begin(self, ledger: Ledger, row: Row, work: Work, *, acts: bool) -> dict[str, Any]:
        """Collect what the taking of the step means; returns what `Ledger.take` needs."""
        running = work.status if work.mode in (Mode.OBSERVE, Mode.UNDO) else STEP.after(_ready(work.status), "claimed")
        inputs = self.sealer.seal(dict(work.inputs), work.tenant_id)
        looks = work.operation in LOOKING
        meant = acts and work.mode is Mode.RUN and not looks
        before = None
        if meant and work.prior is not None:
            before = pack(work.prior, Hidden.of(work, self.registry), self.sealer, work.tenant_id)
        ledger.overtake(work.step_id)
        if running is not work.status:
            ledger.step_event(work.step_id, work.key, work.status, running, work.attempt)
        if work.resource_id is not None and not looks and (acts or work.mode is Mode.UNDO):
            await resources.begin(ledger, work)
        return {
            "step": work.step_id,
            "worker": self.worker_id,
            "held": running.value,
            "attempt": work.attempt if work.mode is not Mode.UNDO else row["attempt"],
            "undo_attempt": work.attempt if work.mode is Mode.UNDO else row["undo_attempt"],
            "observations": work.observations,
            "acts": meant,
            "inputs": dumps(inputs) if work.mode is Mode.RUN else None,
            "tries": work.mode is Mode.RUN or (work.mode is Mode.UNDO and work.undoing is None),
            "number": work.attempt,
            "direction": (JobDirection.ROLLBACK if work.mode is Mode.UNDO else JobDirection.FORWARD).value,
            "resource": row["resource_id"],
            "action": work.action.value,
            "operation": work.operation_id,
            "before": dumps(before) if before is not None else None,
            "intended": dumps(inputs) if meant else None,
        }


def _ready(status: StepStatus) -> StepStatus:
    """What a step that waited for its time, or for somebody outside, is at the moment when it is taken up again."""
    event = _BACK.get(status)
    return status if event is None else STEP.after(status, event)


def _nothing_to_verify(work: Work) -> Outcome | None:
    """What comes of a check whose resource there is not; None where there is one to look at."""
    if work.prior is not None:
        return None
    if work.resource_status == ResourceStatus.PLANNED:
        # Its step was skipped: it was not wanted.
        return Succeeded()
    message = f"'{work.resource_key}' does not exist, so it cannot be verified"
    return Failed(ErrorClass.PERMANENT, "VERIFICATION_FAILED", message)


def _remembered(ledger: Ledger, step_id: int, *, inline: bool) -> Row | None:
    """What a claim needs to know of the step, where the ledger knows it and the step is due."""
    row = ledger.untried.get(step_id)
    if row is None or not (inline or row["is_due"]):
        return None
    return {**_UNTRIED, **row, "effect_of": step_id}


def _is_stale(row: Row) -> bool:
    """Whether the step is to bring about a resource whose row an earlier job has closed."""
    untried = row["attempt"] == 0 and row["operation"] == OperationKind.APPLY
    return untried and row["resource_status"] in RESOURCE.closed


def _refuse(work: Work, faults: Any) -> None:
    errors = [fault for fault in faults if fault.severity is Severity.ERROR and not rehearsing.excuses(work)]
    if errors:
        message = "; ".join(f"{'.'.join(fault.path)}: {fault.message}" for fault in errors)
        raise Invalid(message, path=errors[0].path, diagnostics=errors)
