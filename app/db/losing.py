"""Resources of which nobody knows what became of them, because nobody waits for the step that works on them."""

from __future__ import annotations

from app.db.ledger import Ledger
from app.db.statements import Statement
from app.domain.events import Event, EventKind
from app.domain.statuses import RESOURCE, ResourceStatus

_LOSE = Statement(
    "WITH was AS (SELECT r.id, r.resource_key, r.status FROM cloud_resource r JOIN step_run s"
    " ON s.tenant_id = r.tenant_id AND s.resource_id = r.id WHERE s.tenant_id = :tenant AND s.id = :id"
    " AND r.status IN ('CREATING', 'UPDATING', 'DELETING') FOR UPDATE OF r)"
    " UPDATE cloud_resource r SET status = 'UNKNOWN', version = version + 1, updated_at = now() FROM was"
    " WHERE r.tenant_id = :tenant AND r.id = was.id RETURNING r.id, was.resource_key, was.status"
)


async def lose(ledger: Ledger, step_id: int) -> None:
    """The resource of the step, if it has one that is being changed, is UNKNOWN; a simulation has none of its own."""
    if ledger.simulated:
        return
    lost = await ledger.transaction.fetch_one(_LOSE, {"tenant": ledger.transaction.tenant_id, "id": step_id})
    if lost is not None:
        after = RESOURCE.after(ResourceStatus(lost["status"]), "lost")
        data = {"resourceId": lost["id"], "key": lost["resource_key"], "previous": lost["status"]}
        ledger.event(Event(EventKind.RESOURCE_CHANGED, {**data, "status": after.value, "drift": "NOT_CHECKED"}))
