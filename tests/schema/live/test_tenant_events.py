"""One stream of everything that happens in a tenant: complete, each job's events in order, nobody else's."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import aclosing
from typing import Any

import pytest
from gql.transport.exceptions import TransportQueryError

from app.db.feed import Position
from app.db.journal import append
from app.domain.events import Stream
from tests.schema.live.conftest import Live, progressed

TENANT = """subscription($after: Cursor, $types: [String!]) { tenantEvents(after: $after, types: $types) {
  kind cursor lagMs events { __typename seq ... on StepProgressed { percent } ... on PlanStatusChanged { planStatus }
    ... on JobStatusChanged { jobStatus } } } }"""


async def test_everything_is_delivered_once_and_in_order_across_connections(live: Live) -> None:
    rows = live.api.acme.rows
    jobs = [await live.job(f"plan-{n}") for n in range(3)]
    async with aclosing(live.frames(TENANT, {})) as frames:
        snapshot = await anext(frames)
        assert (snapshot["kind"], snapshot["events"]) == ("SNAPSHOT", [])
    seen: dict[float, list[int]] = defaultdict(list)
    cursor = snapshot["cursor"]

    async def write(number: int) -> None:
        for _ in range(20):
            await rows.events(Stream.JOB, jobs[number].id, progressed(jobs[number], float(number)))

    async def read() -> None:
        nonlocal cursor
        while sum(map(len, seen.values())) < 60:
            # Each connection takes a few frames and is dropped.
            async with aclosing(live.frames(TENANT, {"after": cursor})) as frames:
                for _ in range(3):
                    frame = await anext(frames)
                    cursor = frame["cursor"]
                    for event in frame["events"]:
                        seen[event["percent"]].append(int(event["seq"]))
                    if sum(map(len, seen.values())) == 60:
                        break

    async with asyncio.timeout(40):
        await asyncio.gather(read(), *(write(number) for number in range(3)))
    assert seen == {float(number): list(range(1, 21)) for number in range(3)}


async def test_what_waits_for_another_transaction_arrives_when_that_is_over(live: Live) -> None:
    rows = live.api.acme.rows
    first, second = await live.job("one"), await live.job("two")
    async with aclosing(live.frames(TENANT, {})) as frames:
        await anext(frames)
        async with rows.write() as slow:
            await append(slow, Stream.JOB, first.id, [progressed(first, 1.0)])
            await rows.events(Stream.JOB, second.id, progressed(second, 2.0))
            coming = asyncio.ensure_future(anext(frames))
            done, _ = await asyncio.wait({coming}, timeout=0.5)
            assert not done
        frame = await asyncio.wait_for(coming, 5)
        assert [event["percent"] for event in frame["events"]] == [1.0, 2.0]


async def test_only_the_types_that_were_asked_for_and_never_another_tenants(live: Live) -> None:
    job = await live.job()
    theirs = live.api.rival.rows
    strange = await theirs.job(await theirs.plan("theirs"))
    async with aclosing(live.frames(TENANT, {"types": ["JobStatusChanged"]})) as frames:
        await anext(frames)
        await theirs.events(Stream.JOB, strange.id, progressed(strange, 66.0))
        await live.api.acme.rows.events(Stream.JOB, job.id, progressed(job, 1.0))
        await live.finish(job)
        frame = await asyncio.wait_for(anext(frames), 5)
        assert [event["__typename"] for event in frame["events"]] == ["JobStatusChanged"]


async def test_a_place_that_was_never_reached_begins_anew(live: Live) -> None:
    ahead = Position(2**62, "JOB", 1, 1).encode()
    async with aclosing(live.frames(TENANT, {"after": ahead})) as frames:
        frame = await anext(frames)
        assert frame["kind"] == "RESYNC"
        assert Position.decode(frame["cursor"]).feed < 2**40


@pytest.mark.parametrize(
    ("variables", "message", "path"),
    [
        ({"types": ["JobStatusChange"]}, "did you mean 'JobStatusChanged'", ["types", "0"]),
        ({"after": "nonsense"}, "no cursor of a tenant's feed", ["after"]),
    ],
)
async def test_what_makes_no_sense_is_refused(
    live: Live, variables: dict[str, Any], message: str, path: list[str]
) -> None:
    with pytest.raises(TransportQueryError) as refused:
        await anext(live.frames(TENANT, variables))
    (error,) = refused.value.errors or []
    assert message in error["message"]
    assert error["extensions"] == {"code": "INVALID", "path": path}
