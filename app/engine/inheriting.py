"""Effects of earlier jobs whose outcome nobody knows: whoever works on the resource next takes them over.

A creation that was cut off may have made something. The next step that is to bring the resource about, or to remove it,
goes on under the same operation id, so that the provider can tell what that operation has made, and is asked first. The
effect stays with the step that began it until the resource is where somebody wanted it.
"""

from __future__ import annotations

from dataclasses import replace

from app.db import effects
from app.db.ledger import Ledger
from app.db.sealing import Sealer
from app.db.statements import Row, Statement
from app.domain.enums import ChangeAction
from app.domain.operations import EffectState, OperationKind
from app.engine.states import unpack
from app.engine.work import Effect, Work

MAKING = frozenset({ChangeAction.CREATE, ChangeAction.REPLACE})
_TAKING = frozenset({OperationKind.APPLY, OperationKind.DELETE})
_SHARE = Statement("UPDATE step_run SET operation_id = :operation WHERE tenant_id = :tenant AND id = :id")


async def inherit(ledger: Ledger, row: Row, work: Work, sealer: Sealer) -> Work:
    """The work with what an earlier job's step has left open of the same resource, if it has."""
    step_id = row.get("in_doubt_step_id")
    if step_id is None or step_id == work.effect_of or work.operation not in _TAKING:
        return work
    tenant_id = work.tenant_id
    found = await effects.find(ledger.transaction, step_id)
    if found is None or ChangeAction(found["action"]) not in MAKING:
        return work
    before = unpack(found["before"], sealer, tenant_id)
    if row["external_id"] is not None and (before is None or before.id != row["external_id"]):
        # What it has made is what is recorded.
        return work
    inherited = Effect(
        action=ChangeAction(found["action"]),
        state=EffectState(found["state"]),
        operation_id=found["operation_id"],
        before=before,
        intended=sealer.open(found["intended"], tenant_id),
        after=None,
        undo=None,
    )
    if work.operation_id != inherited.operation_id:
        share = {"tenant": tenant_id, "id": work.step_id, "operation": inherited.operation_id}
        await ledger.transaction.fetch(_SHARE, share)
    return replace(work, operation_id=inherited.operation_id, inherited=inherited, inherited_from=step_id)


async def close(ledger: Ledger, work: Work) -> None:
    """The work has reached its aim: nothing is left open of what it took over."""
    if work.inherited_from is not None:
        await effects.close(ledger.transaction, work.inherited_from)
