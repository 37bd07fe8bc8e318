"""Whether a trigger that a standing plan has heard becomes a run of it.

    Spawn   make the child now
    Wait    later: a run is not over
    Skip    not at all, and why

Before that, `trip` says whether so many runs in a row have failed that nothing fires until somebody has looked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.domain.automation import Automation
from app.domain.enums import OverlapPolicy, StatusReason
from app.domain.scheduling import MOST_QUEUED
from app.domain.statuses import PlanStatus

# How many standing plans may have led to a run: a chain that is longer is a loop that nobody has seen yet.
MOST_LINKS = 10
# What a run has come to when nothing good came of it. One that was cancelled, rejected or not approved in time says
# nothing about whether the next would do.
FAILURES = frozenset(
    {
        PlanStatus.INVALID,
        PlanStatus.FAILED,
        PlanStatus.PARTIALLY_SUCCEEDED,
        PlanStatus.ROLLED_BACK,
        PlanStatus.ROLLBACK_FAILED,
    }
)
# What takes up room: everything that is neither over nor a draft, those that wait for approval included.
UNDER_WAY = frozenset(
    {
        PlanStatus.VALIDATING,
        PlanStatus.PENDING_APPROVAL,
        PlanStatus.READY,
        PlanStatus.SCHEDULED,
        PlanStatus.WAITING,
        PlanStatus.QUEUED,
        PlanStatus.RUNNING,
        PlanStatus.PAUSED,
        PlanStatus.CANCELLING,
        PlanStatus.ROLLING_BACK,
    }
)


class TriggerOutcome(StrEnum):
    """What came of a trigger."""

    PENDING = "PENDING"
    SPAWNED = "SPAWNED"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a standing plan stands when a trigger is looked at.

    `runs` are the statuses of its runs since the circuit was closed last, the newest first; `busy` how many runs of its
    concurrency key are not over, `recent` how many it has made within its rate, `queued` how many triggers wait.
    """

    plan_id: int
    paused: StatusReason | None = None
    runs: Sequence[PlanStatus] = ()
    busy: int = 0
    recent: int = 0
    queued: int = 0


@dataclass(frozen=True, slots=True)
class Spawn:
    """Make the child."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again when a run is over."""

    message: str = "a run is not over"
    reason: StatusReason = StatusReason.CONCURRENCY_LIMIT


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing comes of it."""

    reason: StatusReason
    message: str


@dataclass(frozen=True, slots=True)
class Trip:
    """The plan pauses until it is resumed."""

    message: str


Decision = Spawn | Wait | Skip


def decide(standing: Standing, automation: Automation, chain: Collection[int]) -> Decision:
    """What becomes of one trigger; `chain` are the standing plans that led to it."""
    if standing.paused is not None:
        paused = "its circuit is open" if standing.paused is StatusReason.CIRCUIT_OPEN else "the plan is paused"
        return Skip(standing.paused, paused)
    loop = _loop(standing.plan_id, chain)
    if loop is not None:
        return loop
    if automation.rate is not None and standing.recent >= automation.rate.count:
        seconds = automation.rate.per.total_seconds()
        return Skip(StatusReason.QUOTA, f"its rate is {automation.rate.count} runs in {seconds:g} seconds")
    if standing.busy < automation.max_concurrent and standing.queued == 0:
        return Spawn()
    return _overlapping(standing.queued, automation.overlap)


def trip(standing: Standing, automation: Automation) -> Trip | None:
    """Whether so many runs in a row have failed that the plan has to stop."""
    failed = failures_in_a_row(standing.runs)
    if standing.paused is not None or failed < automation.failures:
        return None
    what = "its last run has failed" if failed == 1 else f"its last {failed} runs have failed"
    return Trip(f"{what}: resume it when the cause is mended")


def failures_in_a_row(runs: Sequence[PlanStatus]) -> int:
    """How many of the newest runs have failed since the last good one; `runs` have the newest first."""
    failed = 0
    for status in runs:
        if status is PlanStatus.SUCCEEDED:
            break
        failed += status in FAILURES
    return failed


def _loop(plan_id: int, chain: Collection[int]) -> Skip | None:
    if plan_id in chain:
        return Skip(StatusReason.POLICY, "a run of this very plan led to it: that would be a loop")
    if len(chain) >= MOST_LINKS:
        return Skip(StatusReason.POLICY, f"{MOST_LINKS} plans have fired one another to come here: that may be a loop")
    return None


def _overlapping(queued: int, overlap: OverlapPolicy) -> Decision:
    room = {OverlapPolicy.QUEUE_ONE: 1, OverlapPolicy.QUEUE_ALL: MOST_QUEUED}.get(overlap, 0)
    if queued < room:
        return Wait()
    message = "a run is not over" if room == 0 else f"a run is not over, and {queued} wait for it already"
    return Skip(StatusReason.CONCURRENCY_LIMIT, message)
