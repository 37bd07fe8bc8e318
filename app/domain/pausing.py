"""How long a paused job waits for people, and what happens when nobody comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.durations import seconds_of
from app.domain.enums import FailureStrategy
from app.domain.errors import Invalid, Path

DAY = 86400.0
LONGEST = 30 * DAY
_FALLBACKS = (FailureStrategy.HALT, FailureStrategy.ROLLBACK)


@dataclass(frozen=True, slots=True)
class Patience:
    """The deadline of a pause in seconds, and its fallback: HALT keeps what there is, ROLLBACK undoes it."""

    seconds: float = DAY
    then: FailureStrategy = FailureStrategy.HALT

    def document(self) -> dict[str, Any]:
        """As a job keeps it."""
        return {"seconds": self.seconds, "then": self.then.value}


def patience_of(configuration: Mapping[str, Any] | None, path: Path = ("configuration",)) -> Patience:
    """What {"pause": {"deadline": "PT1H", "then": "ROLLBACK"}} says; a day and HALT where it says nothing.

    Raises Invalid, its path beginning with `path`.
    """
    given = (configuration or {}).get("pause")
    here = (*path, "pause")
    if given is None:
        return Patience()
    if not isinstance(given, Mapping):
        message = "a map with 'deadline' and 'then' is needed here"
        raise Invalid(message, path=here)
    for name in given:
        if name not in ("deadline", "then"):
            message = f"'{name}' means nothing here: use 'deadline' and 'then'"
            raise Invalid(message, path=(*here, str(name)))
    then = given.get("then", FailureStrategy.HALT)
    if then not in _FALLBACKS:
        message = "a pause that nobody ends can only HALT or ROLLBACK"
        raise Invalid(message, path=(*here, "then"))
    seconds = DAY
    if "deadline" in given:
        seconds = seconds_of(given["deadline"], (*here, "deadline"), most=LONGEST)
    return Patience(seconds, FailureStrategy(then))
