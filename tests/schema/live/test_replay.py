"""A finished job told again."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from gql.transport.exceptions import TransportQueryError

from app.db import models
from app.domain.events import Stream
from tests.schema.live.conftest import Live, job_id, progressed, seqs

REPLAY = """subscription($id: ID!, $speed: Float! = 1) { replayJob(id: $id, speed: $speed) {
  kind cursor job { id status } events { __typename seq ... on StepProgressed { percent }
    ... on JobStatusChanged { jobStatus } } } }"""


async def _told(live: Live, *counts: int) -> models.OrchestrationJob:
    """A job that ended: so many events at a time, a third of a second between them, and its end with the last ones."""
    job = await live.job()
    for count in counts[:-1]:
        await live.api.acme.rows.events(Stream.JOB, job.id, *(progressed(job, 1.0) for _ in range(count)))
        await asyncio.sleep(0.33)
    if counts[-1] > 1:
        await live.api.acme.rows.events(Stream.JOB, job.id, *(progressed(job, 2.0) for _ in range(counts[-1] - 1)))
    await live.finish(job)
    return job


async def test_it_is_told_in_its_own_rhythm_and_order(live: Live) -> None:
    job = await _told(live, 2, 1, 1)
    loop, frames, at = asyncio.get_running_loop(), list[dict[str, Any]](), list[float]()
    async with asyncio.timeout(20), aclosing(live.frames(REPLAY, {"id": job_id(job), "speed": 0.5})) as told:
        async for frame in told:
            frames.append(frame)
            at.append(loop.time())
    assert [frame["kind"] for frame in frames] == ["SNAPSHOT", "EVENTS", "EVENTS", "EVENTS", "END"]
    assert [len(frame["events"]) for frame in frames] == [0, 2, 1, 1, 0]
    assert seqs(frames) == [1, 2, 3, 4]
    assert frames[0]["job"] == frames[-1]["job"] == {"id": job_id(job), "status": "SUCCEEDED"}
    assert frames[3]["events"][0] == {"__typename": "JobStatusChanged", "seq": "4", "jobStatus": "SUCCEEDED"}
    # At half the speed it takes twice the time; how much later a frame comes is up to the machine.
    assert at[2] - at[1] >= 0.5
    assert at[3] - at[1] >= 1.1


async def test_silence_in_between_is_told(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schema.subscriptions.replay.HEARTBEAT_SECONDS", 0.1)
    job = await _told(live, 1, 1)
    frames = await live.collect(REPLAY, {"id": job_id(job)})
    assert [frame["kind"] for frame in frames][:4] == ["SNAPSHOT", "EVENTS", "HEARTBEAT", "HEARTBEAT"]
    assert frames[1]["cursor"] == frames[2]["cursor"] != frames[-1]["cursor"]
    assert seqs(frames) == [1, 2]


async def test_many_events_are_told_in_batches(live: Live) -> None:
    job = await _told(live, 449, 1)
    frames = await live.collect(REPLAY, {"id": job_id(job)})
    assert [len(frame["events"]) for frame in frames] == [0, 200, 200, 49, 1, 0]
    assert seqs(frames) == list(range(1, 451))


@pytest.mark.parametrize(
    ("variables", "code", "path"),
    [
        ({}, "ILLEGAL_STATE", ["id"]),
        ({"speed": 0}, "LIMIT_EXCEEDED", ["speed"]),
        ({"speed": 10001}, "LIMIT_EXCEEDED", ["speed"]),
        ({"id": "nonsense"}, "NOT_FOUND", ["id"]),
    ],
)
async def test_what_cannot_be_told_is_refused(
    live: Live, variables: dict[str, Any], code: str, path: list[str]
) -> None:
    job = await live.job()
    with pytest.raises(TransportQueryError) as refused:
        await live.collect(REPLAY, {"id": job_id(job), **variables})
    [error] = refused.value.errors or [{}]
    assert (error["extensions"]["code"], error["extensions"]["path"]) == (code, path)
