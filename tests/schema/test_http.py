"""The door: who is let in, what is too large, and what never gets out."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from app.reads import workflows
from app.web import health
from tests.schema.conftest import Api

TYPENAME = {"query": "{ __typename }"}


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer nonsense", "Basic YTpi", "Bearer wl_\x7f"])
async def test_nobody_gets_in_without_a_token(api: Api, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    response = await api.client.post("/graphql", json=TYPENAME, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    body = response.json()
    assert body["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert "data" not in body


@pytest.mark.parametrize("second", ["Bearer nonsense", None, ""])
@pytest.mark.parametrize("path", ["/graphql", "/audit.ndjson", "/auth/logout"])
async def test_nobody_says_twice_who_they_are(api: Api, path: str, second: str | None) -> None:
    token = f"Bearer {api.acme.token}"
    given = [("authorization", token), ("Authorization", token if second is None else second), ("x-request-id", "t-2")]
    headers = [(name.encode(), value.encode()) for name, value in given]
    for response in (
        await api.client.post(path, json=TYPENAME, headers=headers),
        await api.client.get(path, params=TYPENAME, headers=headers),
    ):
        message = "the request has more than one Authorization header"
        assert (response.status_code, response.headers["x-request-id"]) == (400, "t-2")
        assert response.json() == (
            {"errors": [{"message": message, "extensions": {"code": "BAD_REQUEST", "requestId": "t-2"}}]}
            if path == "/graphql"
            else {"error": message}
        )


async def test_the_body_is_not_read_before_the_token_is(api: Api) -> None:
    read: list[bytes] = []

    async def receive() -> dict[str, Any]:
        read.append(b"{")
        return {"type": "http.request", "body": b"{", "more_body": True}

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/graphql",
        "raw_path": b"/graphql",
        "query_string": b"",
        "headers": [(b"host", b"windlass.test"), (b"content-type", b"application/json")],
        "state": {},
        "client": ("127.0.0.1", 1),
        "server": ("windlass.test", 80),
        "scheme": "http",
        "http_version": "1.1",
        "root_path": "",
    }
    await api.app(scope, receive, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 401
    assert read == []


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"content-type": "text/plain"}, b"{}", 415),
        ({"content-type": "text/x-application/json-evil"}, b"{}", 415),
        ({"content-type": "application/json; charset=latin-1"}, b"{}", 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, b'{"query": "{ __typename }"}', 415),
        ({"content-type": "application/json", "accept": "text/html"}, b"{}", 406),
        ({"content-type": "application/json"}, b"[{}]", 400),
        ({"content-type": "application/json"}, b"{", 400),
        ({"content-type": "application/json"}, b'{"query": 1}', 400),
        ({"content-type": "application/json"}, b'{"query": "{ __typename }", "query": "{ viewer { role } }"}', 400),
        ({"content-type": "application/json"}, b'{"query": "{ a }", "variables": {"a": [{"b": 1, "b": 2}]}}', 400),
        ({"content-type": "application/json"}, b'{"query": "{ __typename }", "\\u0071uery": "{ a }"}', 400),
        ({"content-type": "application/json"}, b'{"query": "{a}", "variables": []}', 400),
        ({"content-type": "application/json"}, b'{"query": ""}', 400),
        ({"content-type": "application/json"}, b" " * (128 * 1024 + 1), 413),
    ],
)
async def test_what_is_not_graphql_over_http_is_refused(
    api: Api, headers: dict[str, str], content: bytes, status: int
) -> None:
    headers = {"authorization": f"Bearer {api.acme.token}", **headers}
    response = await api.client.post("/graphql", content=content, headers=headers)
    assert response.status_code == status


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("9" * 400, "the number at variables.n is too large"),
        ("1e400", "the number at variables.n is too large"),
        ('"\\ud800"', "the text at variables.n is not valid Unicode: U+D800 is half of a character"),
    ],
)
async def test_json_that_no_reader_could_take_is_told_with_its_place(api: Api, value: str, message: str) -> None:
    headers = {"authorization": f"Bearer {api.acme.token}", "content-type": "application/json", "x-request-id": "t-1"}
    content = f'{{"query": "{{ __typename }}", "variables": {{"n": {value}}}}}'
    response = await api.client.post("/graphql", content=content, headers=headers)
    assert response.status_code == 400
    extensions = {"code": "BAD_REQUEST", "path": ["variables", "n"], "requestId": "t-1"}
    assert response.json()["errors"] == [{"message": message, "extensions": extensions}]


async def test_get_is_for_queries(api: Api) -> None:
    headers = {"authorization": f"Bearer {api.acme.token}"}
    good = await api.client.get("/graphql", params={"query": "{ __typename }"}, headers=headers)
    assert good.json() == {"data": {"__typename": "Query"}}
    bad = await api.client.get("/graphql", params={"query": "mutation { __typename }"}, headers=headers)
    assert (bad.status_code, bad.headers["allow"]) == (405, "POST")
    other = await api.client.put("/graphql", json=TYPENAME, headers=headers)
    assert (other.status_code, other.headers["allow"]) == (405, "GET, POST")


async def test_subscriptions_are_sent_to_the_socket(api: Api) -> None:
    response = await api.post({"query": "subscription { __typename }"})
    assert response.status_code == 400
    assert "WebSocket" in response.json()["errors"][0]["message"]


async def test_a_request_has_one_number_everywhere(api: Api) -> None:
    given = await api.post(TYPENAME, x_request_id="ticket-42")
    assert given.headers["x-request-id"] == "ticket-42"
    made = await api.post(TYPENAME, x_request_id="no good; number")
    assert made.headers["x-request-id"] != "no good; number"
    assert len(made.headers["x-request-id"]) == 32


async def test_a_bug_of_ours_shows_its_number_and_nothing_else(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        message = "password=hunter2 SELECT * FROM secrets"
        raise RuntimeError(message)

    monkeypatch.setattr(workflows, "listed", broken)
    response = await api.post({"query": "{ workflows { nodes { id } } }"}, x_request_id="ticket-43")
    assert "hunter2" not in response.text
    (error,) = response.json()["errors"]
    assert error["message"] == "Internal error"
    assert error["extensions"] == {"code": "INTERNAL", "requestId": "ticket-43"}


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ workflows(after: 1) { nodes { id } } }", "GRAPHQL_VALIDATION_FAILED"),
        ('{ deploymentPlans(filter: {created: {from: "yesterday"}}) { nodes { id } } }', "GRAPHQL_VALIDATION_FAILED"),
        ("query A { __typename } query B { __typename }", "BAD_REQUEST"),
    ],
)
async def test_a_fault_of_the_request_is_named(api: Api, document: str, code: str) -> None:
    plain = await api.post({"query": document}, accept="application/json")
    modern = await api.post({"query": document}, accept="application/graphql-response+json")
    assert (plain.status_code, modern.status_code) == (200, 400)
    for response in (plain, modern):
        assert response.json()["errors"][0]["extensions"]["code"] == code
        assert "data" not in response.json()


def bomb(size: int) -> str:
    """A short document whose fragments double what they contain, `size` times."""
    fragments = [f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(size)]
    return " ".join(["{ ...F0 }", *fragments, f"fragment F{size} on Query {{ __typename }}"])


def nested(levels: int) -> str:
    return (
        "{ deploymentPlans(first: 1) { nodes "
        + "{ workflow { plans(first: 1) { nodes " * levels
        + ("{ id }" + " } } }" * levels + " } }")
    )


LARGE = {
    "deep": nested(6),
    "very deep": "{ a" * 900 + "}" * 900,
    "aliases": "{ "
    + " ".join(f"a{n}: viewer {{ role }}" for n in range(20))
    + " viewer { "
    + " ".join(f"b{n}: role" for n in range(11))
    + " } }",
    "root fields": "{ " + " ".join(["viewer { role }"] * 21) + " }",
    "selections": "{ viewer { " + "role " * 2100 + "} }",
    "rows": "{ workflows(first: 100) { nodes { plans(first: 100) { nodes { jobs(first: 2) { nodes { id } } } } } } }",
    "tokens": "{ " + "a " * 3100 + "}",
    "bomb": bomb(24),
}


@pytest.mark.parametrize("name", LARGE)
async def test_what_is_too_large_is_refused_at_once(api: Api, name: str) -> None:
    async with asyncio.timeout(2):
        answer = await api.ask(LARGE[name])
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"LIMIT_EXCEEDED"}
    assert "data" not in answer


async def test_limits_read_variables(api: Api) -> None:
    inner = "plans(first: $n) { nodes { jobs(first: $n) { nodes { id } } } }"
    query = f"query ($n: Int = 1) {{ workflows(first: $n) {{ nodes {{ {inner} }} }} }}"
    assert "errors" not in await api.ask(query, {"n": 20})
    assert (await api.ask(query, {"n": 50}))["errors"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"


async def test_a_fragment_inside_itself_is_a_fault_and_no_loop(api: Api) -> None:
    document = "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A __typename }"
    answer = await api.ask(document)
    assert answer["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"


async def test_an_ordinary_question_with_fragments_is_none_of_that(api: Api) -> None:
    answer = await api.ask(
        "{ workflows(first: 50) { nodes { ...F plans(first: 10) { nodes { ...P } } } } }"
        " fragment F on Workflow { name steps { key } }"
        " fragment P on DeploymentPlan { name jobs(first: 5) { nodes { id } } }"
    )
    assert "errors" not in answer


async def test_health(api: Api) -> None:
    alive = await api.client.get("/healthz")
    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    ready = await api.client.get("/readyz")
    assert (ready.status_code, ready.json()["database"]) == (200, "ok")


async def test_a_database_at_another_revision_is_not_ready(api: Api) -> None:
    app = Starlette(routes=[Route("/readyz", health.readiness(api.services.database, api.services.bus, "9999"))])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        response = await client.get("/readyz")
    assert response.status_code == 503
