"""Keeps the recorded resource in step with what is done to it, and tells of every change."""

from __future__ import annotations

from typing import Any

from app.db.ledger import Ledger
from app.db.sealing import Sealer
from app.db.statements import Statement, dumps
from app.domain.enums import ChangeAction
from app.domain.events import Event, EventKind
from app.domain.statuses import RESOURCE, ResourceStatus
from app.engine.states import Hidden
from app.engine.work import Mode, Work
from app.providers.base import ResourceState

# The first event that the resource's status takes is the one that happens.
_BEGIN = {
    ChangeAction.CREATE: ("create", "update"),
    ChangeAction.UPDATE: ("update",),
    ChangeAction.REPLACE: ("update",),
    ChangeAction.DELETE: ("delete",),
    ChangeAction.RUN: ("backup",),
}
_UNDO = {ChangeAction.CREATE: ("delete",)}

_READ = Statement("SELECT status, drift_status FROM cloud_resource WHERE tenant_id = :tenant AND id = :id FOR UPDATE")
_STATUS = Statement(
    "UPDATE cloud_resource SET status = :status, version = version + 1, updated_at = now(), updated_by = :actor,"
    " is_deleted = :gone WHERE tenant_id = :tenant AND id = :id"
)
_APPLIED = Statement(
    "UPDATE cloud_resource SET desired = :properties::jsonb, applied = :properties::jsonb,"
    " observed = :properties::jsonb, outputs = :outputs::jsonb, private = :private::jsonb,"
    " external_id = :external, state_version = :state_version, drift_status = 'IN_SYNC',"
    " drift_checked_at = clock_timestamp(), owner_plan_id = :plan, revision = revision + 1,"
    " drift = NULL, observe_error = NULL, observe_failures = 0, revert_at = NULL,"
    # The plan that was the last to change a resource says how often it is looked at.
    " observe_at = clock_timestamp() + (SELECT (p.configuration->'drift'->>'every')::interval FROM deployment_plan p"
    "   WHERE p.tenant_id = :tenant AND p.id = :plan),"
    " depends_on = coalesce(:depends::text[], depends_on), connection = coalesce(:connection, connection)"
    " WHERE tenant_id = :tenant AND id = :id RETURNING revision"
)
_REVISION = Statement(
    "INSERT INTO resource_revision (tenant_id, resource_id, job_id, number, properties, outputs)"
    " VALUES (:tenant, :id, :job, :number, :properties::jsonb, :outputs::jsonb)"
)


_REVIVE = Statement(
    "INSERT INTO cloud_resource (tenant_id, stack, resource_key, name, type, provider, connection, region, status,"
    " depends_on, retain, prevent_destroy, owner_plan_id, created_by)"
    " SELECT tenant_id, stack, resource_key, name, type, provider, connection, region, 'CREATING', depends_on, retain,"
    " prevent_destroy, :plan, created_by FROM cloud_resource WHERE tenant_id = :tenant AND id = :id RETURNING id"
)
# A plan that waited for its stack was worked out when the resource still existed, or was still to be made by another.
_RENEW = Statement(
    "WITH gone AS (SELECT * FROM cloud_resource WHERE tenant_id = :tenant AND id = :id),"
    " live AS (SELECT l.id FROM cloud_resource l, gone g WHERE l.tenant_id = :tenant AND l.stack = g.stack"
    "   AND l.resource_key = g.resource_key AND l.status NOT IN ('DELETED', 'DETACHED') ORDER BY l.id LIMIT 1),"
    " made AS (INSERT INTO cloud_resource (tenant_id, stack, resource_key, name, type, provider, connection, region,"
    " status, depends_on, retain, prevent_destroy, owner_plan_id, created_by)"
    " SELECT tenant_id, stack, resource_key, name, type, provider, connection, region, 'PLANNED', '{}', retain,"
    " prevent_destroy, :plan, created_by FROM gone WHERE NOT EXISTS (SELECT 1 FROM live) RETURNING id),"
    " chosen AS (SELECT id FROM live UNION ALL SELECT id FROM made),"
    " linked AS (INSERT INTO plan_resource (tenant_id, plan_id, resource_id) SELECT :tenant, :plan, id FROM chosen"
    " ON CONFLICT DO NOTHING)"
    " UPDATE step_run s SET resource_id = chosen.id FROM chosen"
    " WHERE s.tenant_id = :tenant AND s.job_id = :job AND s.resource_id = :id"
)


