"""Plans that run when something is so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from app.domain.errors import IllegalState, UnknownReference
from app.domain.statuses import PlanStatus
from app.services import plans
from app.services.plans import UpdatePlan
from tests.engine.conditions import (
    ACTIVE,
    GO,
    act,
    conditional,
    evaluations,
    let_pass,
    noted,
    set_resource,
    signal,
    tick_and_look,
    watched,
)
from tests.engine.harness import Workshop, note
from tests.engine.schedules import WAIT, approve, children, finish, found, somebody_else

HOUR = timedelta(hours=1)


async def test_it_waits_for_a_signal_and_then_runs_by_itself(workshop: Workshop) -> None:
    plan_id = await conditional(workshop, template=await noted(workshop, "a"))
    assert (await found(workshop, plan_id)).status is PlanStatus.WAITING
    assert await tick_and_look(workshop) == 1
    assert await tick_and_look(workshop) == 0
    await signal(workshop, plan_id, payload={"by": "ci"})
    assert await tick_and_look(workshop) == 1
    plan = await finish(workshop, await found(workshop, plan_id))
    assert plan.status is PlanStatus.SUCCEEDED
    assert workshop.notes() == {"a": "x"}
    first, last = await evaluations(workshop, plan_id)
    assert tuple(first) == (
        False,
        "it began to wait",
        {"signals": {"go": {"received": False}}},
        "CONDITION_FALSE",
        None,
        None,
        1,
    )
    assert tuple(last) == (True, 'signals["go"]', {"signals": {"go": {"received": True}}}, None, None, plan_id, 1)
    told = await workshop.rows(
        "SELECT data->>'status' AS status, actor FROM event_log WHERE stream = 'PLAN' AND stream_id = :id ORDER BY seq",
        id=plan_id,
    )
    assert [row.status for row in told][:6] == ["DRAFT", "VALIDATING", "READY", "WAITING", "QUEUED", "RUNNING"]
    assert [row.actor for row in told][4] == "system:scheduler"
    assert await watched(workshop, plan_id) == []


async def test_what_a_job_brings_about_lets_it_run(workshop: Workshop) -> None:
    plan_id = await conditional(workshop, ACTIVE, template=await noted(workshop, "a"))
    other = await conditional(workshop, GO, template=await noted(workshop, "c"), name="other", stack="other")
    assert await tick_and_look(workshop) == 2
    job = await workshop.submit(await noted(workshop, "b"))
    assert (await workshop.settle(job)).status == "SUCCEEDED"
    assert await tick_and_look(workshop) == 1
    assert (await finish(workshop, await found(workshop, plan_id))).status is PlanStatus.SUCCEEDED
    before, after = (await evaluations(workshop, plan_id))[0], (await evaluations(workshop, plan_id))[-1]
    assert (before.inputs, before.message) == (
        {"resources": {"b": {"status": None}}},
        "'resources' has no 'b'",
    )
    assert (after.trigger, after.inputs) == ('resources["stack/b"]', {"resources": {"b": {"status": "ACTIVE"}}})
    assert len(await evaluations(workshop, other)) == 1


async def test_a_resource_of_another_stack_is_named_with_it(workshop: Workshop) -> None:
    other = ACTIVE.replace('"b"', '"other/b"')
    plan_id = await conditional(workshop, other, template=await noted(workshop, "a"), stack="own")
    elsewhere = await workshop.template({"resources": {"b": note("third")}}, "third")
    await workshop.settle(await workshop.submit(elsewhere, stack="third"))
    await tick_and_look(workshop)
    assert (await found(workshop, plan_id)).status is PlanStatus.WAITING
    await workshop.settle(await workshop.submit(await noted(workshop, "b"), stack="other"))
    await tick_and_look(workshop)
    assert (await found(workshop, plan_id)).last_job_id is not None


@pytest.mark.parametrize("when", ['${plans.plan.status == "SUCCEEDED"}', '${jobs["plan"].status == "SUCCEEDED"}'])
async def test_it_follows_plans_and_their_jobs(workshop: Workshop, when: str) -> None:
    plan_id = await conditional(workshop, when, template=await noted(workshop, "a"))
    await tick_and_look(workshop)
    job = await workshop.submit(await noted(workshop, "b"), stack="other")
    await tick_and_look(workshop)
    assert (await found(workshop, plan_id)).status is PlanStatus.WAITING
    await workshop.settle(job)
    assert await tick_and_look(workshop) == 1
    assert (await found(workshop, plan_id)).last_job_id is not None
    inputs = [next(iter(row.inputs.values()))["plan"]["status"] for row in await evaluations(workshop, plan_id)]
    assert (inputs[0], inputs[-1]) == (None, "SUCCEEDED")


async def test_it_has_to_hold_and_begins_anew_when_it_breaks(workshop: Workshop) -> None:
    plan_id = await conditional(workshop, ACTIVE, template=await noted(workshop, "a"), hold="PT5M")
    job = await workshop.submit(await noted(workshop, "b"))
    await workshop.settle(job)
    await tick_and_look(workshop)
    await let_pass(workshop, plan_id, timedelta(minutes=4))
    assert await tick_and_look(workshop) == 0
    await set_resource(workshop, "FAILED")
    await let_pass(workshop, plan_id, timedelta(minutes=5))
    assert await tick_and_look(workshop) == 1
    await set_resource(workshop, "ACTIVE")
    await let_pass(workshop, plan_id, timedelta(minutes=5))
    assert await tick_and_look(workshop) == 1
    assert (await found(workshop, plan_id)).last_job_id is None
    await let_pass(workshop, plan_id, timedelta(minutes=5, seconds=1))
    assert await tick_and_look(workshop) == 1
    assert (await found(workshop, plan_id)).last_job_id is not None
    rows = await evaluations(workshop, plan_id)
    assert [(row.result, row.spawned_plan_id) for row in rows] == [
        (True, None),
        (False, None),
        (True, None),
        (True, plan_id),
    ]
    assert rows[2].message.endswith("not for long enough")
    assert rows[3].trigger == "it was time"


async def test_each_edge_spawns_a_run_after_the_cool_down(workshop: Workshop) -> None:
    plan_id = await conditional(
        workshop, workflow=await workshop.workflow(WAIT), fire="EACH", coolDown="PT1H", name="each"
    )
    await signal(workshop, plan_id)
    await tick_and_look(workshop)
    (first,) = await children(workshop, plan_id)
    assert (first.plan_type, first.plan_name, (await found(workshop, plan_id)).status) == (
        "IMMEDIATE",
        "each",
        PlanStatus.WAITING,
    )
    # The signal has had its effect: the condition is false again, and armed.
    assert [row.armed for row in await watched(workshop, plan_id)] == [True]
    await signal(workshop, plan_id)
    assert await tick_and_look(workshop) == 1
    await finish(workshop, first)
    await tick_and_look(workshop)
    assert len(await children(workshop, plan_id)) == 1
    await let_pass(workshop, plan_id, HOUR)
    await tick_and_look(workshop)
    assert len(await children(workshop, plan_id)) == 2
    rows = await evaluations(workshop, plan_id)
    assert [(row.result, row.spawned_plan_id is not None) for row in rows] == [
        (True, True),
        (False, False),
        (True, False),
        (True, True),
        (False, False),
    ]
    assert rows[2].message.endswith("waits for its cool-down")


async def test_what_stays_true_runs_once(workshop: Workshop) -> None:
    plan_id = await conditional(workshop, ACTIVE, workflow=await workshop.workflow(WAIT), fire="EACH")
    await workshop.settle(await workshop.submit(await noted(workshop, "b")))
    await tick_and_look(workshop)
    await finish(workshop, (await children(workshop, plan_id))[0])
    for _ in range(3):
        await let_pass(workshop, plan_id, HOUR)
        assert await tick_and_look(workshop) == 1
    assert len(await children(workshop, plan_id)) == 1
    rows = await evaluations(workshop, plan_id)
    assert (rows[-1].message, rows[-1].times) == ("it has to become false before it can run again", 4)
    await set_resource(workshop, "FAILED")
    await let_pass(workshop, plan_id, HOUR)
    await tick_and_look(workshop)
    await set_resource(workshop, "ACTIVE")
    await let_pass(workshop, plan_id, HOUR)
    await tick_and_look(workshop)
    assert len(await children(workshop, plan_id)) == 2


async def test_a_run_that_is_not_over_is_waited_for(workshop: Workshop) -> None:
    plan_id = await conditional(workshop, workflow=await workshop.workflow(WAIT), fire="EACH", coolDown="PT10S")
    await signal(workshop, plan_id)
    await tick_and_look(workshop)
    await let_pass(workshop, plan_id, HOUR)
    await signal(workshop, plan_id)
    await tick_and_look(workshop)
    (first,) = await children(workshop, plan_id)
    assert (await evaluations(workshop, plan_id))[-1].skip_reason == "CONCURRENCY_LIMIT"
    await finish(workshop, first)
    await tick_and_look(workshop)
    assert len(await children(workshop, plan_id)) == 2


async def test_a_run_of_it_does_what_is_right_then_and_is_approved_as_its_plan_was(workshop: Workshop) -> None:
    plan_id = await conditional(workshop, template=await noted(workshop, "a"), fire="EACH", approvals={"required": 1})
    assert (await found(workshop, plan_id)).status is PlanStatus.PENDING_APPROVAL
    with pytest.raises(IllegalState):
        await signal(workshop, plan_id)
    await approve(workshop, await somebody_else(workshop), plan_id)
    assert (await found(workshop, plan_id)).status is PlanStatus.WAITING
    await signal(workshop, plan_id)
    await tick_and_look(workshop)
    (child,) = await children(workshop, plan_id)
    assert (await finish(workshop, child)).status is PlanStatus.SUCCEEDED


async def test_what_is_no_longer_what_was_approved_goes_back_and_then_needs_no_other_signal(
    workshop: Workshop,
) -> None:
    plan_id = await conditional(workshop, template=await noted(workshop, "a", "b"), approvals={"required": 1})
    other = await somebody_else(workshop)
    await approve(workshop, other, plan_id)
    await workshop.settle(await workshop.submit(await noted(workshop, "b")))
    await signal(workshop, plan_id)
    await tick_and_look(workshop)
    plan = await found(workshop, plan_id)
    assert (plan.status, plan.last_job_id) == (PlanStatus.PENDING_APPROVAL, None)
    assert (await evaluations(workshop, plan_id))[-1].skip_reason == "APPROVAL_PENDING"
    await approve(workshop, other, plan_id)
    await tick_and_look(workshop)
    assert (await finish(workshop, await found(workshop, plan_id))).status is PlanStatus.SUCCEEDED


async def test_with_nothing_left_to_do_it_is_done(workshop: Workshop) -> None:
    template = await noted(workshop, "a")
    await workshop.settle(await workshop.submit(template))
    plan_id = await conditional(workshop, template=template)
    assert (await found(workshop, plan_id)).status is PlanStatus.WAITING
    await signal(workshop, plan_id)
    await tick_and_look(workshop)
    plan = await found(workshop, plan_id)
    assert (plan.status, plan.status_reason, plan.last_job_id) == (PlanStatus.SUCCEEDED, "NO_CHANGES", None)
    assert (await evaluations(workshop, plan_id))[-1].skip_reason == "NO_CHANGES"
    assert await watched(workshop, plan_id) == []


async def test_the_time_of_day_in_its_zone(workshop: Workshop) -> None:
    plan_id = await conditional(
        workshop,
        "${time.year > 2000 && time.clock >= '00:00'}",
        template=await noted(workshop, "a"),
        timeZone="Asia/Kathmandu",
    )
    never = await conditional(
        workshop, "${time.year < 2000}", template=await noted(workshop, "b"), stack="other", name="never"
    )
    await tick_and_look(workshop)
    assert (await found(workshop, plan_id)).last_job_id is not None
    ((seconds,),) = await workshop.rows(
        "SELECT extract(epoch FROM look_at - clock_timestamp()) FROM plan_watch WHERE plan_id = :id", id=never
    )
    assert -1 < seconds <= 60


async def test_an_edit_while_it_waits_makes_it_a_draft_that_has_heard_nothing(workshop: Workshop) -> None:
    plan_id = await conditional(workshop, template=await noted(workshop, "a"))
    await signal(workshop, plan_id)
    await _edit(workshop, plan_id, {"when": "${signals.go.received && signals.really.received}"})
    assert (await found(workshop, plan_id)).status is PlanStatus.DRAFT
    assert await tick_and_look(workshop) == 0
    await act(workshop, plans.submit, plan_id)
    await signal(workshop, plan_id, "really")
    await tick_and_look(workshop)
    assert (await found(workshop, plan_id)).last_job_id is None
    await signal(workshop, plan_id, "go")
    await tick_and_look(workshop)
    assert (await found(workshop, plan_id)).last_job_id is not None


async def test_a_signal_that_nobody_reads_is_refused(workshop: Workshop) -> None:
    plan_id = await conditional(workshop, template=await noted(workshop, "a"))
    with pytest.raises(UnknownReference, match="did you mean 'go'"):
        await signal(workshop, plan_id, "goo")


async def test_a_signal_may_say_something(workshop: Workshop) -> None:
    plan_id = await conditional(
        workshop, '${signals.go.payload?.branch == "main"}', template=await noted(workshop, "a")
    )
    await signal(workshop, plan_id, payload={"branch": "other"})
    await tick_and_look(workshop)
    assert (await found(workshop, plan_id)).status is PlanStatus.WAITING
    await signal(workshop, plan_id, payload={"branch": "main"})
    await tick_and_look(workshop)
    assert (await found(workshop, plan_id)).last_job_id is not None


async def _edit(workshop: Workshop, plan_id: int, condition: dict[str, Any]) -> None:
    version = (await found(workshop, plan_id)).version
    async with workshop.database.write(
        workshop.tenant_id, actor=workshop.principal.actor, correlation_id="test"
    ) as transaction:
        command = UpdatePlan(plan_id, version, condition=condition)
        await plans.update(transaction, workshop.principal, command, workshop.dependencies)
