"""Answers to gates: who may give one, what it must look like, and that there is only one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from app import clock
from app.auth.principal import Principal
from app.db import jobs
from app.db.ledger import Ledger
from app.db.models import DeploymentPlan, Gate, OrchestrationJob, StepRun, User
from app.db.statements import Statement, dumps
from app.db.step_rows import StepRow
from app.db.uow import Transaction
from app.domain.decisions import StepMove
from app.domain.enums import GateKind, Permission, StatusReason, UserKind
from app.domain.errors import Forbidden, IllegalState, Invalid, LimitExceeded, NotFound, PolicyDenied, Required
from app.domain.events import Event, EventKind
from app.domain.schemas import apply_schema
from app.domain.statuses import STEP, StepStatus
from app.domain.values import Value
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies
from app.services.steps import job_of, locked_step

_LONGEST_COMMENT = 2000
_MOST_DELEGATIONS = 20
_BLAME = Statement(
    "UPDATE step_run SET error = :error::jsonb, status_message = :message WHERE tenant_id = :tenant AND id = :step"
)


@dataclass(frozen=True, slots=True)
class AnswerGate:
    """A yes or no, and what the gate's form asks for."""

    step_run_id: int
    approve: bool | None = None
    answer: Mapping[str, Value] | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class DelegateGate:
    """Who else may answer."""

    step_run_id: int
    user_id: int
    comment: str | None = None


async def delegate(
    transaction: Transaction, principal: Principal, command: DelegateGate, dependencies: Dependencies
) -> OrchestrationJob:
    """Let another person answer a step that waits. Whoever does this may answer, and goes on to."""
    del dependencies
    _authorize(transaction, principal, await _gate(transaction, command.step_run_id))
    row, ledger = await locked_step(transaction, command.step_run_id)
    found = await transaction.session.execute(
        select(User).where(
            User.tenant_id == transaction.tenant_id,
            User.id == command.user_id,
            User.kind == UserKind.PERSON,
            ~User.is_deleted,
        )
    )
    person = found.scalar_one_or_none()
    if person is None:
        message = "there is no such person"
        raise NotFound(message, path=("userId",))
    gate = await _gate(transaction, command.step_run_id)
    if gate is None or gate.closed_at is not None or row.status is not StepStatus.WAITING:
        message = f"a step that is {row.status} asks nothing"
        raise IllegalState(message, status=row.status, path=("stepRunId",))
    _refuse_comment(command.comment)
    if gate.kind not in (GateKind.APPROVAL, GateKind.INPUT):
        message = "only what people answer can be left to somebody else"
        raise Invalid(message, path=("stepRunId",))
    given, to = list(gate.delegations or ()), f"user:{person.id}"
    if to == principal.actor or any(one["to"] == to for one in given) or to in gate.approvers:
        message = "they may answer it already"
        raise Invalid(message, path=("userId",))
    if len(given) >= _MOST_DELEGATIONS:
        message = f"a gate is left to at most {_MOST_DELEGATIONS} others"
        raise LimitExceeded(message, path=("userId",))
    at = clock.utc_now().isoformat()
    gate.delegations = [*given, {"from": principal.actor, "to": to, "at": at, "comment": command.comment}]
    await transaction.session.flush()
    data = {"jobId": ledger.job_id, "stepRunId": row.id, "stepKey": row.step_key, "to": to}
    ledger.event(Event(EventKind.GATE_DELEGATED, data | ({"comment": command.comment} if command.comment else {})))
    await ledger.write()
    return await job_of(transaction, ledger.job_id)


async def answer(
    transaction: Transaction, principal: Principal, command: AnswerGate, dependencies: Dependencies
) -> OrchestrationJob:
    """Answer a step that waits; its job goes on if that was all it waited for."""
    gate = await _gate(transaction, command.step_run_id)
    _authorize(transaction, principal, gate)
    if gate is not None and gate.kind is GateKind.APPROVAL and command.approve is not False:
        await _refuse_author(transaction, principal, command.step_run_id)
    row, ledger = await locked_step(transaction, command.step_run_id)
    await ledger.read_steps()
    return await take(transaction, ledger, ledger.steps[row.step_key], command, dependencies)


