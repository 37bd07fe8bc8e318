r"""When a CONDITIONAL plan runs: what its condition reads, whether it holds, and what follows from that.

A plan says it as one document:

    {"when": "${plans[\"network\"].status == \"SUCCEEDED\" && time.hour >= 22}",
     "for": "PT5M", "fire": "EACH", "coolDown": "PT1H", "timeZone": "Europe/Paris"}

A condition fires on its edge: when it becomes true, and has stayed so for `for`. A plan that begins to wait counts as
having seen it false. With EACH it has to become false again before it can fire again, and `coolDown` has to be over.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import orjson

from app.domain.durations import parse_duration
from app.domain.errors import DomainError, Invalid, LimitExceeded, Required, Several, TypeMismatch, UnknownReference
from app.domain.expressions import Expression, ExpressionError, Reference, embedded, evaluate, parse
from app.domain.naming import hint, nearest
from app.domain.time_zones import NO_ZONE, is_time_zone
from app.domain.values import Value

_PATH: Final = ("condition",)
_NAMES: Final = ("when", "for", "fire", "coolDown", "timeZone")
_LONGEST_TEXT: Final = 4_000
_MOST_NAMES: Final = 50
_LONGEST: Final = timedelta(days=31)
_SHORTEST_COOL_DOWN: Final = timedelta(seconds=10)
_USUAL_COOL_DOWN: Final = timedelta(minutes=1)
_LONGEST_INPUT: Final = 1_000
# Looked at this often, whatever was told: not everything that changes tells of it.
_SLOWLY: Final = timedelta(minutes=5)
_OFTEN: Final = timedelta(seconds=10)
# Who has not looked for so long does not know that it was true all the time.
_BLIND: Final = 3 * _SLOWLY


class Root(StrEnum):
    """What a condition can read."""

    RESOURCES = "resources"
    PLANS = "plans"
    JOBS = "jobs"
    TIME = "time"
    SIGNALS = "signals"


class FireMode(StrEnum):
    """Whether the plan itself runs, once, or a child of it does each time."""

    ONCE = "ONCE"
    EACH = "EACH"


FIELDS: Final[Mapping[Root, tuple[str, ...]]] = {
    Root.RESOURCES: ("status", "drift", "type", "provider", "stack", "key", "outputs"),
    Root.PLANS: ("status", "stage", "type", "startedAt", "completedAt"),
    Root.JOBS: ("status", "direction", "type", "startedAt", "completedAt", "outputs"),
    Root.TIME: ("now", "epoch", "date", "clock", "year", "month", "day", "hour", "minute", "weekday"),
    Root.SIGNALS: ("received", "payload", "at", "count"),
}
# These change between two minutes.
_FLEETING: Final = frozenset({"now", "epoch"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an evaluation came to; `fault` says why nothing could be said, which counts as false."""

    result: bool
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition. `cool_down` is the least time between two firings, None for ONCE."""

    when: Expression
    hold: timedelta = timedelta()
    fire: FireMode = FireMode.ONCE
    cool_down: timedelta | None = None
    time_zone: str = "UTC"

    @classmethod
    def of(cls, document: object) -> Condition:
        """What the document says. Raises a DomainError for every fault in it, each with its path."""
        if not isinstance(document, Mapping):
            message = "a condition is an object with 'when'"
            raise TypeMismatch(message, path=_PATH)
        reader = _Reader(document)
        condition = cls(
            when=reader.when(),
            hold=reader.length("for", timedelta(), timedelta()),
            fire=(fire := reader.fire()),
            cool_down=reader.cool_down(fire),
            time_zone=reader.zone(),
        )
        reader.check()
        return condition

    def names(self, root: Root) -> tuple[str, ...]:
        """The names that the condition reads below `root`, as written; of time, its fields."""
        return tuple(dict.fromkeys(found.path[0] for found in self.when.references if found.root == root))

    def subjects(self, stack: str) -> tuple[str, ...]:
        """What has to change for the condition to be looked at, besides the time: names as `subject` writes them."""
        found = [
            subject(root, "/".join(resource_name(name, stack)) if root is Root.RESOURCES else name)
            for root in (Root.RESOURCES, Root.PLANS, Root.JOBS)
            for name in self.names(root)
        ]
        return tuple(dict.fromkeys(found))

    def judge(self, scope: Mapping[str, Value]) -> Verdict:
        """Whether the condition holds where `scope` gives what it reads. What is not there makes it false."""
        try:
            value = evaluate(self.when, scope)
        except ExpressionError as error:
            return Verdict(result=False, fault=error.message)
        if not isinstance(value, bool):
            return Verdict(result=False, fault="what it says is neither true nor false")
        return Verdict(value)

    def inputs(self, scope: Mapping[str, Any]) -> dict[str, Any]:
        """What the condition read of `scope`: {root: {name: {"field.field": value}}}, of time {"time": {field: value}}.

        Whether something is there, where no field of it is named, is its field "exists". What is not there is null,
        and of what is long only that is said.
        """
        found: dict[str, Any] = {}
        for reference in self.when.references:
            value = _reach(scope.get(reference.root), reference.path)
            values = found.setdefault(reference.root, {})
            name, fields = reference.path[0], reference.path[1:]
            if reference.root == Root.TIME:
                values[name] = value
            elif fields:
                values.setdefault(name, {})[".".join(fields)] = _shown(value)
            else:
                values.setdefault(name, {})["exists"] = value is not None
        return found

    def next_poll(self, now: datetime) -> datetime:
        """When to look again though nothing was told: times of day change with the minute, and `now` all the time."""
        read = self.names(Root.TIME)
        if _FLEETING & set(read):
            return now + _OFTEN
        minute = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
        return min(minute, now + _SLOWLY) if read else now + _SLOWLY


def check(document: object, plan_name: str) -> list[DomainError]:
    """Every fault of the condition of a plan called `plan_name`, with its path."""
    try:
        condition = Condition.of(document)
    except Several as error:
        return list(error.errors)
    except DomainError as error:
        return [error]
    own = [root for root in (Root.PLANS, Root.JOBS) if plan_name.strip() in condition.names(root)]
    message = "a plan cannot wait for what it does itself"
    return [Invalid(message, path=(*_PATH, "when")) for _ in own[:1]]


def subject(root: Root, name: str) -> str:
    """What something that changes is called, as an expression would: plans["network"]."""
    return f'{root.value}["{name}"]'


def resource_name(name: str, stack: str) -> tuple[str, str]:
    """The stack and key that "stack/key" means; a key alone is of the plan's own stack."""
    plain, bracket, element = name.partition("[")
    before, slash, key = plain.rpartition("/")
    return (before if slash else stack), key + bracket + element


