"""Workflows and their steps. The definition and the step rows say the same, always: they are written together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select

from app import clock
from app.auth.principal import Principal
from app.db.models import DeploymentPlan, Workflow, WorkflowStep
from app.db.uow import Transaction
from app.domain.automation import check_triggers
from app.domain.definitions.workflow import StepDefinition, parse_workflow
from app.domain.enums import DefinitionStatus, Permission, WorkflowType
from app.domain.errors import Conflict, Invalid, NotFound, Path
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies
from app.services.faults import name_fault, refuse
from app.services.records import locked, one_at_a_time, refuse_while_used, same_version, store

NAME_LIMIT = 200
_UNIQUE_NAME = "uq_workflow_tenant_name"


@dataclass(frozen=True, slots=True)
class CreateWorkflow:
    """A workflow to be; it can be used at once."""

    name: str
    type: WorkflowType
    definition: Mapping[str, Any]
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    triggers: Any = None
    conditions: Any = None
    actions: Any = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class UpdateWorkflow:
    """Changes to a workflow; None leaves a field as it is. Jobs that exist keep the steps they were made with."""

    id: int
    expected_version: int
    name: str | None = None
    type: WorkflowType | None = None
    definition: Mapping[str, Any] | None = None
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    triggers: Any = None
    conditions: Any = None
    actions: Any = None
    metadata: Mapping[str, Any] | None = None
    is_active: bool | None = None


@dataclass(frozen=True, slots=True)
class WorkflowAction:
    """An action on a workflow or on a step of one."""

    id: int
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class CreateStep:
    """A step to be added at the end of a workflow's definition; `step` as in a workflow document."""

    workflow_id: int
    step: Mapping[str, Any]
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class UpdateStep:
    """A step's definition as it shall be; its key stays."""

    id: int
    step: Mapping[str, Any]
    expected_version: int | None = None


async def create(
    transaction: Transaction, principal: Principal, command: CreateWorkflow, dependencies: Dependencies
) -> Workflow:
    """Store a workflow. Raises Invalid with every fault of the definition, Conflict when the name is taken."""
    authorize(transaction, principal, Permission.WRITE)
    refuse([name_fault(command.name, NAME_LIMIT, "the name of the workflow", "name")])
    check_triggers(command.triggers, clock.utc_now())
    workflow = Workflow(
        tenant_id=transaction.tenant_id,
        workflow_name=command.name.strip(),
        workflow_type=command.type,
        status=DefinitionStatus.PUBLISHED,
        description=command.description,
        triggers=command.triggers,
        conditions=command.conditions,
        actions=command.actions,
        metadata_=None if command.metadata is None else dict(command.metadata),
        created_by=transaction.actor,
        updated_by=transaction.actor,
    )
    document = _document(command.definition, command.parameters)
    steps = parse_workflow(document, dependencies.catalogue, path=("definition",)).steps
    workflow.definition, workflow.parameters = document, document.get("parameters")
    await store(transaction, workflow, _taken(workflow.workflow_name))
    await _write_steps(transaction, workflow, steps)
    return workflow


async def update(
    transaction: Transaction, principal: Principal, command: UpdateWorkflow, dependencies: Dependencies
) -> Workflow:
    """Change a workflow."""
    authorize(transaction, principal, Permission.WRITE)
    workflow = await _find(transaction, command.id, command.expected_version)
    if command.name is not None:
        refuse([name_fault(command.name, NAME_LIMIT, "the name of the workflow", "name")])
        workflow.workflow_name = command.name.strip()
    if command.type is not None:
        workflow.workflow_type = command.type
    check_triggers(command.triggers, clock.utc_now())
    for field in ("description", "triggers", "conditions", "actions", "is_active"):
        value = getattr(command, field)
        if value is not None:
            setattr(workflow, field, value)
    if command.metadata is not None:
        workflow.metadata_ = dict(command.metadata)
    if command.definition is not None or command.parameters is not None:
        definition = command.definition if command.definition is not None else workflow.definition
        await _redefine(transaction, workflow, _document(definition, command.parameters), dependencies)
    workflow.updated_by = transaction.actor
    await store(transaction, workflow, _taken(workflow.workflow_name))
    return workflow


