"""What becomes of what a standing plan has heard: a run, later a run, or a reason why not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.db.models import DeploymentPlan
from app.domain.enums import StatusReason
from app.domain.errors import Invalid
from app.domain.statuses import PlanStatus
from app.engine.ticking import tick
from app.services import plans
from app.services.plans import spawning, triggering
from app.services.plans.firing import DuePlan
from tests.engine.harness import Workshop
from tests.engine.schedules import WAIT, approve, children, finish, found, somebody_else
from tests.engine.standing import (
    AFTER_UPSTREAM,
    HOOK,
    act,
    call,
    change,
    checked,
    hear,
    newest,
    run,
    standing,
    triggers,
    upstream,
)

SPAWNED = "SPAWNED"


async def test_every_decision_is_recorded(workshop: Workshop) -> None:
    plan_id = await standing(workshop, HOOK, overlap="SKIP")
    for key in ("one", "two"):
        await call(workshop, plan_id, key)
    await hear(workshop)
    rows = await workshop.rows(
        "SELECT trigger, result, inputs->'cause'->>'id' AS id, skip_reason, message, spawned_plan_id"
        " FROM condition_evaluation WHERE plan_id = :id ORDER BY id",
        id=plan_id,
    )
    (child,) = await children(workshop, plan_id)
    assert [tuple(row) for row in rows] == [
        ("WEBHOOK", True, "one", None, None, child.id),
        ("WEBHOOK", True, "two", "CONCURRENCY_LIMIT", "a run is not over", None),
    ]


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
    # The end of the other's run makes room. Nobody has answered the doorbells, so that no other run ends.
    over = await act(workshop, plans.cancel, (await newest(workshop, second)).id)
    assert over.status is PlanStatus.CANCELLED
    await hear(workshop)
    assert [len(await children(workshop, plan_id)) for plan_id in (first, second, third)] == [2, 1, 1]


async def test_a_key_holds_however_many_fire_at_once(workshop: Workshop) -> None:
    names = ("first", "second", "third")
    plan_ids = [await standing(workshop, HOOK, name=name, concurrencyKey="k") for name in names]
    for plan_id in plan_ids:
        await call(workshop, plan_id, "one")
    due = [DuePlan(workshop.tenant_id, plan_id) for plan_id in plan_ids]
    with capture_logs() as logs:
        await asyncio.gather(*(triggering.fire(workshop.database, each, workshop.dependencies) for each in due))
    assert logs == []
    assert sum([len(await children(workshop, plan_id)) for plan_id in plan_ids]) == 1


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

    async def failing(
        transaction: Any, clockwork: Any, plan: DeploymentPlan, *rest: Any, **more: Any
    ) -> DeploymentPlan:
        if plan.id == bad:
            message = "a fault of ours"
            raise RuntimeError(message)
        return await spawn(transaction, clockwork, plan, *rest, **more)

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
