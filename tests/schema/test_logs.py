"""A job's log in GraphQL: pages both ways, the packed field, and what is told of lines that are gone."""

from __future__ import annotations

from typing import Any

from app.domain import cursors
from app.domain.cursors import Place
from app.domain.events import Event, EventKind, Stream
from schema.nodes import encode_id
from tests.factories.databases import fetch
from tests.schema.conftest import Api

PAGE = """query($id: ID!, $first: Int! = 200, $after: Cursor, $last: Int, $before: Cursor, $filter: LogFilter) {
  orchestrationJob(id: $id) { logs(first: $first, after: $after, last: $last, before: $before, filter: $filter) {
    nodes { seq message } edges { cursor node { seq } } packed truncatedBefore
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }"""


async def numbered(api: Api) -> Any:
    """Lines 1 to 10, but 4 is an event; 5 and 6 are of another step."""
    job = await api.acme.rows.job(await api.acme.rows.plan())
    await api.acme.rows.lines(job, "1", "2", "3")
    await api.acme.rows.events(Stream.JOB, job.id, Event(EventKind.STEP_PROGRESSED, {}))
    await api.acme.rows.lines(job, "5", "6", step="b", level="ERROR")
    await api.acme.rows.lines(job, "7", "8", "9", "10")
    return job


async def test_pages_lead_through_the_log_both_ways(api: Api) -> None:
    job = await numbered(api)
    every = [1, 2, 3, 5, 6, 7, 8, 9, 10]

    async def page(**given: Any) -> Any:
        return (await api.data(PAGE, {"id": encode_id("OrchestrationJob", job.id), **given}))["orchestrationJob"][
            "logs"
        ]

    def seqs(found: Any) -> list[int]:
        return [int(line["seq"]) for line in found["nodes"]]

    forwards: list[int] = []
    found = await page(first=4)
    assert found["pageInfo"]["hasPreviousPage"] is False
    while True:
        forwards += seqs(found)
        if not found["pageInfo"]["hasNextPage"]:
            break
        found = await page(first=4, after=found["pageInfo"]["endCursor"])
        assert found["pageInfo"]["hasPreviousPage"] is True
    assert forwards == every
    backwards: list[int] = []
    found = await page(last=4)
    assert found["pageInfo"]["hasNextPage"] is False
    while True:
        backwards = seqs(found) + backwards
        if not found["pageInfo"]["hasPreviousPage"]:
            break
        found = await page(last=4, before=found["pageInfo"]["startCursor"])
        assert found["pageInfo"]["hasNextPage"] is True
    assert backwards == every
    # Exact, and not only a guess from the arguments: before the first line there is nothing, and behind the last.
    only = await page(first=10, after=cursors.encode(Stream.JOB, job.id, Place(0)))
    assert (seqs(only), only["pageInfo"]["hasPreviousPage"], only["pageInfo"]["hasNextPage"]) == (every, False, False)
    filtered = await page(last=1, filter={"stepKey": "b"}, before=cursors.encode(Stream.JOB, job.id, Place(10)))
    assert (seqs(filtered), filtered["pageInfo"]["hasPreviousPage"], filtered["pageInfo"]["hasNextPage"]) == (
        [6],
        True,
        False,
    )
    assert [cursors.decode(edge["cursor"], Stream.JOB, job.id) for edge in filtered["edges"]] == [Place(6)]


async def test_packed_lines_are_the_same_lines(api: Api) -> None:
    job = await numbered(api)
    found = await api.data(PAGE, {"id": encode_id("OrchestrationJob", job.id), "last": 1, "filter": {"stepKey": "b"}})
    assert found["orchestrationJob"]["logs"]["packed"] == [
        [6, "2026-01-31T08:00:00.000000Z", "ERROR", "provider", "b", 1, "6"]
    ]


async def test_senseless_pages_are_refused(api: Api) -> None:
    job = await numbered(api)
    foreign = cursors.encode(Stream.JOB, job.id + 1, Place(3))
    for given, code, path in (
        ({"last": -1}, "INVALID", "last"),
        ({"last": 501}, "LIMIT_EXCEEDED", "last"),
        ({"before": "nonsense"}, "INVALID", "before"),
        ({"before": foreign}, "INVALID", "before"),
        ({"after": foreign}, "INVALID", "after"),
    ):
        answer = await api.ask(PAGE, {"id": encode_id("OrchestrationJob", job.id), **given})
        assert [error["extensions"]["code"] for error in answer["errors"]] == [code], answer
        assert [error["extensions"]["path"] for error in answer["errors"]] == [[path]], answer


async def test_a_log_whose_beginning_is_gone_begins_at_the_first_line_kept(api: Api, database_url: str) -> None:
    job = await numbered(api)
    asked = {"id": encode_id("OrchestrationJob", job.id), "first": 2}
    assert (await api.data(PAGE, asked))["orchestrationJob"]["logs"]["truncatedBefore"] is None
    await fetch(database_url, "DELETE FROM job_log WHERE first_seq < 7")
    found = (await api.data(PAGE, asked))["orchestrationJob"]["logs"]
    assert [line["seq"] for line in found["nodes"]] == ["7", "8"]
    assert found["truncatedBefore"] is not None
    assert found["pageInfo"]["hasPreviousPage"] is False
    await fetch(database_url, "DELETE FROM job_log")
    found = (await api.data(PAGE, asked))["orchestrationJob"]["logs"]
    assert found["nodes"] == []
    assert found["truncatedBefore"] is not None