async def delete(transaction: Transaction, principal: Principal, command: WorkflowAction) -> Workflow:
    """Hide the workflow. Raises Conflict while plans that are not over use it."""
    authorize(transaction, principal, Permission.DELETE)
    await one_at_a_time(transaction)
    workflow = await _find(transaction, command.id, command.expected_version)
    await refuse_while_used(transaction, DeploymentPlan.workflow_id == workflow.id, "workflow")
    workflow.is_deleted = True
    workflow.is_active = False
    workflow.updated_by = transaction.actor
    await store(transaction, workflow)
    return workflow


async def create_step(
    transaction: Transaction, principal: Principal, command: CreateStep, dependencies: Dependencies
) -> WorkflowStep:
    """Add a step to a workflow's definition."""
    authorize(transaction, principal, Permission.WRITE)
    try:
        workflow = await _find(transaction, command.workflow_id, command.expected_version)
    except NotFound as error:
        raise NotFound(error.message, path=("workflowId",)) from error
    steps = [*workflow.definition.get("steps", ()), dict(command.step)]
    await _restep(transaction, workflow, steps, dependencies, len(steps) - 1)
    return await _step_of(transaction, workflow, str(command.step.get("key")))


async def update_step(
    transaction: Transaction, principal: Principal, command: UpdateStep, dependencies: Dependencies
) -> WorkflowStep:
    """Change a step in its workflow's definition."""
    authorize(transaction, principal, Permission.WRITE)
    step, workflow = await _find_step(transaction, command.id, command.expected_version)
    wanted = {**command.step, "key": step.step_key}
    keys = [item.get("key") for item in workflow.definition["steps"]]
    position = keys.index(step.step_key)
    steps = [wanted if n == position else item for n, item in enumerate(workflow.definition["steps"])]
    await _restep(transaction, workflow, steps, dependencies, position)
    return await _step_of(transaction, workflow, step.step_key)


async def delete_step(
    transaction: Transaction, principal: Principal, command: WorkflowAction, dependencies: Dependencies
) -> WorkflowStep:
    """Take a step out of its workflow's definition. Raises Invalid where another step needs it."""
    authorize(transaction, principal, Permission.DELETE)
    step, workflow = await _find_step(transaction, command.id, command.expected_version)
    steps = [item for item in workflow.definition["steps"] if item.get("key") != step.step_key]
    await _restep(transaction, workflow, steps, dependencies)
    await transaction.session.refresh(step)
    return step


