"""Keeps the recorded resource in step with what is done to it, and tells of every change."""

from __future__ import annotations

from typing import Any

from app.db import stacks
from app.db.ledger import Ledger
from app.db.sealing import Sealer
from app.db.statements import dumps
from app.domain.enums import ChangeAction, RollbackResolution
from app.domain.events import Event, EventKind
from app.domain.operations import OperationKind
from app.domain.statuses import RESOURCE, ResourceStatus
from app.engine.inheriting import MAKING
from app.engine.records import record_of
from app.engine.states import Hidden
from app.engine.work import Mode, Work
from app.providers.base import ResourceState

# The first event that the resource's status takes is the one that happens.
_BEGIN = {
    ChangeAction.CREATE: ("create", "update"),
    ChangeAction.UPDATE: ("update",),
    ChangeAction.REPLACE: ("update",),
    ChangeAction.DELETE: ("delete",),
}
_UNDO = {ChangeAction.CREATE: ("delete",)}


async def renew(ledger: Ledger, resource_id: int) -> None:
    """The resource that the job's steps are to bring about was closed by an earlier job: they get the row that lives
    in its place, or a new one.
    """
    key = {"tenant": ledger.transaction.tenant_id, "id": resource_id, "job": ledger.job_id, "plan": ledger.plan_id}
    if not ledger.simulated:
        await stacks.enter_alone(ledger.transaction, ledger.row["stack"])
    await ledger.transaction.fetch(record_of(ledger).renew, key)


async def begin(ledger: Ledger, work: Work) -> None:
    """Something is about to be done to the resource."""
    events: tuple[str, ...]
    if work.mode is Mode.UNDO:
        # What is accepted as it is is not removed.
        accepted = work.spec.get("resolution") == RollbackResolution.ACCEPT_ACTUAL
        events = ("update",) if accepted else _UNDO.get(work.action, ("update",))
    elif work.operation is OperationKind.ACT:
        events = (str(work.spec["action"]),)
    elif work.spec.get("overlay") is not None:
        events = ("scale", *_BEGIN.get(work.action, ()))
    else:
        events = _BEGIN.get(work.action, ())
    await _move(ledger, work, events)


async def settle(
    ledger: Ledger,
    work: Work,
    state: ResourceState,
    hidden: Hidden,
    sealer: Sealer,
    connection: str | None = None,
) -> None:
    """The resource is as `state` says; that is recorded as a new revision."""
    tenant_id = work.tenant_id
    document = dumps(sealer.seal(hidden.properties(state), tenant_id))
    outputs = dumps(sealer.seal(hidden.outputs(state.outputs), tenant_id))
    common: dict[str, Any] = {"tenant": tenant_id, "id": work.resource_id, "properties": document, "outputs": outputs}
    fetch, record = ledger.transaction.fetch_one, record_of(ledger)
    number = await fetch(
        record.applied,
        {
            **common,
            "private": dumps(state.private),
            "external": state.id,
            "state_version": state.version,
            "plan": work.plan_id,
            "depends": work.spec.get("dependsOnResources") if work.mode is not Mode.UNDO else None,
            "connection": connection,
        },
    )
    if record.revision is not None:
        await fetch(record.revision, {**common, "job": work.job_id, "number": number["revision"] if number else 0})
    await _move(ledger, work, ("ok", "observed"))


async def gone(ledger: Ledger, work: Work) -> None:
    """The resource does not exist any more."""
    # What vanished while it was being made or changed was never there for anybody.
    await _move(ledger, work, ("vanished", "ok", "observed_absent", "abandon"))


async def detach(ledger: Ledger, work: Work) -> None:
    """The resource is no longer ours; it goes on existing."""
    await _move(ledger, work, ("detach",))


async def rest(ledger: Ledger, work: Work) -> None:
    """Nothing about the resource has changed."""
    await _move(ledger, work, ("ok", "observed"))


async def revive(ledger: Ledger, work: Work) -> int:
    """A deleted resource was made again: it gets a row of its own, which is returned."""
    key = {"tenant": work.tenant_id, "id": work.resource_id, "plan": work.plan_id}
    row = await ledger.transaction.fetch_one(record_of(ledger).revive, key)
    if row is None:
        message = f"the resource {work.resource_id} has no row"
        raise LookupError(message)
    return int(row["id"])


async def fail(ledger: Ledger, work: Work) -> None:
    """What was to be done to the resource failed for good; of what was to be made there may be more than is known."""
    await _move(ledger, work, ("fail", "observed_broken"), doubt=work.action in MAKING)


async def lose(ledger: Ledger, work: Work) -> None:
    """Nobody knows what became of the resource."""
    await _move(ledger, work, ("lost",), doubt=True)


async def _move(ledger: Ledger, work: Work, events: tuple[str, ...], *, doubt: bool = False) -> None:
    if work.resource_id is None:
        return
    key = {"tenant": work.tenant_id, "id": work.resource_id}
    fetch, record = ledger.transaction.fetch_one, record_of(ledger)
    row = await fetch(record.read, key)
    if row is None:
        return
    status = ResourceStatus(row["status"])
    event = next((name for name in events if RESOURCE.permits(status, name)), None)
    if event is None:
        return
    target = RESOURCE.after(status, event)
    await fetch(
        record.status,
        {
            **key,
            "status": target.value,
            "gone": target is ResourceStatus.DELETED,
            "settled": target is ResourceStatus.ACTIVE or target in RESOURCE.closed,
            "doubt": work.effect_of if doubt else None,
            "actor": ledger.transaction.actor,
        },
    )
    ledger.event(
        Event(
            EventKind.RESOURCE_CHANGED,
            {
                "resourceId": row["resource_id"],
                "key": work.resource_key,
                "previous": status.value,
                "status": target.value,
                "drift": "NOT_CHECKED" if target in RESOURCE.closed else row["drift_status"],
            },
        )
    )
