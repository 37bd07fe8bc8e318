"""Live lists: the page as it is, what changes in it, and one look for everybody who watches it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from gql.transport.exceptions import TransportQueryError

from app.db import models
from app.domain.events import Event, EventKind, Stream
from app.domain.statuses import PlanStatus
from app.reads import lists
from schema import live_lists, pace
from schema.context import Services
from schema.nodes import encode_id
from tests.bus.valkey import Valkey
from tests.schema.live.conftest import Live, progressed

PLANS = """subscription($filter: PlanFilter, $orderBy: PlanOrder, $first: Int) {
  plansChanged(filter: $filter, orderBy: $orderBy, first: $first) { kind cursor lagMs plans { name status }
    deltas { op position plan { name status } } counts { status count exact } } }"""
JOBS = """subscription($filter: JobFilter, $first: Int) { jobsChanged(filter: $filter, first: $first) {
  kind cursor jobs { id status } deltas { op position job { id status } } counts { status count } } }"""
BY_NAME = {"field": "NAME", "direction": "ASC"}

Frames = AsyncGenerator[dict[str, Any], None]


def names(frame: dict[str, Any]) -> list[str]:
    return [plan["name"] for plan in frame["plans"]]


def told(frame: dict[str, Any]) -> list[tuple[str, str, int | None]]:
    return [(delta["op"], delta["plan"]["name"], delta["position"]) for delta in frame["deltas"]]


class Follower:
    """Somebody who does what the description of the deltas says."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self.rows: list[dict[str, Any]] = []
        self.counts: dict[str, int] = {}

    async def until(self, reached: Callable[[Follower], bool]) -> None:
        async with asyncio.timeout(20):
            while not reached(self):
                self.take(await anext(self._frames))

    def take(self, frame: dict[str, Any]) -> None:
        self.counts = {count["status"]: count["count"] for count in frame["counts"]}
        if frame["kind"] == "SNAPSHOT":
            self.rows = frame["plans"]
        named = {delta["plan"]["name"] for delta in frame["deltas"]}
        self.rows = [row for row in self.rows if row["name"] not in named]
        for delta in frame["deltas"]:
            if delta["position"] is not None:
                self.rows.insert(delta["position"], delta["plan"])


async def test_what_enters_changes_and_leaves_is_told_with_its_place(live: Live) -> None:
    rows = live.api.acme.rows
    first, last = await rows.plan("a"), await rows.plan("c")
    await live.api.rival.rows.plan("theirs")
    wanted = {"filter": {"status": ["READY", "RUNNING"]}, "orderBy": BY_NAME}
    async with asyncio.timeout(30), aclosing(live.frames(PLANS, wanted)) as frames:
        snapshot = await anext(frames)
        assert (snapshot["kind"], names(snapshot), snapshot["deltas"]) == ("SNAPSHOT", ["a", "c"], [])
        assert snapshot["counts"] == [{"status": "READY", "count": 2, "exact": True}]
        middle = await rows.plan("b")
        # A row without an event rings no bell: the list is looked at anyway.
        entered = await anext(frames)
        assert (entered["kind"], told(entered), entered["plans"]) == ("EVENTS", [("ENTER", "b", 1)], None)
        await live.settle(middle, PlanStatus.RUNNING)
        updated = await anext(frames)
        assert told(updated) == [("UPDATE", "b", 1)]
        assert updated["deltas"][0]["plan"]["status"] == "RUNNING"
        await live.settle(first, PlanStatus.FAILED)
        left = await anext(frames)
        assert told(left) == [("LEAVE", "a", None)]
        # It is shown as it is now: that is why it left.
        assert left["deltas"][0]["plan"]["status"] == "FAILED"
        # The counts are of all statuses, so that a dashboard can show what its filter leaves out.
        assert {count["status"]: count["count"] for count in left["counts"]} == {"READY": 1, "RUNNING": 1, "FAILED": 1}
        async with rows.write() as transaction:
            (await transaction.session.get_one(models.DeploymentPlan, last.id)).is_deleted = True
        assert told(await anext(frames)) == [("LEAVE", "c", None)]


