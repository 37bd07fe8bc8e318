"""How a live connection begins and ends, frame by frame."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import structlog
from sqlalchemy import text
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.types import ExecutionResult
from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from app import clock
from app.auth.rates import Rate
from app.db import models
from app.domain.enums import TokenKind
from app.domain.events import Stream
from app.web.credentials import COOKIE
from schema import guard, live_protocol
from schema.allowance import Allowance
from schema.context import Context, Services
from schema.live_operations import LiveOperation
from schema.nodes import decode_id
from tests.schema.live.conftest import JOB, Live, job_id, progressed
from tests.schema.verbs import done

TRANSPORT = Subprotocol("graphql-transport-ws")
VIEWER = "{ orchestrationJobs(first: 1) { nodes { id } } }"


def dial(live: Live, headers: dict[str, str] | None = None) -> Any:
    return connect(live.websocket, subprotocols=[TRANSPORT], ping_interval=None, additional_headers=headers)


async def send(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def receive(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        message: dict[str, Any] = json.loads(await socket.recv())
    return message


async def introduce(socket: ClientConnection, live: Live, token: str | None = None) -> None:
    given = {"authorization": f"Bearer {token or live.api.acme.token}"}
    await send(socket, type="connection_init", payload=given)
    assert await receive(socket) == {"type": "connection_ack"}


async def subscribe(
    socket: ClientConnection, query: str, variables: dict[str, Any] | None = None, name: str = "1"
) -> None:
    await send(socket, type="subscribe", id=name, payload={"query": query, "variables": variables})


async def close_code(socket: ClientConnection) -> int | None:
    """With which code the server ends the connection; what it says before is skipped."""
    async with asyncio.timeout(10):
        while True:
            try:
                await socket.recv()
            except ConnectionClosed as closed:
                return None if closed.rcvd is None else closed.rcvd.code


async def test_nobody_gets_in_without_a_token(live: Live) -> None:
    payloads: list[Any] = [
        None,
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer wl_nonsense"},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": 7},
        {"token": "wl_nonsense"},
        {"token": f"{live.api.acme.token}x"},
    ]
    for payload in payloads:
        async with dial(live) as socket:
            await send(socket, type="connection_init", payload=payload)
            assert await close_code(socket) == 4403, payload


async def test_the_token_is_taken_as_a_header_or_by_itself(live: Live) -> None:
    token = live.api.acme.token
    for payload in ({"authorization": f"Bearer {token}"}, {"Authorization": f"bearer {token}"}, {"token": token}):
        async with dial(live) as socket:
            await send(socket, type="connection_init", payload=payload)
            assert await receive(socket) == {"type": "connection_ack"}, payload


async def test_a_handshake_that_says_twice_who_it_is_is_refused_with_the_reason(live: Live) -> None:
    token = f"Bearer {live.api.acme.token}"
    twice = Headers([("authorization", token), ("authorization", token)])
    with pytest.raises(InvalidStatus) as caught:
        async with connect(live.websocket, subprotocols=[TRANSPORT], additional_headers=twice):
            pass
    response = caught.value.response
    assert response.status_code == 400
    (error,) = json.loads(response.body or b"")["errors"]
    assert error["message"] == "the request has more than one Authorization header"
    assert error["extensions"] == {"code": "BAD_REQUEST", "requestId": response.headers["x-request-id"]}
    once = {"authorization": token}
    async with connect(live.websocket, subprotocols=[TRANSPORT], additional_headers=once):
        pass


async def test_a_browser_comes_with_its_cookie_from_a_page_of_ours(live: Live) -> None:
    cookie = {"Cookie": f"{COOKIE}={await session_of(live)}"}
    here = f"http://127.0.0.1:{live.port}"
    # A token that nobody logged in with is none for a browser to show.
    async with dial(live, {"Cookie": f"{COOKIE}={live.api.acme.token}", "Origin": here}) as socket:
        await send(socket, type="connection_init")
        assert await close_code(socket) == 4403
    async with dial(live, {**cookie, "Origin": here}) as socket:
        await send(socket, type="connection_init")
        assert await receive(socket) == {"type": "connection_ack"}
    # Another page does not get as far as that; what is no browser has a token to show.
    with pytest.raises(InvalidStatus):
        await dial(live, {**cookie, "Origin": "https://evil.example"}).__aenter__()
    async with dial(live, cookie) as socket:
        await send(socket, type="connection_init")
        assert await close_code(socket) == 4403


async def session_of(live: Live) -> str:
    """What the cookie of the administrator's browser holds."""
    made = await done(live.api, "createApiToken", name="browser")
    async with live.api.acme.rows.write() as transaction:
        token = await transaction.session.get_one(models.ApiToken, decode_id(made["apiToken"]["id"])[1])
        token.kind = TokenKind.SESSION
    return str(made["text"])


