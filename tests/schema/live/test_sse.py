"""Subscriptions as server-sent events, for whoever has no WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.domain.events import Stream
from schema import guard, sse
from schema.context import Services
from tests.schema.live.conftest import JOB, LOGS, Live, job_id, progressed, seqs, serving
from tests.schema.live.event_streams import Sent
from tests.schema.live.test_sharing import members, until


@asynccontextmanager
async def asked(live: Live, document: str, variables: dict[str, Any], **more: Any) -> AsyncGenerator[httpx.Response]:
    headers = {
        "accept": "text/event-stream",
        "authorization": f"Bearer {live.api.acme.token}",
        **more.pop("headers", {}),
    }
    body = {"query": document, "variables": variables}
    async with (
        httpx.AsyncClient(timeout=20) as client,
        client.stream("POST", live.http, json=body, headers=headers, **more) as response,
    ):
        yield response


async def events(response: httpx.Response) -> AsyncGenerator[Sent, None]:
    """As an EventSource reads them."""
    sent = Sent()
    async for line in response.aiter_lines():
        if not line:
            yield sent
            sent = Sent()
            continue
        name, _, value = line.partition(":")
        if name:
            setattr(sent, name, value.removeprefix(" "))


async def all_of(live: Live, document: str, variables: dict[str, Any], **more: Any) -> list[Sent]:
    async with asyncio.timeout(20), asked(live, document, variables, **more) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        return [sent async for sent in events(response)]


async def test_a_job_is_followed_to_its_end(live: Live) -> None:
    job = await live.job()
    async with (
        asyncio.timeout(20),
        asked(live, JOB, {"id": job_id(job)}) as response,
        aclosing(events(response)) as sent,
    ):
        first = await anext(sent)
        assert (first.event, first.frame()["kind"]) == ("next", "SNAPSHOT")
        await live.api.acme.rows.events(Stream.JOB, job.id, progressed(job, 1.0))
        second = await anext(sent)
        assert (second.frame()["kind"], second.id) == ("EVENTS", second.frame()["cursor"])
        await live.finish(job)
        rest = [one async for one in sent]
    assert [one.event for one in rest] == ["next", "next", "complete"]
    assert rest[-1].data == ""
    assert [one.frame()["kind"] for one in rest[:-1]] == ["EVENTS", "END"]


async def test_whoever_comes_back_with_the_last_id_misses_nothing_and_hears_nothing_twice(live: Live) -> None:
    job = await live.job()
    for number in range(7):
        await live.api.acme.rows.lines(job, f"line {number}")
    seen, place = list[int](), ""
    async with asyncio.timeout(20):
        for _ in range(2):
            headers: dict[str, str] = {"last-event-id": place} if place else {}
            async with (
                asked(live, LOGS, {"id": job_id(job)}, headers=headers) as response,
                aclosing(events(response)) as sent,
            ):
                while len(seen) < 7:
                    one = await anext(sent)
                    seen += seqs([one.frame()], "lines")
                    place = one.id or ""
            await live.api.acme.rows.lines(job, "more")
    await live.finish(job)
    rest = await all_of(live, LOGS, {"id": job_id(job), "after": "from before"}, headers={"last-event-id": place})
    assert seen == list(range(1, 8))
    assert seqs([one.frame() for one in rest[:-1]], "lines") == [8, 9]


async def test_an_event_source_asks_with_get(live: Live) -> None:
    job = await live.job()
    await live.finish(job)
    query = {"query": JOB, "variables": json.dumps({"id": job_id(job)})}
    headers = {"accept": "text/event-stream", "authorization": f"Bearer {live.api.acme.token}"}
    async with (
        httpx.AsyncClient(timeout=20) as client,
        client.stream("GET", live.http, params=query, headers=headers) as got,
    ):
        sent = [one async for one in events(got)]
    assert [one.event for one in sent] == ["next", "next", "complete"]
    mutation = {"query": 'mutation { deletePlan(input: {id: "x"}) { userErrors { code } } }'}
    async with (
        httpx.AsyncClient(timeout=20) as client,
        client.stream("GET", live.http, params=mutation, headers=headers) as refused,
    ):
        error, end = [one async for one in events(refused)]
    assert "data" not in json.loads(error.data or "")
    assert end.event == "complete"


async def test_queries_are_answered_with_one_event(live: Live) -> None:
    sent = await all_of(live, "{ __typename }", {})
    assert [(one.event, one.data) for one in sent] == [("next", '{"data":{"__typename":"Query"}}'), ("complete", "")]


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("subscription {", "GRAPHQL_PARSE_FAILED"),
        ('subscription { jobUpdated(id: "x") { nothing } }', "GRAPHQL_VALIDATION_FAILED"),
        ('subscription { jobUpdated(id: "x") { kind } }', "NOT_FOUND"),
    ],
)
async def test_faults_are_events_too(live: Live, document: str, code: str) -> None:
    error, end = await all_of(live, document, {})
    (told,) = json.loads(error.data or "")["errors"]
    assert (told["extensions"]["code"], end.event) == (code, "complete")


async def test_nobody_unknown_is_let_in(live: Live) -> None:
    async with asked(live, JOB, {}, headers={"authorization": "Bearer wl_nobody"}) as response:
        assert response.status_code == 401
        assert response.headers["content-type"].startswith("application/json")


async def test_silence_is_filled_with_comments(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "COMMENT_SECONDS", 0.1)
    job = await live.job()
    async with (
        asyncio.timeout(20),
        asked(live, JOB, {"id": job_id(job)}) as response,
        aclosing(events(response)) as sent,
    ):
        # A slow machine has been silent before the first frame, too.
        while (first := await anext(sent)) == Sent():
            pass
        assert first.event == "next"
        assert await anext(sent) == Sent()


async def test_a_token_that_is_revoked_cuts_the_stream_off(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LOOK_SECONDS", 0.1)
    job = await live.job()
    async with (
        asyncio.timeout(20),
        asked(live, JOB, {"id": job_id(job)}) as response,
        aclosing(events(response)) as sent,
    ):
        assert (await anext(sent)).event == "next"
        async with live.api.acme.rows.write() as transaction:
            await transaction.session.execute(text("UPDATE api_token SET revoked_at = now()"))
        # Without `complete`: there would be more for somebody who may have it.
        assert [one async for one in sent] == []


async def test_a_server_that_goes_cuts_the_stream_off(live: Live, services: Services) -> None:
    job = await live.job()
    async with (
        asyncio.timeout(20),
        asked(live, JOB, {"id": job_id(job)}) as response,
        aclosing(events(response)) as sent,
    ):
        assert (await anext(sent)).event == "next"
        await services.draining.drain(0)
        assert [one async for one in sent] == []


async def test_whoever_goes_leaves_nothing_behind(live: Live) -> None:
    job = await live.job()

    async def look_in() -> None:
        async with asked(live, JOB, {"id": job_id(job)}) as response, aclosing(events(response)) as sent:
            await anext(sent)

    async with asyncio.timeout(20), aclosing(live.frames(JOB, {"id": job_id(job)})) as other:
        # Somebody stays, so that the bus keeps listening.
        await anext(other)
        before = len(asyncio.all_tasks())
        await asyncio.gather(*(look_in() for _ in range(30)))
        while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110  the server hears of it a moment later
            await asyncio.sleep(0.02)


async def test_a_server_without_a_short_way_out_sends_the_same(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "COMMENT_SECONDS", 0.05)
    job = await live.job()

    async def follow(server: Live) -> list[Sent]:
        async with asked(server, LOGS, {"id": job_id(job)}) as response:
            return [one async for one in events(response)]

    async with asyncio.timeout(20), serving(live.api, http="httptools") as other:
        following = [asyncio.create_task(follow(server)) for server in (live, other, other)]
        await until(lambda: members(live.api.services) == 3)
        for number in range(3):
            await live.api.acme.rows.lines(job, f"line {number}")
            await asyncio.sleep(0.1)
        await live.finish(job)
        short, *others = await asyncio.gather(*following)
    assert all(Sent() in sent for sent in (short, *others))
    told = [[one for one in sent if one != Sent()] for sent in (short, *others)]
    assert told[1:] == [told[0]] * 2
    assert (seqs([one.frame() for one in told[0][:-1]], "lines"), told[0][-1].event) == ([1, 2, 3], "complete")
