"""What came into being too late: a provider did what it was asked, after the step had been taken back.

The attempt lost its step while its request was under way; whoever undid the step, or asked what had become of it, found
nothing yet. When the answer comes after all, its outcome is refused, and what it brought is taken back by the one who
has it.
"""

from __future__ import annotations

from dataclasses import replace

from app.db.ledger import Ledger
from app.db.statements import Statement
from app.domain.enums import ChangeAction
from app.domain.operations import EffectState, OperationKind
from app.domain.statuses import JOB, JobStatus, ResourceStatus, StepStatus
from app.engine.work import Effect, Mode, Work

_STATUS = Statement(
    "SELECT s.status, r.status AS resource, r.external_id IS NOT NULL AS exists,"
    " EXISTS (SELECT FROM resource_lock l WHERE l.tenant_id = r.tenant_id AND l.lock_key = 'stack/' || r.stack"
    "   AND l.job_id <> s.job_id) AS busy"
    " FROM step_run s LEFT JOIN cloud_resource r ON r.tenant_id = s.tenant_id AND r.id = s.resource_id"
    " WHERE s.tenant_id = :tenant AND s.id = :id"
)
_TAKEN_BACK = frozenset({StepStatus.COMPENSATING, StepStatus.COMPENSATED, StepStatus.COMPENSATION_SKIPPED})
_GIVEN_UP = frozenset({StepStatus.FAILED, StepStatus.CANCELLED})
# What a resource is that nobody knows to exist. One in doubt that a later job works on is that job's to find.
_NOWHERE = frozenset(
    {
        ResourceStatus.PLANNED,
        ResourceStatus.CREATING,
        ResourceStatus.FAILED,
        ResourceStatus.UNKNOWN,
        ResourceStatus.DELETED,
    }
)
# Of these nobody tries a step again: a retry is another job, and other operations.
_OVER = JOB.closed | {JobStatus.CANCELLING}
# A change in place is not undone like that: others may rightly have changed the resource since.
_MADE = frozenset({ChangeAction.CREATE, ChangeAction.REPLACE})


async def left_behind(ledger: Ledger, work: Work) -> Work | None:
    """The work of removing what `work` has made; None where it made nothing or its step still stands.

    A step that was given up counts when its job is over, and nobody has recorded that there is, or may be, a resource.
    It is safe beside the step's own compensation and beside later jobs: only what this operation made is removed. It
    has no fence, so its outcome will be refused, and the record says already what it brings about.
    """
    if work.mode is not Mode.RUN or work.operation is not OperationKind.APPLY or work.action not in _MADE:
        return None
    row = await ledger.transaction.fetch_one(_STATUS, {"tenant": work.tenant_id, "id": work.step_id})
    if row is None:
        return None
    status = StepStatus(row["status"])
    nowhere = row["resource"] in _NOWHERE and not row["exists"] and not row["busy"]
    given_up = status in _GIVEN_UP and nowhere and ledger.status in _OVER
    if not given_up and status not in _TAKEN_BACK:
        return None
    made = Effect(
        action=ChangeAction.CREATE,
        state=EffectState.UNKNOWN,
        operation_id=work.operation_id,
        before=None,
        intended=work.inputs,
        after=None,
        undo=None,
    )
    return replace(work, mode=Mode.UNDO, effect=made)
