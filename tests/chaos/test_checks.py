"""Each check of what goes on beside the plans finds what is wrong, and nothing where nothing is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.chaos.conditional import wrong_edges, wrong_onces
from tests.chaos.integrator import wrong_deliveries
from tests.chaos.interventions import wrong_answers, wrong_continuations, wrong_pauses
from tests.chaos.timetable import wrong_firings, wrong_runs_once

NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def of_job(status: str, job: int = 1) -> dict[str, Any]:
    return {"plan_name": "plan", "job_id": job, "kind": "JobStatusChanged", "status": status, "previous": None,
            "step": None}  # fmt: skip


def of_step(previous: str, status: str, job: int = 1, step: str = "a") -> dict[str, Any]:
    return {"plan_name": "plan", "job_id": job, "kind": "StepStatusChanged", "status": status, "previous": previous,
            "step": step}  # fmt: skip


PAUSED = [of_job("RUNNING"), of_job("PAUSING"), of_step("RUNNING", "SUCCEEDED"), of_job("PAUSED"), of_job("QUEUED"),
          of_step("READY", "RUNNING", step="b"), of_job("SUCCEEDED")]  # fmt: skip


def test_a_pause_in_which_nothing_began_is_as_it_should_be() -> None:
    assert list(wrong_pauses(PAUSED)) == []


@pytest.mark.parametrize("place", [2, 4])
def test_what_begins_in_a_pause_is_found(place: int) -> None:
    moves = [*PAUSED[:place], of_step("READY", "RUNNING"), *PAUSED[place:]]
    status = "PAUSING" if place == 2 else "PAUSED"
    assert list(wrong_pauses(moves)) == [f"pause: step a of job 1 began while the job was {status}"]


def test_a_pause_without_end_is_found() -> None:
    assert list(wrong_pauses(PAUSED[:4])) == ["pause: job 1 stayed PAUSED"]


ASKED = [of_step("RUNNING", "WAITING", step="ask"), of_job("PAUSED"), of_step("WAITING", "READY", step="ask"),
         of_step("READY", "RUNNING", step="ask"), of_step("RUNNING", "SUCCEEDED", step="ask")]  # fmt: skip


def test_an_answer_that_is_lost_or_taken_twice_is_found() -> None:
    assert list(wrong_answers(ASKED)) == []
    assert list(wrong_answers([*ASKED, ASKED[2]])) == ["gate: job 1 took 2 answers and passed its gate 1 times"]
    assert list(wrong_answers(ASKED[:2])) == ["gate: job 1 took 0 answers and passed its gate 0 times"]


FAILED = [of_step("SUCCEEDED", "COMPENSATING", step="b"), of_step("COMPENSATING", "COMPENSATED", step="b"),
          of_step("SUCCEEDED", "COMPENSATING"), of_step("COMPENSATING", "COMPENSATION_FAILED"),
          of_job("ROLLBACK_FAILED")]  # fmt: skip
GONE_ON = [of_step("FAILED", "COMPENSATING", 2), of_step("COMPENSATING", "COMPENSATED", 2), of_job("ROLLED_BACK", 2)]


def test_a_rollback_that_was_gone_on_with_is_as_it_should_be() -> None:
    assert list(wrong_continuations([*FAILED, *GONE_ON])) == []


def test_a_rollback_that_nobody_went_on_with_is_found() -> None:
    assert list(wrong_continuations(FAILED)) == ["continuation: the jobs of plan came to ['ROLLBACK_FAILED']"]


def test_a_step_that_is_undone_twice_is_found() -> None:
    moves = [*FAILED, of_step("SUCCEEDED", "COMPENSATING", 2, "b"), *GONE_ON]
    assert list(wrong_continuations(moves)) == ["continuation: step b of plan was undone twice"]


def once(**other: Any) -> dict[str, Any]:
    return {"plan_name": "once", "status": "SUCCEEDED", "scheduled_at": NOON, "jobs": 1, "began": NOON, **other}


@pytest.mark.parametrize(
    "other", [{"status": "SCHEDULED", "jobs": 0}, {"jobs": 2}, {"began": NOON - timedelta(seconds=1)}]
)
def test_a_plan_that_did_not_run_once_at_its_time_is_found(other: dict[str, Any]) -> None:
    assert list(wrong_runs_once([once()])) == []
    assert len(list(wrong_runs_once([once(**other)]))) == 1


def fired(minutes: list[int], *, outcome: str = "SPAWNED") -> list[dict[str, Any]]:
    return [
        {"plan_name": "often", "fire_at": NOON + timedelta(minutes=minute), "outcome": outcome,
         "child_plan_id": minute if outcome == "SPAWNED" else None}
        for minute in minutes
    ]  # fmt: skip


def runs(minutes: list[int], **other: Any) -> list[dict[str, Any]]:
    return [
        {"plan_name": "often", "id": minute, "scheduled_at": NOON + timedelta(minutes=minute), "status": "SUCCEEDED",
         "jobs": 1, "began": NOON + timedelta(minutes=minute), **other}
        for minute in minutes
    ]  # fmt: skip


def test_minutes_that_were_each_run_once_are_as_they_should_be() -> None:
    assert list(wrong_firings(fired([0, 1, 2]), runs([0, 1, 2]))) == []
    # Nobody wants any more what waits when a plan is cancelled.
    assert list(wrong_firings(fired([0, 1]) + fired([2], outcome="MISSED"), runs([0, 1]))) == []


def test_a_minute_that_is_missing_at_the_end_is_found() -> None:
    assert list(wrong_firings(fired([0]), runs([0]), {"often": NOON + timedelta(seconds=89)})) == []
    assert len(list(wrong_firings(fired([0]), runs([0]), {"often": NOON + timedelta(seconds=91)}))) == 1


@pytest.mark.parametrize(
    ("firings", "children"),
    [
        (fired([0, 2]), runs([0, 2])),
        (fired([0], outcome="MISSED") + fired([1]), runs([1])),
        (fired([0, 1]), runs([0])),
        (fired([0]), runs([0, 7])),
        (fired([0]), runs([0], jobs=2)),
        (fired([0]), runs([0], status="QUEUED")),
        (fired([0]), runs([0], began=NOON - timedelta(seconds=1))),
    ],
)
def test_a_minute_that_is_missing_doubled_or_too_early_is_found(
    firings: list[dict[str, Any]], children: list[dict[str, Any]]
) -> None:
    assert len(list(wrong_firings(firings, children))) == 1


def test_what_was_told_at_least_once_and_in_order_is_as_it_should_be() -> None:
    assert list(wrong_deliveries(["a", "b", "c"], ["a", "b", "b", "a", "c", "c"])) == []


@pytest.mark.parametrize(
    ("taken", "complaint"),
    [
        (["a", "c"], "webhooks: 1 of 3 events were never told"),
        (["a", "c", "b"], "webhooks: 1 times an event was told after a later one"),
        (["a", "b", "x", "c"], "webhooks: 1 messages are of no event"),
    ],
)
def test_what_is_missing_late_or_strange_is_found(taken: list[str], complaint: str) -> None:
    assert list(wrong_deliveries(["a", "b", "c"], taken)) == [complaint]


def test_a_condition_that_fires_twice_or_not_is_found() -> None:
    once = {"plan_name": "when-1", "status": "SUCCEEDED", "jobs": 1, "fired": 1}
    assert list(wrong_onces([once])) == []
    assert list(wrong_onces([{**once, "jobs": 2}])) == ["condition: when-1 is SUCCEEDED with 2 jobs, and fired 1 times"]
    assert list(wrong_onces([{**once, "fired": 2}])) == [
        "condition: when-1 is SUCCEEDED with 1 jobs, and fired 2 times"
    ]
    waiting = {**once, "status": "WAITING", "jobs": 0, "fired": 0}
    assert list(wrong_onces([waiting])) == ["condition: when-1 is WAITING with 0 jobs, and fired 0 times"]


def test_a_change_that_is_told_or_acted_on_twice_is_found() -> None:
    run, told = {"id": 1, "status": "SUCCEEDED", "jobs": 1}, ["IN_SYNC", "MODIFIED", "IN_SYNC"]
    assert list(wrong_edges([run], told, 1)) == []
    assert list(wrong_edges([run, run], told, 1)) == ["condition: 1 changes were found 1 times and fired 2 times"]
    assert list(wrong_edges([], told, 1)) == ["condition: 1 changes were found 1 times and fired 0 times"]
    twice = ["IN_SYNC", "MODIFIED", "MODIFIED", "IN_SYNC"]
    assert list(wrong_edges([run], twice, 1)) == [f"drift: told {twice}"]
    assert list(wrong_edges([{**run, "jobs": 2}], told, 1)) == ["condition: run 1 is SUCCEEDED with 2 jobs"]
