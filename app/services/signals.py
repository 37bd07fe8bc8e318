"""Signals to jobs: a word from outside, for a step that waits for it or will."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from app import clock
from app.auth.principal import Principal
from app.db import journal
from app.db.ledger import Ledger
from app.db.models import OrchestrationJob, StepRun, User
from app.db.statements import Statement, dumps
from app.db.uow import Transaction
from app.domain.enums import GateKind, Permission, UserKind
from app.domain.errors import Forbidden, IllegalState, Invalid, LimitExceeded, NotFound, UnknownReference
from app.domain.events import Event, EventKind, Stream
from app.domain.naming import hint, nearest
from app.domain.operations import OperationKind
from app.domain.schemas import apply_schema
from app.domain.statuses import JOB, StepStatus
from app.domain.values import Value
from app.services import gates
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies
from app.services.steps import job_of

_LARGEST = 16 * 1024
# Steps that have not asked yet.
_AHEAD = (StepStatus.PENDING, StepStatus.READY)
# The job's own row, and no row of the step: a worker may be about to write that one.
_KEEP = Statement(
    "UPDATE orchestration_job SET configuration = jsonb_set(coalesce(configuration, '{}'::jsonb), '{signals}',"
    " coalesce(configuration->'signals', '{}'::jsonb) || :signal::jsonb)"
    " WHERE tenant_id = :tenant AND id = :job"
)


@dataclass(frozen=True, slots=True)
class SignalJob:
    """A signal: the key of the step that waits for it, and whatever is to be said with it."""

    job_id: int
    name: str
    payload: Mapping[str, Value] | None = None


async def signal(
    transaction: Transaction, principal: Principal, command: SignalJob, dependencies: Dependencies
) -> OrchestrationJob:
    """Tell a job what its step of kind SIGNAL waits for; the payload becomes the step's outputs.

    A step that has not begun yet finds the newest one when it does. Raises IllegalState where it is over,
    UnknownReference for a step that waits for no signal, Invalid for a payload that the gate's schema does not want.
    """
    authorize(transaction, principal, Permission.EXECUTE)
    ledger = await _opened(transaction, command.job_id)
    row = await _step(transaction, command)
    gate = row.spec["gate"]
    await _require_named(transaction, principal, gate["approvers"])
    payload = _checked(gate["inputSchema"], command.payload or {})
    step = ledger.steps[row.step_key]
    if step.status is StepStatus.WAITING:
        answer = gates.AnswerGate(row.id, approve=True, answer=payload)
        return await gates.take(transaction, ledger, step, answer, dependencies)
    if step.status not in _AHEAD:
        message = f"the step '{row.step_key}' is {step.status}, and waits for no signal any more"
        raise IllegalState(message, status=step.status, path=("name",))
    told = {
        "payload": dependencies.sealer.seal(payload, transaction.tenant_id),
        "by": transaction.actor,
        "at": clock.utc_now().isoformat(),
    }
    bound = {"tenant": transaction.tenant_id, "job": command.job_id}
    await transaction.fetch(_KEEP, {**bound, "signal": dumps({row.step_key: told})})
    # A worker that remembers the job finds out by its next event.
    data = {"jobId": command.job_id, "stepRunId": row.id, "stepKey": row.step_key, "message": "signalled"}
    await journal.append(transaction, Stream.JOB, command.job_id, [Event(EventKind.STEP_PROGRESSED, data)])
    return await job_of(transaction, command.job_id)


async def _opened(transaction: Transaction, job_id: int) -> Ledger:
    """The job, locked. Raises NotFound, and IllegalState for one that is over."""
    query = select(OrchestrationJob.id).where(
        OrchestrationJob.tenant_id == transaction.tenant_id,
        OrchestrationJob.id == job_id,
        ~OrchestrationJob.is_deleted,
    )
    known = await transaction.session.scalar(query)
    ledger = None if known is None else await Ledger.open(transaction, job_id)
    if ledger is None:
        message = "there is no such job"
        raise NotFound(message, path=("jobId",))
    if ledger.status in JOB.closed | JOB.settled:
        message = f"a job that is {ledger.status} waits for no signal"
        raise IllegalState(message, status=ledger.status, path=("jobId",))
    await ledger.read_steps()
    return ledger


async def _step(transaction: Transaction, command: SignalJob) -> StepRun:
    query = select(StepRun).where(
        StepRun.tenant_id == transaction.tenant_id,
        StepRun.job_id == command.job_id,
        StepRun.operation == OperationKind.GATE,
        StepRun.spec["gate"]["kind"].astext == GateKind.SIGNAL,
    )
    waiting = {row.step_key: row for row in await transaction.session.scalars(query)}
    if command.name not in waiting:
        message = f"no step of the job waits for a signal of this name{hint(nearest(command.name, waiting))}"
        raise UnknownReference(message, path=("name",))
    return waiting[command.name]


async def _require_named(transaction: Transaction, principal: Principal, approvers: Sequence[str]) -> None:
    """Raises Forbidden where a gate names people, and this is none of them."""
    query = select(User.email).where(
        User.tenant_id == transaction.tenant_id, User.id == principal.user_id, User.kind == UserKind.PERSON
    )
    if approvers and await transaction.session.scalar(query) not in approvers:
        message = "only those whom the gate names as approvers may signal it"
        raise Forbidden(message, required=Permission.APPROVE.value)


def _checked(schema: Mapping[str, Value] | None, payload: Mapping[str, Value]) -> dict[str, Value]:
    if len(dumps(payload)) > _LARGEST:
        message = f"the payload of a signal has at most {_LARGEST} characters"
        raise LimitExceeded(message, path=("payload",))
    if not schema:
        return dict(payload)
    value, faults = apply_schema(schema, dict(payload), ("payload",))
    if faults:
        raise Invalid(faults[0].message, path=faults[0].path, diagnostics=faults)
    return dict(value)
