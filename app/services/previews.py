"""Previews: what a plan would do, without storing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.auth.principal import Principal
from app.domain.definitions.constraints import constraints_of
from app.domain.definitions.template import ROOTS
from app.domain.enums import Permission
from app.domain.errors import Diagnostic, DomainError, Forbidden, Invalid, Severity
from app.domain.planning import Deployment
from app.domain.policies import Finding
from app.domain.values import Value
from app.services.dependencies import Dependencies
from app.services.judging import Proposal, judged
from app.services.planning import Intention, deployment_of, intention_of, plan_of

_STACK = "preview"


@dataclass(frozen=True, slots=True)
class PreviewPlan:
    """What to preview. With `against_plan_id`, what is None is as that plan has it."""

    workflow_id: int | None = None
    template_revision_id: int | None = None
    parameters: Mapping[str, Value] | None = None
    stack: str | None = None
    against_plan_id: int | None = None
    constraints: Value = None
    # Whether drift that was found counts.
    refresh: bool = True


@dataclass(frozen=True, slots=True)
class PreviewOutcome:
    """The preview and its graph as shown, or the faults that prevent one."""

    preview: dict[str, Any] | None
    graph: dict[str, Any] | None
    diagnostics: list[Diagnostic]
    findings: Sequence[Finding] = ()


def stamped(deployment: Deployment) -> dict[str, Any]:
    """The preview of a deployment as stored and shown, with the time it was computed at."""
    return {**deployment.preview(), "computedAt": clock.utc_now().isoformat()}


async def preview(
    session: AsyncSession,
    tenant_id: int,
    principal: Principal,
    command: PreviewPlan,
    dependencies: Dependencies,
) -> PreviewOutcome:
    """Compute a preview. Faults of the documents come as diagnostics; raises Forbidden and NotFound."""
    if not principal.may(Permission.READ):
        message = "previewing needs READ"
        raise Forbidden(message, required=Permission.READ)
    try:
        intention, proposal = await _meant(session, tenant_id, principal, command, dependencies)
        deployment = await judged(session, tenant_id, proposal, await deployment_of(session, intention, dependencies))
    except Invalid as error:
        return PreviewOutcome(None, None, diagnostics_of(error))
    return PreviewOutcome(
        stamped(deployment), deployment.graph_document(), list(deployment.diagnostics), deployment.findings
    )


async def _meant(
    session: AsyncSession, tenant_id: int, principal: Principal, command: PreviewPlan, dependencies: Dependencies
) -> tuple[Intention, Proposal]:
    """What is to be worked out, and what policies read of it. Raises NotFound, and Invalid for wrong constraints."""
    stack = command.stack or _STACK
    intention = Intention(
        tenant_id=tenant_id,
        tenant_slug=principal.tenant_slug,
        plan_name=stack,
        stack=stack,
        workflow_id=None,
        template_revision_id=None,
        parameters={},
    )
    proposal = Proposal(name=stack, stack=stack, author_id=principal.user_id)
    if command.against_plan_id is not None:
        plan = await plan_of(session, tenant_id, command.against_plan_id, "againstPlanId")
        intention, proposal = intention_of(plan, principal.tenant_slug, dependencies), Proposal.of(plan)
    constraints_of(command.constraints, ROOTS)
    definitions = {
        name: given
        for name in ("workflow_id", "template_revision_id", "stack")
        if (given := getattr(command, name)) is not None
    }
    others = {name: given for name in ("parameters", "constraints") if (given := getattr(command, name)) is not None}
    return replace(intention, **definitions, **others, refresh=command.refresh), replace(proposal, **definitions)


def diagnostics_of(error: DomainError) -> list[Diagnostic]:
    """The faults that an error carries; itself where it carries none."""
    if isinstance(error, Invalid) and error.diagnostics:
        return list(error.diagnostics)
    return [Diagnostic(Severity.ERROR, error.code, error.message, error.path)]
