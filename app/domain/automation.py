"""What a plan of type AUTOMATED listens to, and what follows when it hears something.

Such a plan never runs itself: each firing is a child plan. Its configuration says when:

    {"automation": {
        "triggers": [
            {"on": "DRIFT", "stack"?: "shop"},
            {"on": "TEMPLATE_PUBLISHED"},
            {"on": "PLAN_SUCCEEDED", "plan": "a name, or an id"},
            {"on": "WEBHOOK"},
            {"on": "RECURRENCE", "recurrence": "0 3 * * *", "timeZone": "Europe/Berlin"}
        ],
        "concurrencyKey"?: "shop", "maxConcurrent"?: 1, "overlap"?: "QUEUE_ONE",
        "rate"?: {"count": 10, "per": "PT1H"},
        "breaker"?: {"failures": 3},
        "parameters"?: {"version": "${trigger.payload.version}"}
    }}

What is left out is taken from the `triggers` of the plan's workflow: a list of triggers, or a document like this one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from app.domain.durations import parse_duration
from app.domain.enums import OverlapPolicy
from app.domain.errors import Diagnostic, DomainError, Invalid, Path, Required, Several, TypeMismatch, UnknownReference
from app.domain.expressions import embedded
from app.domain.scheduling import Schedule

PATH = ("configuration", "automation")
DEFAULT_FAILURES = 3
_MOST_TRIGGERS = 20
_MOST_CONCURRENT = 100
_MOST_FAILURES = 100
_MOST_IN_RATE = 10_000
_LONGEST_RATE = timedelta(days=31)
_NAME_LIMIT = 200
_NAMES = ("triggers", "concurrencyKey", "maxConcurrent", "overlap", "rate", "breaker", "parameters")
_OVERLAPS = (OverlapPolicy.SKIP, OverlapPolicy.QUEUE_ONE, OverlapPolicy.QUEUE_ALL)


class TriggerKind(StrEnum):
    """What a standing plan can listen to."""

    DRIFT = "DRIFT"
    TEMPLATE_PUBLISHED = "TEMPLATE_PUBLISHED"
    PLAN_SUCCEEDED = "PLAN_SUCCEEDED"
    WEBHOOK = "WEBHOOK"
    RECURRENCE = "RECURRENCE"


# What a trigger of each kind says beside `on`; what must be there comes first, marked by True.
_FIELDS: dict[TriggerKind, dict[str, bool]] = {
    TriggerKind.DRIFT: {"stack": False},
    TriggerKind.TEMPLATE_PUBLISHED: {},
    TriggerKind.PLAN_SUCCEEDED: {"plan": True},
    TriggerKind.WEBHOOK: {},
    TriggerKind.RECURRENCE: {"recurrence": True, "timeZone": True},
}


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened in the tenant. `names` are what a trigger may call the thing that it happened to."""

    kind: TriggerKind
    names: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Trigger:
    """One thing to listen to. `name` is the stack or plan it is about, where there is one."""

    kind: TriggerKind
    name: str | None = None
    schedule: Schedule | None = None

    def hears(self, fact: Fact, own_stack: str) -> bool:
        """Whether it is about the fact; drift is that of the plan's own stack unless it names another."""
        if fact.kind is not self.kind:
            return False
        name = own_stack if self.kind is TriggerKind.DRIFT and self.name is None else self.name
        return name is None or name in fact.names


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in any `per`."""

    count: int
    per: timedelta


@dataclass(frozen=True, slots=True)
class Automation:
    """What the document says. `read` checks one, `of` takes one that was checked."""

    triggers: tuple[Trigger, ...]
    concurrency_key: str | None = None
    max_concurrent: int = 1
    overlap: OverlapPolicy = OverlapPolicy.QUEUE_ONE
    rate: Rate | None = None
    failures: int = DEFAULT_FAILURES
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Automation:
        """From a document that `read` took."""
        reader = _Reader()
        automation = reader.automation(document, ())
        reader.settle()
        return automation

    def listens(self, kind: TriggerKind) -> bool:
        """Whether anything of the kind fires it."""
        return any(trigger.kind is kind for trigger in self.triggers)

    def hears(self, fact: Fact, own_stack: str) -> bool:
        """Whether the fact fires it."""
        return any(trigger.hears(fact, own_stack) for trigger in self.triggers)

    def next_time(self, moment: datetime) -> datetime | None:
        """The first of its times after `moment`; None when it has none."""
        times = [trigger.schedule.after(moment) for trigger in self.triggers if trigger.schedule is not None]
        return min((time for time in times if time is not None), default=None)

    def last_time(self, moment: datetime) -> datetime | None:
        """The last of its times up to `moment`."""
        times = [trigger.schedule.latest(moment) for trigger in self.triggers if trigger.schedule is not None]
        return max((time for time in times if time is not None), default=None)


def read(document: object, now: datetime, path: Path = PATH) -> Automation:
    """A whole document, checked. Raises Invalid and its kin, or Several, with paths that begin with `path`."""
    reader = _Reader(now)
    automation = reader.automation(document, path)
    if not reader.faults and not automation.triggers:
        message = "a plan of type AUTOMATED needs triggers, here or in its workflow"
        reader.faults.append(Required(message, path=(*path, "triggers")))
    reader.settle()
    return automation


def check(configuration: Mapping[str, Any] | None, now: datetime) -> None:
    """What a plan says itself may lack triggers, which its workflow may have. Raises as `read` does."""
    document = (configuration or {}).get("automation")
    if document is not None:
        reader = _Reader(now)
        reader.automation(document, PATH)
        reader.settle()


def check_triggers(triggers: object, now: datetime, path: Path = ("triggers",)) -> None:
    """What a workflow says: a list of triggers, or a whole document. Raises as `read` does."""
    if triggers is not None:
        reader = _Reader(now)
        if isinstance(triggers, list):
            reader.triggers(triggers, path)
        else:
            reader.automation(triggers, path)
        reader.settle()


def combined(configuration: Mapping[str, Any] | None, triggers: object) -> dict[str, Any]:
    """The document of a plan: what it says itself, and what its workflow's `triggers` say of the rest."""
    own = (configuration or {}).get("automation")
    theirs = {"triggers": triggers} if isinstance(triggers, list) else triggers
    return {
        **(theirs if isinstance(theirs, Mapping) else {}),
        **(own if isinstance(own, Mapping) else {}),
    }


