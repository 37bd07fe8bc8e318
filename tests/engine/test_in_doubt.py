"""Effects that nobody knows the outcome of, after the job that began them: taken over, looked at, never repeated."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.db.models import CloudResource
from app.domain.enums import CancelMode, CancelOutcome, DriftStatus, FailureStrategy, RetryMode
from app.domain.errors import Conflict
from app.domain.statuses import JobStatus, ResourceStatus
from app.providers.base import ErrorKind, Pending, ProviderError
from app.providers.faults import Fault, FaultKind
from app.services import jobs, plans
from app.services.plans import RetryPlan
from tests.engine.conftest import Open
from tests.engine.harness import Workshop, note
from tests.engine.observing import change, go_round, refresh, resource


async def forced(workshop: Workshop, template: int, *, lands: bool = True, **more: Any) -> int:
    """A job that was given up by force while its note was being made; the note is there afterwards if it `lands`."""
    notes = workshop.provider.notes
    original, begun, go_on = notes.create, asyncio.Event(), asyncio.Event()

    async def create(context: Any, properties: Any) -> Any:
        begun.set()
        await go_on.wait()
        if lands:
            await original(context, properties)
        raise ProviderError(ErrorKind.OUTCOME_UNKNOWN, "the answer is lost")

    notes.create = create  # type: ignore[method-assign]
    job_id = await workshop.submit(template, **more)
    working = asyncio.create_task(workshop.answer())
    await begun.wait()
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = jobs.CancelJob(job_id, CancelMode.FORCE, CancelOutcome.KEEP)
        await jobs.cancel(transaction, workshop.principal, command, workshop.dependencies)
    go_on.set()
    await working
    notes.create = original  # type: ignore[method-assign]
    notes.calls.clear()
    assert (await workshop.job(job_id)).status is JobStatus.CANCELLED
    return job_id


async def again(workshop: Workshop, job_id: int, mode: RetryMode) -> Any:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        plan = await workshop.plan_of(job_id)
        job = await plans.retry(transaction, workshop.principal, RetryPlan(plan.id, mode), workshop.dependencies)
        assert job is not None
        job_id = job.id
    return await workshop.settle(job_id)


async def events_of(workshop: Workshop, key: str = "a") -> list[tuple[str, str]]:
    rows = await workshop.rows(
        "SELECT data->>'previous' AS before, data->>'status' AS after FROM event_log WHERE kind = 'ResourceChanged'"
        " AND data->>'key' = :key ORDER BY feed, seq",
        key=key,
    )
    return [(row.before, row.after) for row in rows]


async def test_what_a_forced_job_has_made_is_taken_over_by_the_next(workshop: Workshop) -> None:
    """Without that, the mark of another operation would be in the way for ever."""
    template = await workshop.template({"resources": {"a": note("a", "x")}})
    job_id = await forced(workshop, template)
    row = await resource(workshop)
    assert (row.status, row.external_id) == (ResourceStatus.UNKNOWN, None)
    job = await again(workshop, job_id, RetryMode.RESTART)
    assert (job.status, workshop.provider.notes.calls) == (JobStatus.SUCCEEDED, ["recover"])
    assert workshop.notes() == {"a": "x"}
    row = await resource(workshop)
    assert (row.status, row.external_id, row.in_doubt_step_id) == (ResourceStatus.ACTIVE, "a", None)
    states = await workshop.rows("SELECT state FROM step_effect ORDER BY id")
    assert [found.state for found in states] == ["UNDONE", "DONE"]


async def test_what_a_forced_job_has_not_made_is_made(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a", "x")}})
    job_id = await forced(workshop, template, lands=False)
    job = await again(workshop, job_id, RetryMode.RESTART)
    assert (job.status, workshop.provider.notes.calls) == (JobStatus.SUCCEEDED, ["recover", "create"])
    assert workshop.notes() == {"a": "x"}


async def test_what_is_taken_over_is_brought_to_what_is_wanted_now(workshop: Workshop) -> None:
    await forced(workshop, await workshop.template({"resources": {"a": note("a", "before")}}, "before"))
    after = await workshop.template({"resources": {"a": note("a", "after")}}, "after")
    job_id = await workshop.submit(after)
    plan = await workshop.plan_of(job_id)
    assert plan.preview is not None
    assert [(change["key"], change["action"]) for change in plan.preview["changes"]] == [("a", "CREATE")]
    assert [(found["code"], found["path"][-1]) for found in plan.diagnostics or ()] == [("IN_DOUBT", "a")]
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    assert workshop.provider.notes.calls == ["recover", "update"]
    assert workshop.notes() == {"a": "after"}


async def test_a_lost_takeover_is_found_out_about_and_goes_on(open_workshop: Open) -> None:
    """The note with the old text is not taken for what the interrupted update was to bring about."""
    workshop = await open_workshop({"update": [Fault(FaultKind.DROP_BEFORE)]})
    await forced(workshop, await workshop.template({"resources": {"a": note("a", "before")}}, "before"))
    job_id = await workshop.submit(await workshop.template({"resources": {"a": note("a", "after")}}, "after"))
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    assert workshop.provider.notes.calls == ["recover", "update", "recover", "recover", "update"]
    assert workshop.notes() == {"a": "after"}


async def test_what_would_have_to_be_replaced_is_not_destroyed_unseen(workshop: Workshop) -> None:
    await forced(workshop, await workshop.template({"resources": {"a": note("old")}}, "old"))
    job_id = await workshop.submit(await workshop.template({"resources": {"a": note("new")}}, "new"))
    job = await workshop.settle(job_id)
    assert job.error is not None
    assert job.error["code"] == "IN_DOUBT"
    assert "new" not in workshop.notes()


async def test_a_teardown_removes_what_may_have_been_made(workshop: Workshop) -> None:
    await forced(workshop, await workshop.template({"resources": {"a": note("a"), "b": note("b", needs=["a"])}}))
    empty = await workshop.template({"resources": {}}, "empty")
    job_id = await workshop.submit(empty)
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    assert workshop.notes() == {}
    assert (await resource(workshop)).status is ResourceStatus.DELETED
    assert await events_of(workshop) == [
        ("PLANNED", "CREATING"), ("CREATING", "UNKNOWN"), ("UNKNOWN", "DELETING"), ("DELETING", "DELETED"),
    ]  # fmt: skip
    # What never came into being is told of as well.
    assert await events_of(workshop, "b") == [("PLANNED", "DELETED")]


async def test_what_nobody_could_tell_is_unknown_and_resumed_under_the_same_operation(open_workshop: Open) -> None:
    silence: list[Fault | None] = [Fault(FaultKind.DROP_BEFORE)] * 8
    workshop = await open_workshop({"create": [Fault(FaultKind.DROP_AFTER)], "recover": silence})
    template = await workshop.template({"resources": {"a": note("a")}})
    job = await workshop.settle(await workshop.submit(template, strategy=FailureStrategy.HALT))
    assert job.status is JobStatus.FAILED
    (step,) = await workshop.rows("SELECT status, status_reason FROM step_run")
    assert (step.status, step.status_reason) == ("FAILED", "NEEDS_ATTENTION")
    (effect,) = await workshop.rows("SELECT state FROM step_effect")
    assert (effect.state, (await resource(workshop)).status) == ("UNKNOWN", ResourceStatus.UNKNOWN)
    job = await again(workshop, job.id, RetryMode.RESUME)
    assert job.status is JobStatus.SUCCEEDED
    assert workshop.provider.notes.calls.count("create") == 1
    assert workshop.notes() == {"a": "x"}


async def test_a_creation_that_was_refused_is_tried_again(open_workshop: Open) -> None:
    workshop = await open_workshop({"create": [Fault(FaultKind.ERROR, error=ErrorKind.ACCESS_DENIED)]})
    template = await workshop.template({"resources": {"a": note("a")}})
    job = await workshop.settle(await workshop.submit(template, strategy=FailureStrategy.HALT))
    assert (job.status, (await resource(workshop)).status) == (JobStatus.FAILED, ResourceStatus.FAILED)
    job = await again(workshop, job.id, RetryMode.RESUME)
    assert (job.status, workshop.notes()) == (JobStatus.SUCCEEDED, {"a": "x"})


async def test_what_a_halted_job_was_still_waiting_for_is_unknown(workshop: Workshop) -> None:
    """`a` waits for its next try when `b` fails for good: nobody leaves it as being made."""
    template = await workshop.template({"resources": {"a": note("a"), "b": note("b", needs=["a"])}})
    job_id = await forced(workshop, template, strategy=FailureStrategy.HALT)
    assert await workshop.rows("SELECT 1 FROM cloud_resource WHERE status IN ('CREATING', 'UPDATING')") == []
    row = await resource(workshop)
    assert (row.status, row.observe_at is not None) == (ResourceStatus.UNKNOWN, True)
    assert (await workshop.steps(job_id))["b"] == "CANCELLED"


NOW = "UPDATE cloud_resource SET observe_at = clock_timestamp() WHERE observe_at IS NOT NULL"
LONG_AGO = (
    "UPDATE step_effect SET created_at = created_at - interval '1 hour', completed_at = completed_at"
    " - interval '1 hour'"
)


async def settled(workshop: Workshop, key: str = "a") -> CloudResource:
    await change(workshop, NOW)
    await go_round(workshop)
    return await resource(workshop, key)


async def test_what_a_forced_job_has_made_is_found_soon_after_it(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"b": note("b"), "a": note("a", needs=["b"])}})
    await workshop.settle(await workshop.submit(await workshop.template({"resources": {"b": note("b")}}, "b")))
    job_id = await forced(workshop, template)
    assert await go_round(workshop) == 0
    row = await settled(workshop)
    assert (row.status, row.drift_status, row.external_id) == (ResourceStatus.ACTIVE, DriftStatus.IN_SYNC, "a")
    assert ((row.applied or {})["text"], row.depends_on, row.in_doubt_step_id) == ("x", ["b"], None)
    assert (await events_of(workshop))[-1] == ("UNKNOWN", "ACTIVE")
    # The effect is known now: going on finds nothing to do, and the journal can take it back.
    assert [found.state for found in await workshop.rows("SELECT state FROM step_effect ORDER BY id")] == ["DONE"] * 2
    with pytest.raises(Conflict):
        await again(workshop, job_id, RetryMode.RESTART)


async def test_that_nothing_is_there_counts_once_no_request_can_arrive_any_more(workshop: Workshop) -> None:
    await forced(workshop, await workshop.template({"resources": {"a": note("a")}}), lands=False)
    row = await settled(workshop)
    assert row.status is ResourceStatus.UNKNOWN
    assert (row.observe_error or {})["code"] == "UNSETTLED"
    assert row.observe_at is not None
    await change(workshop, LONG_AGO)
    row = await settled(workshop)
    assert (row.status, row.is_deleted, row.observe_at) == (ResourceStatus.DELETED, True, None)


async def test_an_update_in_doubt_is_found_done_or_not(open_workshop: Open) -> None:
    silence: list[Fault | None] = [Fault(FaultKind.DROP_BEFORE)] * 8
    lost: list[Fault | None] = [Fault(FaultKind.DROP_AFTER), Fault(FaultKind.DROP_BEFORE)]
    workshop = await open_workshop({"update": lost, "read": [*silence, *silence]})
    names = {"a": "before", "b": "before"}
    first = await workshop.template({"resources": {key: note(key, text) for key, text in names.items()}}, "first")
    await workshop.settle(await workshop.submit(first))
    second = {"resources": {key: note(key, "after") for key in names}}
    template = await workshop.template(second, "second")
    job = await workshop.settle(await workshop.submit(template, strategy=FailureStrategy.CONTINUE))
    assert job.status is JobStatus.PARTIALLY_SUCCEEDED
    assert {(await resource(workshop, key)).status for key in names} == {ResourceStatus.UNKNOWN}
    real = workshop.notes()
    assert sorted(real.values()) == ["after", "before"]
    for key, text in real.items():
        row = await settled(workshop, key)
        assert (row.status, row.drift_status) == (ResourceStatus.ACTIVE, DriftStatus.IN_SYNC)
        assert (row.applied or {})["text"] == text


async def test_nobody_looks_while_a_job_holds_the_stack_and_people_may_ask_for_it(workshop: Workshop) -> None:
    await forced(workshop, await workshop.template({"resources": {"a": note("a")}}))
    await change(workshop, "UPDATE cloud_resource SET observe_at = NULL")
    await refresh(workshop)
    await change(
        workshop,
        "INSERT INTO resource_lock (tenant_id, lock_key, job_id) SELECT tenant_id, 'stack/stack', id"
        " FROM orchestration_job",
    )
    assert await go_round(workshop) == 0
    await change(workshop, "DELETE FROM resource_lock")
    assert (await settled(workshop)).status is ResourceStatus.ACTIVE


async def test_who_cannot_be_reached_is_asked_again_later(open_workshop: Open) -> None:
    workshop = await open_workshop({"recover": [Fault(FaultKind.ERROR, error=ErrorKind.ACCESS_DENIED)]})
    await forced(workshop, await workshop.template({"resources": {"a": note("a")}}))
    row = await settled(workshop)
    assert (row.status, (row.observe_error or {})["code"]) == (ResourceStatus.UNKNOWN, "ACCESS_DENIED")
    assert row.observe_at is not None
    assert (await settled(workshop)).status is ResourceStatus.ACTIVE


def slow(workshop: Workshop, answers: list[Any]) -> list[str]:
    """Making a note takes its time; asked how it stands, the provider gives these answers. Who was called, in order."""
    notes = workshop.provider.notes
    original, called = notes.create, list[str]()

    async def create(context: Any, properties: Any) -> Any:
        called.append("create")
        await original(context, properties)
        return Pending({"name": properties["name"]}, 0.1)

    async def poll(context: Any, handle: Any) -> Any:
        called.append("poll")
        answer = answers.pop(0) if answers else await notes.recover(context, handle)
        if isinstance(answer, Exception):
            raise answer
        return answer

    notes.create, notes.poll = create, poll  # type: ignore[method-assign]
    return called


@pytest.mark.parametrize("kind", [ErrorKind.UNAVAILABLE, ErrorKind.THROTTLED, ErrorKind.OUTCOME_UNKNOWN])
async def test_work_that_is_under_way_is_not_begun_again_because_nobody_answers(
    workshop: Workshop, kind: ErrorKind
) -> None:
    called = slow(workshop, [ProviderError(kind, "nobody is there")] * 5)
    job = await workshop.settle(await workshop.submit(await workshop.template({"resources": {"a": note("a")}})))
    assert (job.status, called) == (JobStatus.SUCCEEDED, ["create", *["poll"] * 6])
    (step,) = await workshop.rows("SELECT attempt FROM step_run")
    assert step.attempt == 1


async def test_after_a_long_silence_the_outcome_is_unknown_and_found_out_about(workshop: Workshop) -> None:
    called = slow(workshop, [ProviderError(ErrorKind.UNAVAILABLE, "nobody is there")] * 14)
    job_id = await workshop.submit(await workshop.template({"resources": {"a": note("a")}}))
    job = await workshop.settle(job_id)
    assert (job.status, called) == (JobStatus.SUCCEEDED, ["create", *["poll"] * 15])
    moves = await workshop.rows(
        "SELECT data->>'status' AS status FROM event_log WHERE kind = 'StepStatusChanged' ORDER BY seq"
    )
    assert [move.status for move in moves][-2:] == ["UNKNOWN", "SUCCEEDED"]


async def test_work_that_failed_while_it_was_waited_for_is_tried_again(workshop: Workshop) -> None:
    called = slow(workshop, [ProviderError(ErrorKind.CONFLICT, "it lost a race")])
    job = await workshop.settle(await workshop.submit(await workshop.template({"resources": {"a": note("a")}})))
    assert (job.status, called) == (JobStatus.SUCCEEDED, ["create", "poll", "create", "poll"])


async def test_a_question_that_was_cut_off_is_put_again(workshop: Workshop) -> None:
    """The worker that asked is lost; what it had begun goes on, and is waited for on."""
    pending = Pending({"name": "a"}, 0.1)
    called = slow(workshop, [pending, pending])
    job_id = await workshop.submit(await workshop.template({"resources": {"a": note("a")}}))
    await workshop.answer()
    await change(workshop, "UPDATE step_run SET status = 'UNKNOWN', fence = fence + 1")
    job = await workshop.settle(job_id)
    assert (job.status, called) == (JobStatus.SUCCEEDED, ["create", "poll", "poll", "poll"])
