"""Writing plans: create, update, submit, delete. Submitting validates, previews, and moves an IMMEDIATE plan on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from app import clock
from app.auth.principal import Principal
from app.db import journal, watches
from app.db.following import plan_event
from app.db.models import DeploymentPlan
from app.db.uow import Transaction
from app.domain import conditions
from app.domain.approvals import ApprovalPolicy
from app.domain.concurrency import width_of
from app.domain.conflicts import conflict_policy_of
from app.domain.definitions.constraints import constraints_of
from app.domain.definitions.template import ROOTS
from app.domain.drifting import configuration_faults
from app.domain.enums import FailureStrategy, Permission, PlanType, RollbackScope, StatusReason
from app.domain.errors import DomainError, IllegalState, Invalid, NotFound, Required, Several
from app.domain.events import Stream
from app.domain.pausing import patience_of
from app.domain.plan_configuration import unknown_parts
from app.domain.planning.preflighting import wants_preflight
from app.domain.scheduling import Schedule
from app.domain.schemas import apply_schema
from app.domain.statuses import PLAN, PlanStatus
from app.domain.timeouts import timeouts_of
from app.domain.values import Value
from app.domain.verification import verification_of
from app.services import launching, limits, upstream
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies
from app.services.faults import name_fault
from app.services.planning import revision_of, workflow_of
from app.services.plans import automation, passage
from app.services.plans.narrowing import only_keys
from app.services.records import same_version

_NAME_LIMIT = 200
_RESTING = frozenset({PlanStatus.DRAFT, PlanStatus.INVALID, PlanStatus.READY})


@dataclass(frozen=True, slots=True)
class CreatePlan:
    """A plan to be. `stack` defaults to the name; plans of the same stack change the same resources."""

    name: str
    type: PlanType
    description: str | None = None
    workflow_id: int | None = None
    template_revision_id: int | None = None
    parameters: Mapping[str, Value] | None = None
    configuration: Mapping[str, Any] | None = None
    stack: str | None = None
    failure_strategy: FailureStrategy = FailureStrategy.ROLLBACK
    rollback_scope: RollbackScope = RollbackScope.JOB
    schedule: Schedule | None = None
    condition: Mapping[str, Any] | None = None
    valid_until: datetime | None = None
    # The resources that alone it is about, with what those need; none: all of the stack.
    resource_ids: Sequence[int] = ()
    # Plans that have to have succeeded before it runs.
    upstream_ids: Sequence[int] = ()
    # As somebody gave it: app.domain.definitions.constraints says what it has to be.
    constraints: Value = None
    metadata: Mapping[str, Any] | None = None
    submit: bool = True


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """Changes to a plan that has not begun; None leaves a field as it is."""

    id: int
    expected_version: int
    name: str | None = None
    description: str | None = None
    parameters: Mapping[str, Value] | None = None
    configuration: Mapping[str, Any] | None = None
    schedule: Schedule | None = None
    condition: Mapping[str, Any] | None = None
    failure_strategy: FailureStrategy | None = None
    upstream_ids: Sequence[int] | None = None
    # As somebody gave it: app.domain.definitions.constraints says what it has to be.
    constraints: Value = None


@dataclass(frozen=True, slots=True)
class PlanAction:
    """An action on a plan; with `expected_version` only if nobody changed it since."""

    plan_id: int
    expected_version: int | None = None
    comment: str | None = None


async def create(
    transaction: Transaction, principal: Principal, command: CreatePlan, dependencies: Dependencies
) -> DeploymentPlan:
    """Store a plan; unless told otherwise, submit it. A plan that would be refused is not stored."""
    authorize(transaction, principal, Permission.WRITE)
    faults = _faults(command)
    if faults:
        raise faults[0] if len(faults) == 1 else Several(faults)
    await limits.refuse_more_plans(transaction)
    plan = DeploymentPlan(
        tenant_id=transaction.tenant_id,
        user_id=principal.user_id,
        workflow_id=command.workflow_id,
        plan_name=command.name.strip(),
        description=command.description,
        plan_type=command.type,
        stack=(command.stack or command.name).strip(),
        configuration=dict(command.configuration) if command.configuration is not None else None,
        failure_strategy=command.failure_strategy,
        rollback_scope=command.rollback_scope,
        schedule=None if command.schedule is None else command.schedule.document(),
        condition=None if command.condition is None else dict(command.condition),
        valid_until=command.valid_until,
        constraints=command.constraints,
        metadata_=dict(command.metadata) if command.metadata is not None else None,
        created_by=transaction.actor,
        updated_by=transaction.actor,
    )
    schema: Mapping[str, Any] = {}
    if command.template_revision_id is not None:
        revision = await revision_of(transaction.session, transaction.tenant_id, command.template_revision_id)
        plan.template_tenant_id = revision.tenant_id
        plan.template_id = revision.template_id
        plan.template_revision_id = revision.id
        schema = revision.content.get("parameters") or {}
    if command.workflow_id is not None:
        await workflow_of(transaction.session, transaction.tenant_id, command.workflow_id)
    plan.only_keys = await only_keys(transaction, plan.stack, command.resource_ids)
    plan.parameters = stored_parameters(command.parameters or {}, schema, dependencies, transaction.tenant_id)
    transaction.session.add(plan)
    await transaction.session.flush()
    first = plan_event(plan.id, PlanStatus.DRAFT, PlanStatus.DRAFT, StatusReason.NONE)
    first.data["previous"] = None
    await journal.append(transaction, Stream.PLAN, plan.id, [first])
    if command.upstream_ids:
        await upstream.declare(transaction, plan, command.upstream_ids)
    if command.submit:
        await _submit(transaction, principal, plan, dependencies, must_be_valid=True)
    return plan


async def update(
    transaction: Transaction, principal: Principal, command: UpdatePlan, dependencies: Dependencies
) -> DeploymentPlan:
    """Change a plan that has not begun; it is a draft again afterwards, and has to be submitted."""
    authorize(transaction, principal, Permission.WRITE)
    plan = await find(transaction, command.id, command.expected_version, field="id")
    if plan.parent_plan_id is not None:
        message = "this plan is one run of a recurring plan: edit that one"
        raise IllegalState(message, status=plan.status, path=("id",))
    if plan.status is not PlanStatus.DRAFT and not PLAN.permits(plan.status, "edit"):
        message = f"a plan that is {plan.status} cannot be edited"
        raise IllegalState(message, status=plan.status, path=("id",))
    if command.upstream_ids is not None:
        await upstream.declare(transaction, plan, command.upstream_ids)
    _edit(plan, command)
    if command.parameters is not None:
        schema: Mapping[str, Any] = {}
        if plan.template_revision_id is not None:
            revision = await revision_of(transaction.session, transaction.tenant_id, plan.template_revision_id)
            schema = revision.content.get("parameters") or {}
        plan.parameters = stored_parameters(command.parameters, schema, dependencies, transaction.tenant_id)
    # What was worked out for the plan as it was says nothing about the plan as it is.
    plan.preview = plan.preview_hash = plan.diagnostics = plan.dependencies = plan.resources = plan.policy_results = (
        None
    )
    await upstream.forget_read(transaction, plan)
    # Nor does what was approved: what comes of it is another round, even if it should be the same.
    plan.review_round += 1
    plan.approval_deadline = plan.scheduled_at = plan.fire_at = None
    await watches.end(transaction, plan.id)
    await watches.forget_signals(transaction, plan.id)
    plan.updated_by = transaction.actor
    if plan.status is not PlanStatus.DRAFT:
        await launching.move_plan(transaction, plan, "edit", StatusReason.USER)
    return plan


def _edit(plan: DeploymentPlan, command: UpdatePlan) -> None:
    faults = [
        _name_fault(command.name) if command.name is not None else None,
        _constraints_fault(command.constraints),
    ]
    found = [fault for fault in faults if fault is not None] + _settings_faults(command.configuration)
    found.extend(automation.faults_of(plan.plan_type, command.configuration, clock.utc_now()))
    if command.schedule is not None:
        found.extend(_schedule_faults(plan.plan_type, command.schedule))
    condition = plan.condition if command.condition is None else command.condition
    found.extend(_condition_faults(plan.plan_type, condition, command.name or plan.plan_name))
    if found:
        raise found[0] if len(found) == 1 else Several(found)
    if command.name is not None:
        plan.plan_name = command.name.strip()
    if command.description is not None:
        plan.description = command.description
    if command.configuration is not None:
        plan.configuration = dict(command.configuration)
    if command.schedule is not None:
        plan.schedule = command.schedule.document()
    if command.condition is not None:
        plan.condition = dict(command.condition)
    if command.failure_strategy is not None:
        plan.failure_strategy = command.failure_strategy
    if command.constraints is not None:
        plan.constraints = command.constraints


async def submit(
    transaction: Transaction, principal: Principal, command: PlanAction, dependencies: Dependencies
) -> DeploymentPlan:
    """Validate and preview a draft. One with faults becomes INVALID and keeps them as diagnostics."""
    authorize(transaction, principal, Permission.WRITE)
    plan = await find(transaction, command.plan_id, command.expected_version)
    require(plan, "submit")
    await _submit(transaction, principal, plan, dependencies, must_be_valid=False)
    return plan


async def delete(
    transaction: Transaction, principal: Principal, command: PlanAction, dependencies: Dependencies
) -> DeploymentPlan:
    """Hide a plan that is not under way. What it deployed stays."""
    del dependencies
    authorize(transaction, principal, Permission.DELETE)
    plan = await find(transaction, command.plan_id, command.expected_version)
    resting = PLAN.closed | PLAN.settled | _RESTING
    if plan.status not in resting:
        message = f"a plan that is {plan.status} cannot be deleted; cancel it first"
        raise IllegalState(message, status=plan.status, path=("planId",))
    await upstream.refuse_while_depended_on(transaction, plan)
    plan.is_deleted = True
    plan.updated_by = transaction.actor
    await transaction.session.flush()
    return plan


async def find(
    transaction: Transaction, plan_id: int, expected_version: int | None, field: str = "planId", *, lock: bool = True
) -> DeploymentPlan:
    """The plan, locked against others who would change it. Raises NotFound, whose path is `field`, StaleVersion."""
    query = select(DeploymentPlan).where(
        DeploymentPlan.tenant_id == transaction.tenant_id,
        DeploymentPlan.id == plan_id,
        ~DeploymentPlan.is_deleted,
    )
    # What is heard, spawned or noted of the plan meanwhile refers to it, and must not wait: a call of its hook holds
    # the hook, for which whoever renews the hook waits with the plan in hand.
    held = query.with_for_update(key_share=True) if lock else query
    # Whoever waited for the lock may have read the plan before.
    found = await transaction.session.execute(held.execution_options(populate_existing=True))
    plan = found.scalar_one_or_none()
    if plan is None:
        message = "there is no such plan"
        raise NotFound(message, path=(field,))
    same_version(plan.version, expected_version, "plan")
    return plan


def require(plan: DeploymentPlan, event: str) -> None:
    """Raises IllegalState when the plan does not take `event` now."""
    if not PLAN.permits(plan.status, event):
        message = f"a plan that is {plan.status} does not take '{event}'"
        raise IllegalState(message, status=plan.status, path=("planId",))


async def _submit(
    transaction: Transaction,
    principal: Principal,
    plan: DeploymentPlan,
    dependencies: Dependencies,
    *,
    must_be_valid: bool,
) -> None:
    plan.submitted_by_id = principal.user_id
    await launching.move_plan(transaction, plan, "submit", StatusReason.USER)
    await passage.pass_on(transaction, principal, plan, dependencies, kept=() if must_be_valid else (Invalid,))


def _faults(command: CreatePlan) -> list[DomainError]:
    faults: list[DomainError] = []
    fault = _name_fault(command.name)
    if fault is not None:
        faults.append(fault)
    fault = None if command.stack is None else name_fault(command.stack, _NAME_LIMIT, "the name of the stack", "stack")
    if fault is not None:
        faults.append(fault)
    if command.workflow_id is None and command.template_revision_id is None:
        faults.append(Required("a plan needs a template revision, a workflow, or both", path=("templateRevisionId",)))
    faults.extend(_schedule_faults(command.type, command.schedule))
    faults.extend(_condition_faults(command.type, command.condition, command.name))
    faults.extend(automation.faults_of(command.type, command.configuration, clock.utc_now()))
    faults.extend(_settings_faults(command.configuration))
    fault = _constraints_fault(command.constraints)
    if fault is not None:
        faults.append(fault)
    if command.valid_until is not None and command.valid_until <= clock.utc_now():
        faults.append(Invalid("validUntil lies in the past", path=("validUntil",)))
    return faults


def _name_fault(name: str) -> DomainError | None:
    return name_fault(name, _NAME_LIMIT, "the name of the plan", "name")


# What each says about its part of the configuration is looked up again when the plan runs.
_READERS = (
    ApprovalPolicy.of,
    conflict_policy_of,
    patience_of,
    timeouts_of,
    verification_of,
    wants_preflight,
    width_of,
)


def _settings_faults(configuration: Mapping[str, Any] | None) -> list[DomainError]:
    faults = unknown_parts(configuration)
    for read in _READERS:
        try:
            read(configuration)
        except DomainError as fault:
            faults.append(fault)
    return faults + configuration_faults(configuration)


def _constraints_fault(constraints: Value) -> DomainError | None:
    try:
        constraints_of(constraints, ROOTS)
    except Invalid as fault:
        return fault
    return None


def _schedule_faults(kind: PlanType, schedule: Schedule | None) -> list[DomainError]:
    if kind is PlanType.SCHEDULED:
        missing = Required("a plan of type SCHEDULED needs a schedule", path=("schedule",))
        return [missing] if schedule is None else schedule.check(clock.utc_now())
    if schedule is not None:
        return [Invalid(f"a plan of type {kind} has no schedule: make it SCHEDULED", path=("schedule",))]
    return []


def _condition_faults(kind: PlanType, condition: object | None, name: str) -> list[DomainError]:
    if kind is PlanType.CONDITIONAL:
        missing = Required("a plan of type CONDITIONAL needs a condition", path=("condition",))
        return [missing] if condition is None else conditions.check(condition, name)
    if condition is not None:
        return [Invalid(f"a plan of type {kind} has no condition: make it CONDITIONAL", path=("condition",))]
    return []


def stored_parameters(
    parameters: Mapping[str, Value], schema: Mapping[str, Any], dependencies: Dependencies, tenant_id: int
) -> dict[str, Any]:
    """The parameters as given, with those sealed that the template calls secret; faults are found when planning."""
    wrapped, _ = (
        apply_schema({**schema, "required": []}, dict(parameters), ("parameters",)) if schema else (parameters, [])
    )
    given = {
        name: wrapped.get(name, value) if isinstance(wrapped, Mapping) else value for name, value in parameters.items()
    }
    sealed: dict[str, Any] = dependencies.sealer.seal(given, tenant_id)
    return sealed