def parameters_of(automation: Automation, trigger: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a firing gives its child. Raises ExpressionError where `trigger` lacks what they ask for."""
    rendered: dict[str, Any] = embedded.render(dict(automation.parameters), {"trigger": dict(trigger)})
    return rendered


class _Reader:
    """Reads a document and collects what is wrong with it. Without `now`, times are not looked at."""

    def __init__(self, now: datetime | None = None) -> None:
        self.now = now
        self.faults: list[DomainError] = []

    def settle(self) -> None:
        """Raise what was found."""
        if len(self.faults) == 1:
            raise self.faults[0]
        if self.faults:
            raise Several(self.faults)

    def automation(self, document: object, path: Path) -> Automation:
        if not isinstance(document, Mapping):
            self.faults.append(TypeMismatch("automation is an object", path=path))
            return Automation(())
        self._known(document, _NAMES, path, "automation")
        overlap = document.get("overlap", OverlapPolicy.QUEUE_ONE)
        if overlap not in _OVERLAPS:
            message = f"overlap is one of {', '.join(_OVERLAPS)}"
            self.faults.append(Invalid(message, path=(*path, "overlap")))
            overlap = OverlapPolicy.QUEUE_ONE
        key = document.get("concurrencyKey")
        return Automation(
            triggers=self.triggers(document.get("triggers", []), (*path, "triggers")),
            concurrency_key=None if key is None else self._name(key, (*path, "concurrencyKey")),
            max_concurrent=self._count(document.get("maxConcurrent", 1), _MOST_CONCURRENT, (*path, "maxConcurrent")),
            overlap=OverlapPolicy(overlap),
            rate=self._rate(document.get("rate"), (*path, "rate")),
            failures=self._breaker(document.get("breaker"), (*path, "breaker")),
            parameters=self._parameters(document.get("parameters"), (*path, "parameters")),
        )

    def triggers(self, given: object, path: Path) -> tuple[Trigger, ...]:
        if not isinstance(given, list):
            self.faults.append(TypeMismatch("triggers is a list", path=path))
            return ()
        if len(given) > _MOST_TRIGGERS:
            self.faults.append(Invalid(f"a plan has at most {_MOST_TRIGGERS} triggers", path=path))
            return ()
        read_ones = [self._trigger(item, (*path, str(place))) for place, item in enumerate(given)]
        return tuple(trigger for trigger in read_ones if trigger is not None)

    def _trigger(self, given: object, path: Path) -> Trigger | None:
        if not isinstance(given, Mapping):
            self.faults.append(TypeMismatch("a trigger is an object with 'on'", path=path))
            return None
        if given.get("on") not in list(TriggerKind):
            message = f"a trigger is on one of {', '.join(TriggerKind)}"
            self.faults.append(Invalid(message, path=(*path, "on")))
            return None
        kind = TriggerKind(given["on"])
        fields = _FIELDS[kind]
        self._known(given, ("on", *fields), path, f"a trigger on {kind}")
        missing = [name for name, needed in fields.items() if needed and name not in given]
        self.faults.extend(Required(f"a trigger on {kind} needs '{name}'", path=(*path, name)) for name in missing)
        names = {name: self._name(given[name], (*path, name)) for name in fields if name in given}
        if missing:
            return None
        if kind is TriggerKind.RECURRENCE:
            return Trigger(kind, schedule=self._schedule(names, path))
        return Trigger(kind, name=names.get("stack") or names.get("plan"))

    def _schedule(self, names: Mapping[str, str], path: Path) -> Schedule | None:
        schedule = Schedule(names["timeZone"], recurrence=names["recurrence"])
        faults = [] if self.now is None else schedule.check(self.now)
        for fault in faults:
            fault.path = (*path, *fault.path[1:])
        self.faults.extend(faults)
        return None if faults else schedule

    def _rate(self, given: object, path: Path) -> Rate | None:
        if given is None:
            return None
        if not isinstance(given, Mapping):
            self.faults.append(TypeMismatch("a rate is an object with 'count' and 'per'", path=path))
            return None
        self._known(given, ("count", "per"), path, "a rate")
        missing = [name for name in ("count", "per") if name not in given]
        self.faults.extend(Required(f"a rate needs '{name}'", path=(*path, name)) for name in missing)
        if missing:
            return None
        count, here = self._count(given["count"], _MOST_IN_RATE, (*path, "count")), (*path, "per")
        try:
            per = parse_duration(given["per"], here)
        except Invalid as fault:
            self.faults.append(fault)
            return None
        if not timedelta(seconds=1) <= per <= _LONGEST_RATE:
            self.faults.append(Invalid(f"a rate is per second at least and per {_LONGEST_RATE.days} days", path=here))
        return Rate(count, per)

    def _breaker(self, given: object, path: Path) -> int:
        if given is None:
            return DEFAULT_FAILURES
        if not isinstance(given, Mapping):
            self.faults.append(TypeMismatch("a breaker is an object with 'failures'", path=path))
            return DEFAULT_FAILURES
        self._known(given, ("failures",), path, "a breaker")
        return self._count(given.get("failures", DEFAULT_FAILURES), _MOST_FAILURES, (*path, "failures"))

    def _parameters(self, given: object, path: Path) -> Mapping[str, Any]:
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            self.faults.append(TypeMismatch("parameters is an object", path=path))
            return {}
        found, faults = embedded.survey(given, path)
        self.faults.extend(_refusal(fault) for fault in faults)
        self.faults.extend(
            UnknownReference(f"only 'trigger' can be read here, and not '{reference.root}'", path=place.path)
            for place in found
            for reference in place.expression.references
            if reference.root != "trigger"
        )
        return dict(given)

    def _known(self, given: Mapping[Any, Any], names: Sequence[str], path: Path, what: str) -> None:
        """Whatever is misspelt would be left out in silence."""
        self.faults.extend(
            Invalid(f"{what} knows {', '.join(names)}, and not this", path=(*path, str(name)))
            for name in given
            if name not in names
        )

    def _name(self, given: object, path: Path) -> str:
        if isinstance(given, str) and 0 < len(given.strip()) <= _NAME_LIMIT:
            return given.strip()
        self.faults.append(Invalid(f"this is a text of 1 to {_NAME_LIMIT} characters", path=path))
        return ""

    def _count(self, given: object, most: int, path: Path) -> int:
        if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= most:
            return given
        self.faults.append(Invalid(f"this is a whole number from 1 to {most}", path=path))
        return 1


def _refusal(fault: Diagnostic) -> DomainError:
    return Invalid(fault.message, path=fault.path, diagnostics=(fault,))


def instant(time: datetime) -> str:
    """A time as it stands in keys and in what triggers say."""
    return time.astimezone(UTC).isoformat()
