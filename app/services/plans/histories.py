"""What a plan has done, as the journal tells: each resource before and after it, and what no plan can take back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select, text

from app.db.models import CloudResource, DeploymentPlan, OrchestrationJob, StepEffect, StepRun
from app.db.uow import Transaction
from app.domain.enums import ChangeAction, JobDirection, StepType
from app.domain.errors import Diagnostic, Severity
from app.domain.operations import EffectState, OperationKind
from app.domain.statuses import StepStatus
from app.services.dependencies import Dependencies

_DONE = frozenset({StepStatus.SUCCEEDED, StepStatus.COMPENSATION_SKIPPED})
_CHANGING = frozenset({OperationKind.APPLY, OperationKind.DELETE})
# What a resource needed when it was as it was before the plan: the graph that the job which left it so went by.
_NEEDED = text(
    "SELECT w.id, earlier.needs FROM unnest(CAST(:ids AS bigint[])) AS w(id), LATERAL ("
    " SELECT s.spec->'dependsOnResources' AS needs FROM resource_revision v"
    " JOIN step_run s ON s.tenant_id = :tenant AND s.job_id = v.job_id AND s.resource_id = v.resource_id"
    " WHERE v.tenant_id = :tenant AND v.resource_id = w.id AND s.operation = 'APPLY' AND s.status = 'SUCCEEDED'"
    " AND v.number < (SELECT min(m.number) FROM resource_revision m JOIN orchestration_job j"
    "   ON j.tenant_id = :tenant AND j.id = m.job_id"
    "   WHERE m.tenant_id = :tenant AND m.resource_id = w.id AND j.plan_id = :plan)"
    " ORDER BY v.number DESC LIMIT 1) AS earlier"
)


@dataclass(slots=True)
class History:
    """What the plan did to one resource. States as they are stored, None where there was no resource.

    `settled`: the last that was done to it went well. `emptied`: what was in it is gone. `needs`: the keys that it
    depended on before.
    """

    row: CloudResource
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    settled: bool = True
    emptied: bool = False
    needs: tuple[str, ...] = ()


async def histories_of(
    transaction: Transaction, plan: DeploymentPlan, dependencies: Dependencies
) -> tuple[dict[str, History], list[Diagnostic]]:
    """By resource key what the plan's forward jobs did, first to last; and what of it stays when the rest is undone."""
    histories: dict[str, History] = {}
    notes: list[Diagnostic] = []
    for effect, step, resource in await _effects(transaction, plan):
        if effect is None:
            if step.spec.get("detach"):
                notes.append(_note(step, "was let go of, and has to be imported to be managed again"))
        elif step.operation in _CHANGING and resource is not None:
            history = histories.setdefault(
                resource.resource_key, History(resource, effect.before, effect.before, settled=False)
            )
            history.row, history.settled = resource, step.status in _DONE
            if history.settled:
                history.after = None if effect.action is ChangeAction.DELETE else effect.after
                destroys = effect.action in (ChangeAction.DELETE, ChangeAction.REPLACE)
                history.emptied |= destroys and dependencies.catalogue.is_stateful(resource.type)
        else:
            notes += _stays(step)
            known = histories.get(resource.resource_key) if resource is not None else None
            if known is not None and effect.after is not None:
                known.after = effect.after
    for key in [key for key, history in histories.items() if not history.settled]:
        message = f"'{key}' was being changed when its step failed; what that has left behind is not undone"
        notes.append(Diagnostic(Severity.WARN, "NOT_REVERSIBLE", message, ("resources", key)))
        del histories[key]
    for key, history in sorted(histories.items()):
        if history.emptied and history.before is not None:
            message = f"'{key}' is made again with its last properties; what was in it is lost"
            notes.append(Diagnostic(Severity.WARN, "LOSSY", message, ("resources", key)))
    await _add_needs(transaction, plan, histories)
    return histories, notes


async def _effects(
    transaction: Transaction, plan: DeploymentPlan
) -> list[tuple[StepEffect | None, StepRun, CloudResource | None]]:
    """Everything that the plan's forward jobs did and that was not taken back, in the order in which it was begun."""
    found = await transaction.session.execute(
        select(StepEffect, StepRun, CloudResource)
        .select_from(StepRun)
        .join(
            OrchestrationJob,
            (OrchestrationJob.tenant_id == StepRun.tenant_id) & (OrchestrationJob.id == StepRun.job_id),
        )
        .outerjoin(
            StepEffect,
            (StepEffect.tenant_id == StepRun.tenant_id)
            & (StepEffect.step_run_id == StepRun.id)
            & (StepEffect.direction == JobDirection.FORWARD),
        )
        .outerjoin(
            CloudResource,
            (CloudResource.tenant_id == StepRun.tenant_id) & (CloudResource.id == StepRun.resource_id),
        )
        .where(
            StepRun.tenant_id == transaction.tenant_id,
            OrchestrationJob.plan_id == plan.id,
            OrchestrationJob.direction == JobDirection.FORWARD,
            ~OrchestrationJob.simulated,
            StepRun.operation != OperationKind.RETIRE,
            StepRun.status != StepStatus.COMPENSATED,
            or_(
                StepEffect.state != EffectState.UNDONE,
                # Letting go is all on our side: nothing is journalled of it.
                StepEffect.id.is_(None)
                & (StepRun.operation == OperationKind.DELETE)
                & (StepRun.status == StepStatus.NO_CHANGE),
            ),
        )
        .order_by(StepEffect.id, StepRun.id)
    )
    return [(effect, step, resource) for effect, step, resource in found]


def _stays(step: StepRun) -> Iterator[Diagnostic]:
    """What is to be said of a task or an action: a plan brings resources to a state, and calls nothing back."""
    if step.step_type is StepType.RESOURCE_BACKUP:
        return
    declared = step.spec.get("compensate")
    yield _note(step, f"is not undone, and {declared['task']} is not run" if declared else "is not undone")


def _note(step: StepRun, said: str) -> Diagnostic:
    message = f"what the step '{step.step_key}' did {said}"
    return Diagnostic(Severity.WARN, "NOT_REVERSIBLE", message, ("steps", step.step_key))


async def _add_needs(transaction: Transaction, plan: DeploymentPlan, histories: dict[str, History]) -> None:
    by_id = {history.row.id: history for history in histories.values()}
    for history in by_id.values():
        history.needs = tuple(history.row.depends_on or ())
    rows = await transaction.session.execute(
        _NEEDED, {"tenant": transaction.tenant_id, "plan": plan.id, "ids": list(by_id)}
    )
    for resource_id, needs in rows:
        by_id[resource_id].needs = tuple(needs or ())
