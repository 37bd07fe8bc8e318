"""What becomes of an update that is to be undone, where somebody else has changed the resource since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.domain.enums import ConflictPolicy
from app.domain.errors import Invalid, Path, TypeMismatch


def conflict_policy_of(configuration: Mapping[str, Any] | None, path: Path = ("configuration",)) -> ConflictPolicy:
    """What {"rollback": {"onConflict": "OVERWRITE"}} says; FAIL where it says nothing.

    Raises Invalid, its path beginning with `path`.
    """
    given = (configuration or {}).get("rollback")
    here = (*path, "rollback")
    if given is None:
        return ConflictPolicy.FAIL
    if not isinstance(given, Mapping):
        message = "a map with 'onConflict' is needed here"
        raise TypeMismatch(message, path=here)
    for name in given:
        if name != "onConflict":
            message = f"'{name}' means nothing here: use 'onConflict'"
            raise Invalid(message, path=(*here, str(name)))
    policy = given.get("onConflict", ConflictPolicy.FAIL)
    if policy not in list(ConflictPolicy):
        message = f"one of {', '.join(ConflictPolicy)} is needed here"
        raise Invalid(message, path=(*here, "onConflict"))
    return ConflictPolicy(policy)
