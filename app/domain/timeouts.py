"""How long a job may wait to begin, and how long one of its steps may take with all of its attempts.

A plan says so in its configuration:

    {"timeouts": {"queue": "PT1H", "total": "PT6H"}}

`queue` is from the making of the first job until a worker has begun with it. `total` is that of steps which do not say
so themselves (`totalTimeoutSeconds`): from the first attempt, retries and the polling of providers included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.durations import seconds_of
from app.domain.errors import Invalid, Path, TypeMismatch
from app.domain.operations import OperationKind

DAY = 86400.0
LONGEST = 30 * DAY
_NAMES = ("queue", "total")
# Whatever else there is ends by itself: a gate has its deadline, a check its window.
_BOUNDED = frozenset(
    {OperationKind.APPLY, OperationKind.DELETE, OperationKind.RETIRE, OperationKind.ACT, OperationKind.RUN}
)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Of one plan, in seconds. A `queue` of None is for ever: a stack may be held for as long as it takes."""

    queue: float | None = None
    total: float = DAY

    def total_of(self, operation: OperationKind, attempt: float, own: float | None) -> float | None:
        """The seconds of a step whose attempts take up to `attempt`, and that says `own` or nothing itself."""
        if operation not in _BOUNDED:
            return None
        return max(attempt, self.total) if own is None else own


def timeouts_of(configuration: Mapping[str, Any] | None, path: Path = ("configuration",)) -> Timeouts:
    """What the configuration of a plan says, or the default. Raises Invalid or TypeMismatch, below `path`."""
    given = (configuration or {}).get("timeouts")
    here = (*path, "timeouts")
    if given is None:
        return Timeouts()
    if not isinstance(given, Mapping):
        message = "a map with 'queue' and 'total' is needed here"
        raise TypeMismatch(message, path=here)
    for name in given:
        if name not in _NAMES:
            message = f"'{name}' means nothing here: use 'queue' and 'total'"
            raise Invalid(message, path=(*here, str(name)))
    found = {name: seconds_of(given[name], (*here, name), most=LONGEST) for name in given}
    return Timeouts(found.get("queue"), found.get("total", DAY))
