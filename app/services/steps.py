"""What someone may decide about the failed steps of a paused job: try again, perhaps with other inputs, or go past."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select

from app.auth.principal import Principal
from app.db import effects, jobs
from app.db.ledger import Ledger
from app.db.models import OrchestrationJob, StepRun
from app.db.statements import Statement, dumps
from app.db.uow import Transaction
from app.domain.decisions import StepMove
from app.domain.enums import Permission, StatusReason, StepAction
from app.domain.errors import IllegalState, Invalid, NotFound, Severity
from app.domain.expressions import embedded
from app.domain.operations import EffectState, OperationKind
from app.domain.statuses import JOB, STEP, JobStatus, StepStatus
from app.domain.values import Value
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies

# Where a step of each operation has its inputs.
_INPUTS = {
    OperationKind.APPLY: "properties",
    OperationKind.ACT: "inputs",
    OperationKind.RUN: "inputs",
}
# A new decision is a new budget of attempts.
_AGAIN = Statement(
    "UPDATE step_run SET spec = coalesce(:spec::jsonb, spec), error = NULL, status_message = NULL, crashes = 0,"
    " expires_at = NULL,"
    " max_attempts = attempt + coalesce((spec->'retry'->>'maxAttempts')::int, max_attempts), observations = 0"
    " WHERE tenant_id = :tenant AND id = :id"
)
_DECIDED = Statement(
    "UPDATE step_run SET status_reason = 'USER', status_message = :message WHERE tenant_id = :tenant AND id = :id"
)
_ASK_AGAIN = Statement(
    "UPDATE gate SET answer = NULL, approved = NULL, comment = NULL, answered_by = NULL, answered_at = NULL,"
    " closed_at = NULL, deadline_at = NULL WHERE tenant_id = :tenant AND step_run_id = :id"
)


@dataclass(frozen=True, slots=True)
class DecideStep:
    """RETRY or SKIP a failed step. `inputs` replace those of the same names, for RETRY only.

    Of a task or an action of which nobody can tell whether it was carried out: ADOPT says that it was, ABANDON that it
    was not, or that this does not matter. In a paused job the step is skipped then. In one that has ended, RETRY says
    what ABANDON does, and the decision counts when the plan is resumed, begun again or rolled back.
    """

    step_run_id: int
    action: StepAction
    inputs: Mapping[str, Value] | None = None


async def decide(
    transaction: Transaction, principal: Principal, command: DecideStep, dependencies: Dependencies
) -> OrchestrationJob:
    """Decide about one failed step. A paused job goes on as soon as nothing is left to be decided."""
    authorize(transaction, principal, Permission.EXECUTE)
    row, ledger = await locked_step(transaction, command.step_run_id)
    await ledger.read_steps()
    step = ledger.steps[row.step_key]
    if ledger.status in JOB.closed:
        await _decide_afterwards(transaction, row, command)
        return await job_of(transaction, ledger.job_id)
    event = "operator_retry" if command.action is StepAction.RETRY else "operator_skip"
    if ledger.status is not JobStatus.PAUSED or not STEP.permits(step.status, event):
        message = f"a step that is {step.status} in a job that is {ledger.status} cannot be retried or skipped"
        raise IllegalState(message, status=step.status, path=("stepRunId",))
    if command.action is StepAction.RETRY:
        await _prepare(transaction, row, command.inputs, dependencies)
    elif command.inputs is not None:
        message = "a step that is skipped has no use for inputs"
        raise Invalid(message, path=("inputs",))
    elif command.action is not StepAction.SKIP:
        await _decide_effect(transaction, row, command.action)
    ledger.move_step(StepMove(step.key, event, STEP.after(step.status, event), StatusReason.USER))
    await jobs.go_on(ledger)
    return await job_of(transaction, ledger.job_id)


def needs_attention(row: StepRun) -> bool:
    """Whether a task or an action may have been carried out, and a person has to say whether it was."""
    unclear = row.status_reason is StatusReason.NEEDS_ATTENTION or row.status is StepStatus.UNKNOWN
    return unclear and row.operation in (OperationKind.RUN, OperationKind.ACT)


async def _decide_afterwards(transaction: Transaction, row: StepRun, command: DecideStep) -> None:
    """Say of a step of an ended job what became of its effect; the job itself stays what it was."""
    if command.inputs is not None:
        message = "the job has ended: inputs are those of the plan when it is run again"
        raise Invalid(message, path=("inputs",))
    if command.action is StepAction.SKIP:
        message = "the job has ended: there is nothing to go past"
        raise IllegalState(message, status=row.status, path=("stepRunId",))
    await _decide_effect(transaction, row, command.action)
    said = {"tenant": transaction.tenant_id, "id": row.id, "message": f"{command.action.lower()}: {transaction.actor}"}
    await transaction.fetch(_DECIDED, said)


async def _decide_effect(transaction: Transaction, row: StepRun, action: StepAction) -> None:
    if not needs_attention(row):
        message = "nothing is in doubt about this step"
        if row.operation in (OperationKind.APPLY, OperationKind.DELETE) and row.resource_id is not None:
            message = "what is in doubt is its resource: see resolveResource"
        raise IllegalState(message, status=row.status, path=("stepRunId",))
    state = EffectState.DONE if action is StepAction.ADOPT else EffectState.UNDONE
    if not await effects.close(transaction, row.id, state):
        message = "what became of it is known already"
        raise IllegalState(message, status=row.status, path=("stepRunId",))


async def locked_step(transaction: Transaction, step_run_id: int) -> tuple[StepRun, Ledger]:
    """The step run, with its job locked. Raises NotFound; a deleted job has no steps."""
    query = (
        select(StepRun)
        .join(OrchestrationJob, OrchestrationJob.id == StepRun.job_id)
        .where(StepRun.tenant_id == transaction.tenant_id, StepRun.id == step_run_id, ~OrchestrationJob.is_deleted)
    )
    row = (await transaction.session.execute(query)).scalar_one_or_none()
    ledger = None if row is None else await Ledger.open(transaction, row.job_id)
    if row is None or ledger is None:
        message = "there is no such step"
        raise NotFound(message, path=("stepRunId",))
    return row, ledger


async def job_of(transaction: Transaction, job_id: int) -> OrchestrationJob:
    """The job as it is now."""
    job = await transaction.session.get_one(OrchestrationJob, job_id, populate_existing=True)
    await transaction.session.refresh(job)
    return job


async def _prepare(
    transaction: Transaction, row: StepRun, inputs: Mapping[str, Value] | None, dependencies: Dependencies
) -> None:
    key = {"tenant": transaction.tenant_id, "id": row.id}
    spec = None if inputs is None else dumps(_edited(row, inputs, dependencies))
    await transaction.fetch(_AGAIN, {**key, "spec": spec})
    if row.operation is OperationKind.GATE:
        await transaction.fetch(_ASK_AGAIN, key)


def _edited(row: StepRun, inputs: Mapping[str, Value], dependencies: Dependencies) -> dict[str, Any]:
    """The spec with the edited inputs in it, sealed. Raises Invalid with the path of what does not fit."""
    name = _INPUTS.get(row.operation)
    spec = dependencies.sealer.open(row.spec, row.tenant_id)
    if name == "properties" and spec.get("overlay") is not None:
        name = "overlay"
    if name is None:
        message = f"a step that does {row.operation} has no inputs to edit"
        raise Invalid(message, path=("inputs",))
    for found in embedded.find(dict(inputs), ("inputs",)):
        message = "edited inputs are plain values, not expressions"
        raise Invalid(message, path=found.path)
    merged = {**(spec.get(name) or {}), **inputs}
    checked = merged
    if name == "properties":
        checked = _checked(inputs, *dependencies.catalogue.check(spec["type"], embedded.render_known(merged)))
    elif row.operation is OperationKind.RUN:
        checked = _checked(inputs, *dependencies.catalogue.check_task(spec["task"], embedded.render_known(merged)))
    elif name == "overlay":
        allowed = dependencies.catalogue.scalable(spec["type"])
        for key in inputs:
            if f"/{key}" not in allowed:
                message = f"{spec['type']} cannot scale '{key}'"
                raise Invalid(message, path=("inputs", key))
    # Of the checked values, the edited ones only: they have their secrets wrapped, the others their expressions.
    kept = {key: checked.get(key, value) if key in inputs else value for key, value in merged.items()}
    sealed: dict[str, Any] = dependencies.sealer.seal({**spec, name: kept}, row.tenant_id)
    return sealed


def _checked(inputs: Mapping[str, Value], value: Value, faults: Any) -> dict[str, Value]:
    errors = [
        replace(fault, path=("inputs", *fault.path))
        for fault in faults
        if fault.severity is Severity.ERROR and (not fault.path or fault.path[0] in inputs)
    ]
    if errors:
        raise Invalid(errors[0].message, path=errors[0].path, diagnostics=errors)
    return dict(value) if isinstance(value, Mapping) else {}
