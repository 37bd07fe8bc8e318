"""Streams of jobs, logs and plans: complete, in order, nothing twice, wherever one begins."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import Any

import pytest
from gql.transport.exceptions import TransportQueryError

from app.db import models
from app.domain import cursors
from app.domain.cursors import Place
from app.domain.events import Event, EventKind, Stream
from app.domain.statuses import JobStatus, PlanStatus
from schema.nodes import encode_id
from schema.subscriptions import following
from tests.bus.valkey import Valkey
from tests.factories.databases import fetch
from tests.schema.live.conftest import JOB, LOGS, PLAN, Live, job_id, progressed, seqs


async def next_of(frames: Any, kind: str) -> dict[str, Any]:
    """The next frame of a kind."""
    async with asyncio.timeout(10):
        async for frame in frames:
            if frame["kind"] == kind:
                found: dict[str, Any] = frame
                return found
    raise AssertionError(kind)


async def test_a_job_from_its_snapshot_to_its_end(live: Live) -> None:
    rows = live.api.acme.rows
    job = await live.job()
    step = await rows.step(job, "a")
    await rows.events(Stream.JOB, job.id, progressed(job, 1.0))
    async with aclosing(live.frames(JOB, {"id": job_id(job)})) as frames:
        snapshot = await anext(frames)
        assert (snapshot["kind"], snapshot["job"]["status"], snapshot["events"]) == ("SNAPSHOT", "RUNNING", [])
        assert cursors.decode(snapshot["cursor"], Stream.JOB, job.id) == Place(1)
        data = {
            "jobId": job.id,
            "stepRunId": step.id,
            "stepKey": "a",
            "previous": "READY",
            "status": "RUNNING",
            "reason": "NONE",
            "attempt": 1,
        }
        await rows.events(Stream.JOB, job.id, Event(EventKind.STEP_STATUS_CHANGED, data))
        changed = await anext(frames)
        assert changed["kind"] == "EVENTS"
        assert [(e["__typename"], e["seq"], e["stepStatus"], e["step"]) for e in changed["events"]] == [
            ("StepStatusChanged", "2", "RUNNING", {"key": "a"})
        ]
        assert 0 <= changed["lagMs"] < 5_000
        await live.finish(job)
        last = await anext(frames)
        assert [(e["jobStatus"], e["previousJobStatus"]) for e in last["events"]] == [("SUCCEEDED", "RUNNING")]
        assert last["job"]["status"] == "SUCCEEDED"
        end = await anext(frames)
        assert (end["kind"], end["job"]["status"], end["events"]) == ("END", "SUCCEEDED", [])
        with pytest.raises(StopAsyncIteration):
            await anext(frames)


async def test_a_job_that_has_ended_is_told_at_once(live: Live) -> None:
    job = await live.job()
    await live.finish(job, JobStatus.ROLLED_BACK)
    frames = await live.collect(JOB, {"id": job_id(job)})
    assert [(frame["kind"], frame["job"]["status"]) for frame in frames] == [
        ("SNAPSHOT", "ROLLED_BACK"),
        ("END", "ROLLED_BACK"),
    ]


async def write_mixed(live: Live, job: models.OrchestrationJob, seed: int, number: int) -> None:
    """One of several writers: facts and lines in a random mixture, with pauses that let others in between."""
    chance = random.Random(seed)
    for n in range(number):
        if chance.random() < 0.5:
            await live.api.acme.rows.events(Stream.JOB, job.id, *[progressed(job, n)] * chance.randint(1, 3))
        else:
            await live.api.acme.rows.lines(job, *[f"writer {seed} line {n}"] * chance.randint(1, 4))
        await asyncio.sleep(chance.random() * 0.01)


async def test_two_writers_leave_no_gap_and_nothing_comes_twice(live: Live) -> None:
    job = await live.job()
    async with asyncio.TaskGroup() as group:
        beginning = cursors.encode(Stream.JOB, job.id, Place(0))
        facts = group.create_task(live.collect(JOB, {"id": job_id(job), "after": beginning}))
        lines = group.create_task(live.collect(LOGS, {"id": job_id(job)}))
        await asyncio.gather(write_mixed(live, job, 1, 25), write_mixed(live, job, 2, 25))
        await live.finish(job)
    fact_seqs, line_seqs = seqs(facts.result()), seqs(lines.result(), "lines")
    assert fact_seqs == sorted(fact_seqs)
    assert line_seqs == sorted(line_seqs)
    assert sorted(fact_seqs + line_seqs) == list(range(1, len(fact_seqs) + len(line_seqs) + 1))
    assert [frame["kind"] for frame in facts.result()].count("END") == 1


async def test_every_cursor_resumes_exactly_there(live: Live) -> None:
    job = await live.job()
    for n in range(4):
        await live.api.acme.rows.events(Stream.JOB, job.id, progressed(job, n), progressed(job, n))
        await live.api.acme.rows.lines(job, f"line {n}")
    await live.finish(job)
    head = 13
    for seq in range(head + 1):
        after = cursors.encode(Stream.JOB, job.id, Place(seq))
        facts = await live.collect(JOB, {"id": job_id(job), "after": after})
        lines = await live.collect(LOGS, {"id": job_id(job), "after": after})
        assert sorted(seqs(facts) + seqs(lines, "lines")) == list(range(seq + 1, head + 1))
        assert facts[-1]["cursor"] == lines[-1]["cursor"]
        assert cursors.decode(facts[-1]["cursor"], Stream.JOB, job.id) == Place(head)


async def test_a_long_log_comes_in_bounded_batches(live: Live) -> None:
    job = await live.job()
    for _ in range(3):
        await live.api.acme.rows.lines(job, *(f"{n}" for n in range(400)))
    await live.finish(job)
    frames = await live.collect(LOGS, {"id": job_id(job)})
    assert [(frame["kind"], len(frame["lines"])) for frame in frames] == [
        ("SNAPSHOT", 0),
        ("EVENTS", 500),
        ("EVENTS", 500),
        ("EVENTS", 200),
        ("END", 0),
    ]
    assert seqs(frames, "lines") == list(range(1, 1201))


async def test_the_bus_may_die_and_come_back(live: Live, valkey: Valkey) -> None:
    job = await live.job()
    async with asyncio.TaskGroup() as group:
        lines = group.create_task(live.collect(LOGS, {"id": job_id(job)}))
        await write_mixed(live, job, 1, 10)
        await valkey.kill()
        await write_mixed(live, job, 2, 10)
        await valkey.start()
        await write_mixed(live, job, 3, 10)
        await live.finish(job)
    facts = await live.collect(JOB, {"id": job_id(job), "after": cursors.encode(Stream.JOB, job.id, Place(0))})
    found = sorted(seqs(lines.result(), "lines") + seqs(facts))
    assert found == list(range(1, len(found) + 1))


async def test_a_lost_ring_only_delays(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.api.services.bus, "ring", lambda _: None)
    monkeypatch.setattr(live.api.services.database, "_after_commit", None)
    job = await live.job()
    async with aclosing(live.frames(JOB, {"id": job_id(job)})) as frames:
        await anext(frames)
        await live.api.acme.rows.events(Stream.JOB, job.id, progressed(job, 1))
        async with asyncio.timeout(2):
            assert seqs([await anext(frames)]) == [1]


@pytest.mark.parametrize(
    ("document", "kind"), [(JOB, "OrchestrationJob"), (LOGS, "OrchestrationJob"), (PLAN, "DeploymentPlan")]
)
async def test_foreign_absent_and_malformed_ids_are_all_the_same(live: Live, document: str, kind: str) -> None:
    plan = await live.api.rival.rows.plan()
    job = await live.api.rival.rows.job(plan)
    foreign = encode_id(kind, plan.id if kind == "DeploymentPlan" else job.id)
    other = encode_id("Workflow", 1)
    answers = []
    for number in (foreign, encode_id(kind, 10**12), "nonsense", other, ""):
        for after in (None, cursors.encode(Stream.JOB, job.id, Place(0))):
            with pytest.raises(TransportQueryError) as caught:
                await live.collect(document, {"id": number, "after": after})
            answers.append(caught.value.errors)
    without_cursor = answers[::2]
    assert all(answer == without_cursor[0] for answer in without_cursor)
    [error] = without_cursor[0] or []
    assert error["extensions"]["code"] == "NOT_FOUND"
    for answer in answers[1::2]:
        assert answer is not None
        assert answer[0]["extensions"]["code"] in {"NOT_FOUND", "INVALID"}


async def test_a_cursor_of_another_job_is_refused(live: Live) -> None:
    job, other = await live.job("one"), await live.job("two")
    one = Place(1)
    for after in ("garbage", cursors.encode(Stream.JOB, other.id, one), cursors.encode(Stream.PLAN, job.id, one)):
        with pytest.raises(TransportQueryError) as caught:
            await live.collect(JOB, {"id": job_id(job), "after": after})
        [error] = caught.value.errors or []
        assert error["extensions"] == {"code": "INVALID", "path": ["after"]}


async def test_a_cursor_from_the_future_resynchronises(live: Live) -> None:
    job = await live.job()
    await live.api.acme.rows.lines(job, "one", "two")
    await live.finish(job)
    after = cursors.encode(Stream.JOB, job.id, Place(99))
    facts = await live.collect(JOB, {"id": job_id(job), "after": after})
    assert [(f["kind"], f["job"]["status"]) for f in facts] == [("RESYNC", "SUCCEEDED"), ("END", "SUCCEEDED")]
    lines = await live.collect(LOGS, {"id": job_id(job), "after": after})
    assert [f["kind"] for f in lines] == ["RESYNC", "EVENTS", "END"]
    assert [line["message"] for f in lines for line in f["lines"]] == ["one", "two"]


async def test_a_filter_is_applied_while_the_cursor_moves_on(live: Live) -> None:
    job = await live.job()
    rows = live.api.acme.rows
    await rows.lines(job, "a Needle", "hay", level="ERROR", step="a")
    await rows.lines(job, "needle too low", level="DEBUG", step="a")
    await rows.lines(job, "needle elsewhere", level="ERROR", step="b")
    await rows.lines(job, "hay", level="ERROR", step="a")
    await live.finish(job)
    wanted = {"minLevel": "WARN", "stepKey": "a", "contains": "needle"}
    frames = await live.collect(LOGS, {"id": job_id(job), "filter": wanted})
    assert [line["message"] for frame in frames for line in frame["lines"]] == ["a Needle"]
    assert cursors.decode(frames[-1]["cursor"], Stream.JOB, job.id) == Place(6)


@pytest.mark.parametrize(
    ("wanted", "messages"),
    [
        ({"stepKey": "a"}, ["1 needle", "4"]),
        ({"stepKey": "nobody"}, []),
        ({"minLevel": "WARN"}, ["2 needle", "4"]),
        ({"contains": "NEEDLE"}, ["1 needle", "2 needle"]),
        ({"minLevel": "WARN", "stepKey": "b", "contains": "needle"}, ["2 needle"]),
    ],
)
async def test_a_filter_is_applied_to_what_comes_while_one_watches(
    live: Live, wanted: dict[str, Any], messages: list[str]
) -> None:
    """Which is read in a shorter way than what was there before."""
    job = await live.job()
    rows = live.api.acme.rows
    got: list[str] = []
    async with aclosing(live.frames(LOGS, {"id": job_id(job), "filter": wanted})) as frames:
        assert (await anext(frames))["kind"] == "SNAPSHOT"
        await rows.lines(job, "1 needle", level="INFO", step="a")
        await rows.lines(job, "2 needle", level="ERROR", step="b")
        await rows.lines(job, "3", level="DEBUG", step="b")
        await rows.lines(job, "4", level="WARN", step="a")
        await live.finish(job)
        async for frame in frames:
            got += [line["message"] for line in frame["lines"]]
    assert got == messages


async def test_a_tail_shows_the_last_lines_and_says_what_it_left_out(live: Live) -> None:
    job = await live.job()
    await live.api.acme.rows.lines(job, "1", "2", "3")
    await live.api.acme.rows.lines(job, "4", "5")
    async with aclosing(live.frames(LOGS, {"id": job_id(job), "tail": 3})) as frames:
        first = await anext(frames)
        assert (first["kind"], [line["message"] for line in first["lines"]]) == ("SNAPSHOT", ["3", "4", "5"])
        assert cursors.decode(first["skippedBefore"], Stream.JOB, job.id) == Place(2)
        await live.api.acme.rows.lines(job, "6")
        assert [line["message"] for line in (await next_of(frames, "EVENTS"))["lines"]] == ["6"]
    await live.finish(job)
    everything = await live.collect(LOGS, {"id": job_id(job), "tail": 100})
    assert seqs(everything, "lines") == [1, 2, 3, 4, 5, 6]
    assert everything[0]["skippedBefore"] is None
    nothing = await live.collect(LOGS, {"id": job_id(job), "tail": 0})
    assert [frame["kind"] for frame in nothing] == ["SNAPSHOT", "END"]
    for tail in (-1, 1001):
        with pytest.raises(TransportQueryError, match="tail is from 0 to 1000"):
            await live.collect(LOGS, {"id": job_id(job), "tail": tail})


async def test_silence_is_told_and_the_cursor_moves_over_what_was_not_asked_for(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "HEARTBEAT_SECONDS", 0.3)
    job = await live.job()
    async with aclosing(live.frames(JOB, {"id": job_id(job)})) as frames:
        await anext(frames)
        await live.api.acme.rows.lines(job, "a line is no event")
        heartbeat = await anext(frames)
        assert (heartbeat["kind"], heartbeat["events"]) == ("HEARTBEAT", [])
        assert cursors.decode(heartbeat["cursor"], Stream.JOB, job.id) == Place(1)


async def test_a_plan_stays_open_while_it_can_be_tried_again(live: Live) -> None:
    plan = await live.api.acme.rows.plan(status=PlanStatus.RUNNING)
    async with aclosing(live.frames(PLAN, {"id": encode_id("DeploymentPlan", plan.id)})) as frames:
        assert (await anext(frames))["plan"]["status"] == "RUNNING"
        for status in (PlanStatus.FAILED, PlanStatus.RUNNING, PlanStatus.SUCCEEDED):
            await live.settle(plan, status)
            frame = await anext(frames)
            assert [event["planStatus"] for event in frame["events"]] == [status]
        assert (await anext(frames))["kind"] == "END"


async def test_no_transaction_is_open_while_nothing_happens(live: Live) -> None:
    job = await live.job()
    async with aclosing(live.frames(JOB, {"id": job_id(job)})) as frames:
        await anext(frames)
        pool: Any = live.api.services.database.engine.pool
        busy = 0
        for _ in range(20):
            await asyncio.sleep(0.02)
            busy += pool.checkedout()
        # A look takes a few milliseconds, once a second.
        assert busy <= 2


async def test_a_cursor_into_lines_that_are_gone_is_told_so(live: Live, database_url: str) -> None:
    job = await live.job()
    for words in (("1", "2"), ("3", "4"), ("5",)):
        await live.api.acme.rows.lines(job, *words)
    await live.finish(job)
    await fetch(database_url, "DELETE FROM job_log WHERE first_seq < 5")
    kept = cursors.encode(Stream.JOB, job.id, Place(4))
    resumed = await live.collect(LOGS, {"id": job_id(job), "after": cursors.encode(Stream.JOB, job.id, Place(1))})
    assert [(f["kind"], f["skippedBefore"], [line["message"] for line in f["lines"]]) for f in resumed] == [
        ("RESYNC", kept, []),
        ("EVENTS", None, ["5"]),
        ("END", None, []),
    ]
    assert resumed[0]["cursor"] == kept
    begun = await live.collect(LOGS, {"id": job_id(job)})
    assert [(f["kind"], f["skippedBefore"]) for f in begun] == [("SNAPSHOT", kept), ("EVENTS", None), ("END", None)]
    # Whoever has seen all that is gone misses nothing, and is told nothing.
    seen = await live.collect(LOGS, {"id": job_id(job), "after": kept})
    assert [(f["kind"], f["skippedBefore"]) for f in seen] == [("EVENTS", None), ("END", None)]


async def test_packed_lines_are_the_same_and_come_in_larger_frames(live: Live) -> None:
    job = await live.job()
    for start in range(0, 1_200, 400):
        await live.api.acme.rows.lines(job, *(f"{n}" for n in range(start, start + 400)))
    await live.finish(job)
    document = "subscription($id: ID!) { jobLogs(id: $id) { kind packed } }"
    frames = await live.collect(document, {"id": job_id(job)})
    assert [(frame["kind"], len(frame["packed"])) for frame in frames] == [
        ("SNAPSHOT", 0),
        ("EVENTS", 1_200),
        ("END", 0),
    ]
    at = "2026-01-31T08:00:00.000000Z"
    assert frames[1]["packed"] == [[n + 1, at, "INFO", "provider", "a", 1, f"{n}"] for n in range(1_200)]
    both = "subscription($id: ID!) { jobLogs(id: $id) { ...F } } fragment F on LogFrame { packed lines { seq } }"
    frames = await live.collect(both, {"id": job_id(job)})
    assert max(len(frame["packed"]) for frame in frames) == 500
    assert [line[0] for frame in frames for line in frame["packed"]] == [
        int(line["seq"]) for frame in frames for line in frame["lines"]
    ]
