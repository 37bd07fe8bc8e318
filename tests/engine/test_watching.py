"""Who looks at conditions: many at once, at the right time, whatever happens meanwhile, and in one tenant only."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from app.db import watches
from app.domain.errors import IllegalState
from app.domain.statuses import PlanStatus
from app.engine.ticking import tick
from app.reads import conditions as reads
from app.services import plans
from app.services.plans.watching import DueWatch, look, notice
from tests.engine.conditions import (
    ACTIVE,
    act,
    conditional,
    evaluations,
    let_pass,
    noted,
    signal,
    tick_and_look,
    watched,
    write,
)
from tests.engine.harness import Workshop
from tests.engine.schedules import WAIT, children, finish, found
from workers.tick import keep_ticking

HOUR = timedelta(hours=1)


async def test_many_clocks_at_once_run_it_once(workshop: Workshop) -> None:
    plan_id = await conditional(workshop, template=await noted(workshop, "a"))
    await signal(workshop, plan_id)
    ticked = await asyncio.gather(*(tick(workshop.database, ring_again_seconds=0) for _ in range(3)))
    assert {due for done in ticked for due in done.due_watches} == {(workshop.tenant_id, plan_id)}
    due = DueWatch(workshop.tenant_id, plan_id)
    with capture_logs() as logs:
        looked = await asyncio.gather(*(look(workshop.database, due, workshop.dependencies) for _ in range(5)))
    assert (looked.count(True), logs) == (1, [])
    assert len(await workshop.rows("SELECT 1 FROM orchestration_job")) == 1
    assert [row.spawned_plan_id for row in await evaluations(workshop, plan_id)] == [plan_id]


async def test_nobody_looks_before_it_is_time(workshop: Workshop) -> None:
    """Though somebody named it, who found it due before another had looked."""
    plan_id = await conditional(workshop, template=await noted(workshop, "a"))
    due = DueWatch(workshop.tenant_id, plan_id)
    assert await look(workshop.database, due, workshop.dependencies)
    assert not await look(workshop.database, due, workshop.dependencies)
    assert [row.times for row in await evaluations(workshop, plan_id)] == [1]


async def test_many_clocks_at_once_spawn_one_run(workshop: Workshop) -> None:
    plan_id = await conditional(workshop, workflow=await workshop.workflow(WAIT), fire="EACH")
    await signal(workshop, plan_id)
    due = DueWatch(workshop.tenant_id, plan_id)
    for _ in range(3):
        await asyncio.gather(*(look(workshop.database, due, workshop.dependencies) for _ in range(5)))
    assert len(await children(workshop, plan_id)) == 1


async def test_its_validity_ends_it(workshop: Workshop) -> None:
    """Also where the tick that ends it was not there in time."""
    plan_id = await conditional(workshop, template=await noted(workshop, "a"))
    await signal(workshop, plan_id)
    await write(workshop, "UPDATE deployment_plan SET valid_until = now() - interval '1 second'")
    assert not await look(workshop.database, DueWatch(workshop.tenant_id, plan_id), workshop.dependencies)
    await tick_and_look(workshop)
    plan = await found(workshop, plan_id)
    assert (plan.status, plan.last_job_id) == (PlanStatus.EXPIRED, None)
    assert await watched(workshop, plan_id) == []


async def test_while_it_is_paused_nobody_looks_and_what_held_begins_anew(workshop: Workshop) -> None:
    plan_id = await conditional(workshop, ACTIVE, template=await noted(workshop, "a"), hold="PT5M")
    await workshop.settle(await workshop.submit(await noted(workshop, "b")))
    await tick_and_look(workshop)
    await act(workshop, plans.pause, plan_id)
    await let_pass(workshop, plan_id, HOUR)
    assert await tick_and_look(workshop) == 0
    assert (await found(workshop, plan_id)).status is PlanStatus.PAUSED
    with pytest.raises(IllegalState):
        await signal(workshop, plan_id)
    await act(workshop, plans.resume, plan_id)
    assert await tick_and_look(workshop) == 1
    plan = await found(workshop, plan_id)
    assert (plan.status, plan.last_job_id) == (PlanStatus.WAITING, None)
    await let_pass(workshop, plan_id, timedelta(minutes=5, seconds=1))
    await tick_and_look(workshop)
    assert (await found(workshop, plan_id)).last_job_id is not None


async def test_cancelled_while_it_is_paused_it_is_over(workshop: Workshop) -> None:
    plan_id = await conditional(workshop, template=await noted(workshop, "a"))
    await act(workshop, plans.pause, plan_id)
    await act(workshop, plans.cancel, plan_id)
    assert (await found(workshop, plan_id)).status is PlanStatus.CANCELLED


async def test_cancelled_while_it_waits_it_is_watched_no_more(workshop: Workshop) -> None:
    plan_id = await conditional(workshop, template=await noted(workshop, "a"))
    await signal(workshop, plan_id)
    await act(workshop, plans.cancel, plan_id)
    assert await tick_and_look(workshop) == 0
    assert (await found(workshop, plan_id)).status is PlanStatus.CANCELLED
    assert await watched(workshop, plan_id) == []


async def test_what_changes_while_somebody_looks_is_told_when_he_has_looked(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_id = await conditional(workshop, ACTIVE, template=await noted(workshop, "a"))
    await tick_and_look(workshop)
    await let_pass(workshop, plan_id, HOUR)
    original = reads.scope

    async def slowly(*given: Any) -> dict[str, Any]:
        scope = await original(*given)
        monkeypatch.setattr(reads, "scope", original)
        await workshop.settle(await workshop.submit(await noted(workshop, "b")))
        # The feed ends before the oldest transaction that is at work, and that is the one that looks.
        assert not await notice(workshop.database, workshop.tenant_id)
        return scope

    monkeypatch.setattr(reads, "scope", slowly)
    assert await look(workshop.database, DueWatch(workshop.tenant_id, plan_id), workshop.dependencies)
    assert (await found(workshop, plan_id)).last_job_id is None
    await tick_and_look(workshop)
    assert (await found(workshop, plan_id)).last_job_id is not None


async def test_a_mark_that_is_made_while_somebody_looks_is_not_lost(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_id = await conditional(workshop, template=await noted(workshop, "a"))
    original = reads.scope

    async def slowly(*given: Any) -> dict[str, Any]:
        async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
            transaction.authorize("test")
            await watches.mark_all(transaction)
        return await original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(reads, "scope", slowly)
        assert await look(workshop.database, DueWatch(workshop.tenant_id, plan_id), workshop.dependencies)
    assert await tick_and_look(workshop) == 1
    assert await tick_and_look(workshop) == 0


async def test_more_news_than_can_be_gone_through_let_all_be_looked_at(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.plans.watching._MOST_NEWS", 3)
    plan_id = await conditional(workshop, template=await noted(workshop, "a"))
    await tick_and_look(workshop)
    await workshop.settle(await workshop.submit(await noted(workshop, "b")))
    assert await tick_and_look(workshop) == 1
    assert (await evaluations(workshop, plan_id))[-1].times == 2
    assert await tick_and_look(workshop) == 0


async def test_a_fault_of_ours_keeps_it_from_its_turn_for_half_a_minute_only(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = await conditional(workshop, template=await noted(workshop, "a"))
    other = await conditional(workshop, template=await noted(workshop, "b"), name="other", stack="other")
    await signal(workshop, broken)
    await signal(workshop, other)
    original = reads.scope

    async def fail(session: Any, tenant_id: int, plan: Any, *more: Any) -> dict[str, Any]:
        if plan.id == broken:
            message = "planted"
            raise RuntimeError(message)
        return await original(session, tenant_id, plan, *more)

    monkeypatch.setattr(reads, "scope", fail)
    with capture_logs() as logs:
        await tick_and_look(workshop)
    assert [entry["event"] for entry in logs] == ["a condition could not be evaluated"]
    assert (await finish(workshop, await found(workshop, other))).status is PlanStatus.SUCCEEDED
    monkeypatch.setattr(reads, "scope", original)
    assert await tick_and_look(workshop) == 0
    await let_pass(workshop, broken, timedelta(seconds=30))
    assert await tick_and_look(workshop) == 1
    assert (await found(workshop, broken)).last_job_id is not None


async def test_what_is_rolled_back_has_not_fired(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies before its commit leaves the signal, the watch, and no run."""
    plan_id = await conditional(workshop, workflow=await workshop.workflow(WAIT), fire="EACH")
    await signal(workshop, plan_id)
    before = await watched(workshop, plan_id)

    async def die(*_: Any, **__: Any) -> int:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr("app.services.plans.watching.record_evaluation", die)
        with pytest.raises(asyncio.CancelledError):
            await look(workshop.database, DueWatch(workshop.tenant_id, plan_id), workshop.dependencies)
    assert (await watched(workshop, plan_id), await children(workshop, plan_id)) == (before, [])
    await tick_and_look(workshop)
    assert len(await children(workshop, plan_id)) == 1


