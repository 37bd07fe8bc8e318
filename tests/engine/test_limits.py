"""How many jobs of a tenant are under way, and how many may wait."""

from __future__ import annotations

import asyncio

import pytest

from app.db.uow import SystemRole
from app.domain.errors import DomainError, LimitExceeded, QuotaExceeded
from app.engine import admission
from app.reads.limits import usages
from app.services.limits import SetLimits, set_limits
from tests.engine.harness import Workshop, note


async def limit(workshop: Workshop, running: int | None = None, queued: int | None = None) -> None:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        await set_limits(transaction, workshop.principal, SetLimits(running, queued))


async def used(workshop: Workshop) -> dict[str, tuple[int, int]]:
    async with workshop.database.read(workshop.tenant_id) as session:
        found = (await usages(session, workshop.tenant_id, [workshop.tenant_id]))[workshop.tenant_id]
    return {usage.key: (usage.limit, usage.used) for usage in found}


async def three(workshop: Workshop) -> list[int]:
    """Jobs of stacks of their own."""
    made = []
    for name in ("one", "two", "three"):
        template = await workshop.template({"resources": {name: note(name)}}, name)
        made.append(await workshop.submit(template, stack=name))
    return made


async def admitted(workshop: Workshop) -> int:
    async with workshop.database.system(SystemRole.TICK) as transaction:
        return await admission.admit(transaction)


async def test_a_tenant_without_limits_has_the_defaults(workshop: Workshop) -> None:
    assert await used(workshop) == {"jobs.running": (100, 0), "jobs.queued": (1000, 0)}


async def test_no_more_jobs_are_under_way_than_may(workshop: Workshop) -> None:
    await limit(workshop, running=1)
    first, *others = await three(workshop)
    held = [await workshop.job(job_id) for job_id in others]
    assert [(job.status, job.status_reason) for job in held] == [("QUEUED", "CONCURRENCY_LIMIT")] * 2
    assert await used(workshop) == {"jobs.running": (1, 1), "jobs.queued": (1000, 2)}
    assert await admitted(workshop) == 0, "who has no room is not looked at"
    for job_id in (first, *others):
        job = await workshop.settle(job_id)
        assert (job.status, job.status_reason) == ("SUCCEEDED", "NONE")
        assert (await used(workshop))["jobs.running"][1] <= 1
    assert len(workshop.notes()) == 3


async def test_who_waited_for_room_says_when_it_waits_for_its_stack(workshop: Workshop) -> None:
    await limit(workshop, running=1)
    first = (await three(workshop))[0]
    templates = [await workshop.template({"resources": {"x": note("x")}}, name) for name in ("four", "five")]
    same = [await workshop.submit(template, stack="two") for template in templates]
    waits = [(await workshop.job(job_id)).status_reason for job_id in same]
    assert waits == ["CONCURRENCY_LIMIT"] * 2
    await workshop.answer()
    assert (await workshop.job(first)).status == "SUCCEEDED"
    assert await admitted(workshop) == 1
    # The first of the stack has begun: the others would wait for it even if there were room.
    told = [await workshop.job(job_id) for job_id in same]
    assert [(job.status, job.status_reason) for job in told] == [("QUEUED", "LOCK_HELD")] * 2
    assert {job.status_message for job in told} == {"another job holds the stack"}


async def test_a_job_behind_another_says_so_until_it_begins(workshop: Workshop) -> None:
    templates = [await workshop.template({"resources": {"x": note("x", name)}}, name) for name in ("a", "b")]
    first, second = [await workshop.submit(template) for template in templates]
    assert (await workshop.job(first)).status_reason == "NONE"
    held = await workshop.job(second)
    assert (held.status, held.status_reason) == ("QUEUED", "LOCK_HELD")
    await workshop.settle(first)
    begun = await workshop.settle(second)
    assert (begun.status, begun.status_reason, begun.status_message) == ("SUCCEEDED", "NONE", None)


async def bound(workshop: Workshop, **limits: int) -> None:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        await set_limits(transaction, workshop.principal, SetLimits(**limits))


async def test_a_plan_that_would_make_more_resources_than_may_be_is_refused(workshop: Workshop) -> None:
    await bound(workshop, max_resources=2)
    pair = await workshop.template({"resources": {"a": note("a"), "b": note("b")}}, "pair")
    await workshop.settle(await workshop.submit(pair))
    assert (await used(workshop))["resources"] == (2, 2)
    more = await workshop.template({"resources": {"c": note("c")}}, "more")
    with pytest.raises(QuotaExceeded) as refused:
        await workshop.submit(more, stack="other")
    quota = refused.value
    assert (quota.key, quota.limit, quota.used) == ("resources", 2, 2)
    assert len(await workshop.rows("SELECT 1 FROM deployment_plan")) == 1
    # What takes the place of another, or changes what is there, is no more than there was.
    swapped = await workshop.template({"resources": {"a": note("a", "new"), "c": note("c")}}, "swapped")
    assert (await workshop.settle(await workshop.submit(swapped))).status == "SUCCEEDED"
    assert (set(workshop.notes()), (await used(workshop))["resources"]) == ({"a", "c"}, (2, 2))


async def test_a_plan_more_than_may_be_open_is_refused_until_one_is_over(workshop: Workshop) -> None:
    await bound(workshop, max_plans=1)
    first = await workshop.submit(await workshop.template({"resources": {"a": note("a")}}, "a"))
    assert (await used(workshop))["plans"] == (1, 1)
    second = await workshop.template({"resources": {"b": note("b")}}, "b")
    with pytest.raises(QuotaExceeded) as refused:
        await workshop.submit(second, stack="other")
    assert (refused.value.key, refused.value.limit, refused.value.used) == ("plans", 1, 1)
    await workshop.settle(first)
    assert (await workshop.settle(await workshop.submit(second, stack="other"))).status == "SUCCEEDED"


async def test_a_higher_limit_lets_the_next_start(workshop: Workshop) -> None:
    await limit(workshop, running=1)
    await three(workshop)
    await limit(workshop, running=2)
    assert await admitted(workshop) == 1
    assert await admitted(workshop) == 0
    assert (await used(workshop))["jobs.running"] == (2, 2)


async def test_a_job_beyond_what_may_wait_is_refused_and_leaves_nothing(workshop: Workshop) -> None:
    await limit(workshop, running=1, queued=1)
    with pytest.raises(QuotaExceeded) as refused:
        await three(workshop)
    assert (refused.value.key, refused.value.limit, refused.value.used) == ("jobs.queued", 1, 1)
    assert await used(workshop) == {"jobs.running": (1, 1), "jobs.queued": (1, 1)}


async def test_jobs_that_start_at_once_do_not_overstep_a_limit(workshop: Workshop) -> None:
    await limit(workshop, running=2)
    names = [f"n{number}" for number in range(5)]
    templates = [await workshop.template({"resources": {name: note(name)}}, name) for name in names]
    await asyncio.gather(
        *(workshop.submit(template, stack=name) for template, name in zip(templates, names, strict=True))
    )
    await admitted(workshop)
    assert (await used(workshop))["jobs.running"] == (2, 2)


@pytest.mark.parametrize(("running", "queued", "path"), [(0, None, "maxRunningJobs"), (None, 100_001, "maxQueuedJobs")])
async def test_a_limit_is_bounded(workshop: Workshop, running: int | None, queued: int | None, path: str) -> None:
    with pytest.raises(DomainError) as refused:
        await limit(workshop, running, queued)
    assert isinstance(refused.value, LimitExceeded)
    assert refused.value.path == ("limits", path)
