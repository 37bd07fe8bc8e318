"""What a rollback would do if a plan failed at one of its steps: asked of the very decisions that would be taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.domain.decisions import JobMove, JobView, StepMove, StepView, decide
from app.domain.enums import ChangeAction, FailureStrategy, Reversibility, RollbackScope, StepType
from app.domain.errors import Invalid
from app.domain.graph import in_dependency_order
from app.domain.naming import hint, nearest
from app.domain.operations import LOOKING, OperationKind, Phase
from app.domain.planning.deployment import Deployment, PlannedStep, ResourceChange
from app.domain.statuses import JobStatus, StepStatus

# What undoes a change that can be undone; of what is only let go of nothing is journalled, and it is never undone.
_INVERSE = {
    ChangeAction.CREATE: (ChangeAction.DELETE, "what was created is deleted"),
    ChangeAction.UPDATE: (ChangeAction.UPDATE, "the previous properties are written back"),
    ChangeAction.REPLACE: (
        ChangeAction.REPLACE,
        "the new one is deleted and the old one, still there, takes its place",
    ),
    ChangeAction.DELETE: (ChangeAction.CREATE, "it is made again with its last properties; what was in it is lost"),
    ChangeAction.IMPORT: (ChangeAction.DETACH, "it is let go of, and not deleted"),
    ChangeAction.RUN: (ChangeAction.RUN, "what undoes it is run"),
}
# A step with such a change is over as soon as somebody has looked at it; nothing is sent.
_UNTOUCHED = frozenset({ChangeAction.NO_CHANGE, ChangeAction.DETACH})
_BY_STEP = {
    StepType.RESOURCE_BACKUP: "the backup is kept",
    StepType.RESOURCE_RESTORE: "what was there before the restoration is put back",
    StepType.RESOURCE_MIGRATE: "it goes back to where it came from",
}
_LOST = {
    ChangeAction.DELETE: "it is gone, and what was in it",
    ChangeAction.REPLACE: "the old one had to go first, and what was in it is gone; the new one is deleted",
}


@dataclass(frozen=True, slots=True)
class Compensation:
    """How one step would be taken back. `order` counts from 1; equal numbers go side by side."""

    key: str
    order: int
    action: ChangeAction
    reversibility: Reversibility
    detail: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would become of a deployment that fails at `fail_at`, all that does not wait for that step being done.

    `residual` are the steps whose effects would stay: because the strategy keeps them, or the scope, or because there
    is no way back. Where people would decide (PAUSE), it is what they would get by deciding for a rollback.
    """

    fail_at: str
    compensations: tuple[Compensation, ...]
    not_reversible: tuple[Compensation, ...]
    residual: tuple[str, ...]


def forecast(
    deployment: Deployment, strategy: FailureStrategy, scope: RollbackScope, fail_at: str | None = None
) -> Forecast:
    """Raises Invalid for a step that there is not. Without `fail_at`, the last step before COMMIT fails."""
    steps = {step.key: step for step in deployment.steps}
    if fail_at is not None and fail_at not in steps:
        message = f"the plan has no step '{fail_at}'{hint(nearest(fail_at, steps))}"
        raise Invalid(message, path=("failAt",))
    applying = [step for step in deployment.steps if step.phase is Phase.APPLY]
    if fail_at is None and not applying:
        message = "everything that the plan does is final; name the step at which it fails"
        raise Invalid(message, path=("failAt",))
    failing = steps[fail_at] if fail_at is not None else applying[-1]
    views = [_view(step, status) for step, status in _worst_case(deployment.steps, failing)]
    order = _undo(views, strategy, scope)
    changes = {change.key: change for change in deployment.changes}
    compensations: list[Compensation] = []
    for key, position in order.items():
        change = changes[key]
        action, detail = _INVERSE[change.action][0], _detail(steps[key], change)
        compensations.append(Compensation(key, position, action, change.reversibility, detail))
    lost = tuple(found for found in compensations if found.reversibility is Reversibility.IRREVERSIBLE)
    done = tuple(found for found in compensations if found.reversibility is not Reversibility.IRREVERSIBLE)
    taken_back = {found.key for found in done}
    let_go = {
        view.key
        for view in views
        if view.status is StepStatus.NO_CHANGE and changes[view.key].action is ChangeAction.DETACH
    }
    residual = tuple(view.key for view in views if view.key in let_go or (view.touched and view.key not in taken_back))
    return Forecast(failing.key, done, lost, residual)


def _detail(step: PlannedStep, change: ResourceChange) -> str:
    """What undoing the change means, in words."""
    if change.reversibility is Reversibility.IRREVERSIBLE:
        return _LOST.get(change.action, "nothing is known that would undo it")
    if change.action is ChangeAction.REPLACE and change.downtime:
        return "the new one is deleted and the old one is made again with its last properties"
    return _BY_STEP.get(step.type) or _INVERSE[change.action][1]


def _worst_case(steps: Sequence[PlannedStep], failing: PlannedStep) -> list[tuple[PlannedStep, StepStatus]]:
    """Every step that may have been done by then is."""
    after = {failing.key}
    found: list[tuple[PlannedStep, StepStatus]] = []
    for step in steps:
        if step.key == failing.key:
            found.append((step, StepStatus.FAILED))
        elif after.intersection(step.needs) or (step.phase is Phase.COMMIT and failing.phase is Phase.APPLY):
            after.add(step.key)
            found.append((step, StepStatus.PENDING))
        elif step.change in _UNTOUCHED:
            found.append((step, StepStatus.NO_CHANGE))
        else:
            found.append((step, StepStatus.SUCCEEDED))
    return found


def _view(step: PlannedStep, status: StepStatus) -> StepView:
    acts = step.operation not in LOOKING and step.change not in _UNTOUCHED and not step.spec.get("pure")
    return StepView(
        key=step.key,
        status=status,
        needs=step.needs,
        phase=step.phase,
        touched=acts and status in (StepStatus.SUCCEEDED, StepStatus.FAILED),
        strategy=step.strategy,
        ignore=bool(step.spec.get("ignore")),
        checkpoint=step.spec.get("checkpoint"),
        verifies=step.operation is OperationKind.VERIFY,
    )


def _undo(views: Sequence[StepView], strategy: FailureStrategy, scope: RollbackScope) -> dict[str, int]:
    """The steps that would be compensated, by key, with the round in which that would happen."""
    steps = {view.key: view for view in in_dependency_order(views)}
    now = {key: view.status for key, view in steps.items()}
    status, fallback = JobStatus.RUNNING, None
    order: dict[str, int] = {}
    # Each round undoes at least one step, so there are no more rounds than steps.
    for position in range(len(steps) + 2):
        current = tuple(replace(view, status=now[key]) for key, view in steps.items())
        moves = decide(JobView(status, strategy, current, scope=scope, fallback=fallback))
        for move in moves:
            if isinstance(move, JobMove):
                status = move.status
            elif isinstance(move, StepMove):
                now[move.key] = move.status
        if status is JobStatus.PAUSED:
            fallback = FailureStrategy.ROLLBACK
        undone = [key for key, at in now.items() if at is StepStatus.COMPENSATING]
        rounds = len(set(order.values())) + 1
        for key in undone:
            order[key] = rounds
            now[key] = StepStatus.COMPENSATED
        if not moves and not undone and position:
            break
    return order