def time_scope(now: datetime, time_zone: str) -> dict[str, Value]:
    """`time` as expressions see it, on the clocks of the zone; `now` is in UTC and `weekday` 1 for Monday."""
    local = now.astimezone(zoneinfo.ZoneInfo(time_zone))
    return {
        "now": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "epoch": int(now.timestamp()),
        "date": local.strftime("%Y-%m-%d"),
        "clock": local.strftime("%H:%M"),
        "year": local.year,
        "month": local.month,
        "day": local.day,
        "hour": local.hour,
        "minute": local.minute,
        "weekday": local.isoweekday(),
    }


@dataclass(frozen=True, slots=True)
class Seen:
    """What is remembered from look to look. `armed`: it was false since it last fired."""

    armed: bool = True
    true_since: datetime | None = None
    seen_at: datetime | None = None
    fired_at: datetime | None = None


class Act(StrEnum):
    """What follows from a look."""

    REST = "REST"  # it is false
    HOLD = "HOLD"  # true, but not for long enough
    COOL = "COOL"  # true for long enough, but it fired not long ago
    SPENT = "SPENT"  # still true since it fired
    FIRE = "FIRE"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, what to remember, and when to look again at the latest."""

    act: Act
    seen: Seen
    due: datetime


def decide(condition: Condition, seen: Seen, now: datetime, *, result: bool) -> Decision:
    """What follows when the condition is `result` at `now`, after all that was `seen`."""
    poll = condition.next_poll(now)
    if not result:
        return Decision(Act.REST, replace(seen, armed=True, true_since=None, seen_at=now), poll)
    blind = seen.seen_at is not None and now - seen.seen_at > _BLIND
    since = now if seen.true_since is None or blind else seen.true_since
    held = replace(seen, true_since=since, seen_at=now)
    if not seen.armed:
        return Decision(Act.SPENT, held, poll)
    if now < since + condition.hold:
        return Decision(Act.HOLD, held, min(poll, since + condition.hold))
    if condition.cool_down is not None and seen.fired_at is not None and now < seen.fired_at + condition.cool_down:
        return Decision(Act.COOL, held, min(poll, seen.fired_at + condition.cool_down))
    return Decision(Act.FIRE, replace(held, armed=False, fired_at=now), poll)


class _Reader:
    """Reads the document part by part and keeps every fault; what is faulty reads as something harmless."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.faults: list[DomainError] = [
            Invalid(f"a condition knows {', '.join(_NAMES)}, and not this", path=(*_PATH, str(name)))
            for name in document
            if name not in _NAMES
        ]

    def check(self) -> None:
        if self.faults:
            raise self.faults[0] if len(self.faults) == 1 else Several(self.faults)

    def when(self) -> Expression:
        text, path = self.document.get("when"), (*_PATH, "when")
        nothing = parse("false")
        if text is None:
            self.faults.append(Required("a condition says 'when' it is true", path=path))
            return nothing
        if not isinstance(text, str):
            self.faults.append(TypeMismatch("'when' is an expression in a text", path=path))
            return nothing
        if len(text) > _LONGEST_TEXT:
            self.faults.append(LimitExceeded(f"'when' has at most {_LONGEST_TEXT} characters", path=path))
            return nothing
        try:
            found = embedded.single(text, path)
        except Invalid as fault:
            self.faults.append(fault)
            return nothing
        self.faults.extend(_reference_faults(found.references))
        return found

    def length(self, name: str, usual: timedelta, shortest: timedelta) -> timedelta:
        given, path = self.document.get(name), (*_PATH, name)
        if given is None:
            return usual
        try:
            length = parse_duration(given, path)
        except Invalid as fault:
            self.faults.append(fault)
            return usual
        if not shortest <= length <= _LONGEST:
            message = f"this lasts from {shortest.total_seconds():g} seconds to {_LONGEST.days} days"
            self.faults.append(Invalid(message, path=path))
        return length

    def fire(self) -> FireMode:
        given = self.document.get("fire", FireMode.ONCE.value)
        if given not in tuple(FireMode):
            self.faults.append(Invalid("fire is ONCE or EACH", path=(*_PATH, "fire")))
            return FireMode.ONCE
        return FireMode(given)

    def cool_down(self, fire: FireMode) -> timedelta | None:
        if fire is FireMode.EACH:
            return self.length("coolDown", _USUAL_COOL_DOWN, _SHORTEST_COOL_DOWN)
        if self.document.get("coolDown") is not None:
            message = "what fires ONCE has no coolDown: let it fire EACH"
            self.faults.append(Invalid(message, path=(*_PATH, "coolDown")))
        return None

    def zone(self) -> str:
        given = self.document.get("timeZone", "UTC")
        if not is_time_zone(given):
            self.faults.append(Invalid(NO_ZONE, path=(*_PATH, "timeZone")))
            return "UTC"
        return str(given)


