"""Previews: what a plan would do, without storing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.auth.principal import Principal
from app.domain.enums import Permission
from app.domain.errors import Diagnostic, DomainError, Forbidden, Invalid, Severity
from app.domain.planning import Deployment
from app.domain.policies import Finding
from app.domain.values import Value
from app.services.dependencies import Dependencies
from app.services.judging import Proposal, judged
from app.services.planning import Intention, deployment_of


@dataclass(frozen=True, slots=True)
class PreviewPlan:
    """What to preview. `stack` defaults to the name that a plan would have by default."""

    workflow_id: int | None = None
    template_revision_id: int | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)
    stack: str = "preview"


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
    intention = Intention(
        tenant_id=tenant_id,
        tenant_slug=principal.tenant_slug,
        plan_name=command.stack,
        stack=command.stack,
        workflow_id=command.workflow_id,
        template_revision_id=command.template_revision_id,
        parameters=command.parameters,
    )
    proposal = Proposal(
        name=command.stack,
        stack=command.stack,
        author_id=principal.user_id,
        workflow_id=command.workflow_id,
        template_revision_id=command.template_revision_id,
    )
    try:
        deployment = await judged(session, tenant_id, proposal, await deployment_of(session, intention, dependencies))
    except Invalid as error:
        return PreviewOutcome(None, None, diagnostics_of(error))
    return PreviewOutcome(
        stamped(deployment), deployment.graph_document(), list(deployment.diagnostics), deployment.findings
    )


def diagnostics_of(error: DomainError) -> list[Diagnostic]:
    """The faults that an error carries; itself where it carries none."""
    if isinstance(error, Invalid) and error.diagnostics:
        return list(error.diagnostics)
    return [Diagnostic(Severity.ERROR, error.code, error.message, error.path)]
