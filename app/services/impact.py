"""What would change if a template were rolled out: a preview for every stack that was made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app import clock
from app.auth.principal import Principal
from app.db import pages
from app.db.models import DeploymentPlan, ResourceTemplate
from app.db.pages import Window
from app.domain.enums import Permission
from app.domain.errors import Diagnostic, DomainError, Forbidden, NotFound
from app.domain.statuses import PlanStatus
from app.reads import plans as reads
from app.services import previews
from app.services.dependencies import Dependencies
from app.services.planning import Intention, deployment_of, intention_of, revision_of

# What a stack is, the last plan of these that worked on it has made of it.
_DEPLOYED = (
    PlanStatus.SUCCEEDED,
    PlanStatus.PARTIALLY_SUCCEEDED,
    PlanStatus.FAILED,
    PlanStatus.ROLLBACK_FAILED,
)
_CHUNK = 20
_MOST_LOOKED_AT = 200
_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Impact:
    """What the plan's stack would go through; without a preview, why that cannot be told."""

    plan: DeploymentPlan
    cursor: str
    preview: dict[str, Any] | None
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True)
class Impacts:
    """Some of the stacks that would change. `cursor` is how far it was looked; `more` whether any are left."""

    found: tuple[Impact, ...]
    cursor: str | None
    more: bool


async def impact_of(
    session: AsyncSession,
    principal: Principal,
    template_id: int,
    revision_id: int | None,
    window: Window,
    dependencies: Dependencies,
) -> Impacts | None:
    """Look at the stacks made from the template, newest first, with a revision of it or else its draft.

    Looks for a few seconds and at a bounded number of stacks; whoever wants more goes on from the cursor. None for the
    draft of a template of somebody else. Raises Forbidden, NotFound, and Invalid or LimitExceeded for a window that
    makes no sense.
    """
    if not principal.may(Permission.READ):
        message = "previewing needs READ"
        raise Forbidden(message, required=Permission.READ)
    change = await _change(session, principal, template_id, revision_id)
    if change is None:
        return None
    wanted, until = window.size(), clock.monotonic() + _SECONDS
    order, after, looked = reads.order(), window.after, 0
    found: list[Impact] = []
    while True:
        chunk = Window(first=_CHUNK, after=after)
        page = await pages.fetch(session, _stacks(principal.tenant_id, template_id), order, chunk)
        for place, (plan, cursor) in enumerate(zip(page.rows, page.cursors, strict=True)):
            left = place + 1 < len(page.rows) or page.has_next
            impact = await _look(session, principal, plan, cursor, change, dependencies)
            after, looked = cursor, looked + 1
            if impact is not None:
                found.append(impact)
            if len(found) >= wanted or looked >= _MOST_LOOKED_AT or clock.monotonic() > until:
                return Impacts(tuple(found), after, left)
        if not page.has_next:
            return Impacts(tuple(found), after, more=False)


async def _change(
    session: AsyncSession, principal: Principal, template_id: int, revision_id: int | None
) -> Mapping[str, Any] | None:
    """What takes the place of the revision that a plan was made from; None for the draft of somebody else."""
    if revision_id is not None:
        revision = await revision_of(session, principal.tenant_id, revision_id)
        if revision.template_id != template_id:
            message = "the template has no such revision"
            raise NotFound(message, path=("revisionId",))
        return {"template_revision_id": revision.id}
    query = select(ResourceTemplate.template_content).where(
        ResourceTemplate.tenant_id == principal.tenant_id, ResourceTemplate.id == template_id
    )
    draft = (await session.execute(query)).scalar_one_or_none()
    return None if draft is None else {"template_revision_id": None, "content": draft}


def _stacks(tenant_id: int, template_id: int) -> Any:
    later = aliased(DeploymentPlan)
    overtaken = (
        select(later.id)
        .where(
            later.tenant_id == tenant_id,
            later.stack == DeploymentPlan.stack,
            later.id > DeploymentPlan.id,
            later.status.in_(_DEPLOYED),
        )
        .exists()
    )
    conditions: list[ColumnElement[bool]] = [
        DeploymentPlan.tenant_id == tenant_id,
        DeploymentPlan.template_id == template_id,
        DeploymentPlan.status.in_(_DEPLOYED),
        ~DeploymentPlan.is_deleted,
        ~overtaken,
    ]
    return select(DeploymentPlan).where(*conditions)


async def _look(
    session: AsyncSession,
    principal: Principal,
    plan: DeploymentPlan,
    cursor: str,
    change: Mapping[str, Any],
    dependencies: Dependencies,
) -> Impact | None:
    """What the change means to one stack; None where it means nothing."""
    intention: Intention = replace(intention_of(plan, principal.tenant_slug, dependencies), **change)
    try:
        deployment = await deployment_of(session, intention, dependencies)
    except DomainError as error:
        return Impact(plan, cursor, None, tuple(previews.diagnostics_of(error)))
    if deployment.is_empty:
        return None
    return Impact(plan, cursor, previews.stamped(deployment), deployment.diagnostics)
