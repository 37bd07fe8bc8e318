"""Whether a trigger becomes a run."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from app.domain.automation import Automation, Rate
from app.domain.enums import OverlapPolicy, StatusReason
from app.domain.firing import (
    FAILURES,
    MOST_LINKS,
    UNDER_WAY,
    Skip,
    Spawn,
    Standing,
    Wait,
    decide,
    failures_in_a_row,
    trip,
)
from app.domain.scheduling import MOST_QUEUED
from app.domain.statuses import PlanStatus

OK, BAD, CANCELLED = PlanStatus.SUCCEEDED, PlanStatus.ROLLED_BACK, PlanStatus.CANCELLED
PLAN = Standing(1)
PLAIN = Automation(())


def reason(decision: object) -> StatusReason | None:
    return decision.reason if isinstance(decision, Skip) else None


def test_nothing_stands_against_it() -> None:
    assert decide(PLAN, PLAIN, ()) == Spawn()
    assert decide(replace(PLAN, busy=1), replace(PLAIN, max_concurrent=2), (7, 8)) == Spawn()


@pytest.mark.parametrize("paused", [StatusReason.USER, StatusReason.CIRCUIT_OPEN])
def test_a_paused_plan_says_why(paused: StatusReason) -> None:
    assert reason(decide(replace(PLAN, paused=paused), PLAIN, ())) is paused


def test_a_chain_neither_comes_back_nor_grows_for_ever() -> None:
    assert reason(decide(PLAN, PLAIN, (7, 1, 8))) is StatusReason.POLICY
    others = range(2, 2 + MOST_LINKS)
    assert decide(PLAN, PLAIN, others[1:]) == Spawn()
    assert reason(decide(PLAN, PLAIN, others)) is StatusReason.POLICY


def test_its_rate() -> None:
    limited = replace(PLAIN, rate=Rate(2, timedelta(hours=1)))
    assert decide(replace(PLAN, recent=1), limited, ()) == Spawn()
    assert reason(decide(replace(PLAN, recent=2), limited, ())) is StatusReason.QUOTA


@pytest.mark.parametrize(
    ("overlap", "room"), [(OverlapPolicy.SKIP, 0), (OverlapPolicy.QUEUE_ONE, 1), (OverlapPolicy.QUEUE_ALL, MOST_QUEUED)]
)
def test_while_a_run_is_not_over(overlap: OverlapPolicy, room: int) -> None:
    automation = replace(PLAIN, overlap=overlap)
    busy = replace(PLAN, busy=1)
    for queued in {0, max(room - 1, 0), room}:
        decision = decide(replace(busy, queued=queued), automation, ())
        expected = None if queued < room else StatusReason.CONCURRENCY_LIMIT
        assert (isinstance(decision, Wait), reason(decision)) == (queued < room, expected)


def test_who_came_first_goes_first() -> None:
    assert isinstance(decide(replace(PLAN, queued=1), replace(PLAIN, overlap=OverlapPolicy.QUEUE_ALL), ()), Wait)


@pytest.mark.parametrize(
    ("runs", "failed"),
    [
        ((), 0),
        ((BAD, BAD, OK, BAD), 2),
        ((BAD, CANCELLED, PlanStatus.RUNNING, BAD, PlanStatus.EXPIRED, BAD), 3),
        ((OK, BAD, BAD, BAD), 0),
    ],
)
def test_failures_in_a_row(runs: tuple[PlanStatus, ...], failed: int) -> None:
    assert failures_in_a_row(runs) == failed
    standing = replace(PLAN, runs=runs)
    assert trip(standing, replace(PLAIN, failures=failed + 1)) is None
    assert failed == 0 or trip(standing, replace(PLAIN, failures=failed)) is not None
    assert trip(replace(standing, paused=StatusReason.USER), replace(PLAIN, failures=1)) is None


def test_every_status_is_a_failure_or_takes_up_room_or_says_nothing() -> None:
    assert not FAILURES & UNDER_WAY
    says_nothing = {OK, CANCELLED, PlanStatus.REJECTED, PlanStatus.EXPIRED, PlanStatus.DRAFT}
    assert set(PlanStatus) == FAILURES | UNDER_WAY | says_nothing
