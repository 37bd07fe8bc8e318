"""Standing plans: whatever they hear becomes a plan of its own, once, or a reason why not."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.db.models import DeploymentPlan
from app.db.uow import SystemRole
from app.domain.enums import PlanType, StatusReason
from app.domain.errors import Invalid
from app.domain.events import Stream
from app.domain.identity import global_id
from app.domain.statuses import PlanStatus
from app.engine import automation
from app.engine.ticking import tick
from app.services import plans
from app.services.plans import CreatePlan, spawning, triggering
from app.services.plans.firing import DuePlan
from tests.engine.harness import Workshop, note
from tests.engine.schedules import DAY, WAIT, approve, children, finish, found, half_an_hour_ago, somebody_else
from tests.engine.standing import act, call, change, drift, hear, newest, publish, set_times, standing, triggers

_numbers = itertools.count(1)
HOOK = {"on": "WEBHOOK"}
AFTER_UPSTREAM = {"on": "PLAN_SUCCEEDED", "plan": "upstream"}
SPAWNED, LOOP = "SPAWNED", "POLICY"
# Fails or not, as the call says.
CHECK = {
    "key": "check",
    "type": "CUSTOM",
    "configuration": {"task": "core.assert"},
    "inputs": {"that": "${parameters.good}"},
}


async def upstream(workshop: Workshop, name: str = "upstream") -> DeploymentPlan:
    """A plan of this name that has its job, and is not over."""
    flow = await workshop.workflow(WAIT, name=f"flow {next(_numbers)}")
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = CreatePlan(name=name, type=PlanType.IMMEDIATE, workflow_id=flow, stack=f"stack of {name}")
        return await plans.create(transaction, workshop.principal, command, workshop.dependencies)


async def checked(workshop: Workshop, **more: Any) -> int:
    """A plan whose runs fail when they are told to."""
    flow = await workshop.workflow(CHECK)
    declared = '{"type": "object", "properties": {"good": {"type": "boolean"}}}'
    await change(
        workshop,
        "UPDATE workflow SET definition = definition || jsonb_build_object('parameters', CAST(:declared AS jsonb))",
        declared=declared,
    )
    return await standing(
        workshop,
        HOOK,
        workflow=flow,
        parameters={"good": True},
        given={"good": "${trigger.payload.good}"},
        **more,
    )


async def run(workshop: Workshop, plan_id: int, *, good: bool) -> DeploymentPlan:
    """One call and the end of the run it makes."""
    key = f"call {len(await triggers(workshop, plan_id))}"
    await call(workshop, plan_id, key, f'{{"good": {str(good).lower()}}}')
    await hear(workshop)
    ended = await finish(workshop, await newest(workshop, plan_id))
    assert ended.status is (PlanStatus.SUCCEEDED if good else PlanStatus.ROLLED_BACK)
    await hear(workshop)
    return ended


async def test_the_success_of_another_plan_is_heard_once(workshop: Workshop) -> None:
    await finish(workshop, await upstream(workshop))
    plan_id = await standing(workshop, AFTER_UPSTREAM)
    assert (await found(workshop, plan_id)).status is PlanStatus.WAITING
    await hear(workshop)
    assert await triggers(workshop, plan_id) == [], "what was before is not meant for it"
    later = await upstream(workshop, "upstream")
    await hear(workshop)
    assert await children(workshop, plan_id) == []
    await finish(workshop, later)
    await hear(workshop)
    plan, (child,) = await found(workshop, plan_id), await children(workshop, plan_id)
    assert (plan.status, plan.last_job_id) == (PlanStatus.WAITING, None)
    assert (child.plan_type, child.created_by, child.configuration) == (PlanType.IMMEDIATE, "system:scheduler", None)
    assert (child.user_id, child.stack, child.submitted_by_id) == (plan.user_id, plan.stack, plan.submitted_by_id)
    assert await triggers(workshop, plan_id) == [("PLAN_SUCCEEDED", SPAWNED, "NONE")]
    assert (await finish(workshop, child)).status is PlanStatus.SUCCEEDED
    await hear(workshop)
    assert len(await children(workshop, plan_id)) == 1


async def test_an_upstream_plan_is_known_by_its_id_and_its_runs_count_for_it(workshop: Workshop) -> None:
    first = await standing(workshop, HOOK, name="first")
    other = await standing(workshop, HOOK, name="other")
    named = {"on": "PLAN_SUCCEEDED", "plan": global_id("DeploymentPlan", first)}
    second = await standing(workshop, named, name="second")
    for plan_id in (other, first):
        await call(workshop, plan_id, "one")
        await hear(workshop)
        await finish(workshop, await newest(workshop, plan_id))
        await hear(workshop)
    assert await triggers(workshop, second) == [("PLAN_SUCCEEDED", SPAWNED, "NONE")]
    (row,) = await workshop.rows("SELECT chain, cause FROM plan_trigger WHERE plan_id = :id", id=second)
    (run_of_first,) = await children(workshop, first)
    assert row.chain == [first]
    assert (row.cause["plan"], row.cause["planId"]) == ("first", global_id("DeploymentPlan", run_of_first.id))


async def test_many_processes_at_once_hear_and_fire_once(workshop: Workshop) -> None:
    plan_id = await standing(workshop, AFTER_UPSTREAM)
    await finish(workshop, await upstream(workshop))
    with capture_logs() as logs:
        entered = await asyncio.gather(*(automation.listen(workshop.database, workshop.tenant_id) for _ in range(5)))
        assert sum(entered) == 1
        due = DuePlan(workshop.tenant_id, plan_id)
        await asyncio.gather(*(triggering.fire(workshop.database, due, workshop.dependencies) for _ in range(5)))
    assert logs == []
    await hear(workshop)
    assert len(await children(workshop, plan_id)) == 1
    assert await triggers(workshop, plan_id) == [("PLAN_SUCCEEDED", SPAWNED, "NONE")]


async def test_whoever_dies_while_hearing_leaves_all_of_it_to_the_next(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_id = await standing(workshop, AFTER_UPSTREAM)
    await finish(workshop, await upstream(workshop))

    async def die(*_: Any) -> None:
        raise KeyboardInterrupt

    # The triggers are entered, the place in the feed is not.
    monkeypatch.setattr(automation, "_keep", die)
    with pytest.raises(KeyboardInterrupt):
        await automation.listen(workshop.database, workshop.tenant_id)
    monkeypatch.undo()
    assert await triggers(workshop, plan_id) == []
    # The run is made, its trigger is not settled.
    assert await automation.listen(workshop.database, workshop.tenant_id) == 1
    monkeypatch.setattr(triggering, "_settle", die)
    with pytest.raises(KeyboardInterrupt):
        await triggering.fire(workshop.database, DuePlan(workshop.tenant_id, plan_id), workshop.dependencies)
    monkeypatch.undo()
    assert await children(workshop, plan_id) == []
    await hear(workshop)
    assert len(await children(workshop, plan_id)) == 1
    assert await automation.listen(workshop.database, workshop.tenant_id) == 0


async def test_what_is_heard_in_pages_is_heard_whole(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automation, "_PAGE", 1)
    plan_id = await standing(workshop, AFTER_UPSTREAM, overlap="QUEUE_ALL")
    for _ in range(2):
        await finish(workshop, await upstream(workshop))
    entered = [await automation.listen(workshop.database, workshop.tenant_id) for _ in range(60)]
    assert (sum(entered), entered[-1]) == (2, 0)
    assert len(await triggers(workshop, plan_id)) == 2
    async with workshop.database.system(SystemRole.TICK) as transaction:
        assert await automation.unheard(transaction) == []


async def test_plans_that_fire_each_other_are_stopped(workshop: Workshop) -> None:
    first = await standing(workshop, HOOK, {"on": "PLAN_SUCCEEDED", "plan": "second"}, name="first")
    second = await standing(workshop, {"on": "PLAN_SUCCEEDED", "plan": "first"}, name="second")
    await call(workshop, first, "begin")
    for plan_id in (first, second):
        await hear(workshop)
        await finish(workshop, await newest(workshop, plan_id))
    await hear(workshop)
    assert await triggers(workshop, first) == [("WEBHOOK", SPAWNED, "NONE"), ("PLAN_SUCCEEDED", "SKIPPED", LOOP)]
    assert (len(await children(workshop, first)), len(await children(workshop, second))) == (1, 1)
    (row,) = await workshop.rows("SELECT chain, message FROM plan_trigger WHERE reason = 'POLICY'")
    assert (row.chain, "loop" in row.message) == ([first, second], True)


async def test_a_plan_that_waits_for_itself_is_stopped(workshop: Workshop) -> None:
    plan_id = await standing(workshop, HOOK, {"on": "PLAN_SUCCEEDED", "plan": "standing"})
    await call(workshop, plan_id, "begin")
    await hear(workshop)
    await finish(workshop, await newest(workshop, plan_id))
    await hear(workshop)
    assert [reason for *_, reason in await triggers(workshop, plan_id)] == ["NONE", LOOP]


async def test_drift_of_its_stack_is_mended_once_however_many_resources_have_drifted(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a", "${parameters.text}")}, "parameters": {
        "type": "object", "properties": {"text": {"type": "string", "default": "x"}}}})  # fmt: skip
    plan_id = await standing(workshop, {"on": "DRIFT"}, template=template)
    elsewhere = await standing(workshop, {"on": "DRIFT", "stack": "standing"}, name="elsewhere")
    stranger = await standing(workshop, {"on": "DRIFT"}, name="stranger")
    await workshop.settle(await workshop.submit(template, stack="standing", text="y"))
    # What a job says of its own work, and what is in order, is no drift.
    await drift(workshop, "standing", stream=Stream.JOB)
    await drift(workshop, "standing", status="IN_SYNC")
    await hear(workshop)
    assert await triggers(workshop, plan_id) == []
    await drift(workshop, "standing")
    await drift(workshop, "standing", status="MISSING")
    await hear(workshop)
    for heard in (plan_id, elsewhere):
        assert await triggers(workshop, heard) == [("DRIFT", SPAWNED, "NONE")] * 2
        assert len(await children(workshop, heard)) == 1
    assert await triggers(workshop, stranger) == []
    (child,) = await children(workshop, plan_id)
    assert (await finish(workshop, child)).status is PlanStatus.SUCCEEDED
    assert workshop.notes() == {"a": "x"}
    # The resource is that of a run now, and drift of it is heard all the same.
    await drift(workshop, "standing")
    await hear(workshop)
    assert len(await triggers(workshop, plan_id)) == 3


async def test_a_publication_is_followed(workshop: Workshop) -> None:
    first = await workshop.template({"resources": {"a": note("a", "one")}})
    plan_id = await standing(workshop, {"on": "TEMPLATE_PUBLISHED"}, HOOK, template=first)
    await hear(workshop)
    assert await triggers(workshop, plan_id) == []
    second = await publish(workshop, {"resources": {"a": note("a", "two")}})
    await hear(workshop)
    assert await triggers(workshop, plan_id) == [("TEMPLATE_PUBLISHED", SPAWNED, "NONE")]
    child = await newest(workshop, plan_id)
    assert (child.template_revision_id, (await found(workshop, plan_id)).template_revision_id) == (second, second)
    # Another comes while the run is not over: what waits for it takes the newest along.
    third = await publish(workshop, {"resources": {"a": note("a", "three")}})
    await hear(workshop)
    fourth = await publish(workshop, {"resources": {"a": note("a", "four")}})
    await hear(workshop)
    assert third != fourth
    await finish(workshop, child)
    await hear(workshop)
    assert (await newest(workshop, plan_id)).template_revision_id == fourth
    await finish(workshop, await newest(workshop, plan_id))
    await hear(workshop)
    assert (workshop.notes(), len(await children(workshop, plan_id))) == ({"a": "four"}, 2)
    # And so does whatever fires next.
    await call(workshop, plan_id, "later")
    await hear(workshop)
    assert (await newest(workshop, plan_id)).template_revision_id == fourth


async def test_a_recurrence(workshop: Workshop) -> None:
    time = half_an_hour_ago()
    daily = {"on": "RECURRENCE", "recurrence": f"{time.minute} {time.hour} * * *", "timeZone": "UTC"}
    plan_id = await standing(workshop, daily)
    assert await hear(workshop) == 0
    await set_times(workshop, time - 3 * DAY)
    assert await hear(workshop) >= 1
    assert await triggers(workshop, plan_id) == [("RECURRENCE", SPAWNED, "NONE")]
    ((fire_at,),) = await workshop.rows("SELECT fire_at FROM plan_automation")
    assert fire_at == time + DAY
    await set_times(workshop, time)
    await hear(workshop)
    assert len(await children(workshop, plan_id)) == 1, "a time that has been fires no more"


@pytest.mark.parametrize(
    ("overlap", "reasons"),
    [
        ("SKIP", ["NONE", "CONCURRENCY_LIMIT", "CONCURRENCY_LIMIT"]),
        ("QUEUE_ONE", ["NONE", "NONE", "CONCURRENCY_LIMIT"]),
        ("QUEUE_ALL", ["NONE", "NONE", "NONE"]),
    ],
)
async def test_what_comes_while_a_run_is_not_over(workshop: Workshop, overlap: str, reasons: list[str]) -> None:
    plan_id = await standing(workshop, HOOK, overlap=overlap)
    for key in ("one", "two", "three"):
        await call(workshop, plan_id, key)
    await hear(workshop)
    for expected in range(1, 1 + reasons.count("NONE")):
        made = await children(workshop, plan_id)
        assert len(made) == expected
        await finish(workshop, made[-1])
        await hear(workshop)
    assert [reason for *_, reason in await triggers(workshop, plan_id)] == reasons
    assert len(await children(workshop, plan_id)) == reasons.count("NONE")


async def test_runs_of_one_key_are_counted_together(workshop: Workshop) -> None:
    first = await standing(workshop, HOOK, name="first", concurrencyKey="k", maxConcurrent=2)
    second = await standing(workshop, HOOK, name="second", concurrencyKey="k", maxConcurrent=2)
    third = await standing(workshop, HOOK, name="third")
    for plan_id in (first, second, first, third):
        await call(workshop, plan_id, f"call {len(await triggers(workshop, plan_id))}")
        await hear(workshop)
    assert [len(await children(workshop, plan_id)) for plan_id in (first, second, third)] == [1, 1, 1]
    # The end of the other's run makes room.
    await finish(workshop, await newest(workshop, second))
    await hear(workshop)
    assert [len(await children(workshop, plan_id)) for plan_id in (first, second, third)] == [2, 1, 1]


async def test_a_rate(workshop: Workshop) -> None:
    plan_id = await standing(workshop, HOOK, rate={"count": 2, "per": "PT1H"}, maxConcurrent=9)
    for key in ("one", "two", "three"):
        await call(workshop, plan_id, key)
    await hear(workshop)
    assert [reason for *_, reason in await triggers(workshop, plan_id)] == ["NONE", "NONE", "QUOTA"]
    await change(workshop, "UPDATE plan_trigger SET decided_at = decided_at - interval '1 hour'")
    await call(workshop, plan_id, "four")
    await hear(workshop)
    assert [reason for *_, reason in await triggers(workshop, plan_id)] == ["NONE", "NONE", "QUOTA", "NONE"]


async def test_the_circuit_opens_and_is_closed_by_somebody(workshop: Workshop) -> None:
    plan_id = await checked(workshop, breaker={"failures": 2})
    for good in (False, True, False):
        await run(workshop, plan_id, good=good)
    assert (await found(workshop, plan_id)).status is PlanStatus.WAITING
    await run(workshop, plan_id, good=False)
    plan = await found(workshop, plan_id)
    assert (plan.status, plan.status_reason) == (PlanStatus.PAUSED, StatusReason.CIRCUIT_OPEN)
    assert plan.status_message == "its last 2 runs have failed: resume it when the cause is mended"
    told = await workshop.rows(
        "SELECT data->>'previous', data->>'status', data->>'reason' FROM event_log WHERE stream = 'PLAN'"
        " AND stream_id = :id ORDER BY seq DESC LIMIT 1",
        id=plan_id,
    )
    assert [tuple(row) for row in told] == [("WAITING", "PAUSED", "CIRCUIT_OPEN")]
    await call(workshop, plan_id, "while it is open", '{"good": true}')
    await hear(workshop)
    assert (await triggers(workshop, plan_id))[-1] == ("WEBHOOK", "SKIPPED", "CIRCUIT_OPEN")
    assert (await act(workshop, plans.resume, plan_id)).status is PlanStatus.WAITING
    # What failed before counts no more.
    await run(workshop, plan_id, good=False)
    assert (await found(workshop, plan_id)).status is PlanStatus.WAITING
    await run(workshop, plan_id, good=False)
    assert (await found(workshop, plan_id)).status is PlanStatus.PAUSED
    cancelled = await act(workshop, plans.cancel, plan_id)
    assert (cancelled.status, await hear(workshop)) == (PlanStatus.CANCELLED, 0)


async def test_a_run_that_cannot_be_worked_out_counts_as_a_failure(workshop: Workshop) -> None:
    plan_id = await checked(workshop, breaker={"failures": 1})
    await call(workshop, plan_id, "one", '{"good": "perhaps"}')
    await hear(workshop)
    assert (await newest(workshop, plan_id)).status is PlanStatus.INVALID
    assert (await found(workshop, plan_id)).status_reason is StatusReason.CIRCUIT_OPEN


async def test_a_call_that_lacks_what_is_asked_for_makes_no_run(workshop: Workshop) -> None:
    plan_id = await checked(workshop, breaker={"failures": 1})
    await call(workshop, plan_id, "one", '{"other": 1}')
    await call(workshop, plan_id, "two", '{"good": true}')
    await hear(workshop)
    assert await triggers(workshop, plan_id) == [
        ("WEBHOOK", "SKIPPED", "CONDITION_FALSE"),
        ("WEBHOOK", SPAWNED, "NONE"),
    ]
    child = await newest(workshop, plan_id)
    assert child.parameters == {"good": True}
    kept = await workshop.rows("SELECT 1 FROM plan_trigger WHERE payload IS NOT NULL")
    assert kept == [], "what was sent is forgotten"


async def test_somebody_pauses_it_and_lets_it_go_on(workshop: Workshop) -> None:
    plan_id = await standing(workshop, HOOK)
    await act(workshop, plans.pause, plan_id)
    await call(workshop, plan_id, "one")
    await hear(workshop)
    assert await triggers(workshop, plan_id) == [("WEBHOOK", "SKIPPED", "USER")]
    await act(workshop, plans.resume, plan_id)
    await call(workshop, plan_id, "two")
    await hear(workshop)
    assert len(await children(workshop, plan_id)) == 1


async def test_what_was_approved_of_a_plan_counts_for_each_run_that_does_the_same(workshop: Workshop) -> None:
    other = await somebody_else(workshop)
    plan_id = await standing(workshop, HOOK, approvals={"required": 1})
    assert (await found(workshop, plan_id)).status is PlanStatus.PENDING_APPROVAL
    assert (await approve(workshop, other, plan_id)).status is PlanStatus.WAITING
    await call(workshop, plan_id, "one")
    await hear(workshop)
    child = await newest(workshop, plan_id)
    assert child.configuration == {"approvals": {"required": 1}}
    assert (await finish(workshop, child)).status is PlanStatus.SUCCEEDED


async def test_a_plan_that_stands_no_more_hears_nothing(workshop: Workshop) -> None:
    plan_id = await standing(workshop, HOOK, AFTER_UPSTREAM, overlap="QUEUE_ONE")
    for key in ("one", "two"):
        await call(workshop, plan_id, key)
    await hear(workshop)
    assert (await act(workshop, plans.cancel, plan_id)).status is PlanStatus.CANCELLED
    await finish(workshop, await upstream(workshop))
    await finish(workshop, await newest(workshop, plan_id))
    await hear(workshop)
    assert await triggers(workshop, plan_id) == [("WEBHOOK", SPAWNED, "NONE"), ("WEBHOOK", "SKIPPED", "NONE")]
    assert await workshop.rows("SELECT 1 FROM plan_automation") == []


async def test_a_plan_that_meets_a_fault_of_ours_keeps_no_other_from_firing(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await standing(workshop, HOOK, name="bad"), await standing(workshop, HOOK, name="good")
    spawn = spawning.spawn

    async def failing(transaction: Any, clockwork: Any, plan: DeploymentPlan, *rest: Any) -> DeploymentPlan:
        if plan.id == bad:
            message = "a fault of ours"
            raise RuntimeError(message)
        return await spawn(transaction, clockwork, plan, *rest)

    monkeypatch.setattr(spawning, "spawn", failing)
    for plan_id in (bad, good):
        await call(workshop, plan_id, "one")
    with capture_logs() as logs:
        await hear(workshop)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["a plan could not be fired"]
    assert (await children(workshop, bad), len(await children(workshop, good))) == ([], 1)
    monkeypatch.undo()
    assert await hear(workshop) == 0, "it is not tried again at once"
    await change(workshop, "UPDATE plan_automation SET retry_at = clock_timestamp()")
    await hear(workshop)
    assert len(await children(workshop, bad)) == 1


async def test_its_workflow_says_what_it_leaves_out(workshop: Workshop) -> None:
    flow = await workshop.workflow(WAIT)
    with pytest.raises(Invalid, match="needs triggers") as refused:
        await standing(workshop, workflow=flow, name="without")
    assert refused.value.path == ("configuration", "automation", "triggers")
    await change(workshop, """UPDATE workflow SET triggers = '[{"on": "WEBHOOK"}]'""")
    plan_id = await standing(workshop, workflow=flow)
    await call(workshop, plan_id, "one")
    await hear(workshop)
    assert len(await children(workshop, plan_id)) == 1


async def test_what_has_a_template_can_follow_it_and_nothing_else(workshop: Workshop) -> None:
    with pytest.raises(Invalid, match="without a template") as refused:
        await standing(workshop, {"on": "TEMPLATE_PUBLISHED"})
    assert refused.value.path == ("configuration", "automation", "triggers")


async def test_validity_ends_it(workshop: Workshop) -> None:
    plan_id = await standing(workshop, HOOK)
    await change(workshop, "UPDATE deployment_plan SET valid_until = clock_timestamp() - interval '1 minute'")
    assert (await tick(workshop.database, ring_again_seconds=0)).expired == 1
    assert (await found(workshop, plan_id)).status is PlanStatus.EXPIRED
    await call(workshop, plan_id, "one")
    assert await hear(workshop) == 0