async def test_a_page_stays_as_long_as_it_was_asked_for(live: Live) -> None:
    rows = live.api.acme.rows
    for name in "bcd":
        await rows.plan(name)
    async with asyncio.timeout(30), aclosing(live.frames(PLANS, {"orderBy": BY_NAME, "first": 2})) as frames:
        assert names(await anext(frames)) == ["b", "c"]
        plan = await rows.plan("a")
        assert told(await anext(frames)) == [("LEAVE", "c", None), ("ENTER", "a", 0)]
        async with rows.write() as transaction:
            (await transaction.session.get_one(models.DeploymentPlan, plan.id)).is_deleted = True
        assert told(await anext(frames)) == [("LEAVE", "a", None), ("ENTER", "c", 1)]


async def test_jobs_are_told_while_they_go_on(live: Live) -> None:
    job = await live.job()
    gid = encode_id("OrchestrationJob", job.id)
    async with asyncio.timeout(30), aclosing(live.frames(JOBS, {"filter": {"planId": "nonsense"}})) as frames:
        assert (await anext(frames))["jobs"] == []
    mine = {"filter": {"planId": encode_id("DeploymentPlan", job.plan_id)}}
    async with asyncio.timeout(30), aclosing(live.frames(JOBS, mine)) as frames:
        assert (await anext(frames))["jobs"] == [{"id": gid, "status": "RUNNING"}]
        await live.api.acme.rows.events(Stream.JOB, job.id, progressed(job, 1.0))
        (delta,) = (await anext(frames))["deltas"]
        assert (delta["op"], delta["position"]) == ("UPDATE", 0)
        await live.finish(job)
        frame = await anext(frames)
        assert frame["deltas"] == [{"op": "UPDATE", "position": 0, "job": {"id": gid, "status": "SUCCEEDED"}}]
        assert frame["counts"] == [{"status": "SUCCEEDED", "count": 1}]


