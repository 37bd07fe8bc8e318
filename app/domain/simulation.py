"""What a simulation is asked for: steps, and undoings of steps, that are to fail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from app.domain.errors import UnknownReference
from app.domain.naming import hint, nearest

_KEY = "simulation"
_UNDO = ":undo"


@dataclass(frozen=True, slots=True)
class Simulation:
    """`fail_at` has the key of each step that is to fail, and "<key>:undo" where its compensation is to."""

    fail_at: frozenset[str] = frozenset()

    @classmethod
    def planned(cls, wanted: Sequence[str], keys: Iterable[str]) -> Self:
        """What is `wanted` of a job with steps of these keys. Raises UnknownReference for a step that there is not."""
        known = {name for key in keys for name in (key, f"{key}{_UNDO}")}
        for place, name in enumerate(wanted):
            if name not in known:
                message = f"there is no step '{name}'{hint(nearest(name, sorted(known)))}"
                raise UnknownReference(message, path=("simulateFailureAt", str(place)))
        return cls(frozenset(wanted))

    @classmethod
    def of(cls, configuration: Mapping[str, Any]) -> Self:
        """That of a job, from what the job keeps of it."""
        return cls(frozenset((configuration.get(_KEY) or {}).get("failAt", ())))

    def document(self) -> dict[str, Any]:
        """As the configuration of a job keeps it."""
        return {_KEY: {"failAt": sorted(self.fail_at)}}

    def fails(self, key: str, *, undo: bool) -> bool:
        """Whether the step, or its compensation, is to fail."""
        return (f"{key}{_UNDO}" if undo else key) in self.fail_at
