"""Rehearsals: a plan is carried out by the engine, and nothing of it is so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from app.auth.principal import Principal
from app.db.models import DeploymentPlan, OrchestrationJob, SimulatedResource
from app.db.statements import Statement
from app.db.uow import Transaction
from app.domain.enums import ChangeAction, DriftStatus
from app.domain.errors import IllegalState, StalePreview
from app.domain.operations import OperationKind
from app.domain.planning import Deployment, PlannedStep
from app.domain.simulation import Simulation
from app.domain.statuses import PlanStatus, ResourceStatus
from app.services import launching, limits, previews
from app.services.dependencies import Dependencies
from app.services.plans.passage import job_context, judged_deployment

# A plan that might still be executed, or begun anew. What one under way would do is half done already.
_OPEN = frozenset(
    {
        PlanStatus.DRAFT,
        PlanStatus.PENDING_APPROVAL,
        PlanStatus.READY,
        PlanStatus.SCHEDULED,
        PlanStatus.WAITING,
        PlanStatus.FAILED,
        PlanStatus.PARTIALLY_SUCCEEDED,
        PlanStatus.ROLLED_BACK,
        PlanStatus.CANCELLED,
    }
)
# The stack as it is recorded in this moment, whatever another job is doing to it.
_COPY = Statement(
    "INSERT INTO simulated_resource (tenant_id, job_id, resource_key, resource_id, status, drift_status, drift,"
    " external_id, applied, outputs, private, state_version)"
    " SELECT tenant_id, :job, resource_key, id, status, drift_status, drift, external_id, applied, outputs, private,"
    " state_version FROM cloud_resource WHERE tenant_id = :tenant AND stack = :stack"
    " AND status NOT IN ('DELETED', 'DETACHED') RETURNING resource_key"
)


async def simulate(
    transaction: Transaction,
    principal: Principal,
    plan: DeploymentPlan,
    expected_preview_hash: str | None,
    fail_at: Sequence[str],
    dependencies: Dependencies,
) -> OrchestrationJob:
    """Make and start a simulated job. The plan, which need not be locked, stays as it is.

    Raises IllegalState, QuotaExceeded, StalePreview, UnknownReference for a step in `fail_at` that there is not, and
    what working the plan out raises.
    """
    if plan.status not in _OPEN:
        message = f"a plan that is {plan.status} cannot be simulated"
        raise IllegalState(message, status=plan.status, path=("planId",))
    await limits.refuse_more_simulations(transaction)
    deployment = await judged_deployment(transaction, principal, plan, dependencies)
    preview = previews.stamped(deployment)
    if expected_preview_hash not in (None, preview["hash"]):
        message = "what the plan would do has changed since it was reviewed"
        raise StalePreview(message, current=preview, path=("expectedPreviewHash",))
    if deployment.is_empty:
        message = "there is nothing to simulate: the stack is as the plan wants it"
        raise IllegalState(message, status=plan.status, path=("planId",))
    unknown = [found.name for found in deployment.upstream if not found.is_known]
    if unknown:
        message = f"it cannot be simulated before {', '.join(unknown)} has succeeded: what that puts out is not known"
        raise IllegalState(message, status=plan.status, path=("planId",))
    simulation = Simulation.planned(fail_at, _keys(deployment, dependencies))
    context = await job_context(transaction, principal, plan)
    job = launching.forward_job(transaction, plan, deployment, dependencies, context)
    job.simulated = True
    job.job_name = f"{plan.plan_name} simulation"
    configuration = job.configuration or {}
    # A pause is over as soon as it is noticed, and then its deadline has passed.
    pause = {**configuration["pause"], "seconds": 0.0}
    job.configuration = {**configuration, "pause": pause, **simulation.document()}
    transaction.session.add(job)
    await transaction.session.flush()
    await _record(transaction, plan, job, deployment.steps)
    await launching.add_steps(transaction, plan, job, deployment, dependencies, {}, {}, {})
    await launching.announce(transaction, job)
    return job


async def _record(
    transaction: Transaction, plan: DeploymentPlan, job: OrchestrationJob, steps: Sequence[PlannedStep]
) -> None:
    """Give the job a record of its own: the stack as it is, and what the steps are to bring about."""
    key = {"tenant": transaction.tenant_id, "job": job.id, "stack": plan.stack}
    known = {row["resource_key"] for row in await transaction.fetch(_COPY, key)}
    made = (step.resource_key for step in steps if step.operation is OperationKind.APPLY)
    transaction.session.add_all(
        SimulatedResource(
            tenant_id=transaction.tenant_id,
            job_id=job.id,
            resource_key=name,
            status=ResourceStatus.PLANNED,
            drift_status=DriftStatus.NOT_CHECKED,
        )
        for name in dict.fromkeys(made)
        if name is not None and name not in known
    )


def _keys(deployment: Deployment, dependencies: Dependencies) -> Iterator[str]:
    """The keys of the steps that the job will have, those included that remove what is replaced."""
    for step in deployment.steps:
        yield step.key
        replaces = step.operation is OperationKind.APPLY and step.change is ChangeAction.REPLACE
        if replaces and not dependencies.catalogue.deletes_first(step.spec["type"]):
            yield f"retire:{step.key}"