async def test_who_asks_for_too_much_is_refused_and_stays_connected(live: Live) -> None:
    object.__setattr__(live.api.services, "allowance", Allowance(Rate(0.001, 5)))
    async with dial(live) as socket:
        await introduce(socket, live)
        for name, kind in (("1", "next"), ("2", "error")):
            await subscribe(socket, VIEWER, name=name)
            message = await receive(socket)
            assert (message["id"], message["type"]) == (name, kind)
            if kind == "next":
                assert await receive(socket) == {"id": name, "type": "complete"}
        assert message["payload"][0]["extensions"]["code"] == "RATE_LIMITED"
        await send(socket, type="ping")
        assert await receive(socket) == {"type": "pong"}


async def test_nothing_is_answered_before_the_introduction(live: Live) -> None:
    async with dial(live) as socket:
        await subscribe(socket, VIEWER)
        assert await close_code(socket) == 4401


NOT_THE_PROTOCOL: list[str | bytes] = [
    "no JSON",
    "[]",
    "7",
    "null",
    "{}",
    '{"type": 7}',
    '{"type": "strange"}',
    '{"type": "subscribe"}',
    '{"type": "subscribe", "id": 7, "payload": {"query": "{ __typename }"}}',
    '{"type": "subscribe", "id": "1", "payload": null}',
    '{"type": "subscribe", "id": "1", "payload": {"query": null}}',
    '{"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }", "variables": []}}',
    '{"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }", "variables": [1]}}',
    '{"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }", "operationName": 7}}',
    '{"type": "complete"}',
    '{"type": "ping", "payload": 7}',
    '{"type": "ping", "type": "subscribe"}',
    '{"type": "connection_init", "payload": {"token": "a", "token": "b"}}',
    b"\x00\x01",
]


async def test_what_is_not_the_protocol_ends_the_connection(live: Live) -> None:
    for message in NOT_THE_PROTOCOL:
        async with dial(live) as socket:
            await introduce(socket, live)
            await socket.send(message)
            assert await close_code(socket) == 4400, message


async def test_a_second_introduction_and_a_second_use_of_an_id_are_refused(live: Live) -> None:
    async with dial(live) as socket:
        await introduce(socket, live)
        await send(socket, type="connection_init", payload={"token": live.api.acme.token})
        assert await close_code(socket) == 4429
    job = await live.job()
    async with dial(live) as socket:
        await introduce(socket, live)
        for _ in range(2):
            await subscribe(socket, JOB, {"id": job_id(job)})
        assert await close_code(socket) == 4409


async def test_a_document_that_does_not_parse_harms_no_other_operation(live: Live) -> None:
    job = await live.job()
    async with dial(live) as socket:
        await introduce(socket, live)
        await subscribe(socket, JOB, {"id": job_id(job)}, "good")
        assert (await receive(socket))["payload"]["data"]["jobUpdated"]["kind"] == "SNAPSHOT"
        for query in ("{", "{ nonsense }", "subscription { jobUpdated(id: 7, x: 1) { kind } }"):
            await subscribe(socket, query, name="bad")
            answer = await receive(socket)
            assert (answer["type"], answer["id"]) == ("error", "bad")
            assert answer["payload"][0]["extensions"]["code"].startswith("GRAPHQL_")
        await live.api.acme.rows.events(Stream.JOB, job.id, progressed(job, 1))
        assert (await receive(socket))["id"] == "good"


async def test_queries_are_answered_and_completed(live: Live) -> None:
    async with dial(live) as socket:
        await introduce(socket, live)
        await subscribe(socket, VIEWER)
        assert await receive(socket) == {
            "type": "next",
            "id": "1",
            "payload": {"data": {"orchestrationJobs": {"nodes": []}}},
        }
        assert await receive(socket) == {"type": "complete", "id": "1"}


async def test_a_completed_operation_sends_nothing_more(live: Live) -> None:
    job = await live.job()
    async with dial(live) as socket:
        await introduce(socket, live)
        await subscribe(socket, JOB, {"id": job_id(job)})
        await receive(socket)
        await send(socket, type="complete", id="1")
        await send(socket, type="ping")
        assert await receive(socket) == {"type": "pong"}
        await live.api.acme.rows.events(Stream.JOB, job.id, progressed(job, 1))
        await asyncio.sleep(0.1)
        await send(socket, type="ping")
        assert await receive(socket) == {"type": "pong"}
        assert len(live.api.services.bus._bells) == 0


async def test_a_client_that_goes_leaves_nothing_behind(live: Live) -> None:
    job = await live.job()
    async with dial(live) as socket:
        await introduce(socket, live)
        await subscribe(socket, JOB, {"id": job_id(job)})
        await receive(socket)
        socket.transport.abort()
    async with asyncio.timeout(5):
        while len(live.api.services.bus._bells):  # noqa: ASYNC110  bells are not waited for by anybody else
            await asyncio.sleep(0.02)