async def take(
    transaction: Transaction, ledger: Ledger, step: StepRow, command: AnswerGate, dependencies: Dependencies
) -> OrchestrationJob:
    """Take an answer from somebody who may give it; the job is locked."""
    gate = await _gate(transaction, step.id)
    if gate is None or gate.closed_at is not None or step.status is not StepStatus.WAITING:
        message = f"a step that is {step.status} asks nothing"
        raise IllegalState(message, status=step.status, path=("stepRunId",))
    value = _checked(gate, command)
    gate.approved = command.approve is not False
    gate.comment = command.comment
    gate.answered_by = transaction.actor
    gate.answered_at = gate.closed_at = func.clock_timestamp()
    if gate.approved:
        gate.answer = dependencies.sealer.seal(value, transaction.tenant_id)
        ledger.move_step(StepMove(step.key, "signal_or_poll", STEP.after(step.status, "signal_or_poll")))
    else:
        await _reject(ledger, step, command.comment)
    await transaction.session.flush()
    await jobs.go_on(ledger)
    return await job_of(transaction, ledger.job_id)


def _authorize(transaction: Transaction, principal: Principal, gate: Gate | None) -> None:
    """Whoever the gate names and those they have let answer; where it names nobody, who has APPROVE as well."""
    if gate is not None and any(one["to"] == principal.actor for one in gate.delegations or ()):
        authorize(transaction, principal, Permission.READ, f"gate {gate.id} was left to them")
        return
    if gate is None or not gate.approvers:
        authorize(transaction, principal, Permission.APPROVE)
        return
    if principal.actor not in gate.approvers:
        message = "only those whom the gate names as approvers may answer it"
        raise Forbidden(message, required=Permission.APPROVE.value)
    authorize(transaction, principal, Permission.READ, f"gate {gate.id} as a named approver")


async def _refuse_author(transaction: Transaction, principal: Principal, step_run_id: int) -> None:
    """Raises PolicyDenied for a service account that asked for the plan: as of a plan itself, it agrees to nothing."""
    if principal.kind is not UserKind.SERVICE_ACCOUNT:
        return
    found = await transaction.session.execute(
        select(DeploymentPlan.user_id, DeploymentPlan.submitted_by_id)
        .join(
            OrchestrationJob,
            (OrchestrationJob.tenant_id == DeploymentPlan.tenant_id) & (OrchestrationJob.plan_id == DeploymentPlan.id),
        )
        .join(StepRun, (StepRun.tenant_id == OrchestrationJob.tenant_id) & (StepRun.job_id == OrchestrationJob.id))
        .where(StepRun.tenant_id == transaction.tenant_id, StepRun.id == step_run_id)
    )
    if principal.user_id in (found.one_or_none() or ()):
        message = "a service account does not approve what it asked for"
        raise PolicyDenied(message, path=("stepRunId",))


async def _gate(transaction: Transaction, step_run_id: int) -> Gate | None:
    query = select(Gate).where(Gate.tenant_id == transaction.tenant_id, Gate.step_run_id == step_run_id)
    found = await transaction.session.execute(query.execution_options(populate_existing=True))
    return found.scalar_one_or_none()


def _checked(gate: Gate, command: AnswerGate) -> dict[str, Any]:
    """What becomes the step's outputs. Raises Required or Invalid, with the path within the input."""
    if gate.kind is GateKind.TIMER:
        message = "nobody answers a timer"
        raise Invalid(message, path=("stepRunId",))
    _refuse_comment(command.comment)
    if gate.kind is GateKind.APPROVAL and command.approve is None:
        message = "an approval is answered with approve: true or false"
        raise Required(message, path=("approve",))
    if command.approve is False:
        return {}
    if gate.input_schema is None:
        if gate.kind is GateKind.APPROVAL and command.answer is None:
            return {"approved": True}
        return dict(command.answer or {})
    value, faults = apply_schema(gate.input_schema, dict(command.answer or {}), ("answer",))
    if faults:
        raise Invalid(faults[0].message, path=faults[0].path, diagnostics=faults)
    return dict(value)


def _refuse_comment(comment: str | None) -> None:
    if comment is not None and len(comment) > _LONGEST_COMMENT:
        message = f"a comment has at most {_LONGEST_COMMENT} characters"
        raise Invalid(message, path=("comment",))


async def _reject(ledger: Ledger, step: StepRow, comment: str | None) -> None:
    message = f"rejected: {comment}" if comment else "rejected"
    error = {"class": "POLICY", "code": "REJECTED", "message": message, "retryable": False}
    key = {"tenant": ledger.transaction.tenant_id, "step": step.id}
    await ledger.transaction.fetch(_BLAME, {**key, "error": dumps(error), "message": message})
    ledger.move_step(StepMove(step.key, "rejected", STEP.after(step.status, "rejected"), StatusReason.USER))