async def renew(ledger: Ledger, resource_id: int) -> None:
    """The resource that the job's steps are to bring about was closed by an earlier job: they get the row that lives
    in its place, or a new one.
    """
    key = {"tenant": ledger.transaction.tenant_id, "id": resource_id, "job": ledger.job_id, "plan": ledger.plan_id}
    await ledger.transaction.fetch(_RENEW, key)


async def begin(ledger: Ledger, work: Work) -> None:
    """Something is about to be done to the resource."""
    events = _UNDO.get(work.action, ("update",)) if work.mode is Mode.UNDO else _BEGIN.get(work.action, ())
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
    fetch = ledger.transaction.fetch_one
    number = await fetch(
        _APPLIED,
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
    await fetch(_REVISION, {**common, "job": work.job_id, "number": number["revision"] if number else 0})
    await _move(ledger, work, ("ok", "observed"))


async def gone(ledger: Ledger, work: Work) -> None:
    """The resource does not exist any more."""
    await _move(ledger, work, ("ok", "observed_absent", "abandon", "vanished"), deleted=True)


async def detach(ledger: Ledger, work: Work) -> None:
    """The resource is no longer ours; it goes on existing."""
    await _move(ledger, work, ("detach",))


async def rest(ledger: Ledger, work: Work) -> None:
    """Nothing about the resource has changed."""
    await _move(ledger, work, ("ok", "observed"))


async def revive(ledger: Ledger, work: Work) -> int:
    """A deleted resource was made again: it gets a row of its own, which is returned."""
    key = {"tenant": work.tenant_id, "id": work.resource_id, "plan": work.plan_id}
    row = await ledger.transaction.fetch_one(_REVIVE, key)
    if row is None:
        message = f"the resource {work.resource_id} has no row"
        raise LookupError(message)
    return int(row["id"])


async def fail(ledger: Ledger, work: Work) -> None:
    """What was to be done to the resource failed for good."""
    await _move(ledger, work, ("fail", "observed_broken"))


async def lose(ledger: Ledger, work: Work) -> None:
    """Nobody knows what became of the resource."""
    await _move(ledger, work, ("lost",))


async def _move(ledger: Ledger, work: Work, events: tuple[str, ...], *, deleted: bool = False) -> None:
    if work.resource_id is None:
        return
    key = {"tenant": work.tenant_id, "id": work.resource_id}
    fetch = ledger.transaction.fetch_one
    row = await fetch(_READ, key)
    if row is None:
        return
    status = ResourceStatus(row["status"])
    event = next((name for name in events if RESOURCE.permits(status, name)), None)
    if deleted and event == "ok" and status is not ResourceStatus.DELETING:
        # What vanished while it was being made or changed was never there for anybody.
        event = None
        target = ResourceStatus.DELETED
    elif event is None:
        return
    else:
        target = RESOURCE.after(status, event)
    await fetch(
        _STATUS,
        {
            **key,
            "status": target.value,
            "gone": target is ResourceStatus.DELETED,
            "actor": ledger.transaction.actor,
        },
    )
    ledger.event(
        Event(
            EventKind.RESOURCE_CHANGED,
            {
                "resourceId": work.resource_id,
                "key": work.resource_key,
                "previous": status.value,
                "status": target.value,
                "drift": "NOT_CHECKED" if target in RESOURCE.closed else row["drift_status"],
            },
        )
    )