async def test_the_server_pings_and_gives_up_who_does_not_answer(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_protocol, "PING_SECONDS", 0.1)
    monkeypatch.setattr(live_protocol, "SILENCE_SECONDS", 0.5)
    async with dial(live) as socket:
        await introduce(socket, live)
        for _ in range(8):  # longer than the silence that is borne, but not silent
            assert await receive(socket) == {"type": "ping"}
            await send(socket, type="pong")
        assert await close_code(socket) == 4499


async def test_a_revoked_token_ends_the_connection(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LOOK_SECONDS", 0.1)
    job = await live.job()
    async with dial(live) as socket:
        await introduce(socket, live)
        await subscribe(socket, JOB, {"id": job_id(job)})
        await receive(socket)
        await asyncio.sleep(0.3)  # checked, and still good
        await live.api.acme.rows.events(Stream.JOB, job.id, progressed(job, 1))
        assert (await receive(socket))["type"] == "next"
        async with live.api.acme.rows.write() as transaction:
            await transaction.session.execute(text("UPDATE api_token SET revoked_at = now()"))
        assert await close_code(socket) == 4403


async def test_a_changed_role_ends_the_connection_within_a_second(live: Live) -> None:
    api, job = live.api, await live.job()
    role = (await done(api, "createRole", name="own", permissions=["READ", "WRITE"]))["role"]
    user = (await done(api, "createUser", email="x@x.example", displayName="x", customRoleId=role["id"]))["user"]
    text_ = (await done(api, "createApiToken", name="t", userId=user["id"]))["text"]
    async with dial(live) as socket:
        await introduce(socket, live, text_)
        await subscribe(socket, JOB, {"id": job_id(job)})
        await receive(socket)
        await done(api, "updateRole", id=role["id"], expectedVersion=role["version"], permissions=["READ"])
        changed = clock.monotonic()
        assert await close_code(socket) == 4403
        assert clock.monotonic() - changed < 1.5


async def test_a_token_that_expires_ends_the_connection(live: Live) -> None:
    async with live.api.acme.rows.write() as transaction:
        await transaction.session.execute(text("UPDATE api_token SET expires_at = now() + interval '1 second'"))
    live.api.services.authenticator._seen.clear()
    async with dial(live) as socket:
        await introduce(socket, live)
        started = clock.monotonic()
        assert await close_code(socket) == 4403
        assert clock.monotonic() - started < 3


async def test_every_operation_has_a_context_of_its_own(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Context] = []
    make = Services.context

    def remember(*given: Any, **named: Any) -> Context:
        seen.append(make(*given, **named))
        return seen[-1]

    monkeypatch.setattr(Services, "context", remember)
    async with dial(live) as socket:
        await introduce(socket, live)
        for number in ("1", "2"):
            await subscribe(socket, VIEWER, name=number)
            await receive(socket)
            await receive(socket)
    one, two = seen
    assert one.request_id != two.request_id
    assert one.loaders is not two.loaders


async def test_a_bug_of_ours_ends_the_operation_and_not_the_connection(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        message = "secret detail"
        raise ZeroDivisionError(message)

    job = await live.job()
    async with dial(live) as socket:
        await introduce(socket, live)
        monkeypatch.setattr("schema.subscriptions.events.event_of", broken)
        await subscribe(socket, JOB, {"id": job_id(job)})
        await receive(socket)
        await live.api.acme.rows.events(Stream.JOB, job.id, progressed(job, 1))
        failed = await receive(socket)
        assert failed["payload"]["errors"][0]["message"] == "Internal error"
        assert "secret" not in json.dumps(failed)
        assert await receive(socket) == {"type": "complete", "id": "1"}
        await subscribe(socket, VIEWER)
        assert (await receive(socket))["type"] == "next"


async def test_an_answer_that_comes_after_the_end_of_its_connection_is_no_fault_of_ours(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(*_: object) -> Any:
        async def results() -> AsyncIterator[ExecutionResult]:
            yield ExecutionResult(data={}, errors=None)

        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return results()

    monkeypatch.setattr(LiveOperation, "_results", late)
    with structlog.testing.capture_logs() as said:
        async with dial(live) as socket:
            await introduce(socket, live)
            await subscribe(socket, VIEWER)
            await send(socket, type="ping")
            assert await receive(socket) == {"type": "pong"}
            await send(socket, type="connection_init", payload={"token": live.api.acme.token})
            assert await close_code(socket) == 4429
        async with dial(live) as socket:
            await introduce(socket, live)
    assert said == []


async def test_a_client_that_goes_before_it_is_answered_is_no_fault_of_ours(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody_there(*_: object) -> None:
        raise WebSocketDisconnected

    monkeypatch.setattr(live_protocol.LiveTransportHandler, "handle_ping", nobody_there)
    with structlog.testing.capture_logs() as said:
        async with dial(live) as socket:
            await introduce(socket, live)
            await send(socket, type="ping")
            await close_code(socket)
    assert said == []
