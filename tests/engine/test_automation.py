"""Standing plans: whatever they hear becomes a plan of its own, once, or a reason why not."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from app.db.uow import SystemRole
from app.domain.enums import PlanType
from app.domain.events import Stream
from app.domain.identity import global_id
from app.domain.statuses import JOB, PlanStatus
from app.engine import automation
from app.engine.ticking import tick
from app.services.plans import triggering
from app.services.plans.firing import DuePlan
from tests.engine.harness import Workshop, note
from tests.engine.schedules import DAY, children, finish, found, half_an_hour_ago
from tests.engine.standing import (
    AFTER_UPSTREAM,
    HOOK,
    call,
    drift,
    hear,
    newest,
    publish,
    set_times,
    standing,
    triggers,
    upstream,
)

SPAWNED, LOOP = "SPAWNED", "POLICY"


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


async def test_what_was_before_a_plan_is_not_meant_for_it_though_nobody_has_heard_it_yet(workshop: Workshop) -> None:
    earlier = await standing(workshop, AFTER_UPSTREAM, name="earlier")
    job_id = (await upstream(workshop)).last_job_id
    assert job_id is not None
    while (await workshop.job(job_id)).status not in JOB.closed:
        await workshop.answer()
    later = await standing(workshop, AFTER_UPSTREAM, name="later")
    await hear(workshop)
    assert (len(await triggers(workshop, earlier)), await triggers(workshop, later)) == (1, [])


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


async def test_a_feed_that_meets_a_fault_of_ours_keeps_nothing_else_from_the_tick(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_id = await standing(workshop, AFTER_UPSTREAM)
    await finish(workshop, await upstream(workshop))

    async def fail(*_: Any) -> None:
        message = "a fault of ours"
        raise RuntimeError(message)

    monkeypatch.setattr(automation, "_facts", fail)
    with capture_logs() as logs:
        assert (await tick(workshop.database, ring_again_seconds=0)).ran
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["a tenant's feed could not be heard"]
    monkeypatch.undo()
    await hear(workshop)
    assert len(await children(workshop, plan_id)) == 1


async def test_a_tenant_with_many_plans_keeps_no_other_waiting(workshop: Workshop, database_url: str) -> None:
    crowd = [await standing(workshop, HOOK, name=f"plan {n}") for n in range(5)]
    for plan_id in crowd:
        await call(workshop, plan_id, "one")
    connection = await asyncpg.connect(database_url)
    try:
        # Another tenant's, whose number comes after.
        (other,) = await connection.fetchrow("INSERT INTO tenant (name, slug) VALUES ('B', 'b') RETURNING id")
        (plan_id,) = await connection.fetchrow(
            "INSERT INTO deployment_plan (tenant_id, plan_name, plan_type, status, stack)"
            " VALUES ($1, 'p', 'AUTOMATED', 'WAITING', 's') RETURNING id",
            other,
        )
        await connection.execute(
            "INSERT INTO plan_automation (tenant_id, plan_id, automation, concurrency_key, armed_feed, look_at)"
            " VALUES ($1, $2, '{}', 'k', 0, now())",
            other,
            plan_id,
        )
    finally:
        await connection.close()
    async with workshop.database.system(SystemRole.TICK) as transaction:
        named = [await automation.due(transaction, limit=2) for _ in range(20)]
    assert {tuple(sorted(tenant_id for tenant_id, _ in each)) for each in named} == {(workshop.tenant_id, other)}
    assert len({plan_id for each in named for tenant_id, plan_id in each if tenant_id != other}) > 1


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
