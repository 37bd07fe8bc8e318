"""How long things will take, going by how long the like took before."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from app.domain.enums import ChangeAction

# Seconds by resource type or task, and by what is done to it.
Usual = Mapping[tuple[str, ChangeAction], float]
# Nobody outside is asked.
_AT_ONCE = frozenset({ChangeAction.NO_CHANGE, ChangeAction.DETACH})


def seconds_of(kind: str, action: ChangeAction, usual: Usual) -> float | None:
    """How long one step takes; None for what was never done before."""
    return 0.0 if action in _AT_ONCE else usual.get((kind, action))


def in_rounds(steps: Iterable[tuple[Hashable, float | None]]) -> float | None:
    """The seconds of steps that are given with their rounds: those of a round go side by side, the rounds in turn.

    None when one of them is not known: a sum that leaves the longest step out would be worse than none.
    """
    longest: dict[Hashable, float] = {}
    for number, seconds in steps:
        if seconds is None:
            return None
        longest[number] = max(longest.get(number, 0.0), seconds)
    return sum(longest.values())
