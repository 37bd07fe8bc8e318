"""Undoing a plan that succeeded: a new plan that restores what was, previewed and approved like any other.

What was comes from the journal of effects and not from a template: the state of each resource before the plan first
touched it. Only what is still as the plan left it can be put back; who changed it since would be overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select

from app.auth.principal import Principal
from app.db import journal
from app.db.following import plan_event
from app.db.models import CloudResource, DeploymentPlan
from app.db.uow import Transaction
from app.domain.definitions.template import ResourceDefinition
from app.domain.diffing import same
from app.domain.enums import Permission, PlanType, RollbackScope, StatusReason
from app.domain.errors import Conflict, IllegalState, Invalid
from app.domain.events import Stream
from app.domain.planning.restoring import Target, literal
from app.domain.statuses import RESOURCE, PlanStatus, ResourceStatus
from app.domain.values import reveal
from app.services import launching
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies
from app.services.plans import passage
from app.services.plans.authoring import find
from app.services.plans.histories import History, histories_of
from app.services.plans.scopes import RollbackPlan

REVERTIBLE = frozenset({PlanStatus.SUCCEEDED, PlanStatus.PARTIALLY_SUCCEEDED})
# What a plan says about how it is to be agreed to holds for its undoing as well.
_TAKEN_OVER = ("approvals", "pause", "rollback")
_NAME_LIMIT = 200
_SUFFIX = " (rollback)"


async def create_rollback_plan(
    transaction: Transaction, principal: Principal, command: RollbackPlan, dependencies: Dependencies
) -> DeploymentPlan:
    """Make the plan that takes `command.plan_id` back, and submit it.

    Raises IllegalState for a plan that is not done, Conflict where others have built on what it did or nothing of it
    can be taken back.
    """
    authorize(transaction, principal, Permission.ROLLBACK)
    done = await find(transaction, command.plan_id, None)
    if done.status not in REVERTIBLE:
        possible = " or ".join(sorted(REVERTIBLE))
        message = f"only a plan that is {possible} is undone by a new plan; this one is {done.status}"
        raise IllegalState(message, status=done.status, path=("planId",))
    if command.scope is not RollbackScope.JOB or command.checkpoint is not None:
        message = "a plan that succeeded is undone as a whole: use scope JOB"
        raise Invalid(message, path=("scope",))
    target = await _target(transaction, done, dependencies)
    undo = DeploymentPlan(
        tenant_id=transaction.tenant_id,
        user_id=principal.user_id,
        plan_name=done.plan_name[: _NAME_LIMIT - len(_SUFFIX)] + _SUFFIX,
        description=f"Takes back what '{done.plan_name}' has done.",
        plan_type=PlanType.MANUAL,
        stack=done.stack,
        configuration={name: value for name, value in (done.configuration or {}).items() if name in _TAKEN_OVER},
        parameters={},
        target=dependencies.sealer.seal(target.document(), transaction.tenant_id),
        rollback_of_id=done.id,
        submitted_by_id=principal.user_id,
        created_by=transaction.actor,
        updated_by=transaction.actor,
    )
    transaction.session.add(undo)
    await transaction.session.flush()
    first = plan_event(undo.id, PlanStatus.DRAFT, PlanStatus.DRAFT, StatusReason.NONE)
    first.data["previous"] = None
    await journal.append(transaction, Stream.PLAN, undo.id, [first])
    await launching.move_plan(transaction, undo, "submit", StatusReason.USER)
    await passage.pass_on(transaction, principal, undo, dependencies, kept=())
    return undo


async def _target(transaction: Transaction, plan: DeploymentPlan, dependencies: Dependencies) -> Target:
    histories, notes = await histories_of(transaction, plan, dependencies)
    live = await _live(transaction, plan.stack, histories)

    def opened(stored: Any) -> Any:
        return dependencies.sealer.open(stored, transaction.tenant_id)

    overtaken = sorted(
        key
        for key, history in histories.items()
        if _was_let_go(history) or not _is_as_left(history.after, live.get(key), opened)
    )
    if overtaken:
        message = (
            f"{', '.join(overtaken)} {'is' if len(overtaken) == 1 else 'are'} no longer recorded as this plan left"
            f" {'it' if len(overtaken) == 1 else 'them'}: another plan has changed it since, or somebody has accepted"
            " its drift or let go of it"
        )
        raise Conflict(message, path=("planId",))
    present = {
        key: _definition(key, history, opened)
        for key, history in sorted(histories.items())
        if history.before is not None
    }
    absent = tuple(sorted(key for key, history in histories.items() if history.before is None and key in live))
    if not present and not absent:
        said = "; ".join(note.message for note in notes[:3])
        message = f"there is nothing to undo: {said or 'the plan changed nothing'}"
        raise Conflict(message, path=("planId",))
    return Target(present, absent, tuple(notes))


async def _live(transaction: Transaction, stack: str, keys: Iterable[str]) -> dict[str, CloudResource]:
    found = await transaction.session.execute(
        select(CloudResource).where(
            CloudResource.tenant_id == transaction.tenant_id,
            CloudResource.stack == stack,
            CloudResource.resource_key.in_(list(keys)),
            CloudResource.status.not_in(RESOURCE.closed),
        )
    )
    return {row.resource_key: row for row in found.scalars()}


def _was_let_go(history: History) -> bool:
    """Whether somebody has detached what the plan left, who may have imported it again: it is to stay."""
    return history.after is not None and history.row.status is ResourceStatus.DETACHED


def _is_as_left(after: Mapping[str, Any] | None, live: CloudResource | None, opened: Any) -> bool:
    """Whether what is recorded of a resource now is what the plan left of it."""
    if after is None or live is None:
        return after is None and live is None
    return live.external_id == after["id"] and same(
        reveal(opened(live.applied or {})), reveal(opened(after["properties"]))
    )


def _definition(key: str, history: History, opened: Any) -> ResourceDefinition:
    row, before = history.row, history.before or {}
    return ResourceDefinition(
        key=key,
        type=row.type,
        connection=row.connection,
        properties=literal(opened(before["properties"])),
        depends_on=history.needs,
        retain=row.retain,
        prevent_destroy=row.prevent_destroy,
    )
