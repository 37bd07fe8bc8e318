"""Whole jobs played through the pure decision, with the world's answers drawn at random.

The rules are those of the reference model of rollback: an effect is undone only when everything that depends on it is
undone, a failed undo holds back true dependencies only, and what was never touched is never undone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.decisions import JobMove, JobView, StepMove, StepView, decide, in_dependency_order
from app.domain.enums import CancelOutcome, FailureStrategy, StatusReason
from app.domain.operations import Phase
from app.domain.statuses import JOB, STEP, JobStatus, StepStatus


@dataclass
class World:
    """A job under simulation: what the engine would store, and what has happened so far."""

    steps: dict[str, StepView]
    strategy: FailureStrategy
    status: JobStatus = JobStatus.DISPATCHED
    cancel_outcome: CancelOutcome | None = None
    # Keys in the order in which their effects appeared, and in which they were taken back.
    done: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)

    def view(self) -> JobView:
        return JobView(self.status, self.strategy, in_dependency_order(self.steps.values()), self.cancel_outcome)

    def settle(self) -> None:
        """Carry out what follows, and see that asking again adds nothing."""
        for move in decide(self.view()):
            if isinstance(move, JobMove):
                self.status = JOB.after(self.status, move.event)
            else:
                step = self.steps[move.key]
                assert STEP.after(step.status, move.event) is move.status
                self._check(move)
                self.steps[move.key] = replace(step, status=move.status)
        assert decide(self.view()) == ()

    def _check(self, move: StepMove) -> None:
        step = self.steps[move.key]
        if move.status is StepStatus.READY:
            assert self.status in (JobStatus.DISPATCHED, JobStatus.RUNNING)
            for need in step.needs:
                satisfied = (StepStatus.SUCCEEDED, StepStatus.NO_CHANGE, StepStatus.SKIPPED)
                assert self.steps[need].status in satisfied or self.steps[need].ignore
        if move.status is StepStatus.COMPENSATING:
            assert self.status is JobStatus.ROLLING_BACK
            assert step.touched
            for other in self.steps.values():
                if move.key in other.needs and other.touched and other.status is not StepStatus.NO_CHANGE:
                    assert other.status in (StepStatus.COMPENSATED, StepStatus.COMPENSATION_SKIPPED)

    def give(self, key: str, status: StepStatus, *, touched: bool = False, claimed: bool = False) -> None:
        step = self.steps[key]
        self.steps[key] = replace(step, status=status, touched=step.touched or touched, claimed=claimed)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(1, 8))
    keys = [f"s{number}" for number in range(count)]
    steps = {}
    for number, key in enumerate(keys):
        needs = tuple(other for other in keys[:number] if draw(st.integers(0, 9)) < 4)
        commit = number >= count - 1 and draw(st.booleans())
        steps[key] = StepView(
            key,
            StepStatus.PENDING,
            needs,
            Phase.COMMIT if commit else Phase.APPLY,
            ignore=draw(st.integers(0, 19)) == 0,
        )
    strategy = draw(st.sampled_from([FailureStrategy.ROLLBACK, FailureStrategy.HALT, FailureStrategy.CONTINUE]))
    return World(steps, strategy)


def play(world: World, data: st.DataObject) -> None:
    """Play the job to its end: workers claim what is due and answer as drawn."""
    world.settle()
    if world.status is JobStatus.DISPATCHED:
        world.status = JOB.after(world.status, "claimed_forward")
    for _ in range(400):
        if world.status in JOB.closed:
            return
        if world.status is JobStatus.RUNNING and data.draw(st.integers(0, 60)) == 0:
            world.cancel_outcome = data.draw(st.sampled_from(CancelOutcome))
            world.status = JOB.after(world.status, "cancel")
            world.settle()
            continue
        due = [key for key, step in world.steps.items() if step.status in _DUE and not step.claimed]
        held = [key for key, step in world.steps.items() if step.claimed]
        assert due or held, f"stuck in {world.status}: {world.steps}"
        key = data.draw(st.sampled_from(sorted(due + held)))
        if world.steps[key].claimed:
            answer(world, key, data)
            world.settle()
        else:
            claim(world, key)
    pytest.fail("the job does not end")


_DUE = (StepStatus.READY, StepStatus.RETRY_WAIT, StepStatus.UNKNOWN, StepStatus.COMPENSATING)


def claim(world: World, key: str) -> None:
    status = world.steps[key].status
    running = StepStatus.RUNNING if status in (StepStatus.READY, StepStatus.RETRY_WAIT) else status
    world.give(key, running, touched=running is StepStatus.RUNNING, claimed=True)


def answer(world: World, key: str, data: st.DataObject) -> None:
    status = world.steps[key].status
    if status is StepStatus.RUNNING:
        outcome = data.draw(st.sampled_from(["ok"] * 6 + ["retryable", "permanent_or_exhausted", "timeout", "no_diff"]))
        if outcome in ("ok", "permanent_or_exhausted"):
            world.done.append(key)
    elif status is StepStatus.UNKNOWN:
        outcome = data.draw(st.sampled_from(["observed_applied", "observed_absent", "indeterminate"]))
    else:
        outcome = data.draw(st.sampled_from(["ok", "ok", "ok", "retryable", "exhausted"]))
        if outcome == "ok":
            world.undone.append(key)
    world.give(key, STEP.after(status, outcome))


def ancestors(world: World, keys: set[str]) -> set[str]:
    found: set[str] = set()
    frontier = list(keys)
    while frontier:
        for need in world.steps[frontier.pop()].needs:
            if need not in found:
                found.add(need)
                frontier.append(need)
    return found


@settings(max_examples=400, deadline=None)
@given(worlds(), st.data())
def test_every_job_ends_and_a_rollback_leaves_nothing_but_what_it_says(world: World, data: st.DataObject) -> None:
    play(world, data)
    statuses = {key: step.status for key, step in world.steps.items()}
    if world.status is JobStatus.ROLLED_BACK:
        left = {
            key
            for key, step in world.steps.items()
            if step.touched and statuses[key] not in (StepStatus.COMPENSATED, StepStatus.NO_CHANGE)
        }
        assert left == set()
    if world.status is JobStatus.ROLLBACK_FAILED:
        stuck = {key for key, status in statuses.items() if status is StepStatus.COMPENSATION_FAILED}
        assert stuck
        waiting = {
            key
            for key, step in world.steps.items()
            if step.touched and statuses[key] in (StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.UNKNOWN)
        }
        assert waiting <= ancestors(world, stuck), "only true dependencies of a failed undo are held back"
    if world.status is JobStatus.SUCCEEDED:
        assert all(
            status in (StepStatus.SUCCEEDED, StepStatus.NO_CHANGE, StepStatus.SKIPPED) or world.steps[key].ignore
            for key, status in statuses.items()
        )
    if world.status in (JobStatus.FAILED, JobStatus.PARTIALLY_SUCCEEDED):
        assert world.undone == []


def job(*steps: StepView, strategy: FailureStrategy = FailureStrategy.ROLLBACK) -> JobView:
    return JobView(JobStatus.RUNNING, strategy, steps)


def test_a_failed_step_is_undone_too() -> None:
    view = job(
        StepView("a", StepStatus.SUCCEEDED, touched=True),
        StepView("b", StepStatus.FAILED, ("a",), touched=True),
        StepView("c", StepStatus.PENDING, ("b",)),
    )
    assert decide(view) == (
        StepMove("c", "upstream_failed", StepStatus.BLOCKED, StatusReason.DEPENDENCY_FAILED, "b"),
        JobMove("failed_rollback", JobStatus.ROLLING_BACK, StatusReason.STEP_FAILED, "b"),
        StepMove("b", "rollback", StepStatus.COMPENSATING, StatusReason.STEP_FAILED),
    )


def test_a_failure_in_commit_undoes_nothing() -> None:
    view = job(
        StepView("a", StepStatus.SUCCEEDED, touched=True),
        StepView("gone", StepStatus.FAILED, (), Phase.COMMIT, touched=True),
    )
    (move,) = decide(view)
    assert isinstance(move, JobMove)
    assert move.status is JobStatus.PARTIALLY_SUCCEEDED


def test_commit_waits_for_all_of_apply() -> None:
    view = job(
        StepView("a", StepStatus.RUNNING, claimed=True, touched=True),
        StepView("gone", StepStatus.PENDING, (), Phase.COMMIT),
    )
    assert decide(view) == ()


def test_running_steps_are_waited_for_before_anything_is_undone() -> None:
    view = job(
        StepView("a", StepStatus.RUNNING, claimed=True, touched=True),
        StepView("b", StepStatus.FAILED, touched=True),
        StepView("c", StepStatus.READY),
    )
    (move,) = decide(view)
    assert isinstance(move, StepMove)
    assert (move.key, move.status) == ("c", StepStatus.CANCELLED)
