"""How many steps of one job may be under way at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.domain.errors import Invalid, Path, TypeMismatch

# A plan has no more steps than that.
_HIGHEST = 5_000


def width_of(configuration: Mapping[str, Any] | None, path: Path = ("configuration",)) -> int | None:
    """What {"concurrency": {"steps": 4}} says; None, which is no limit, where it says nothing.

    Raises Invalid, its path beginning with `path`.
    """
    given = (configuration or {}).get("concurrency")
    here = (*path, "concurrency")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        message = "a map with 'steps' is needed here"
        raise TypeMismatch(message, path=here)
    for name in given:
        if name != "steps":
            message = f"'{name}' means nothing here: use 'steps'"
            raise Invalid(message, path=(*here, str(name)))
    steps = given.get("steps")
    if steps is None:
        return None
    if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= _HIGHEST:
        message = f"how many steps may be under way is an integer from 1 to {_HIGHEST}"
        raise Invalid(message, path=(*here, "steps"))
    return steps
