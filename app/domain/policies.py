r"""Policies: what the plans of a tenant may do, as rules that are evaluated on what a plan would change.

A rule looks at the plan once (`PLAN`), or at each change by itself (`CHANGE`):

    when     ${change.action == "DELETE" && change.type == "postgres.database"}
    require  ${author.role == "ADMIN"}
    message  ${change.key} holds data: an administrator deletes it

Where `when` is true, or is not said, `require` has to be true. What cannot be known before the plan runs is not taken
on trust: a rule that depends on it fails, and says that. The same holds for a rule that cannot be evaluated.

ADVISORY tells; SOFT_MANDATORY asks somebody else than the author to agree, with a reason; HARD_MANDATORY refuses.
A rollback is never judged: what was begun can always be taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from app.domain.enums import ChangeAction, PolicyLevel, PolicySubject
from app.domain.errors import DomainError, Invalid, LimitExceeded, Path, UnknownReference
from app.domain.expressions import Expression, ExpressionError, embedded, evaluate
from app.domain.naming import hint, nearest
from app.domain.values import UNKNOWN, Secret, Value, redact, reveal

if TYPE_CHECKING:
    from app.domain.planning.deployment import ResourceChange

MOST_POLICIES: Final = 100
TEXT_LIMIT: Final = 4_000
MESSAGE_LIMIT: Final = 500
# Of one policy, and of a plan. What is left out is counted.
_FINDINGS_OF_ONE: Final = 20
_PLAN: Final = ("name", "type", "stack", "failureStrategy", "rollbackScope", "configuration", "metadata", "teardown")
_CHANGE: Final = (
    "key", "type", "provider", "action", "wave", "reversibility", "downtime", "before", "after", "changed",
)  # fmt: skip
_TIME: Final = ("now", "epoch", "date", "clock", "year", "month", "day", "hour", "minute", "weekday")
# What a rule can read, and what each of these has; None where that is not ours to say.
ROOTS: Final[Mapping[str, tuple[str, ...] | None]] = {
    "plan": _PLAN,
    "tenant": ("name", "slug"),
    "author": ("email", "role"),
    "template": ("name", "revision", "type"),
    "workflow": ("name", "type"),
    "parameters": None,
    "summary": ("create", "update", "replace", "delete", "detach", "import", "run", "noChange", "irreversible"),
    "resourceTypes": None,
    "time": _TIME,
    "change": _CHANGE,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy that can be evaluated."""

    name: str
    level: PolicyLevel
    subject: PolicySubject
    require: Expression
    when: Expression | None = None
    message: str | None = None
    time_zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one policy says of a plan; `path` leads to what it speaks of. One that passed is said once, without."""

    policy: str
    level: PolicyLevel
    passed: bool
    message: str | None = None
    path: Path = ()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Finding:
        """As it was stored."""
        return cls(
            policy=document["policy"],
            level=PolicyLevel(document["level"]),
            passed=document["passed"],
            message=document["message"],
            path=tuple(document["path"]),
        )

    @property
    def is_mandatory(self) -> bool:
        return self.level is not PolicyLevel.ADVISORY

    def document(self) -> dict[str, Any]:
        """As stored and shown."""
        return {
            "policy": self.policy,
            "level": self.level.value,
            "passed": self.passed,
            "message": self.message,
            "path": list(self.path),
        }


@dataclass(frozen=True, slots=True)
class Setting:
    """What surrounds a plan, as rules read it: every root but `change`, `summary`, `resourceTypes` and `time`.

    `times` gives the root `time` for each time zone that a rule has.
    """

    scope: Mapping[str, Value]
    times: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)


def denied(findings: Iterable[Finding]) -> list[Finding]:
    """Those that nobody can overrule."""
    return [found for found in findings if not found.passed and found.level is PolicyLevel.HARD_MANDATORY]


def overridable(findings: Iterable[Finding]) -> list[str]:
    """What somebody has to agree to: each failure of a SOFT_MANDATORY policy, as one text."""
    return [
        "/".join((found.policy, *found.path))
        for found in findings
        if not found.passed and found.level is PolicyLevel.SOFT_MANDATORY
    ]


def read(
    name: str,
    level: PolicyLevel,
    subject: PolicySubject,
    *,
    when: str | None,
    require: str,
    message: str | None,
    time_zone: str = "UTC",
) -> tuple[Rule | None, list[DomainError]]:
    """The rule that these texts say, and everything that is wrong with them, each with its path."""
    faults: list[DomainError] = []
    condition = None if when is None else _expression(when, subject, ("when",), faults)
    demand = _expression(require, subject, ("require",), faults)
    if message is not None:
        faults.extend(_message_faults(message, subject))
    if faults or demand is None:
        return None, faults
    return Rule(name, level, subject, demand, condition, message, time_zone), []


def judge(rules: Sequence[Rule], changes: Sequence[ResourceChange], setting: Setting) -> tuple[Finding, ...]:
    """What the rules say of a plan with these changes, in the order of the rules."""
    if not rules:
        return ()
    scope = {**setting.scope, **_counted(changes)}
    # What stays as it is was judged when it was made.
    seen = [_change_scope(change) for change in changes if change.action is not ChangeAction.NO_CHANGE]
    findings: list[Finding] = []
    for rule in rules:
        here = {**scope, "time": setting.times.get(rule.time_zone, {})}
        if rule.subject is PolicySubject.PLAN:
            findings.append(_look(rule, here) or _passed(rule))
        else:
            findings.extend(_each(rule, here, seen))
    return tuple(findings)


def _each(rule: Rule, scope: Mapping[str, Value], changes: Iterable[Mapping[str, Value]]) -> Iterator[Finding]:
    failed = 0
    for change in changes:
        found = _look(rule, {**scope, "change": change}, ("changes", str(change["key"])))
        if found is None:
            continue
        failed += 1
        if failed <= _FINDINGS_OF_ONE:
            yield found
    if failed > _FINDINGS_OF_ONE:
        message = f"and {failed - _FINDINGS_OF_ONE} changes more"
        yield Finding(rule.name, rule.level, passed=False, message=message)
    if not failed:
        yield _passed(rule)


def _passed(rule: Rule) -> Finding:
    return Finding(rule.name, rule.level, passed=True)


def _look(rule: Rule, scope: Mapping[str, Value], path: Path = ()) -> Finding | None:
    """How the rule is broken, or None."""
    for expression, name in ((rule.when, "when"), (rule.require, "require")):
        if expression is None:
            continue
        try:
            value = evaluate(expression, scope)
        except ExpressionError as error:
            return _failed(rule, f"'{name}' cannot be evaluated: {error.message}", path)
        if value is UNKNOWN:
            return _failed(rule, f"'{name}' depends on what is not known before the plan runs", path)
        plain = value.value if isinstance(value, Secret) else value
        if not isinstance(plain, bool):
            return _failed(rule, f"'{name}' is neither true nor false", path)
        if name == "when" and not plain:
            return None
        if name == "require" and plain:
            return None
    return _failed(rule, _message(rule, scope), path)


def _failed(rule: Rule, message: str | None, path: Path) -> Finding:
    return Finding(rule.name, rule.level, passed=False, message=message, path=path)


def _message(rule: Rule, scope: Mapping[str, Value]) -> str | None:
    if rule.message is None:
        return None
    try:
        text = embedded.render(rule.message, scope)
    except ExpressionError as error:
        return f"{rule.message} ({error.message})"[:MESSAGE_LIMIT]
    shown = redact(text)
    return (shown if isinstance(shown, str) else "***" if isinstance(text, Secret) else str(shown))[:MESSAGE_LIMIT]


def _counted(changes: Iterable[ResourceChange]) -> dict[str, Value]:
    summary = dict.fromkeys(ROOTS["summary"] or (), 0)
    types: dict[str, None] = {}
    for change in changes:
        name = "noChange" if change.action is ChangeAction.NO_CHANGE else change.action.value.lower()
        summary[name] += 1
        if change.action is not ChangeAction.NO_CHANGE:
            summary["irreversible"] += change.reversibility.value != "REVERSIBLE"
            types[change.type] = None
    return {"summary": summary, "resourceTypes": list(types)}


def _change_scope(change: ResourceChange) -> Mapping[str, Value]:
    gone = change.action in (ChangeAction.DELETE, ChangeAction.DETACH)
    return {
        "key": change.key,
        "type": change.type,
        "provider": change.type.partition(".")[0],
        "action": change.action.value,
        "wave": change.wave,
        "reversibility": change.reversibility.value,
        "downtime": change.downtime,
        "before": change.before,
        "after": None if gone else _after(change),
        "changed": [".".join(item.path) for item, _ in change.properties],
    }


def _after(change: ResourceChange) -> Value:
    """The properties as the plan wants them. Lists are changed as a whole, so that paths lead through objects only."""
    after: dict[str, Value] = dict(change.before or {})
    copied: set[Path] = set()
    for item, _ in change.properties:
        place: dict[str, Value] = after
        here: Path = ()
        for name in item.path[:-1]:
            here = (*here, name)
            inner = place.get(name)
            if here not in copied:
                inner = dict(reveal(inner)) if isinstance(inner, Mapping) else {}
                copied.add(here)
                place[name] = inner
            place = place[name]
        value = UNKNOWN if item.after_unknown else item.after
        if value is None:
            place.pop(item.path[-1], None)
        else:
            place[item.path[-1]] = value
    return after


def _expression(text: str, subject: PolicySubject, path: Path, faults: list[DomainError]) -> Expression | None:
    if len(text) > TEXT_LIMIT:
        faults.append(LimitExceeded(f"this has at most {TEXT_LIMIT} characters", path=path))
        return None
    try:
        found = embedded.single(text, path)
    except Invalid as fault:
        faults.append(fault)
        return None
    faults.extend(_reference_faults(found, subject, path))
    return found


def _message_faults(message: str, subject: PolicySubject) -> Iterator[DomainError]:
    path = ("message",)
    if len(message) > MESSAGE_LIMIT:
        yield LimitExceeded(f"a message has at most {MESSAGE_LIMIT} characters", path=path)
        return
    try:
        for found in embedded.find(message, path):
            yield from _reference_faults(found.expression, subject, path)
    except ExpressionError as fault:
        yield fault


def _reference_faults(expression: Expression, subject: PolicySubject, path: Path) -> Iterator[DomainError]:
    known = [root for root in ROOTS if root != "change" or subject is PolicySubject.CHANGE]
    for reference in expression.references:
        if reference.root not in known:
            message = f"a policy of each {subject.lower()} reads {', '.join(known)}, and there is no '{reference.root}'"
            yield UnknownReference(message + hint(nearest(reference.root, known)), path=path)
            continue
        fields = ROOTS[reference.root]
        if fields is not None and reference.path and reference.path[0] not in fields:
            message = f"'{reference.root}' has {', '.join(fields)}, and no '{reference.path[0]}'"
            yield UnknownReference(message + hint(nearest(reference.path[0], fields)), path=path)
