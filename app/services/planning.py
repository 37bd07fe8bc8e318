"""Gathers what a plan is computed from, and computes it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import CloudResource, DeploymentPlan, ResourceTemplate, TemplateRevision, Workflow
from app.domain.definitions.template import parse_template
from app.domain.definitions.workflow import parse_workflow
from app.domain.drifting import Deviation, as_found
from app.domain.enums import DefinitionStatus, DriftStatus
from app.domain.errors import IllegalState, NotFound
from app.domain.planning import Deployment, PlanningInput, RecordedResource, plan
from app.domain.planning.preflighting import wants_preflight
from app.domain.planning.restoring import Target
from app.domain.statuses import RESOURCE, ResourceStatus
from app.domain.upstream import mentions
from app.domain.values import Value
from app.domain.verification import Verification, verification_of
from app.services import upstream
from app.services.dependencies import Dependencies
from app.services.reaching import with_missing_connections

_SETTLED = frozenset({ResourceStatus.ACTIVE})


@dataclass(frozen=True, slots=True)
class Intention:
    """What somebody wants to deploy: which definitions, with which parameters, on which stack."""

    tenant_id: int
    tenant_slug: str
    plan_name: str
    stack: str
    workflow_id: int | None
    template_revision_id: int | None
    parameters: Mapping[str, Value]
    verification: Verification | None = None
    preflight: bool = True
    constraints: Sequence[Value] = ()
    # Stored and opened; app.domain.planning.restoring gives its shape.
    target: Mapping[str, Any] | None = None
    # The content of a template that no revision has yet.
    content: Mapping[str, Any] | None = None
    # Whether everything that the stack has is to go.
    teardown: bool = False
    # Keys of the resources that alone are brought about, with what they need; None: all.
    only: frozenset[str] | None = None
    # Whether drift that was found counts, or only what was last applied.
    refresh: bool = True
    # The plan that wants it, where there is one already.
    plan_id: int | None = None


def intention_of(plan: DeploymentPlan, tenant_slug: str, dependencies: Dependencies) -> Intention:
    """What the plan wants."""
    return Intention(
        tenant_id=plan.tenant_id,
        tenant_slug=tenant_slug,
        plan_name=plan.plan_name,
        stack=plan.stack,
        workflow_id=plan.workflow_id,
        template_revision_id=plan.template_revision_id,
        parameters=dependencies.sealer.open(plan.parameters or {}, plan.tenant_id),
        verification=verification_of(plan.configuration),
        preflight=wants_preflight(plan.configuration),
        constraints=plan.constraints or (),
        target=None if plan.target is None else dependencies.sealer.open(plan.target, plan.tenant_id),
        teardown=plan.teardown,
        plan_id=plan.id,
        only=None if plan.only_keys is None else frozenset(plan.only_keys),
    )


async def plan_of(session: AsyncSession, tenant_id: int, plan_id: int, field: str) -> DeploymentPlan:
    """A plan of the tenant, to look at. Raises NotFound, whose path is `field`."""
    found = await session.execute(
        select(DeploymentPlan).where(
            DeploymentPlan.tenant_id == tenant_id, DeploymentPlan.id == plan_id, ~DeploymentPlan.is_deleted
        )
    )
    plan = found.scalar_one_or_none()
    if plan is None:
        message = "there is no such plan"
        raise NotFound(message, path=(field,))
    return plan


async def revision_of(session: AsyncSession, tenant_id: int, revision_id: int) -> TemplateRevision:
    """A published revision of the tenant's own or of a public template. Raises NotFound, IllegalState."""
    found = await session.execute(
        select(TemplateRevision)
        .join(
            ResourceTemplate,
            (ResourceTemplate.tenant_id == TemplateRevision.tenant_id)
            & (ResourceTemplate.id == TemplateRevision.template_id),
        )
        .where(
            TemplateRevision.id == revision_id,
            or_(TemplateRevision.tenant_id == tenant_id, TemplateRevision.is_public),
            ~ResourceTemplate.is_deleted,
        )
    )
    revision = found.scalar_one_or_none()
    if revision is None:
        message = "there is no such template revision"
        raise NotFound(message, path=("templateRevisionId",))
    if revision.status in (DefinitionStatus.DRAFT, DefinitionStatus.ARCHIVED):
        message = f"the template revision is {revision.status}; only a published one can be deployed"
        raise IllegalState(message, status=revision.status, path=("templateRevisionId",))
    return revision