async def test_a_list_is_looked_at_once_for_all_who_watch_it(
    live: Live, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Counter[str]()
    look = lists.look

    async def counted(*arguments: Any) -> Any:
        looks["all"] += 1
        return await look(*arguments)

    monkeypatch.setattr(lists, "look", counted)
    # Nothing is looked at but for a bell.
    monkeypatch.setattr(live_lists, "sweep_seconds", lambda _: 60.0)
    plan = await live.api.acme.rows.plan("a")

    async def watch(ready: asyncio.Event, filters: dict[str, Any]) -> list[dict[str, Any]]:
        async with aclosing(live.frames(PLANS, {"filter": filters})) as frames:
            seen = [await anext(frames)]
            ready.set()
            return [*seen, await anext(frames)]

    ready = [asyncio.Event() for _ in range(12)]
    async with asyncio.timeout(30):
        watching = [asyncio.create_task(watch(one, {"status": ["DRAFT", "READY"]})) for one in ready]
        await asyncio.gather(*(one.wait() for one in ready))
        assert len(services.lists) == 1
        await live.settle(plan, PlanStatus.READY)
        seen = await asyncio.gather(*watching)
        while len(services.lists) > 0:  # noqa: ASYNC110  the server hears of it a moment later
            await asyncio.sleep(0.01)
    assert all(told(frames[1]) == [("UPDATE", "a", 0)] for frames in seen)
    # Twelve watched: one look when the first came, and one for the bell.
    assert looks["all"] == 2


async def test_whoever_watches_another_list_or_tenant_has_a_board_of_their_own(live: Live, services: Services) -> None:
    await live.api.acme.rows.plan("ours")
    await live.api.rival.rows.plan("theirs")
    async with (
        asyncio.timeout(30),
        aclosing(live.frames(PLANS, {})) as ours,
        aclosing(live.frames(PLANS, {}, access=live.api.rival)) as theirs,
        aclosing(live.frames(PLANS, {"first": 7})) as shorter,
    ):
        pages = [names(await anext(frames)) for frames in (ours, theirs, shorter)]
        assert len(services.lists) == 3
    assert pages == [["ours"], ["theirs"], ["ours"]]


async def test_without_a_bus_the_list_is_looked_at_anyway(live: Live, valkey: Valkey) -> None:
    plan = await live.api.acme.rows.plan("a")
    async with asyncio.timeout(30), aclosing(live.frames(PLANS, {})) as frames:
        await anext(frames)
        await valkey.kill()
        await live.settle(plan, PlanStatus.READY)
        assert told(await anext(frames)) == [("UPDATE", "a", 0)]


async def test_silence_is_told(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schema.subscriptions.lists.HEARTBEAT_SECONDS", 0.3)
    assert pace.HEARTBEAT_SECONDS == 10.0
    await live.api.acme.rows.plan("a")
    async with asyncio.timeout(30), aclosing(live.frames(PLANS, {})) as frames:
        await anext(frames)
        frame = await anext(frames)
    assert (frame["kind"], frame["plans"], frame["deltas"]) == ("HEARTBEAT", None, [])
    assert frame["counts"] == [{"status": "READY", "count": 1, "exact": True}]


@pytest.mark.parametrize(
    ("variables", "code", "path"),
    [
        ({"first": 101}, "LIMIT_EXCEEDED", ["first"]),
        ({"first": -1}, "INVALID", ["first"]),
        ({"filter": {"name": {"contains": "x" * 2000}}}, "INVALID", ["filter", "name"]),
    ],
)
async def test_what_is_no_list_is_refused_with_its_path(
    live: Live, variables: dict[str, Any], code: str, path: list[str]
) -> None:
    with pytest.raises(TransportQueryError) as refused:
        async with aclosing(live.frames(PLANS, variables)) as frames:
            await anext(frames)
    [error] = refused.value.errors or [{}]
    assert (error["extensions"]["code"], error["extensions"]["path"]) == (code, path)


async def test_no_tenant_watches_more_lists_than_it_may(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_lists, "MAX_LISTS_PER_TENANT", 1)
    async with (
        asyncio.timeout(30),
        aclosing(live.frames(PLANS, {})) as frames,
        aclosing(live.frames(PLANS, {})) as same,
    ):
        await anext(frames)
        await anext(same)
        with pytest.raises(TransportQueryError, match="1 different lists"):
            async with aclosing(live.frames(PLANS, {"first": 3})) as more:
                await anext(more)
        async with aclosing(live.frames(PLANS, {}, access=live.api.rival)) as theirs:
            assert names(await anext(theirs)) == []


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_the_followers_have_the_list(live: Live, seed: int) -> None:
    """Three who read at their own pace, one of them hardly at all, while plans come, change and go."""
    rows, chance = live.api.acme.rows, random.Random(seed)
    plans = [await rows.plan(f"{number:02}") for number in range(12)]
    statuses = [PlanStatus.READY, PlanStatus.RUNNING, PlanStatus.FAILED, PlanStatus.CANCELLED]
    wanted = {"filter": {"status": ["DRAFT", "RUNNING", "READY"]}, "orderBy": BY_NAME, "first": 6}

    def standing() -> list[tuple[str, str]]:
        shown = [plan for plan in plans if plan.status in {PlanStatus.DRAFT, PlanStatus.RUNNING, PlanStatus.READY}]
        return [(plan.plan_name, plan.status) for plan in sorted(shown, key=lambda plan: plan.plan_name)[:6]]

    async def follow(pause: float, done: asyncio.Event) -> Follower:
        async with aclosing(live.frames(PLANS, wanted)) as frames:
            follower = Follower(frames)
            while not done.is_set():
                follower.take(await anext(frames))
                await asyncio.sleep(pause)
            await follower.until(lambda one: [(row["name"], row["status"]) for row in one.rows] == standing())
            return follower

    done = asyncio.Event()
    async with asyncio.timeout(60):
        following = [asyncio.create_task(follow(pause, done)) for pause in (0.0, 0.05, 0.7)]
        for _ in range(40):
            plan = chance.choice(plans)
            plan.status = chance.choice(statuses)
            await live.settle(plan, plan.status)
            await asyncio.sleep(chance.choice((0.0, 0.0, 0.08)))
        plans.append(await rows.plan("000"))
        done.set()
        # Whoever waits for a frame gets one.
        await rows.events(
            Stream.PLAN,
            plans[-1].id,
            Event(
                EventKind.PLAN_STATUS_CHANGED,
                {"planId": plans[-1].id, "previous": "DRAFT", "status": "DRAFT", "reason": "NONE"},
            ),
        )
        followers = await asyncio.gather(*following)
    counts = Counter(plan.status.value for plan in plans)
    assert [follower.counts for follower in followers] == [dict(counts)] * 3
