"""GET /jobs/<id>/log.ndjson: all of a log as a file, for whoever may read the job and for nobody else."""

from __future__ import annotations

import gzip
import tracemalloc
from typing import Any

import httpx
import orjson
import pytest

from app.db import journal, models
from app.domain import cursors
from app.domain.cursors import Place
from app.domain.enums import LogLevel
from app.domain.events import Event, EventKind, Stream
from app.domain.logs import LogLine
from schema import downloads
from schema.nodes import encode_id
from tests.schema.conftest import Access, Api
from tests.schema.test_mutations import _with_scopes


async def get(api: Api, job_id: str, access: Access | None = None, /, **parameters: str) -> httpx.Response:
    """Asked as somebody who takes it as it is."""
    headers = {"authorization": f"Bearer {(access or api.acme).token}", "accept-encoding": "identity"}
    return await api.client.get(f"/jobs/{job_id}/log.ndjson", headers=headers, params=parameters)


def told(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [orjson.loads(line) for line in answer.content.splitlines()]


async def job_with_lines(access: Access) -> models.OrchestrationJob:
    """Numbers 1 to 6 are lines but for 3, which is an event."""
    job = await access.rows.job(await access.rows.plan())
    await access.rows.lines(job, "one", "Two", step="a")
    await access.rows.events(Stream.JOB, job.id, Event(EventKind.STEP_PROGRESSED, {}))
    await access.rows.lines(job, "three", level="ERROR", step="b")
    fields = LogLine(1_700_000_000_000_001, LogLevel.DEBUG, "stderr", "Straße \u2028", {"k": "v"})
    async with access.rows.write() as transaction:
        lines = journal.Lines([fields, fields._replace(fields=None)], None, None, None)
        await journal.append(transaction, Stream.JOB, job.id, [lines])
    return job


async def test_every_line_in_order_and_where_the_log_was(api: Api) -> None:
    job = await job_with_lines(api.acme)
    answer = await get(api, encode_id("OrchestrationJob", job.id))
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert cursors.decode(answer.headers["windlass-cursor"], Stream.JOB, job.id) == Place(6)
    assert "windlass-skipped-before" not in answer.headers
    lines = told(answer)
    assert [(line["seq"], line["message"], line["stepKey"], line["level"]) for line in lines] == [
        (1, "one", "a", "INFO"),
        (2, "Two", "a", "INFO"),
        (4, "three", "b", "ERROR"),
        (5, "Straße \u2028", None, "DEBUG"),
        (6, "Straße \u2028", None, "DEBUG"),
    ]
    assert lines[3] == {
        "seq": 5,
        "at": "2023-11-14T22:13:20.000001Z",
        "level": "DEBUG",
        "stream": "stderr",
        "stepKey": None,
        "attempt": None,
        "message": "Straße \u2028",
        "fields": {"k": "v"},
    }
    assert "fields" not in lines[4]


async def test_it_goes_on_behind_a_place_and_filters(api: Api) -> None:
    job = await job_with_lines(api.acme)
    number = encode_id("OrchestrationJob", job.id)
    for parameters, seqs in (
        ({"after": cursors.encode(Stream.JOB, job.id, Place(2))}, [4, 5, 6]),
        ({"after": "4"}, [5, 6]),
        ({"after": cursors.encode(Stream.JOB, job.id, Place(6))}, []),
        ({"minLevel": "WARN"}, [4]),
        ({"stepKey": "a"}, [1, 2]),
        ({"contains": "STRASSE"}, []),
        ({"contains": "STRAß", "after": "5"}, [6]),
        ({"stepKey": "a", "contains": "two", "minLevel": "TRACE"}, [2]),
    ):
        assert [line["seq"] for line in told(await get(api, number, **parameters))] == seqs


async def test_gzip_for_those_who_accept_it(api: Api) -> None:
    job = await job_with_lines(api.acme)
    path = f"/jobs/{encode_id('OrchestrationJob', job.id)}/log.ndjson"
    plain = (await get(api, encode_id("OrchestrationJob", job.id))).content
    for accepts, packed in (("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("br", False)):
        headers = {"authorization": f"Bearer {api.acme.token}", "accept-encoding": accepts}
        async with api.client.stream("GET", path, headers=headers) as answer:
            raw = b"".join([part async for part in answer.aiter_raw()])
        assert answer.headers["vary"] == "Accept-Encoding"
        assert (answer.headers.get("content-encoding") == "gzip") is packed
        assert (gzip.decompress(raw) if packed else raw) == plain


async def test_a_foreign_job_is_answered_like_an_absent_one(api: Api) -> None:
    job = await job_with_lines(api.acme)
    number = encode_id("OrchestrationJob", job.id)
    answers = [
        await get(api, number, api.rival),
        await get(api, encode_id("OrchestrationJob", 10**9), api.rival),
        await get(api, encode_id("DeploymentPlan", job.plan_id)),
        await get(api, "nonsense"),
        # Whether a cursor fits is said of one's own jobs only.
        await get(api, number, api.rival, after="99999"),
        await get(api, number, api.rival, after="nonsense"),
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert {answer.json()["error"] for answer in answers} == {"there is no such job"}
    assert len(told(await get(api, number))) == 5


async def test_nobody_gets_it_without_a_token_that_may_read(api: Api) -> None:
    job = await job_with_lines(api.acme)
    path = f"/jobs/{encode_id('OrchestrationJob', job.id)}/log.ndjson"
    for headers in ({}, {"authorization": "Bearer wl_nonsense"}, {"authorization": f"Basic {api.acme.token}"}):
        answer = await api.client.get(path, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="windlass"')
    assert (await api.client.post(path)).status_code == 405


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"after": "nonsense"}, "after: this cursor does not belong to this stream"),
        ({"after": "7"}, "after: this log does not go so far"),
        ({"minLevel": "LOUD"}, "minLevel: one of TRACE, DEBUG, INFO, WARN, ERROR"),
        ({"level": "WARN"}, "level: there is no such parameter"),
        ({"contains": "x" * 201}, "contains: at most 200 characters"),
        ({"stepKey": "a\x00"}, "stepKey: holds a character that no text here can have"),
    ],
)
async def test_what_makes_no_sense_is_refused(api: Api, parameters: dict[str, str], said: str) -> None:
    job = await job_with_lines(api.acme)
    answer = await get(api, encode_id("OrchestrationJob", job.id), **parameters)
    assert (answer.status_code, answer.json()["error"]) == (400, said)


async def test_a_head_request_tells_the_place_only(api: Api) -> None:
    job = await job_with_lines(api.acme)
    headers = {"authorization": f"Bearer {api.acme.token}"}
    answer = await api.client.head(f"/jobs/{encode_id('OrchestrationJob', job.id)}/log.ndjson", headers=headers)
    assert (answer.status_code, answer.content) == (200, b"")
    assert cursors.decode(answer.headers["windlass-cursor"], Stream.JOB, job.id) == Place(6)


async def test_a_token_that_ends_on_the_way_ends_the_answer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.auth.authenticator import Unauthenticated

    monkeypatch.setattr(downloads, "PART_LINES", 10)
    monkeypatch.setattr(downloads, "REVALIDATE_SECONDS", -1.0)
    job = await api.acme.rows.job(await api.acme.rows.plan())
    for _ in range(5):
        await api.acme.rows.lines(job, *(f"{n}" for n in range(10)))
    authenticate, asked = api.services.authenticator.authenticate, []

    async def once(token: str) -> Any:
        asked.append(token)
        if len(asked) > 3:
            reason = "revoked"
            raise Unauthenticated(reason)
        return await authenticate(token)

    monkeypatch.setattr(type(api.services.authenticator), "authenticate", lambda _, token, **__: once(token))
    with pytest.raises(Unauthenticated):
        await get(api, encode_id("OrchestrationJob", job.id))
    assert len(asked) == 4


@pytest.mark.slow
async def test_memory_does_not_grow_with_the_log(api: Api) -> None:
    """Ten times the lines, and no more in memory at a time."""
    peaks = []
    for batches in (40, 400):
        job = await api.acme.rows.job(await api.acme.rows.plan(f"p{batches}"))
        text = "a line of about as many characters as most lines of a log happen to have, or a few more: "
        for start in range(0, batches, 20):
            lines = [LogLine(1_700_000_000_000_000 + n, LogLevel.INFO, "stdout", f"{text}{n}") for n in range(10_000)]
            async with api.acme.rows.write() as transaction:
                await journal.append(transaction, Stream.JOB, job.id, [journal.Lines(lines, None, "a", 1)])
            assert start < batches
        seen, path = 0, f"/jobs/{encode_id('OrchestrationJob', job.id)}/log.ndjson"
        scope: dict[str, Any] = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": [(b"authorization", f"Bearer {api.acme.token}".encode()), (b"host", b"windlass.test")],
            "http_version": "1.1", "scheme": "http", "asgi": {"version": "3.0", "spec_version": "2.4"},
            "client": None, "server": None, "root_path": "",
        }  # fmt: skip

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            nonlocal seen
            seen += message.get("body", b"").count(b"\n")

        tracemalloc.start()
        await api.app(scope, receive, send)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert seen == batches * 500
    assert peaks[1] < peaks[0] * 1.3
    assert peaks[1] < 30 * 2**20


async def test_what_retention_took_is_told(api: Api, database_url: str) -> None:
    from tests.factories.databases import fetch

    job = await job_with_lines(api.acme)
    await fetch(database_url, "DELETE FROM job_log WHERE first_seq = 1")
    answer = await get(api, encode_id("OrchestrationJob", job.id))
    assert [line["seq"] for line in told(answer)] == [4, 5, 6]
    assert cursors.decode(answer.headers["windlass-skipped-before"], Stream.JOB, job.id) == Place(3)
    resumed = await get(api, encode_id("OrchestrationJob", job.id), after="2")
    assert "windlass-skipped-before" not in resumed.headers


async def test_a_token_that_may_not_read_is_refused(api: Api) -> None:
    job = await job_with_lines(api.acme)
    answer = await get(api, encode_id("OrchestrationJob", job.id), await _with_scopes(api, ["WRITE", "EXECUTE"]))
    assert (answer.status_code, answer.json()["error"]) == (403, "this needs the permission READ")
