"""Drift: how what is there differs from what was last applied, which of it counts, and what follows.

A plan asks for it in its configuration; the plan that was the last to change a resource decides:

    {"drift": {"every": "PT10M", "reaction": "REPORT", "freeze": [...]}, "ttl": "PT2H"}

While one of the freezes (app.domain.freezing) holds, PLAN and ACCEPT wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.domain.diffing import Difference
from app.domain.durations import parse_duration
from app.domain.enums import DriftReaction
from app.domain.errors import DomainError, Invalid, Path, Several, TypeMismatch
from app.domain.freezing import Freeze, freezes_of, thaw
from app.domain.values import Value

SHORTEST = timedelta(seconds=10)
LONGEST = timedelta(days=366)
MAX_RULES = 50
_PATH = ("configuration", "drift")
_NAMES = ("every", "reaction", "freeze")


@dataclass(frozen=True, slots=True)
class DriftPolicy:
    """How often the resources of a plan are looked at (None: only when asked), and what follows."""

    every: timedelta | None = None
    reaction: DriftReaction = DriftReaction.REPORT
    freezes: tuple[Freeze, ...] = ()

    @classmethod
    def of(cls, configuration: Mapping[str, Any] | None) -> DriftPolicy:
        """What a plan's configuration asks for. Raises Invalid, TypeMismatch or Several, each with its path."""
        document = (configuration or {}).get("drift")
        if document is None:
            return cls()
        if not isinstance(document, Mapping):
            message = "drift is an object"
            raise TypeMismatch(message, path=_PATH)
        faults: list[DomainError] = [
            Invalid(f"drift knows {', '.join(_NAMES)}, and not this", path=(*_PATH, str(name)))
            for name in document
            if name not in _NAMES
        ]
        reaction = document.get("reaction", DriftReaction.REPORT)
        if reaction not in list(DriftReaction):
            message = f"the reaction is one of {', '.join(DriftReaction)}"
            faults.append(Invalid(message, path=(*_PATH, "reaction")))
        every = None
        freezes: tuple[Freeze, ...] = ()
        try:
            every = _length(document.get("every"), (*_PATH, "every"), SHORTEST)
        except Invalid as fault:
            faults.append(fault)
        try:
            freezes = freezes_of(document.get("freeze"), (*_PATH, "freeze"))
        except Several as several:
            faults.extend(several.errors)
        except DomainError as fault:
            faults.append(fault)
        if faults:
            raise faults[0] if len(faults) == 1 else Several(faults)
        return cls(every, DriftReaction(reaction), freezes)

    def thaw(self, now: datetime) -> datetime | None:
        """When its reactions need wait no longer; None where they need not wait at all."""
        return thaw(self.freezes, now)


def ttl_of(configuration: Mapping[str, Any] | None) -> timedelta | None:
    """How long what a plan made lives after its success; None for ever. Raises Invalid."""
    return _length((configuration or {}).get("ttl"), ("configuration", "ttl"), timedelta(seconds=1))


def configuration_faults(configuration: Mapping[str, Any] | None) -> list[DomainError]:
    """What is wrong with what a configuration says of drift and of the time to live."""
    faults: list[DomainError] = []
    for read in (DriftPolicy.of, ttl_of):
        try:
            read(configuration)
        except DomainError as fault:
            faults.append(fault)
    return faults


@dataclass(frozen=True, slots=True)
class IgnoreRule:
    """Differences at `path` and below it do not count until `expires_at` (None: for good)."""

    path: Path
    reason: str
    expires_at: datetime | None = None

    def covers(self, path: Path) -> bool:
        """Whether a difference at `path` is meant."""
        return path[: len(self.path)] == self.path

    def holds(self, now: datetime) -> bool:
        """Whether the rule has not expired."""
        return self.expires_at is None or self.expires_at > now

    def document(self) -> dict[str, Any]:
        """As a resource keeps it."""
        expires = None if self.expires_at is None else self.expires_at.isoformat()
        return {"path": list(self.path), "reason": self.reason, "expiresAt": expires}

    @classmethod
    def from_document(cls, stored: Mapping[str, Any]) -> IgnoreRule:
        expires = stored.get("expiresAt")
        moment = None if expires is None else datetime.fromisoformat(expires)
        return cls(tuple(stored["path"]), stored["reason"], moment)


@dataclass(frozen=True, slots=True)
class Deviation:
    """One property that is not as it was applied. Absent is None; sensitive values are Secrets."""

    path: Path
    expected: Value
    actual: Value
    sensitive: bool = False

    def document(self) -> dict[str, Any]:
        """As a resource keeps it once its Secrets are sealed."""
        return {
            "path": list(self.path),
            "expected": self.expected,
            "actual": self.actual,
            "sensitive": self.sensitive,
        }

    @classmethod
    def from_document(cls, stored: Mapping[str, Any]) -> Deviation:
        return cls(tuple(stored["path"]), stored["expected"], stored["actual"], stored["sensitive"])


def deviations(back: Difference, rules: Iterable[IgnoreRule], now: datetime) -> tuple[Deviation, ...]:
    """What counts of `back`, which leads from the observed properties to those that were applied."""
    holding = [rule for rule in rules if rule.holds(now)]
    return tuple(
        Deviation(change.path, expected=change.after, actual=change.before, sensitive=change.sensitive)
        for change in back.changes
        if not any(rule.covers(change.path) for rule in holding)
    )


def as_found(applied: Mapping[str, Value], found: Sequence[Deviation]) -> dict[str, Value]:
    """The applied properties with what deviates as it really is; what is ignored stays as it was applied."""
    result: dict[str, Value] = dict(applied)
    for deviation in found:
        place: dict[str, Value] = result
        for name in deviation.path[:-1]:
            inner = place.get(name)
            place[name] = dict(inner) if isinstance(inner, Mapping) else {}
            place = place[name]
        if deviation.actual is None:
            place.pop(deviation.path[-1], None)
        else:
            place[deviation.path[-1]] = deviation.actual
    return result


def _length(given: object, path: Path, least: timedelta) -> timedelta | None:
    if given is None:
        return None
    length = parse_duration(given, path)
    if not least <= length <= LONGEST:
        message = f"this is at least {least.total_seconds():g} seconds and at most {LONGEST.days} days"
        raise Invalid(message, path=path)
    return length
