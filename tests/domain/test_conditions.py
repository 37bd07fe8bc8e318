"""Conditions: what they read, what they make of it, and when they fire, against somebody who knows the whole course."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import conditions
from app.domain.conditions import FIELDS, Act, Condition, FireMode, Root, Seen, Verdict, decide
from app.domain.errors import Several

NOW = datetime(2026, 3, 2, 22, 4, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
WHEN = '${resources["db"].status == "ACTIVE" && plans["network"].status == "SUCCEEDED" && time.hour >= 22 && signals["go"].received}'  # noqa: E501


def condition(when: str = "${signals.go.received}", **more: Any) -> Condition:
    return Condition.of({"when": when, **more})


def faults(**document: Any) -> list[tuple[str, str]]:
    return [(fault.code, ".".join(fault.path)) for fault in conditions.check(document, "plan")]


def test_a_whole_document() -> None:
    found = condition(WHEN, **{"for": "PT5M", "fire": "EACH", "coolDown": "PT1H", "timeZone": "Europe/Paris"})
    assert (found.hold, found.fire, found.cool_down) == (5 * MINUTE, FireMode.EACH, 60 * MINUTE)
    assert found.subjects("prod") == ('resources["prod/db"]', 'plans["network"]')
    assert {root: found.names(root) for root in Root} == {
        Root.RESOURCES: ("db",),
        Root.PLANS: ("network",),
        Root.JOBS: (),
        Root.TIME: ("hour",),
        Root.SIGNALS: ("go",),
    }


def test_what_is_left_out() -> None:
    once, each = condition(), condition(fire="EACH")
    assert (once.hold, once.fire, once.cool_down, once.time_zone) == (timedelta(), FireMode.ONCE, None, "UTC")
    assert each.cool_down == MINUTE


@pytest.mark.parametrize(
    ("document", "code", "path"),
    [
        ({}, "REQUIRED", "condition.when"),
        ({"when": 1}, "TYPE_MISMATCH", "condition.when"),
        ({"when": "true"}, "INVALID", "condition.when"),
        ({"when": "${true}"}, "INVALID", "condition.when"),
        ({"when": "${signals.go.received} "}, None, ""),
        ({"when": "if ${signals.go.received}"}, "INVALID", "condition.when"),
        ({"when": "${signals.go.received &&}"}, "INVALID", "condition.when"),
        ({"when": "${signals.go.received"}, "INVALID", "condition.when"),
        ({"when": "${" + "signals.go.received || " * 300 + "signals.go.received}"}, "LIMIT_EXCEEDED", "condition.when"),
        ({"when": "${plan.a.status}"}, "UNKNOWN_REFERENCE", "condition.when"),
        ({"when": "${size(plans) > 1}"}, "INVALID", "condition.when"),
        ({"when": '${plans[signals["a"].payload.name].status == ""}'}, "INVALID", "condition.when"),
        ({"when": "${plans.a.state}"}, "UNKNOWN_REFERENCE", "condition.when"),
        ({"when": "${time.our > 1}"}, "UNKNOWN_REFERENCE", "condition.when"),
        ({"when": '${jobs["plan"].status == "FAILED"}'}, "INVALID", "condition.when"),
        (
            {"when": "${" + " && ".join(f"signals.s{n}.received" for n in range(51)) + "}"},
            "LIMIT_EXCEEDED",
            "condition.when",
        ),
        ({"for": "5 minutes"}, "INVALID", "condition.for"),
        ({"for": "P32D"}, "INVALID", "condition.for"),
        ({"for": "PT0S"}, None, ""),
        ({"fire": "TWICE"}, "INVALID", "condition.fire"),
        ({"fire": ["ONCE"]}, "INVALID", "condition.fire"),
        ({"coolDown": "PT1H"}, "INVALID", "condition.coolDown"),
        ({"fire": "EACH", "coolDown": "PT9S"}, "INVALID", "condition.coolDown"),
        ({"timeZone": "Mars/Olympus"}, "INVALID", "condition.timeZone"),
        ({"timeZone": None}, "INVALID", "condition.timeZone"),
        ({"colDown": "PT1H"}, "INVALID", "condition.colDown"),
    ],
)
def test_what_is_wrong_with_a_document(document: dict[str, Any], code: str | None, path: str) -> None:
    with_when = document if "when" in document or not document else {"when": "${signals.go.received}", **document}
    assert faults(**with_when) == ([] if code is None else [(code, path)])


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(Several) as caught:
        condition("${time.our}", fire="TWICE", timeZone=1, x=1)
    assert [fault.path[-1] for fault in caught.value.errors] == ["x", "when", "fire", "timeZone"]
    assert "did you mean 'hour'?" in caught.value.errors[1].message
    assert [fault.code for fault in conditions.check([], "plan")] == ["TYPE_MISMATCH"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("db", ("own", "db")),
        ("prod/db", ("prod", "db")),
        ("a/b/db", ("a/b", "db")),
        ("db[x/y]", ("own", "db[x/y]")),
        ("prod/db[x/y]", ("prod", "db[x/y]")),
    ],
)
def test_names_of_resources(name: str, meant: tuple[str, str]) -> None:
    assert conditions.resource_name(name, "own") == meant


def scope(**roots: Any) -> dict[str, Any]:
    return {**{root.value: {} for root in Root}, **roots}


@pytest.mark.parametrize(
    ("when", "roots", "verdict"),
    [
        ("${plans.a.status == 'READY'}", {"plans": {"a": {"status": "READY"}}}, Verdict(result=True)),
        ("${plans.a.status == 'READY'}", {"plans": {"a": {"status": "DRAFT"}}}, Verdict(result=False)),
        ("${plans.a.status != 'READY'}", {}, Verdict(result=False, fault="'plans' has no 'a'")),
        ("${!has(plans.a)}", {}, Verdict(result=True)),
        ("${default(plans.a.status, 'READY') == 'READY'}", {}, Verdict(result=True)),
        (
            "${plans.a.status}",
            {"plans": {"a": {"status": "READY"}}},
            Verdict(result=False, fault="what it says is neither true nor false"),
        ),
    ],
)
def test_what_is_not_there_makes_it_false_and_says_so(when: str, roots: dict[str, Any], verdict: Verdict) -> None:
    assert condition(when).judge(scope(**roots)) == verdict


def test_only_what_was_read_is_an_input() -> None:
    read = condition(
        "${resources.a.outputs.list[1] == 'x' && has(plans.b) && time.hour > 1 && plans.c.status == 'READY'"
        " && signals.long.payload == {}}"
    )
    given_ = scope(
        resources={"a": {"status": "ACTIVE", "outputs": {"list": ["w", "x"]}}},
        plans={"b": {"status": "DRAFT"}},
        time={"hour": 3, "minute": 4},
        signals={"long": {"payload": {"text": "x" * 2000}}},
    )
    assert read.inputs(given_) == {
        "resources": {"a": {"outputs.list.1": "x"}},
        "plans": {"b": {"exists": True}, "c": {"status": None}},
        "time": {"hour": 3},
        "signals": {"long": {"payload": "… 2011 characters"}},
    }
    assert given_["plans"] == {"b": {"status": "DRAFT"}}


@pytest.mark.parametrize(
    ("when", "poll"),
    [
        ("${signals.go.received}", 5 * MINUTE),
        ("${time.hour == 3 || signals.go.received}", 30 * SECOND),
        ("${time.now > '2026'}", 10 * SECOND),
    ],
)
def test_how_soon_it_is_looked_at_again_without_being_told(when: str, poll: timedelta) -> None:
    assert condition(when).next_poll(NOW) == NOW + poll


def test_the_time_is_that_of_the_zone() -> None:
    found = conditions.time_scope(datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC), "Europe/Paris")
    after = conditions.time_scope(datetime(2026, 3, 29, 1, 0, tzinfo=UTC), "Europe/Paris")
    assert (found["clock"], after["clock"], after["hour"]) == ("01:59", "03:00", 3)
    assert (found["date"], found["weekday"], found["now"]) == ("2026-03-29", 7, "2026-03-29T00:59:59Z")
    assert tuple(found) == FIELDS[Root.TIME]


def test_a_course_by_hand() -> None:
    """Each line: seconds since the beginning, what it is, what follows, when to look again at the latest."""
    cool = condition(fire="EACH", coolDown="PT1M", **{"for": "PT10S"})
    seen = Seen()
    for second, result, act, due in [
        (0, True, Act.HOLD, 10),
        (5, False, Act.REST, 305),
        (6, True, Act.HOLD, 16),
        (16, True, Act.FIRE, 316),
        (17, True, Act.SPENT, 317),
        (200, True, Act.SPENT, 500),
        (201, False, Act.REST, 501),
        (202, True, Act.HOLD, 212),
        (212, True, Act.FIRE, 512),
        (213, False, Act.REST, 513),
        (214, True, Act.HOLD, 224),
        (230, True, Act.COOL, 272),
        (271, True, Act.COOL, 272),
        (272, True, Act.FIRE, 572),
    ]:
        decision = decide(cool, seen, NOW + second * SECOND, result=result)
        assert (decision.act, (decision.due - NOW).total_seconds()) == (act, due), second
        seen = decision.seen


def test_who_has_not_looked_for_long_does_not_claim_that_it_held() -> None:
    held = condition(**{"for": "PT1H"})
    seen = Seen(true_since=NOW - 2 * 60 * MINUTE, seen_at=NOW - 16 * MINUTE)
    decision = decide(held, seen, NOW, result=True)
    assert (decision.act, decision.seen.true_since) == (Act.HOLD, NOW)
    watched = decide(held, Seen(true_since=NOW - 2 * 60 * MINUTE, seen_at=NOW - 14 * MINUTE), NOW, result=True)
    assert watched.act is Act.FIRE


def firings(samples: list[tuple[int, bool]], hold: int, cool: int) -> list[int]:
    """By looking at the whole course: in each stretch of true, the first look that is late enough, if any."""
    fired: list[int] = []
    for result, stretch in groupby(samples, key=lambda sample: sample[1]):
        times = [time for time, _ in stretch]
        if result:
            earliest = max(times[0] + hold, fired[-1] + cool if fired else 0)
            fired.extend([time for time in times if time >= earliest][:1])
    return fired


@given(
    st.lists(st.tuples(st.integers(1, 120), st.booleans()), max_size=60),
    st.integers(0, 300),
    st.integers(10, 600),
)
def test_it_fires_once_on_each_edge_that_holds_and_never_too_soon(
    course: list[tuple[int, bool]], hold: int, cool: int
) -> None:
    each = condition(fire="EACH", coolDown=f"PT{cool}S", **{"for": f"PT{hold}S"})
    seen, time, fired = Seen(), 0, []
    samples = []
    for gap, result in course:
        time += gap
        samples.append((time, result))
        decision = decide(each, seen, NOW + time * SECOND, result=result)
        assert decision.due > NOW + time * SECOND
        seen = decision.seen
        if decision.act is Act.FIRE:
            fired.append(time)
    assert fired == firings(samples, hold, cool)
