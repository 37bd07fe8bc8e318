"""The short way in answers what the long way answers, and takes nothing that has something unusual about it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import asyncpg
import httpx
import orjson
import pytest
import structlog
from starlette.middleware.trustedhost import TrustedHostMiddleware

from schema import door
from schema.compiling.queries import Asking, CompiledQueries
from schema.door import Door
from schema.http import GraphQLEndpoint
from tests.schema.conftest import Api

TYPENAME = {"query": "{ __typename }"}
BODIES: dict[str, Any] = {
    "compiled": {"query": "{ deploymentPlans(first: 2) { nodes { id } pageInfo { hasNextPage } } }"},
    "constant": TYPENAME,
    "with its cost": {**TYPENAME, "extensions": {"cost": True}},
    "field by field": {"query": "{ viewer { user { id } } }"},
    "nothing of the schema": {"query": "{ nonsense }"},
    "no document": {"query": ""},
    "no object": [TYPENAME],
    "an unknown id": {"documentId": "sha256:0"},
    "two operations": {"query": "query A { __typename } query B { __typename }"},
    "a subscription": {"query": "subscription { __typename }"},
    "a null that only its default makes possible": {
        "query": "query($y: Boolean = true) { viewer { role @include(if: $y) } }",
        "variables": {"y": None},
    },
    "such a null at the root": {
        "query": "query($y: Boolean = true) { __typename @skip(if: $y) }",
        "variables": {"y": None},
    },
    "such a null as an argument": {
        "query": 'query($y: ID = "x") { node(id: $y) { id } }',
        "variables": {"y": None},
    },
    "a mutation": {"query": 'mutation { deletePlan(input: {id: "x", version: 1}) { userErrors { code } } }'},
}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The request ids of those that took the short way."""
    taken, respond = list[str](), GraphQLEndpoint.respond_plainly

    async def noted(self: GraphQLEndpoint, plain: Any, body: Any) -> Any:
        taken.append(plain.request_id)
        return await respond(self, plain, body)

    monkeypatch.setattr(GraphQLEndpoint, "respond_plainly", noted)
    return taken


async def _ask(api: Api, body: Any, *more: tuple[str, str], token: str | None = None) -> httpx.Response:
    said = [("authorization", f"Bearer {token or api.acme.token}"), ("x-request-id", "same"), *more]
    headers = [(name.encode(), value.encode()) for name, value in said]
    return await api.client.post("/graphql", json=body, headers=headers)


def _said(response: httpx.Response) -> tuple[Any, ...]:
    body = response.json()
    # What is left of the allowance is less after each.
    body.get("extensions", {}).get("cost", {}).pop("left", None)
    return response.status_code, sorted(response.headers.multi_items()), body


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/graphql-response+json"])
async def test_both_ways_answer_the_same(api: Api, short: list[str], name: str, accept: str) -> None:
    first = await _ask(api, BODIES[name], ("accept", accept))
    assert short == ["same"]
    # A header that comes twice.
    second = await _ask(api, BODIES[name], ("accept", accept), ("x-more", "1"), ("x-more", "2"))
    assert short == ["same"]
    if "cost" not in name:
        assert first.content == second.content
    assert _said(first) == _said(second)


async def test_both_ways_refuse_the_same_token(api: Api, short: list[str]) -> None:
    for token in ("wl_wrong", api.acme.token[:-1] + "!", "ä"):
        ends = [await _ask(api, TYPENAME, *more, token=token) for more in ([], [("x-more", "1"), ("x-more", "2")])]
        assert [end.status_code for end in ends] == [401, 401]
        assert _said(ends[0]) == _said(ends[1])
    assert len(short) == 3


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"accept": "text/html"}, 406),
        ({"accept": "application/json, text/event-stream"}, 200),
        ({"authorization": "Basic eDp5"}, 401),
        ({"cookie": "a=b", "authorization": ""}, 401),
        ({"content-length": "200000"}, 413),
    ],
)
async def test_what_is_unusual_takes_the_long_way(
    api: Api, short: list[str], headers: dict[str, str], status: int
) -> None:
    given = {"authorization": f"Bearer {api.acme.token}", "content-type": "application/json", **headers}
    response = await api.client.post("/graphql", content=b'{"query": "{ __typename }"}', headers=given)
    assert (response.status_code, short) == (status, [])


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost", True), ("LOCALHOST:8000", True), ("[::1]", True), ("[::1]:80", True), ("a.example", False),
        ("evil.example", False), ("localhost.evil.example", False), ("localhost:x", False), ("localhost:", False),
        ("", False), (":80", False), ("x@localhost", False),
    ],
)  # fmt: skip
async def test_only_hosts_by_their_names_take_the_short_way(host: str, is_ours: bool) -> None:
    """Patterns are left to the layer that knows them, and so is whatever that would not have let in."""
    long = list[str]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del receive, send
        long.append(scope["path"])

    async def nobody(*_: Any) -> Any:
        raise AssertionError

    hosts = ["localhost", "[::1]", "*.example"]
    entrance = Door(app, cast("Any", None), hosts, 1000)
    headers = [("host", host), ("content-type", "application/json"), ("content-length", "2")]
    given = [(name.encode(), value.encode()) for name, value in (*headers, ("authorization", "Bearer x"))]
    scope = {"type": "http", "method": "POST", "path": "/graphql", "headers": given}
    if is_ours:
        # It is taken to the endpoint, which is not there.
        with pytest.raises(AttributeError, match="respond_plainly"):
            await entrance(scope, nobody, nobody)
        trusted = list[str]()

        async def noted(*_: Any) -> None:
            trusted.append(host)

        await TrustedHostMiddleware(noted, hosts)(scope, nobody, nobody)
        assert trusted == [host]
    else:
        await entrance(scope, nobody, nobody)
    assert long == ([] if is_ours else ["/graphql"])


