"""The record of what was seen of a condition: what is the same is counted, what is old makes room."""

from __future__ import annotations

from typing import Any

from app.db.evaluations import KEPT, record_evaluation
from app.domain.enums import StatusReason
from tests.engine.harness import Workshop
from tests.engine.schedules import once, scheduled

FALSE = StatusReason.CONDITION_FALSE


async def recorded(
    workshop: Workshop,
    plan_id: int,
    result: bool,
    inputs: dict[str, Any],
    skip_reason: StatusReason | None = None,
    spawned: int | None = None,
    trigger: str = "event",
) -> int:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        return await record_evaluation(transaction, plan_id, result, trigger, inputs, skip_reason, spawned)


async def kept(workshop: Workshop, plan_id: int) -> list[Any]:
    return await workshop.rows(
        "SELECT result, trigger, inputs, skip_reason, spawned_plan_id, times, at <= last_at AS ordered"
        " FROM condition_evaluation WHERE plan_id = :id ORDER BY at, id",
        id=plan_id,
    )


async def any_plan(workshop: Workshop, stack: str = "stack") -> int:
    content = {"resources": {"a": {"type": "core.note", "properties": {"name": "a", "text": "x"}}}}
    return await scheduled(workshop, once(), template=await workshop.template(content, stack), stack=stack)


async def test_what_is_seen_again_is_counted_and_what_changes_is_an_entry(workshop: Workshop) -> None:
    plan_id = await any_plan(workshop)
    first = await recorded(workshop, plan_id, False, {"a": 1, "time": {"minute": 1}}, FALSE)
    assert await recorded(workshop, plan_id, False, {"a": 1, "time": {"minute": 2}}, FALSE, trigger="poll") == first
    others = [
        await recorded(workshop, plan_id, False, {"a": 2}, FALSE),
        await recorded(workshop, plan_id, True, {"a": 2}, FALSE),
        await recorded(workshop, plan_id, True, {"a": 2}),
    ]
    assert len({first, *others}) == 4
    rows = await kept(workshop, plan_id)
    assert [(row.result, row.skip_reason, row.times, row.ordered) for row in rows] == [
        (False, FALSE, 2, True),
        (False, FALSE, 1, True),
        (True, FALSE, 1, True),
        (True, None, 1, True),
    ]
    assert (rows[0].trigger, rows[0].inputs) == ("event", {"a": 1, "time": {"minute": 2}})


async def test_what_ran_is_always_an_entry_of_its_own(workshop: Workshop) -> None:
    plan_id = await any_plan(workshop)
    for _ in range(2):
        await recorded(workshop, plan_id, True, {}, None, plan_id)
    await recorded(workshop, plan_id, True, {})
    await recorded(workshop, plan_id, True, {}, None, plan_id)
    assert [(row.spawned_plan_id, row.times) for row in await kept(workshop, plan_id)] == [
        (plan_id, 1),
        (plan_id, 1),
        (None, 1),
        (plan_id, 1),
    ]


async def test_only_the_newest_are_kept_of_each_plan(workshop: Workshop) -> None:
    plan_id, other = await any_plan(workshop), await any_plan(workshop, "other")
    await recorded(workshop, other, False, {}, FALSE)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        for number in range(KEPT + 3):
            await record_evaluation(transaction, plan_id, False, "event", {"n": number}, FALSE)
    rows = await kept(workshop, plan_id)
    assert [row.inputs["n"] for row in rows] == list(range(3, KEPT + 3))
    assert len(await kept(workshop, other)) == 1
