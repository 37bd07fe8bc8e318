"""What a standing plan listens to: read with every fault, and matched with what happens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.domain import automation
from app.domain.automation import Automation, Fact, Rate, TriggerKind, check_triggers, combined, parameters_of, read
from app.domain.enums import OverlapPolicy
from app.domain.errors import DomainError, Several
from app.domain.expressions import ExpressionError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NIGHTLY = {"on": "RECURRENCE", "recurrence": "0 3 * * *", "timeZone": "Europe/Berlin"}
WHOLE: dict[str, Any] = {
    "triggers": [
        {"on": "DRIFT"},
        {"on": "DRIFT", "stack": "other"},
        {"on": "TEMPLATE_PUBLISHED"},
        {"on": "PLAN_SUCCEEDED", "plan": "upstream"},
        {"on": "WEBHOOK"},
        NIGHTLY,
    ],
    "concurrencyKey": "k",
    "maxConcurrent": 2,
    "overlap": "QUEUE_ALL",
    "rate": {"count": 10, "per": "PT1H"},
    "breaker": {"failures": 5},
    "parameters": {"version": "${trigger.payload.version}", "plain": 1},
}


def faults(document: Any) -> list[tuple[str, str]]:
    """(code, path) of everything that is wrong."""
    with pytest.raises(DomainError) as refused:
        read(document, NOW)
    errors = refused.value.errors if isinstance(refused.value, Several) else (refused.value,)
    assert all(error.path[:2] == automation.PATH for error in errors)
    return [(error.code, ".".join(error.path[2:])) for error in errors]


def test_a_whole_document() -> None:
    found = read(WHOLE, NOW)
    assert [trigger.kind.value for trigger in found.triggers] == [trigger["on"] for trigger in WHOLE["triggers"]]
    assert (found.concurrency_key, found.max_concurrent, found.overlap) == ("k", 2, OverlapPolicy.QUEUE_ALL)
    assert (found.rate, found.failures) == (Rate(10, timedelta(hours=1)), 5)
    assert Automation.of(WHOLE) == found
    assert found.next_time(NOW) == datetime(2026, 3, 2, 2, tzinfo=UTC)
    assert found.last_time(NOW) == datetime(2026, 3, 1, 2, tzinfo=UTC)


def test_what_is_left_out() -> None:
    found = read({"triggers": [{"on": "WEBHOOK"}]}, NOW)
    assert (found.concurrency_key, found.max_concurrent, found.overlap) == (None, 1, OverlapPolicy.QUEUE_ONE)
    assert (found.rate, found.failures, found.parameters) == (None, 3, {})
    assert (found.next_time(NOW), found.last_time(NOW)) == (None, None)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (7, [("TYPE_MISMATCH", "")]),
        ({}, [("REQUIRED", "triggers")]),
        ({"triggers": []}, [("REQUIRED", "triggers")]),
        ({"triggers": {}}, [("TYPE_MISMATCH", "triggers")]),
        ({"triggers": [{"on": "WEBHOOK"}] * 21}, [("INVALID", "triggers")]),
        ({"triggers": ["DRIFT"]}, [("TYPE_MISMATCH", "triggers.0")]),
        ({"triggers": [{}]}, [("INVALID", "triggers.0.on")]),
        ({"triggers": [{"on": "drift"}]}, [("INVALID", "triggers.0.on")]),
        ({"triggers": [{"on": ["DRIFT"]}]}, [("INVALID", "triggers.0.on")]),
        ({"triggers": [{"on": "WEBHOOK", "plan": "x"}]}, [("INVALID", "triggers.0.plan")]),
        ({"triggers": [{"on": "DRIFT", "stack": ""}]}, [("INVALID", "triggers.0.stack")]),
        ({"triggers": [{"on": "PLAN_SUCCEEDED"}]}, [("REQUIRED", "triggers.0.plan")]),
        ({"triggers": [{"on": "PLAN_SUCCEEDED", "plan": 7}]}, [("INVALID", "triggers.0.plan")]),
        ({"triggers": [{**NIGHTLY, "recurrence": "61 * * * *"}]}, [("INVALID", "triggers.0.recurrence")]),
        ({"triggers": [{**NIGHTLY, "timeZone": "Mars"}]}, [("INVALID", "triggers.0.timeZone")]),
        ({"triggers": [{"on": "RECURRENCE", "recurrence": "0 3 * * *"}]}, [("REQUIRED", "triggers.0.timeZone")]),
        ({**WHOLE, "overlap": "CANCEL_RUNNING"}, [("INVALID", "overlap")]),
        ({**WHOLE, "overlap": ["SKIP"]}, [("INVALID", "overlap")]),
        ({**WHOLE, "maxConcurrent": True}, [("INVALID", "maxConcurrent")]),
        ({**WHOLE, "maxConcurrent": 0, "concurrencyKey": 1},
         [("INVALID", "concurrencyKey"), ("INVALID", "maxConcurrent")]),
        ({**WHOLE, "rate": 5}, [("TYPE_MISMATCH", "rate")]),
        ({**WHOLE, "rate": {"count": 1}}, [("REQUIRED", "rate.per")]),
        ({**WHOLE, "rate": {"count": 0, "per": "PT1H"}}, [("INVALID", "rate.count")]),
        ({**WHOLE, "rate": {"count": 1, "per": "PT0S"}}, [("INVALID", "rate.per")]),
        ({**WHOLE, "rate": {"count": 1, "per": "1 hour", "x": 1}}, [("INVALID", "rate.x"), ("INVALID", "rate.per")]),
        ({**WHOLE, "breaker": 3}, [("TYPE_MISMATCH", "breaker")]),
        ({**WHOLE, "breaker": {"failure": 3}}, [("INVALID", "breaker.failure")]),
        ({**WHOLE, "breaker": {"failures": 0}}, [("INVALID", "breaker.failures")]),
        ({**WHOLE, "parameters": []}, [("TYPE_MISMATCH", "parameters")]),
        ({**WHOLE, "parameters": {"a": {"b": "${nope"}}}, [("INVALID", "parameters.a.b")]),
        ({**WHOLE, "parameters": {"a": ["${plan.name}"]}}, [("UNKNOWN_REFERENCE", "parameters.a.0")]),
        ({**WHOLE, "circuit": {}}, [("INVALID", "circuit")]),
    ],
)  # fmt: skip
def test_every_fault_is_named_where_it_is(document: Any, expected: list[tuple[str, str]]) -> None:
    assert faults(document) == expected


def test_a_plan_narrows_what_its_workflow_says() -> None:
    assert combined(None, WHOLE) == WHOLE
    assert combined({"automation": {"maxConcurrent": 1}}, [NIGHTLY]) == {"triggers": [NIGHTLY], "maxConcurrent": 1}
    own = {"triggers": [{"on": "DRIFT"}]}
    assert combined({"automation": own}, WHOLE) == {**WHOLE, **own}
    assert combined({"approvals": {}}, {"text": "from before triggers meant anything"}) == {
        "text": "from before triggers meant anything"
    }


def test_what_a_workflow_says_is_checked_where_it_stands() -> None:
    check_triggers(None, NOW)
    check_triggers([NIGHTLY], NOW)
    check_triggers(WHOLE, NOW)
    for wrong, path in (
        ({"text": 1}, ("triggers", "text")),
        ([{"on": 1}], ("triggers", "0", "on")),
        (7, ("triggers",)),
    ):
        with pytest.raises(DomainError) as refused:
            check_triggers(wrong, NOW)
        assert refused.value.path == path


@pytest.mark.parametrize(
    ("fact", "heard"),
    [
        (Fact(TriggerKind.DRIFT, {"own"}), True),
        (Fact(TriggerKind.DRIFT, {"other"}), True),
        (Fact(TriggerKind.DRIFT, {"third"}), False),
        (Fact(TriggerKind.PLAN_SUCCEEDED, {"an id", "upstream"}), True),
        (Fact(TriggerKind.PLAN_SUCCEEDED, {"own"}), False),
    ],
)
def test_what_is_heard(fact: Fact, heard: bool) -> None:
    assert read(WHOLE, NOW).hears(fact, "own") is heard
    assert not read({"triggers": [{"on": "WEBHOOK"}]}, NOW).hears(fact, "own")


def test_parameters_are_read_out_of_the_trigger() -> None:
    found = read(WHOLE, NOW)
    assert parameters_of(found, {"payload": {"version": 7}}) == {"version": 7, "plain": 1}
    with pytest.raises(ExpressionError) as refused:
        parameters_of(found, {"payload": {}})
    assert refused.value.path == ("version",)
