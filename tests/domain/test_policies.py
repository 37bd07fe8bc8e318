"""Rules: what they read, when they are met, and what they do not let pass because nobody knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import diffing
from app.domain.approvals import ApprovalPolicy
from app.domain.enums import ChangeAction, ChangeSource, PolicyLevel, PolicySubject, Reversibility
from app.domain.planning.deployment import Origin, ResourceChange
from app.domain.policies import Finding, Rule, Setting, denied, judge, overridable, read
from app.domain.values import UNKNOWN, Secret, leaves

HARD, SOFT, SAID = PolicyLevel.HARD_MANDATORY, PolicyLevel.SOFT_MANDATORY, PolicyLevel.ADVISORY
SETTING = Setting(
    {
        "plan": {"name": "p", "stack": "prod"},
        "author": {"email": "a@b.example", "role": "OPERATOR"},
        "tenant": {"slug": "acme"},
        "template": None,
        "workflow": None,
        "parameters": {"size": 3, "password": Secret("hunter2")},
    },
    {"UTC": {"hour": 17, "weekday": 5}},
)


def rule(require: str, when: str | None = None, /, level: PolicyLevel = HARD, **more: Any) -> Rule:
    subject = more.pop("subject", PolicySubject.CHANGE)
    made, faults = read("r", level, subject, when=when, require=require, message=more.pop("message", None), **more)
    assert made is not None, faults
    return made


def change(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, key: str = "a", **more: Any
) -> ResourceChange:
    found = diffing.compare(before, after or {}, frozenset({"/name"}))
    action = ChangeAction.DELETE if after is None else found.action
    changes = () if after is None else found.changes
    return ResourceChange(
        key=key, type="core.note", action=action, wave=0,
        reversibility=more.pop("reversibility", Reversibility.REVERSIBLE),
        properties=tuple((item, Origin(ChangeSource.TEMPLATE)) for item in changes), before=before, **more,
    )  # fmt: skip


def verdict(one: Rule, *changes: ResourceChange) -> list[tuple[bool, str | None, tuple[str, ...]]]:
    return [(found.passed, found.message, found.path) for found in judge([one], changes, SETTING)]


PASSED = [(True, None, ())]


def test_a_rule_looks_at_every_change_and_names_those_that_break_it() -> None:
    one = rule("${change.after.size < 5}", "${change.action != 'DELETE'}", message="${change.key}: at most 4")
    small, large = change(None, {"size": 4}), change(None, {"size": 9}, "b")
    assert verdict(one, small) == PASSED
    assert verdict(one, small, large) == [(False, "b: at most 4", ("changes", "b"))]
    assert verdict(one, change({"size": 9}, None)) == PASSED


def test_what_stays_as_it_is_is_not_judged() -> None:
    assert verdict(rule("${false}"), change({"size": 9}, {"size": 9})) == PASSED


def test_a_rule_of_the_plan_looks_once() -> None:
    plan = PolicySubject.PLAN
    deleting = change({"size": 1}, None, reversibility=Reversibility.LOSSY)
    assert verdict(rule("${summary.delete == 0}", subject=plan), deleting, deleting) == [(False, None, ())]
    assert verdict(rule("${summary.irreversible <= 1}", subject=plan), deleting) == PASSED
    assert verdict(rule("${!('core.note' in resourceTypes)}", subject=plan), deleting) == [(False, None, ())]
    freeze = rule("${!(time.weekday == 5 && time.hour >= 16)}", subject=plan, message="no, it is Friday")
    assert verdict(freeze) == [(False, "no, it is Friday", ())]


def test_what_is_not_known_before_the_plan_runs_is_not_taken_on_trust() -> None:
    (found,) = verdict(rule("${change.after.size < 5}"), change(None, {"size": UNKNOWN}))
    assert found == (False, "'require' depends on what is not known before the plan runs", ("changes", "a"))
    (found,) = verdict(rule("${true}", "${change.after.size < 5}"), change(None, {"size": UNKNOWN}))
    assert not found[0]


def test_a_rule_that_cannot_be_evaluated_is_not_met() -> None:
    (found,) = verdict(rule("${change.after.size < 5}"), change(None, {"other": 1}))
    assert not found[0]
    assert str(found[1]).startswith("'require' cannot be evaluated: ")
    assert verdict(rule("${default(change.after.size, 0) < 5}"), change(None, {"other": 1})) == PASSED
    (found,) = verdict(rule("${change.after.size}"), change(None, {"size": 1}))
    assert found[1] == "'require' is neither true nor false"


def test_secrets_can_be_judged_and_are_not_shown() -> None:
    long = rule("${size(parameters.password) >= 12}", subject=PolicySubject.PLAN, message="${parameters.password}!")
    assert verdict(long) == [(False, "***", ())]


PROPERTIES = st.dictionaries(
    st.sampled_from("abc"), st.integers(0, 2) | st.fixed_dictionaries({"x": st.integers(0, 2)})
)


@given(before=st.none() | PROPERTIES, after=PROPERTIES)
def test_after_is_what_is_wanted(before: dict[str, Any] | None, after: dict[str, Any]) -> None:
    one = change(before, after)
    if one.action is not ChangeAction.NO_CHANGE:
        (found,) = judge([rule("${false}", message="${toJson(change.after)}")], [one], SETTING)
        # An object that nothing is left in stays as an empty one.
        assert dict(leaves(json.loads(found.message or ""))) == dict(leaves(after))


def test_many_failures_are_counted_rather_than_listed() -> None:
    found = judge([rule("${false}")], [change(None, {"n": 1}, f"k{number}") for number in range(30)], SETTING)
    assert len(found) == 21
    assert found[-1].message == "and 10 changes more"


def test_levels_refuse_ask_or_only_tell() -> None:
    found = [Finding("h", HARD, passed=False), Finding("s", SOFT, passed=False, path=("changes", "a")),
             Finding("a", SAID, passed=False), Finding("ok", HARD, passed=True)]  # fmt: skip
    assert [item.policy for item in denied(found)] == ["h"]
    assert overridable(found) == ["s/changes/a"]
    assert [Finding.of(item.document()) for item in found] == found
    assert ApprovalPolicy(author_may_approve=True).overruling == ApprovalPolicy(1, author_may_approve=False)
    assert ApprovalPolicy(3).overruling.required == 3


@pytest.mark.parametrize(
    ("given_", "path", "code", "part"),
    [
        ({"require": "true"}, ("require",), "INVALID", "one expression"),
        ({"require": "${1 +}"}, ("require",), "INVALID", "1 +"),
        ({"require": "${chnage.key == 'a'}"}, ("require",), "UNKNOWN_REFERENCE", "did you mean 'change'"),
        ({"require": "${change.kee == 'a'}"}, ("require",), "UNKNOWN_REFERENCE", "'key'"),
        ({"when": "${resources.a.id == 'a'}"}, ("when",), "UNKNOWN_REFERENCE", "resources"),
        ({"message": "${author.name}"}, ("message",), "UNKNOWN_REFERENCE", "name"),
        ({"message": "${"}, ("message",), "INVALID", ""),
        ({"message": "x" * 501}, ("message",), "LIMIT_EXCEEDED", "500"),
        ({"require": "${" + " " * 4000 + "true}"}, ("require",), "LIMIT_EXCEEDED", "4000"),
        ({"subject": PolicySubject.PLAN, "require": "${change.key}"}, ("require",), "UNKNOWN_REFERENCE", "change"),
    ],
)  # fmt: skip
def test_every_fault_says_where_it_is(given_: dict[str, Any], path: tuple[str, ...], code: str, part: str) -> None:
    texts = {"when": None, "require": "${true}", "message": None, **given_}
    subject = texts.pop("subject", PolicySubject.CHANGE)
    made, (fault,) = read("r", HARD, subject, **texts)
    assert made is None
    assert (fault.path, fault.code) == (path, code)
    assert part in fault.message


def test_all_faults_are_told_at_once() -> None:
    _, faults = read("r", HARD, PolicySubject.PLAN, when="x", require="y", message="${z}")
    assert [fault.path for fault in faults] == [("when",), ("require",), ("message",)]