async def workflow_of(session: AsyncSession, tenant_id: int, workflow_id: int) -> Workflow:
    """An active workflow of the tenant. Raises NotFound, IllegalState."""
    found = await session.execute(
        select(Workflow).where(Workflow.tenant_id == tenant_id, Workflow.id == workflow_id, ~Workflow.is_deleted)
    )
    workflow = found.scalar_one_or_none()
    if workflow is None:
        message = "there is no such workflow"
        raise NotFound(message, path=("workflowId",))
    if not workflow.is_active or workflow.status is DefinitionStatus.ARCHIVED:
        message = f"the workflow '{workflow.workflow_name}' is not active"
        raise IllegalState(message, status=workflow.status, path=("workflowId",))
    return workflow


async def recorded_resources(
    session: AsyncSession, dependencies: Dependencies, tenant_id: int, stack: str, *, refresh: bool = True
) -> tuple[RecordedResource, ...]:
    """What is known of the live resources of the stack; without `refresh`, as if nothing had drifted."""
    found = await session.execute(
        select(CloudResource)
        .where(
            CloudResource.tenant_id == tenant_id,
            CloudResource.stack == stack,
            CloudResource.status.not_in([*RESOURCE.closed, ResourceStatus.PLANNED, ResourceStatus.IMPORTING]),
        )
        .order_by(CloudResource.resource_key)
    )
    return tuple(_recorded(row, dependencies, refresh) for row in found.scalars() if _may_exist(row))


def _may_exist(row: CloudResource) -> bool:
    """Whether there is, or may be, something of it outside. What a job is making right now is that job's."""
    lost = row.in_doubt_step_id is not None and row.status in (ResourceStatus.UNKNOWN, ResourceStatus.FAILED)
    return row.external_id is not None or lost


def _recorded(row: CloudResource, dependencies: Dependencies, refresh: bool) -> RecordedResource:
    seal = dependencies.sealer
    applied = seal.open(row.applied or {}, row.tenant_id)
    drift = tuple(
        Deviation.from_document(seal.open(found, row.tenant_id)) for found in (row.drift or () if refresh else ())
    )
    return RecordedResource(
        key=row.resource_key,
        type=row.type,
        properties=as_found(applied, drift),
        drift=drift,
        missing=refresh and row.drift_status is DriftStatus.MISSING,
        outputs=seal.open(row.outputs or {}, row.tenant_id),
        external_id=row.external_id,
        resource_id=row.id,
        connection=row.connection,
        depends_on=tuple(row.depends_on),
        retain=row.retain,
        prevent_destroy=row.prevent_destroy,
        settled=row.status in _SETTLED,
        in_doubt=row.external_id is None,
    )


async def deployment_of(session: AsyncSession, intention: Intention, dependencies: Dependencies) -> Deployment:
    """Work the intention out against what is recorded now. Raises Invalid and its kin with every fault."""
    tenant_id = intention.tenant_id
    template: Any = parse_template({"resources": {}}) if intention.teardown else None
    workflow: Any = None
    read = [*mentions(list(intention.constraints), ("constraints",))]
    if intention.template_revision_id is not None:
        revision = await revision_of(session, tenant_id, intention.template_revision_id)
        template = parse_template(revision.content, dependencies.catalogue)
        read += mentions(revision.content, ("content",))
    elif intention.content is not None:
        template = parse_template(intention.content, dependencies.catalogue, path=("content",))
        read += mentions(intention.content, ("content",))
    if intention.workflow_id is not None:
        row = await workflow_of(session, tenant_id, intention.workflow_id)
        workflow = parse_workflow(row.definition, dependencies.catalogue)
        read += mentions(row.definition, ("definition",))
    # A large plan takes its time, and others shall have theirs meanwhile.
    deployment = await asyncio.to_thread(
        plan,
        PlanningInput(
            catalogue=dependencies.catalogue,
            stack=intention.stack,
            plan_name=intention.plan_name,
            tenant_slug=intention.tenant_slug,
            template=template,
            workflow=workflow,
            parameters=intention.parameters,
            recorded=await recorded_resources(
                session, dependencies, tenant_id, intention.stack, refresh=intention.refresh
            ),
            only=intention.only,
            verification=intention.verification,
            preflight=intention.preflight,
            constraints=tuple(intention.constraints),
            upstream=await upstream.read_by(
                session, tenant_id, intention.plan_id, intention.plan_name, read, dependencies
            ),
            target=None if intention.target is None else Target.of(intention.target),
        ),
    )
    return await with_missing_connections(session, tenant_id, deployment)