def _document(definition: Mapping[str, Any], parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """The definition as stored; parameters given beside it belong into it."""
    return {**definition, "parameters": dict(parameters)} if parameters is not None else dict(definition)


async def _redefine(
    transaction: Transaction, workflow: Workflow, document: dict[str, Any], dependencies: Dependencies
) -> None:
    steps = parse_workflow(document, dependencies.catalogue, path=("definition",)).steps
    workflow.definition, workflow.parameters = document, document.get("parameters")
    workflow.updated_by = transaction.actor
    await _write_steps(transaction, workflow, steps)


async def _restep(
    transaction: Transaction,
    workflow: Workflow,
    steps: list[Any],
    dependencies: Dependencies,
    position: int | None = None,
) -> None:
    """Give the workflow other steps. What is wrong with the one at `position` is told as a fault of `step`."""
    try:
        await _redefine(transaction, workflow, {**workflow.definition, "steps": steps}, dependencies)
    except Invalid as error:
        place = ("definition", "steps", str(position))
        # What other steps say about it has no place in the input but the whole of it.
        beside = ("id",) if position is None else ("step",)
        error.path = _seen_from(error.path, place) or beside
        error.diagnostics = tuple(
            replace(found, path=_seen_from(found.path, place) or found.path) for found in error.diagnostics
        )
        raise
    await store(transaction, workflow)


def _seen_from(path: Path, place: Path) -> Path | None:
    """A path in the definition as one in the input that gives the step at `place`; None where it is elsewhere."""
    return ("step", *path[len(place) :]) if path[: len(place)] == place else None


async def _write_steps(transaction: Transaction, workflow: Workflow, steps: tuple[StepDefinition, ...]) -> None:
    """Bring the step rows to the definition; a step that keeps its key keeps its row."""
    found = await transaction.session.scalars(
        select(WorkflowStep).where(
            WorkflowStep.tenant_id == transaction.tenant_id,
            WorkflowStep.workflow_id == workflow.id,
            ~WorkflowStep.is_deleted,
        )
    )
    rows = {row.step_key: row for row in found}
    for step in steps:
        row = rows.pop(step.key, None)
        if row is None:
            row = WorkflowStep(
                tenant_id=transaction.tenant_id,
                workflow_id=workflow.id,
                step_key=step.key,
                created_by=transaction.actor,
            )
            transaction.session.add(row)
        _fill(row, step, transaction.actor)
    for row in rows.values():
        row.is_deleted = True
        row.updated_by = transaction.actor
    await transaction.session.flush()


def _fill(row: WorkflowStep, step: StepDefinition, actor: str) -> None:
    row.step_name = step.name or step.key
    row.description = step.description or None
    row.step_order = step.order
    row.step_type = step.type
    row.status = DefinitionStatus.PUBLISHED
    row.configuration = dict(step.configuration)
    row.inputs = dict(step.inputs)
    row.outputs = dict(step.outputs)
    row.conditions = step.when
    row.timeout_seconds = None if step.timeout_seconds is None else round(step.timeout_seconds)
    row.retry_count = step.retry.max_attempts - 1
    row.error_handling = {
        "strategy": step.strategy.value if step.strategy else None,
        "compensate": step.compensate,
        "ignore": step.ignore,
        "onConflict": step.on_conflict.value if step.on_conflict else None,
        "retry": step.retry.document(),
    }
    row.metadata_ = {"dependsOn": list(step.depends_on), "checkpoint": step.checkpoint}
    row.updated_by = actor


async def _find(transaction: Transaction, workflow_id: int, expected_version: int | None) -> Workflow:
    query = select(Workflow).where(
        Workflow.tenant_id == transaction.tenant_id, Workflow.id == workflow_id, ~Workflow.is_deleted
    )
    workflow = await locked(transaction, query, "workflow")
    same_version(workflow.version, expected_version, "workflow")
    return workflow


async def _find_step(
    transaction: Transaction, step_id: int, expected_version: int | None
) -> tuple[WorkflowStep, Workflow]:
    """The step and its workflow, the workflow locked first: that is the order in which all of this locks."""
    query = select(WorkflowStep).where(
        WorkflowStep.tenant_id == transaction.tenant_id, WorkflowStep.id == step_id, ~WorkflowStep.is_deleted
    )
    step = await transaction.session.scalar(query)
    if step is None:
        message = "there is no such step"
        raise NotFound(message, path=("id",))
    workflow = await _find(transaction, step.workflow_id, None)
    # Whoever held the workflow may have changed the step since it was read.
    step = await locked(transaction, query.execution_options(populate_existing=True), "step")
    same_version(step.version, expected_version, "step")
    return step, workflow


async def _step_of(transaction: Transaction, workflow: Workflow, key: str) -> WorkflowStep:
    found = await transaction.session.scalars(
        select(WorkflowStep).where(
            WorkflowStep.tenant_id == transaction.tenant_id,
            WorkflowStep.workflow_id == workflow.id,
            WorkflowStep.step_key == key,
            ~WorkflowStep.is_deleted,
        )
    )
    return found.one()


def _taken(name: str) -> dict[str, Conflict]:
    return {_UNIQUE_NAME: Conflict(f"there already is a workflow '{name}'", path=("name",))}
