"""What a failed plan leaves behind: nothing, or exactly what it says."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from app.domain.enums import FailureStrategy, RetryMode, RollbackResolution
from app.domain.statuses import JobStatus, PlanStatus
from app.providers.base import ErrorKind, ProviderError
from app.providers.faults import Fault, FaultKind
from app.services import jobs, plans
from app.services.plans import RetryPlan, RollbackPlan
from tests.engine.conftest import Open
from tests.engine.harness import Workshop, note

FAILING = {"key": "fail", "type": "CUSTOM", "order": 9, "configuration": {"task": "core.assert"},
           "inputs": {"that": False, "message": "on purpose"}}  # fmt: skip
ALL = {"key": "all", "type": "RESOURCE_CREATE", "order": 1, "configuration": {"resource": "*"}}


async def failing(workshop: Workshop, resources: dict[str, Any], name: str = "failing", **more: Any) -> int:
    template = await workshop.template({"resources": resources}, name)
    return await workshop.submit(template, await workshop.workflow(ALL, FAILING, name=name), **more)


async def test_everything_that_was_made_is_taken_back_dependents_first(workshop: Workshop) -> None:
    job = await workshop.settle(
        await failing(workshop, {"a": note("a"), "b": note("b", needs=["a"]), "c": note("c", needs=["b"])})
    )
    assert job.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {}
    undone = await workshop.rows(
        "SELECT data->>'stepKey' AS key FROM event_log WHERE kind = 'StepStatusChanged'"
        " AND data->>'status' = 'COMPENSATED' ORDER BY seq"
    )
    # The step that failed is a task that touches nothing, so there is nothing of it to take back.
    assert [row.key for row in undone] == ["c", "b", "a"]
    assert (await workshop.plan_of(job.id)).status is PlanStatus.ROLLED_BACK
    assert job.error is not None
    assert (job.error["stepKey"], job.error["message"]) == ("fail", "on purpose")
    statuses = await workshop.rows("SELECT DISTINCT status FROM cloud_resource")
    assert [row.status for row in statuses] == ["DELETED"]


async def test_an_update_is_put_back_to_its_previous_properties(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a", "before")}}, "first")
    await workshop.settle(await workshop.submit(template))
    job = await workshop.settle(await failing(workshop, {"a": note("a", "after"), "b": note("b")}))
    assert job.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {"a": "before"}
    (row,) = await workshop.rows("SELECT status, applied FROM cloud_resource WHERE NOT is_deleted")
    assert (row.status, row.applied["text"]) == ("ACTIVE", "before")


async def test_a_replaced_resource_gives_way_to_its_predecessor(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("old", "kept")}}, "first")
    await workshop.settle(await workshop.submit(template))
    job = await workshop.settle(await failing(workshop, {"a": note("new")}))
    assert job.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {"old": "kept"}
    (row,) = await workshop.rows("SELECT external_id FROM cloud_resource WHERE NOT is_deleted")
    assert row.external_id == "old"


async def test_a_step_that_failed_after_its_effect_is_undone_too(open_workshop: Open) -> None:
    """The answer is lost, the observation fails for good: the note exists, and nobody has said so."""
    lost = [Fault(FaultKind.DROP_AFTER)]
    broken = [Fault(FaultKind.ERROR, error=ErrorKind.ACCESS_DENIED)]
    workshop = await open_workshop({"create": lost, "recover": broken})
    template = await workshop.template({"resources": {"a": note("a")}})
    job = await workshop.settle(await workshop.submit(template))
    assert job.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {}


async def test_the_job_names_what_failed_first_and_not_what_was_given_up_for_its_sake(workshop: Workshop) -> None:
    """`a` waits for its next try when `b` fails, and is FAILED as well before `c` is over."""
    original = workshop.provider.notes.create
    tried, begun, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def create(context: Any, properties: Any) -> Any:
        if properties["name"] == "a":
            tried.set()
            raise ProviderError(ErrorKind.THROTTLED, "later", retry_after_seconds=60)
        if properties["name"] == "b":
            await asyncio.gather(tried.wait(), begun.wait())
            raise ProviderError(ErrorKind.ACCESS_DENIED, "never")
        begun.set()
        await over.wait()
        return await original(context, properties)

    workshop.provider.notes.create = create  # type: ignore[method-assign]
    job_id = await workshop.submit(await workshop.template({"resources": {key: note(key) for key in "abc"}}))
    working = asyncio.create_task(workshop.answer())
    for _ in range(500):
        if (await workshop.steps(job_id))["a"] == "FAILED":
            break
        await asyncio.sleep(0.02)
    assert await workshop.steps(job_id) == {"a": "FAILED", "b": "FAILED", "c": "RUNNING"}
    over.set()
    await working
    job = await workshop.settle(job_id)
    assert job.error is not None
    assert (job.status, job.error["stepKey"], job.error_message) == (JobStatus.ROLLED_BACK, "b", "b: never")


async def test_somebody_elses_thing_is_never_removed(workshop: Workshop) -> None:
    first = await workshop.template({"resources": {"a": note("taken", "theirs")}}, "first")
    await workshop.settle(await workshop.submit(first, stack="theirs"))
    second = await workshop.template(
        {"resources": {"mine": note("mine"), "a": note("taken", needs=["mine"])}}, "second"
    )
    job = await workshop.settle(await workshop.submit(second, stack="ours"))
    assert job.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {"taken": "theirs"}


async def test_a_change_by_others_is_not_overwritten_and_the_rollback_says_so(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a", "before"), "b": note("b", "before")}}, "first")
    await workshop.settle(await workshop.submit(template))
    content = {"resources": {"a": note("a", "after"), "b": note("b", "after", needs=["a"])}}
    workflow = await workshop.workflow(
        ALL,
        {"key": "wait", "type": "CUSTOM", "order": 2, "configuration": {"task": "core.pass"}},
        FAILING,
        name="slow",
    )
    job_id = await workshop.submit(await workshop.template(content, "second"), workflow)
    await meddle_before_the_end(workshop, job_id)
    job = await workshop.settle(job_id)
    assert job.status is JobStatus.ROLLBACK_FAILED
    assert (await workshop.plan_of(job_id)).status is PlanStatus.ROLLBACK_FAILED
    steps = await workshop.steps(job_id)
    assert (steps["b"], steps["a"]) == ("COMPENSATION_FAILED", "SUCCEEDED")
    assert workshop.notes() == {"a": "after", "b": "meddled"}

    # The person decides to leave `b` as it is: `a` is put back, and what is recorded of `b` is doubt.
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        again = await jobs.continue_rollback(
            transaction,
            workshop.principal,
            jobs.ContinueRollback(job_id, (("b", RollbackResolution.SKIP_KEEP_UNKNOWN),)),
            workshop.dependencies,
        )
    ended = await workshop.settle(again.id)
    assert ended.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {"a": "before", "b": "meddled"}
    (row,) = await workshop.rows("SELECT status, drift_status FROM cloud_resource WHERE resource_key = 'b'")
    assert tuple(row) == ("UNKNOWN", "MODIFIED")


async def meddle_before_the_end(workshop: Workshop, job_id: int) -> None:
    """Run the job ring by ring until `b` is changed, then change it behind the engine's back."""
    runner = workshop.runners[0]
    runner.draining = True  # one step for one ring
    while (await workshop.steps(job_id))["b"] != "SUCCEEDED":
        await runner.run(workshop.rung.pop(0))
    runner.draining = False
    (path,) = workshop.folder.rglob("b.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "text": "meddled"}))


async def test_halt_keeps_what_there_is_and_a_rollback_can_be_asked_for_later(workshop: Workshop) -> None:
    job = await workshop.settle(await failing(workshop, {"a": note("a")}, strategy=FailureStrategy.HALT))
    assert job.status is JobStatus.FAILED
    assert workshop.notes() == {"a": "x"}
    plan = await workshop.plan_of(job.id)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        undo = await plans.rollback(transaction, workshop.principal, RollbackPlan(plan.id), workshop.dependencies)
    ended = await workshop.settle(undo.id)
    assert ended.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {}
    assert (await workshop.plan_of(job.id)).status is PlanStatus.ROLLED_BACK


async def test_after_a_rollback_the_plan_can_be_started_anew(workshop: Workshop) -> None:
    job = await workshop.settle(await failing(workshop, {"a": note("a")}))
    plan = await workshop.plan_of(job.id)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        again = await plans.retry(
            transaction, workshop.principal, RetryPlan(plan.id, RetryMode.RESTART), workshop.dependencies
        )
        assert again is not None
    ended = await workshop.settle(again.id)
    assert (ended.status, ended.parent_job_id) == (JobStatus.ROLLED_BACK, job.id)


async def test_a_failed_undo_is_tried_again_before_it_counts(open_workshop: Open) -> None:
    workshop = await open_workshop({"delete": [Fault(FaultKind.THROTTLE)] * 3})
    job = await workshop.settle(await failing(workshop, {"a": note("a")}))
    assert job.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {}
    (tries,) = await workshop.rows("SELECT count(*) AS n FROM step_attempt WHERE direction = 'ROLLBACK'"
                                   " AND step_run_id = (SELECT id FROM step_run WHERE step_key = 'a')")  # fmt: skip
    assert tries.n == 4
