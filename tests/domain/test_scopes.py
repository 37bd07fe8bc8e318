"""How far a rollback goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.decisions import JobMove, JobView, StepMove, StepView, decide
from app.domain.enums import CancelOutcome, FailureStrategy, RollbackScope
from app.domain.scopes import kept
from app.domain.statuses import JobStatus, StepStatus

OK, FAILED, NONE, PENDING = StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.NO_CHANGE, StepStatus.CANCELLED


def _step(key: str, status: StepStatus, needs: str = "", checkpoint: str | None = None) -> StepView:
    touched = status in (OK, FAILED)
    return StepView(key, status, tuple(needs), touched=touched, checkpoint=checkpoint)


def _kept(scope: RollbackScope, *steps: StepView, checkpoint: str | None = None) -> str:
    found = kept(steps, {step.key: step.status for step in steps}, scope, checkpoint)
    return "".join(sorted(found))


def test_a_job_keeps_nothing() -> None:
    assert _kept(RollbackScope.JOB, _step("a", OK, checkpoint="a"), _step("b", FAILED, "a")) == ""


def test_a_branch_leaves_what_others_stand_on() -> None:
    steps = (_step("a", OK), _step("b", OK, "a"), _step("c", OK, "a"), _step("d", FAILED, "c"))
    assert _kept(RollbackScope.FAILED_BRANCH, *steps) == "ab"


def test_a_branch_takes_what_only_it_needed_even_through_several_steps() -> None:
    steps = (_step("a", OK), _step("b", OK, "a"), _step("c", OK, "b"), _step("d", FAILED, "c"), _step("x", OK))
    assert _kept(RollbackScope.FAILED_BRANCH, *steps) == "x"


def test_what_did_not_change_stands_too() -> None:
    steps = (_step("a", OK), _step("b", NONE, "a"), _step("c", FAILED, "a"))
    assert _kept(RollbackScope.FAILED_BRANCH, *steps) == "ab"


def test_what_never_ran_stands_on_nothing() -> None:
    steps = (_step("a", OK), _step("b", PENDING, "a"), _step("c", FAILED, "a"))
    assert _kept(RollbackScope.FAILED_BRANCH, *steps) == "b"


def test_a_checkpoint_keeps_all_that_it_needed() -> None:
    steps = (_step("a", OK), _step("b", OK, "a", "b"), _step("c", OK, "b"), _step("x", OK), _step("d", FAILED, "c"))
    assert _kept(RollbackScope.TO_CHECKPOINT, *steps) == "ab"


def test_a_checkpoint_of_several_steps_is_passed_when_all_are() -> None:
    half = (_step("a", OK, checkpoint="k"), _step("b", FAILED, checkpoint="k"))
    assert _kept(RollbackScope.TO_CHECKPOINT, *half) == ""
    whole = (_step("a", OK, checkpoint="k"), _step("b", NONE, checkpoint="k"), _step("c", FAILED, "ab"))
    assert _kept(RollbackScope.TO_CHECKPOINT, *whole) == "ab"


def test_a_named_checkpoint_is_the_only_one_that_counts() -> None:
    steps = (_step("a", OK, checkpoint="a"), _step("b", OK, "a", "b"), _step("c", FAILED, "b"))
    assert _kept(RollbackScope.TO_CHECKPOINT, *steps) == "ab"
    assert _kept(RollbackScope.TO_CHECKPOINT, *steps, checkpoint="a") == "a"


@st.composite
def _jobs(draw: st.DrawFn) -> JobView:
    keys = "abcdefg"[: draw(st.integers(1, 7))]
    steps: list[StepView] = []
    for place, key in enumerate(keys):
        needs = tuple(draw(st.sets(st.sampled_from(keys[:place])))) if place else ()
        ready = all(steps[keys.index(need)].status in (OK, NONE) for need in needs)
        status = draw(st.sampled_from([OK, OK, NONE, FAILED])) if ready else PENDING
        checkpoint = key if draw(st.booleans()) else None
        steps.append(StepView(key, status, needs, touched=status in (OK, FAILED), checkpoint=checkpoint))
    scope = draw(st.sampled_from(RollbackScope))
    return JobView(JobStatus.ROLLING_BACK, FailureStrategy.ROLLBACK, tuple(steps), scope=scope)


@given(_jobs())
def test_a_rollback_ends_with_exactly_the_kept_standing(job: JobView) -> None:
    """Carried out to its end, whatever the scope: what is kept was there all along, the rest is taken back."""
    now = {step.key: step.status for step in job.steps}
    stays = kept(job.steps, now, job.scope)
    status = job.status
    for _ in range(20):
        views = tuple(
            StepView(s.key, now[s.key], s.needs, touched=s.touched, checkpoint=s.checkpoint) for s in job.steps
        )
        for move in decide(JobView(status, job.strategy, views, scope=job.scope)):
            if isinstance(move, StepMove):
                now[move.key] = move.status
            elif isinstance(move, JobMove):
                status = move.status
        assert kept(job.steps, now, job.scope) == stays
        now = {key: StepStatus.COMPENSATED if at is StepStatus.COMPENSATING else at for key, at in now.items()}
    assert status is JobStatus.ROLLED_BACK
    for step in job.steps:
        undone = step.touched and step.key not in stays
        assert now[step.key] is (StepStatus.COMPENSATED if undone else step.status)


def test_whoever_cancels_gets_everything_back() -> None:
    steps = (_step("a", OK, checkpoint="a"), _step("b", OK, "a"))
    job = JobView(
        JobStatus.ROLLING_BACK, FailureStrategy.ROLLBACK, steps, CancelOutcome.ROLLBACK,
        scope=RollbackScope.TO_CHECKPOINT,
    )  # fmt: skip
    assert [move.status for move in decide(job)] == [StepStatus.COMPENSATING]
    assert [getattr(move, "key", None) for move in decide(job)] == ["b"]