def _reference_faults(references: Iterable[Reference]) -> list[DomainError]:
    """What the expression reads that no condition can. Names are written out, so that it is known what to watch."""
    faults: list[DomainError] = []
    path = (*_PATH, "when")
    named: set[tuple[str, str]] = set()
    for reference in references:
        if reference.root not in tuple(Root):
            known = ", ".join(root.value for root in Root)
            message = f"a condition reads {known}, and there is no '{reference.root}'"
            faults.append(UnknownReference(message + hint(nearest(reference.root, tuple(Root))), path=path))
            continue
        root = Root(reference.root)
        if not reference.path:
            message = f"'{root.value}' is followed by the name of what is meant, written out"
            faults.append(Invalid(message, path=path))
            continue
        named.add((root.value, reference.path[0]))
        place = 0 if root is Root.TIME else 1
        field = reference.path[place] if len(reference.path) > place else None
        if field is not None and field not in FIELDS[root]:
            message = f"'{root.value}' of a condition have {', '.join(FIELDS[root])}, and no '{field}'"
            faults.append(UnknownReference(message + hint(nearest(field, FIELDS[root])), path=path))
    if len(named) > _MOST_NAMES:
        faults.append(LimitExceeded(f"a condition names at most {_MOST_NAMES} things", path=path))
    if not named and not faults:
        faults.append(Invalid("a condition reads something that can change", path=path))
    return faults


def _reach(value: Any, path: Iterable[str]) -> Any:
    for key in path:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _shown(value: Any) -> Any:
    size = len(orjson.dumps(value, default=str))
    return value if size <= _LONGEST_INPUT else f"… {size} characters"
