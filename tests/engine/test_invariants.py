"""An invariant that finds nothing must be one that could: each fault of a schedule is found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.engine.history import History
from tests.engine.invariants import each_time_fires_once

NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def history(firings: list[dict[str, Any]], plans: list[dict[str, Any]], jobs: list[dict[str, Any]]) -> History:
    return History(jobs, (), (), (), (), (), (), (), {}, firings=firings, plans=plans)


def fired(at: datetime = NOON, child: int | None = 2, outcome: str = "SPAWNED") -> dict[str, Any]:
    return {"plan_id": 1, "fire_at": at, "outcome": outcome, "child_plan_id": child}


def plan(id_: int = 2, at: datetime = NOON) -> dict[str, Any]:
    return {"id": id_, "parent_plan_id": 1, "scheduled_at": at}


def job(plan_id: int = 2, began: datetime = NOON, parent: int | None = None) -> dict[str, Any]:
    return {"id": 7, "plan_id": plan_id, "parent_job_id": parent, "dispatched_at": began}


def test_a_time_that_ran_once_is_as_it_should_be() -> None:
    retried = [job(), job(parent=7)]
    skipped = fired(NOON + MINUTE, None, "SKIPPED")
    assert list(each_time_fires_once(history([fired(), skipped], [plan()], retried))) == []


@pytest.mark.parametrize(
    ("firings", "plans", "jobs", "said"),
    [
        ([fired(), fired()], [plan()], [job()], ["entered", "is the run of 2 times"]),
        ([fired()], [plan()], [job(), job()], ["was fired 2 times"]),
        ([fired(), fired(NOON + MINUTE, None)], [plan()], [job()], ["and its run is None"]),
        ([fired()], [plan(at=NOON + MINUTE)], [job()], ["ran for"]),
        ([fired()], [plan()], [job(began=NOON - MINUTE)], ["began at"]),
        ([fired(child=3)], [plan()], [job()], ["and its run is 3"]),
    ],
)
def test_each_fault_of_a_schedule_is_found(
    firings: list[dict[str, Any]], plans: list[dict[str, Any]], jobs: list[dict[str, Any]], said: list[str]
) -> None:
    found = list(each_time_fires_once(history(firings, plans, jobs)))
    assert len(found) == len(said)
    assert all(words in fault for words, fault in zip(said, found, strict=True))
