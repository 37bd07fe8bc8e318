"""Freezes: times in which nothing is to be put right by itself, each one stretch of time or one that comes again.

[{"from": "2026-12-20T00:00:00Z", "until": "2027-01-02T00:00:00Z"},
{"recurrence": "0 8 * * MON-FRI", "duration": "PT10H", "timeZone": "Europe/Berlin"}]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.domain import recurring
from app.domain.durations import seconds_of
from app.domain.errors import DomainError, Invalid, Path, Required, Several, TypeMismatch
from app.domain.scheduling import Schedule
from app.domain.time_zones import NO_ZONE, is_time_zone

MOST = 20
_LONGEST_SECONDS = 31 * 86400.0
_STRETCH, _AGAIN = ("from", "until"), ("recurrence", "duration", "timeZone")
# Whether it ever applies is asked from here on.
_EARLY = datetime(2000, 1, 1)  # noqa: DTZ001  a wall time


@dataclass(frozen=True, slots=True)
class Freeze:
    """From `begins` until `ends`; or for `duration` from each time of `schedule` on."""

    begins: datetime | None = None
    ends: datetime | None = None
    schedule: Schedule | None = None
    duration: timedelta = timedelta()

    def until(self, now: datetime) -> datetime | None:
        """When it ends, if `now` is in it."""
        if self.schedule is None:
            return self.ends if self.begins is not None and self.begins <= now and self._is_ahead(now) else None
        last = self.schedule.latest(now)
        return last + self.duration if last is not None and last + self.duration > now else None

    def _is_ahead(self, now: datetime) -> bool:
        return self.ends is not None and self.ends > now


def thaw(freezes: Sequence[Freeze], now: datetime) -> datetime | None:
    """When none of them holds any more; None where none does now. What goes on for ever is looked at again."""
    moment = now
    for _ in range(2 * MOST):
        ends = max((end for freeze in freezes if (end := freeze.until(moment)) is not None), default=None)
        if ends is None:
            break
        moment = ends
    return None if moment == now else moment


def freezes_of(document: Any, path: Path) -> tuple[Freeze, ...]:
    """What a list of freezes says. Raises Invalid, Required, TypeMismatch or Several, below `path`."""
    if document is None:
        return ()
    if not isinstance(document, list):
        message = "a list of freezes is needed here"
        raise TypeMismatch(message, path=path)
    if len(document) > MOST:
        message = f"there are at most {MOST} freezes"
        raise Invalid(message, path=path)
    faults: list[DomainError] = []
    found = []
    for position, one in enumerate(document):
        try:
            found.append(_freeze(one, (*path, str(position))))
        except DomainError as fault:
            faults.append(fault)
    if faults:
        raise faults[0] if len(faults) == 1 else Several(faults)
    return tuple(found)


def _freeze(document: Any, path: Path) -> Freeze:
    if not isinstance(document, Mapping):
        message = "a freeze has 'from' and 'until', or 'recurrence', 'duration' and 'timeZone'"
        raise TypeMismatch(message, path=path)
    names = _AGAIN if "recurrence" in document else _STRETCH
    for name in document:
        if name not in names:
            message = f"'{name}' means nothing here: use {', '.join(names)}"
            raise Invalid(message, path=(*path, str(name)))
    for name in names:
        if document.get(name) is None:
            message = f"'{name}' is required"
            raise Required(message, path=(*path, name))
    return _again(document, path) if names is _AGAIN else _stretch(document, path)


def _stretch(document: Mapping[str, Any], path: Path) -> Freeze:
    begins, ends = (_instant(document[name], (*path, name)) for name in _STRETCH)
    if ends <= begins:
        message = "it ends before it begins"
        raise Invalid(message, path=(*path, "until"))
    return Freeze(begins, ends)


def _again(document: Mapping[str, Any], path: Path) -> Freeze:
    recurrence, zone = document["recurrence"], document["timeZone"]
    fault = recurring.fault_of(recurrence, _EARLY) if isinstance(recurrence, str) else "a recurrence is a string"
    if fault is not None:
        raise Invalid(fault, path=(*path, "recurrence"))
    if not isinstance(zone, str) or not is_time_zone(zone):
        raise Invalid(NO_ZONE, path=(*path, "timeZone"))
    seconds = seconds_of(document["duration"], (*path, "duration"), most=_LONGEST_SECONDS)
    return Freeze(schedule=Schedule(zone, recurrence=recurrence), duration=timedelta(seconds=seconds))


def _instant(text: Any, path: Path) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        message = "an instant is written like 2026-12-20T00:00:00Z"
        raise Invalid(message, path=path)
    return moment
