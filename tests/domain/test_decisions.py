"""Whole jobs played through the pure decision, with the world's answers drawn at random.

The rules are those of the reference model of rollback: an effect is undone only when everything that depends on it is
undone, a failed undo holds back true dependencies only, and what was never touched is never undone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.decisions import JobMove, JobView, StepMove, StepView, decide
from app.domain.enums import CancelOutcome, FailureStrategy, StatusReason
from app.domain.graph import in_dependency_order
from app.domain.operations import Phase
from app.domain.statuses import JOB, STEP, JobStatus, StepStatus


@dataclass
class World:
    """A job under simulation: what the engine would store, and what has happened so far."""

    steps: dict[str, StepView]
    strategy: FailureStrategy
    status: JobStatus = JobStatus.DISPATCHED
    cancel_outcome: CancelOutcome | None = None
    fallback: FailureStrategy | None = None
    # Keys in the order in which their effects appeared, and in which they were taken back.
    done: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)

    def view(self) -> JobView:
        return JobView(self.status, self.strategy, in_dependency_order(self.steps.values()), self.cancel_outcome,
                       fallback=self.fallback)  # fmt: skip

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
            gate=not commit and draw(st.integers(0, 9)) == 0,
        )
    strategy = draw(st.sampled_from(FailureStrategy))
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
        if world.status is JobStatus.RUNNING and data.draw(st.integers(0, 30)) == 0:
            world.status = JOB.after(world.status, "pause")
            world.settle()
            continue
        if world.status is JobStatus.PAUSED:
            end_pause(world, data)
            continue
        due = [key for key, step in world.steps.items() if _may_be_claimed(world, step)]
        due += [key for key, step in world.steps.items() if step.gate and step.status is StepStatus.WAITING]
        held = [key for key, step in world.steps.items() if step.claimed]
        assert due or held, f"stuck in {world.status}: {world.steps}"
        key = data.draw(st.sampled_from(sorted(due + held)))
        if world.steps[key].status is StepStatus.WAITING:
            answer_gate(world, key, data)
            world.settle()
        elif world.steps[key].claimed:
            answer(world, key, data)
            world.settle()
        else:
            claim(world, key)
    pytest.fail("the job does not end")


_DUE = (StepStatus.READY, StepStatus.RETRY_WAIT, StepStatus.UNKNOWN, StepStatus.COMPENSATING)


def _may_be_claimed(world: World, step: StepView) -> bool:
    if world.status is JobStatus.PAUSING and step.status is not StepStatus.UNKNOWN:
        return False
    return step.status in _DUE and not step.claimed


def answer_gate(world: World, key: str, data: st.DataObject) -> None:
    """Somebody answers or rejects, or nobody does; the answer is taken over by a worker at once."""
    event = data.draw(st.sampled_from(["signal_or_poll", "signal_or_poll", "rejected", "timeout"]))
    status = STEP.after(StepStatus.WAITING, event)
    world.give(key, StepStatus.SUCCEEDED if status is StepStatus.READY else status)


def end_pause(world: World, data: st.DataObject) -> None:
    """Nothing moves by itself; then somebody answers, decides, resumes, cancels, or gives the pause up."""
    assert not any(step.claimed or step.status is StepStatus.UNKNOWN for step in world.steps.values())
    assert decide(world.view()) == ()
    choice = data.draw(st.sampled_from(["go on"] * 8 + ["cancel", "ROLLBACK", "HALT"]))
    if choice == "cancel":
        world.cancel_outcome = data.draw(st.sampled_from(CancelOutcome))
        world.status = JOB.after(world.status, "cancel")
        world.settle()
        return
    if choice != "go on":
        world.fallback = FailureStrategy(choice)
        world.settle()
        assert world.status in (JobStatus.ROLLING_BACK, JobStatus.FAILED, JobStatus.ROLLED_BACK)
        return
    for key, step in list(world.steps.items()):
        strategy = FailureStrategy.CONTINUE if step.phase is Phase.COMMIT else world.strategy
        if step.status is StepStatus.FAILED and strategy is FailureStrategy.PAUSE and not step.ignore:
            event = data.draw(st.sampled_from(["operator_retry", "operator_skip"]))
            world.give(key, STEP.after(step.status, event))
            # What a skipped step may have left is nobody's to undo.
            if event == "operator_skip":
                world.steps[key] = replace(world.steps[key], touched=False)
        elif step.gate and step.status is StepStatus.WAITING:
            answer_gate(world, key, data)
    world.status = JOB.after(JOB.after(world.status, "resume"), "granted")
    world.settle()
    if world.status is JobStatus.DISPATCHED:
        world.status = JOB.after(world.status, "claimed_forward")


def claim(world: World, key: str) -> None:
    status = world.steps[key].status
    if world.steps[key].gate and status is StepStatus.READY:
        # Asked and let go of in one transaction, which ends with asking what follows.
        world.give(key, StepStatus.WAITING)
        world.settle()
        return
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


def test_what_failed_first_is_to_blame_and_not_what_was_abandoned_for_its_sake() -> None:
    """`a` waited to be tried again when `c` failed; `b` was in a worker's hands and failed after it."""
    early, late = datetime(2026, 1, 31, 8, tzinfo=UTC), datetime(2026, 1, 31, 9, tzinfo=UTC)
    abandoned = StepView("a", StepStatus.FAILED, touched=True, abandoned=True, ended_at=early)
    later = StepView("b", StepStatus.FAILED, touched=True, ended_at=late)
    first = StepView("c", StepStatus.FAILED, touched=True, strategy=FailureStrategy.HALT, ended_at=early)
    for steps in ((abandoned, first), (abandoned, replace(later, ended_at=None), first)):
        strategy = FailureStrategy.HALT if len(steps) == 2 else FailureStrategy.ROLLBACK
        move = next(move for move in decide(job(*steps)) if isinstance(move, JobMove))
        assert (move.because, move.event) == ("c", "failed_halt" if strategy is FailureStrategy.HALT else
                                              "failed_rollback")  # fmt: skip
    move = next(move for move in decide(job(abandoned, later)) if isinstance(move, JobMove))
    assert move.because == "b"


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


