"""What a plan says of drift, which differences count, and what a plan begins with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.domain.diffing import compare
from app.domain.drifting import Deviation, DriftPolicy, IgnoreRule, as_found, configuration_faults, deviations, ttl_of
from app.domain.enums import DriftReaction
from app.domain.values import Secret

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_plan_says_how_often_and_what_follows() -> None:
    assert DriftPolicy.of(None) == DriftPolicy(None, DriftReaction.REPORT)
    given = {"drift": {"every": "PT10M", "reaction": "PLAN"}, "ttl": "PT2H"}
    assert DriftPolicy.of(given) == DriftPolicy(timedelta(minutes=10), DriftReaction.PLAN)
    assert (ttl_of(given), ttl_of({})) == (timedelta(hours=2), None)


@pytest.mark.parametrize(
    ("configuration", "paths"),
    [
        ({"drift": []}, [("configuration", "drift")]),
        ({"drift": {"evry": "PT1H"}}, [("configuration", "drift", "evry")]),
        ({"drift": {"every": "PT1S"}}, [("configuration", "drift", "every")]),
        ({"drift": {"every": 600}}, [("configuration", "drift", "every")]),
        ({"drift": {"reaction": "report"}}, [("configuration", "drift", "reaction")]),
        ({"drift": {"reaction": []}}, [("configuration", "drift", "reaction")]),
        ({"ttl": "2h"}, [("configuration", "ttl")]),
        ({"ttl": "PT0S", "drift": {"every": "P1Y"}}, [("configuration", "drift", "every"), ("configuration", "ttl")]),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_stands(configuration: Any, paths: list[tuple[str, ...]]) -> None:
    assert [fault.path for fault in configuration_faults(configuration)] == paths


def test_a_rule_covers_its_path_and_what_is_below_it() -> None:
    rule = IgnoreRule(("a", "b"), "x")
    assert [rule.covers(path) for path in (("a", "b"), ("a", "b", "c"), ("a",), ("a", "bc"))] == [
        True,
        True,
        False,
        False,
    ]
    assert IgnoreRule.from_document(rule.document()) == rule
    timed = IgnoreRule(("a",), "x", NOW)
    assert (timed.holds(NOW - timedelta(seconds=1)), timed.holds(NOW)) == (True, False)
    assert IgnoreRule.from_document(timed.document()) == timed


def test_what_counts_put_into_what_was_applied_is_what_is_there() -> None:
    applied = {"a": 1, "b": {"c": 2, "d": 3}, "gone": "x", "p": "secret"}
    observed = {"a": 1, "b": {"c": 9, "d": 4}, "new": [1], "p": "other"}
    back = compare(observed, applied, secret=frozenset({"/p"}))
    rules = [IgnoreRule(("b", "d"), "theirs"), IgnoreRule(("gone",), "expired", NOW)]
    found = deviations(back, rules, NOW)
    assert {deviation.path for deviation in found} == {("b", "c"), ("gone",), ("new",), ("p",)}
    assert Deviation(("p",), Secret("secret"), Secret("other"), sensitive=True) in found
    assert as_found(applied, found) == {"a": 1, "b": {"c": 9, "d": 3}, "new": [1], "p": Secret("other")}
    assert applied == {"a": 1, "b": {"c": 2, "d": 3}, "gone": "x", "p": "secret"}
    assert [Deviation.from_document(deviation.document()) for deviation in found] == list(found)