async def test_the_loop_of_a_process_looks_at_what_its_tick_finds(workshop: Workshop) -> None:
    plan_id = await conditional(workshop, ACTIVE, template=await noted(workshop, "a"))
    ticking = asyncio.create_task(keep_ticking(workshop.database, workshop.dependencies, None, 0.02, 10))
    try:
        await workshop.settle(await workshop.submit(await noted(workshop, "b")))
        async with asyncio.timeout(10):
            while (await found(workshop, plan_id)).last_job_id is None:  # noqa: ASYNC110  only the database tells
                await asyncio.sleep(0.02)
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)


async def test_it_sees_nothing_of_another_tenant(workshop: Workshop) -> None:
    """Neither what it has, nor that something happened there."""
    rival = await _rival(workshop)
    await rival.settle(await rival.submit(await noted(rival, "b")))
    seen = await conditional(workshop, ACTIVE, template=await noted(workshop, "a"))
    named = await conditional(
        workshop,
        "${has(plans.plan) || has(jobs.plan) || has(resources.b)}",
        template=await noted(workshop, "c"),
        name="named",
        stack="other",
    )
    await tick_and_look(workshop)
    await rival.settle(await rival.submit(await noted(rival, "d")))
    assert await tick_and_look(workshop) == 0
    for plan_id in (seen, named):
        assert [row.result for row in await evaluations(workshop, plan_id)] == [False]


async def _rival(workshop: Workshop) -> Workshop:
    """Another tenant of the same installation."""

    url = workshop.database.engine.url.render_as_string(hide_password=False).replace("+asyncpg", "")
    connection = await asyncpg.connect(url)
    try:
        tenant = await connection.fetchval("INSERT INTO tenant (name, slug) VALUES ('R', 'rival') RETURNING id")
        user = await connection.fetchval(
            "INSERT INTO app_user (tenant_id, email, display_name, role) VALUES ($1, 'a@r.test', 'A', 'ADMIN')"
            " RETURNING id",
            tenant,
        )
    finally:
        await connection.close()
    principal = replace(workshop.principal, tenant_id=tenant, tenant_slug="rival", user_id=user)
    return replace(workshop, tenant_id=tenant, principal=principal)
