"""What may be decided about a step whose undoing failed, so that its rollback goes on."""

from __future__ import annotations

from app.domain.enums import ChangeAction, RollbackResolution
from app.domain.operations import OperationKind

# Their undoing is about a resource.
_CHANGING = frozenset({OperationKind.APPLY, OperationKind.DELETE, OperationKind.ACT})
# The code of an undoing that failed because the resource is not there any more.
GONE = "GONE"


def resolutions(
    operation: OperationKind, change: ChangeAction, error_code: str | None, *, readable: bool
) -> tuple[RollbackResolution, ...]:
    """What makes sense for the step. `readable`: its resource's type tells how a resource is.

    A resource that was put back to what it was before exists for all that is known, unless it was found to be gone; one
    that was made may have been removed by somebody else, and one that was deleted may stay deleted.
    """
    found = [RollbackResolution.RETRY, RollbackResolution.SKIP_KEEP_UNKNOWN]
    if operation not in _CHANGING:
        return tuple(found)
    if readable:
        found.append(RollbackResolution.ACCEPT_ACTUAL)
    made_or_removed = change in (ChangeAction.CREATE, ChangeAction.REPLACE, ChangeAction.DELETE)
    if made_or_removed or error_code == GONE:
        found.append(RollbackResolution.MARK_DELETED)
    return tuple(found)