def test_a_failure_pauses_a_job_and_names_what_waits_for_the_decision() -> None:
    view = job(
        StepView("a", StepStatus.FAILED, touched=True),
        StepView("b", StepStatus.PENDING, ("a",)),
        StepView("c", StepStatus.READY),
        strategy=FailureStrategy.PAUSE,
    )
    assert decide(view) == (
        StepMove("b", "upstream_failed", StepStatus.BLOCKED, StatusReason.DEPENDENCY_FAILED, "a"),
        JobMove("pause", JobStatus.PAUSING, StatusReason.STEP_FAILED, "a"),
        JobMove("quiesced", JobStatus.PAUSED, StatusReason.STEP_FAILED, "a"),
    )


def test_what_a_provider_is_doing_is_waited_for_and_a_gate_is_not() -> None:
    working = StepView("a", StepStatus.WAITING, touched=True)
    asking = StepView("b", StepStatus.WAITING, gate=True)
    assert decide(replace(job(working, asking), status=JobStatus.PAUSING)) == ()
    (move,) = decide(replace(job(asking), status=JobStatus.PAUSING))
    assert isinstance(move, JobMove)
    assert move.status is JobStatus.PAUSED
    assert decide(job(working, asking)) == ()
    assert decide(job(asking)) == (JobMove("gate_only", JobStatus.PAUSED, StatusReason.GATE, "b"),)


def test_running_steps_are_waited_for_before_anything_is_undone() -> None:
    view = job(
        StepView("a", StepStatus.RUNNING, claimed=True, touched=True),
        StepView("b", StepStatus.FAILED, touched=True),
        StepView("c", StepStatus.READY),
    )
    (move,) = decide(view)
    assert isinstance(move, StepMove)
    assert (move.key, move.status) == ("c", StepStatus.CANCELLED)