def _scope(api: Api) -> dict[str, Any]:
    """Of a request with nothing unusual about it."""
    headers = {
        "host": "localhost", "content-type": "application/json", "content-length": "27",
        "authorization": f"Bearer {api.acme.token}",
    }  # fmt: skip
    return {
        "type": "http", "method": "POST", "path": "/graphql", "raw_path": b"/graphql", "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()], "state": {},
        "client": ("127.0.0.1", 1), "server": ("localhost", 80), "scheme": "http", "http_version": "1.1",
        "root_path": "",
    }  # fmt: skip


async def test_a_body_that_does_not_come_in_time_is_not_waited_for(
    api: Api, short: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "BODY_SECONDS", 0.1)
    sent = list[Any]()
    parts: list[dict[str, Any]] = [{"type": "http.request", "body": b'{"query"', "more_body": True}]

    async def receive() -> Any:
        return parts.pop(0) if parts else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(20):
        await api.app(_scope(api), receive, send)
    start, body = sent
    headers, error = dict(start["headers"]), orjson.loads(body["body"])["errors"][0]
    assert (start["status"], headers[b"connection"]) == (408, b"close")
    assert error["message"] == "the body of the request did not arrive within 0.1 s"
    assert error["extensions"] == {"code": "BAD_REQUEST", "requestId": headers[b"x-request-id"].decode()}
    assert len(short) == 1


@pytest.mark.parametrize("twice", [True, False])
@pytest.mark.parametrize("later", [True, False])
async def test_a_fault_of_ours_is_told_by_its_number(
    api: Api, monkeypatch: pytest.MonkeyPatch, later: bool, twice: bool
) -> None:
    """On every way, and whether or not somebody had to be waited for."""
    fault = asyncpg.DataError("secret")

    async def fails(*_: Any) -> Any:
        raise fault

    def fails_at_once(*_: Any) -> Any:
        raise fault

    # Who asks is known, and what the query selects.
    asked = await _ask(api, BODIES["compiled"])
    monkeypatch.setattr(Asking, "answer", fails)
    if not later:
        monkeypatch.setattr(CompiledQueries, "begun", fails_at_once)
    with structlog.testing.capture_logs() as logged:
        response = await _ask(api, BODIES["compiled"], *([("x-more", "1"), ("x-more", "2")] if twice else []))
        given = [(key.lower(), value) for key, value in asked.request.headers.raw]
        scope = {"type": "http", "method": "POST", "path": "/graphql", "headers": given, "client": ("127.0.0.1", 1)}
        found = api.app.state.straight(scope)(asked.request.content)
        status, _, said = found if isinstance(found, tuple) else await found
    wanted = {"message": "Internal error", "extensions": {"code": "INTERNAL", "requestId": "same"}}
    assert (response.status_code, response.json()) == (500, {"errors": [wanted]})
    assert (status, orjson.loads(said)) == (500, {"errors": [wanted]})
    assert [(line["request_id"], line["exc_info"]) for line in logged] == [("same", fault)] * 2


async def test_whoever_goes_while_sending_is_not_answered(api: Api, short: list[str]) -> None:
    sent = list[Any]()
    parts: list[dict[str, Any]] = [
        {"type": "http.request", "body": b'{"query"', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return parts.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await api.app(_scope(api), receive, send)
    assert len(short) == 1
    assert (sent, parts) == ([], [])


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("token", ["", "wl_wrong"])
async def test_on_the_connection_the_same_is_said(api: Api, name: str, token: str) -> None:
    """Both when it is not known whose token it is, and when it has just been seen."""
    through = await _ask(api, BODIES[name], token=token)
    body = through.request.content
    given = [(key.lower(), value) for key, value in through.request.headers.raw]
    scope = {"type": "http", "method": "POST", "path": "/graphql", "headers": given, "client": ("127.0.0.1", 1)}
    for fresh in (True, False):
        if fresh:
            api.services.authenticator._seen.clear()
        found = api.app.state.straight(scope)(body)
        assert not (fresh and isinstance(found, tuple))
        status, lines, said = found if isinstance(found, tuple) else await found
        headers = [tuple(line.split(b": ", 1)) for line in lines.splitlines()]
        answered = httpx.Response(status, headers=[*headers, (b"content-length", b"%d" % len(said))], content=said)
        assert _said(answered) == _said(through)


async def test_what_waits_for_nobody_is_answered_at_once(api: Api) -> None:
    first = await _ask(api, TYPENAME)
    given = [(key.lower(), value) for key, value in first.request.headers.raw]
    scope = {"type": "http", "method": "POST", "path": "/graphql", "headers": given}
    assert isinstance(api.app.state.straight(scope)(first.request.content), tuple)
    assert api.app.state.straight({**scope, "path": "/healthz"}) is None
    assert api.app.state.straight({**scope, "headers": [*given, (b"cookie", b"a"), (b"cookie", b"b")]}) is None
