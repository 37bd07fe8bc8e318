"""The provider `http` against a real server that throttles, takes its time, and loses answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from app.domain.addresses import Allowed
from app.domain.enums import ChangeAction
from app.domain.values import Secret
from app.egress import Egress
from app.providers.base import ErrorKind, JsonObject, Pending, ProviderError, ResourceState
from app.providers.conformance import OWNER, STRANGER, Sample, StandaloneContext, check_resource_type
from app.providers.http.api import Api
from app.providers.http.provider import HttpProvider
from app.providers.http.resource import HttpResourceType
from app.providers.http.tasks import RequestTask, WebhookTask
from app.providers.http.templates import filled_path
from tests.providers.restful import Restful, serving

TYPE = HttpResourceType()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LOOKUP = {"path": "/records?name={fields.name}", "found": "/items/0"}
DECLARED: JsonObject = {
    "path": "/records",
    "fields": {"name": "one", "size": 3},
    "secretFields": {"password": "wordpass"},
    "mark": "managed",
    "lookup": LOOKUP,
    "outputs": {"address": "/address"},
    "replaceOn": ["name"],
}
PROGRESS = {"status": "/state", "done": ["done"], "failed": ["failed"], "message": "/reason", "identity": "/record"}
Make = Callable[..., StandaloneContext]


@pytest.fixture
async def server() -> AsyncIterator[Restful]:
    async with serving() as restful:
        yield restful


@pytest.fixture
async def make(server: Restful, tmp_path: Path) -> AsyncIterator[Make]:
    """Contexts with a session on the server; `config` is said beside its address."""
    provider = HttpProvider(Egress(Allowed.parse(["127.0.0.1"])))
    config = {"baseUrl": server.url, "headers": {"authorization": "Bearer abc"}, "idempotencyKeys": True}
    async with provider.session(config) as keyed, provider.session({**config, "idempotencyKeys": False}) as plain:

        def context(operation: str = "op", owner: str = OWNER, *, keys: bool = True) -> StandaloneContext:
            return StandaloneContext(operation, owner, keyed if keys else plain, tmp_path)

        yield context


def declared(**more: Any) -> JsonObject:
    properties, faults = TYPE.check({**DECLARED, **more})
    assert faults == []
    return {**properties, "secretFields": DECLARED["secretFields"]}


async def created(make: Make, **more: Any) -> ResourceState:
    made = await TYPE.create(make(), declared(**more))
    assert isinstance(made, ResourceState)
    return made


async def refused(attempt: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await attempt
    return caught.value


async def test_a_resource_conforms(make: Make) -> None:
    sample = Sample(
        properties=DECLARED,
        updated={**DECLARED, "fields": {"name": "one", "size": 5, "tags": ["a"]}},
        replaced={**DECLARED, "fields": {"name": "two", "size": 3}},
        invalid=({}, {"path": "records"}, {"path": "/a", "create": {"path": "/a/{id}"}}, {"path": "/a", "colour": 1}),
    )
    checks = await check_resource_type(TYPE, make, sample)
    assert [(check.name, check.detail) for check in checks if not check.passed] == []


async def test_what_is_created_has_its_outputs_and_no_secret_is_read_back(make: Make, server: Restful) -> None:
    state = await created(make)
    assert (state.id, state.outputs) == ("1", {"address": "10.1.2.3", "identity": "1"})
    assert server.records["1"] == {
        "id": 1, "name": "one", "size": 3, "address": "10.1.2.3", "managed": f"{OWNER}#op",
    }  # fmt: skip
    method, path, headers, body = server.seen[0]
    assert (method, path, json.loads(body)["password"]) == ("POST", "/records", "wordpass")
    assert (headers["idempotency-key"], headers["authorization"]) == ("op", "Bearer abc")
    checked, _ = TYPE.check(DECLARED)
    assert checked["secretFields"] == Secret({"password": "wordpass"})
    assert TYPE.compare(state.properties, checked).action is ChangeAction.NO_CHANGE


async def test_somebody_elses_change_is_seen_and_put_back(make: Make, server: Restful) -> None:
    state = await created(make)
    server.records["1"]["size"] = 9
    live = await TYPE.read(make("look"), state)
    assert live is not None
    back = TYPE.compare(live.properties, state.properties)
    assert back.action is ChangeAction.UPDATE
    assert back.paths == {("fields", "size")}
    await TYPE.update(make("back"), live, state.properties, back)
    assert (server.records["1"]["size"], server.records["1"]["managed"]) == (3, f"{OWNER}#op")


async def test_a_lost_answer_leaves_the_outcome_unknown_and_one_record(make: Make, server: Restful) -> None:
    for accident, lookup in (("LOSE", LOOKUP), ("LOSE", {})):
        server.records.clear()
        server.accidents.extend(["THROTTLE", accident])
        operation = f"op-{bool(lookup)}"
        properties = declared(lookup=lookup) if lookup else {k: v for k, v in declared().items() if k != "lookup"}
        throttled = await refused(TYPE.create(make(operation), properties))
        assert (throttled.kind, throttled.retry_after_seconds) == (ErrorKind.THROTTLED, 7)
        assert (await refused(TYPE.create(make(operation), properties))).kind is ErrorKind.OUTCOME_UNKNOWN
        found = await TYPE.recover(make(operation), properties)
        assert isinstance(found, ResourceState)
        assert list(server.records) == [found.id]


async def test_a_request_that_never_came_is_made_by_nobody(make: Make, server: Restful) -> None:
    server.accidents.append("BROKEN")
    assert (await refused(TYPE.create(make(), declared()))).kind is ErrorKind.OUTCOME_UNKNOWN
    assert await TYPE.recover(make(), declared()) is None
    assert server.records == {}


async def test_without_lookup_and_keys_nobody_can_tell(make: Make, server: Restful) -> None:
    properties = {name: value for name, value in declared().items() if name != "lookup"}
    server.accidents.append("LOSE")
    context = make(keys=False)
    assert (await refused(TYPE.create(context, properties))).kind is ErrorKind.OUTCOME_UNKNOWN
    assert (await refused(TYPE.recover(context, properties))).kind is ErrorKind.OUTCOME_UNKNOWN
    assert len(server.writes) == 1


async def test_a_lookup_without_a_mark_takes_nothing_for_its_own(make: Make) -> None:
    await created(make)
    properties = {name: value for name, value in declared().items() if name != "mark"}
    assert (await refused(TYPE.recover(make("other"), properties))).kind is ErrorKind.OUTCOME_UNKNOWN
    exact = {**properties, "lookup": {**LOOKUP, "path": "/records?name={fields.name}&by={operation}"}}
    found = await TYPE.recover(make("other"), exact)
    assert found is not None


async def test_a_hanging_server_is_not_waited_for(server: Restful, tmp_path: Path) -> None:
    server.accidents.append("HANG")
    provider = HttpProvider(Egress(Allowed.parse(["127.0.0.1"])))
    async with provider.session({"baseUrl": server.url, "timeoutSeconds": 0.2, "idempotencyKeys": True}) as api:
        context = StandaloneContext("op", OWNER, api, tmp_path)
        error = await refused(TYPE.create(context, declared()))
        assert (error.kind, "no answer within 0.2 s" in error.message) == (ErrorKind.OUTCOME_UNKNOWN, True)
        assert await TYPE.recover(context, declared()) is not None
    assert len(server.records) == 1


async def test_nobody_there_is_worth_another_try(tmp_path: Path) -> None:
    async with serving() as gone:
        pass
    async with HttpProvider(Egress(Allowed.parse(["127.0.0.1"]))).session({"baseUrl": gone.url}) as api:
        error = await refused(TYPE.create(StandaloneContext("op", OWNER, api, tmp_path), declared()))
    assert error.kind is ErrorKind.UNAVAILABLE


async def test_inner_addresses_are_refused(server: Restful, tmp_path: Path) -> None:
    async with HttpProvider(Egress()).session({"baseUrl": server.url}) as api:
        error = await refused(TYPE.create(StandaloneContext("op", OWNER, api, tmp_path), declared()))
    assert (error.kind, error.code, server.seen) == (ErrorKind.ACCESS_DENIED, "EGRESS_REFUSED", [])


@pytest.mark.parametrize(("accident", "kind"), [("BUSY", ErrorKind.UNAVAILABLE), ("ELSEWHERE", ErrorKind.INVALID)])
async def test_what_goes_wrong_has_its_kind(accident: str, kind: ErrorKind, make: Make, server: Restful) -> None:
    server.accidents.append(accident)
    assert (await refused(TYPE.create(make(), declared()))).kind is kind


async def test_a_refusal_says_what_the_server_says(make: Make) -> None:
    error = await refused(TYPE.create(make(), declared(fields={"name": "big", "size": 101})))
    assert (error.kind, error.code) == (ErrorKind.INVALID, "HTTP_422")
    assert error.message == 'POST /records: the server answered 422: {"error":"too large"}'


async def settled(context: StandaloneContext, outcome: Any) -> Any:
    polls = 0
    while isinstance(outcome, Pending):
        # A handle is kept by the engine as JSON.
        outcome = await TYPE.poll(context, json.loads(json.dumps(outcome.handle)))
        polls += 1
    assert polls == 3
    return outcome


async def test_what_takes_its_time_is_asked_about(make: Make, server: Restful) -> None:
    server.accidents.extend(["LATER"] * 3)
    properties = declared(progress=PROGRESS)
    begun = await TYPE.create(make(), properties)
    assert isinstance(begun, Pending)
    assert (server.records, begun.poll_after_seconds) == ({}, 2.0)
    state: ResourceState = await settled(make(), begun)
    assert (state.properties["fields"], server.records[state.id]["name"]) == (DECLARED["fields"], "one")
    larger = declared(progress=PROGRESS, fields={"name": "one", "size": 4})
    difference = TYPE.compare(state.properties, larger)
    state = await settled(make("two"), await TYPE.update(make("two"), state, larger, difference))
    assert state.properties["fields"]["size"] == 4
    assert await settled(make("three"), await TYPE.delete(make("three"), state)) is None
    assert server.records == {}


async def test_what_fails_later_is_told_with_its_reason(make: Make, server: Restful) -> None:
    server.accidents.append("NEVER")
    error = await refused(settled(make(), await TYPE.create(make(), declared(progress=PROGRESS))))
    assert (error.kind, error.message) == (ErrorKind.NOT_STABILIZED, "the server says failed: no room")


async def test_a_field_may_force_replacement() -> None:
    prior = declared()
    assert TYPE.compare(prior, declared(fields={"name": "two", "size": 3})).action is ChangeAction.REPLACE
    assert TYPE.compare(prior, declared(fields={"name": "one", "size": 4})).action is ChangeAction.UPDATE
    whole = declared(replaceOn=["*"], fields={"name": "one", "size": 4})
    assert TYPE.compare({**prior, "replaceOn": ["*"]}, whole).action is ChangeAction.REPLACE


async def test_a_value_cannot_lead_a_path_elsewhere(make: Make, server: Restful) -> None:
    properties = declared(create={"path": "/records/{fields.name}"}, fields={"name": "a?b=%2e#c", "size": 1})
    await refused(TYPE.create(make(), properties))
    assert server.seen[0][1] == "/records/a%3Fb%3D%252e%23c"
    assert filled_path("/x/{id}/y", {"id": "../z"}) == "/x/..%2Fz/y"
    dots = declared(create={"path": "/records/{fields.name}"}, fields={"name": "..", "size": 1})
    assert (await refused(TYPE.create(make(), dots))).kind is ErrorKind.INVALID
    assert len(server.seen) == 1


async def test_an_existing_record_is_imported_by_its_path(make: Make, server: Restful) -> None:
    server.records["7"] = {"id": 7, "name": "old", "size": 1}
    state = await TYPE.import_(make(), "/records/7")
    assert (state.id, state.properties["path"]) == ("7", "/records")
    assert state.properties["fields"] == {"id": 7, "name": "old", "size": 1}
    assert (await refused(TYPE.import_(make(), "/records/8"))).kind is ErrorKind.NOT_FOUND
    assert (await refused(TYPE.import_(make(), "8"))).kind is ErrorKind.INVALID


async def test_a_stranger_is_kept_out_by_the_mark(make: Make, server: Restful) -> None:
    state = await created(make)
    stranger = make("theirs", STRANGER)
    assert await TYPE.read(stranger, state) is None
    assert await TYPE.delete(stranger, state) is None
    assert list(server.records) == ["1"]


async def test_a_request_gives_outputs_and_is_taken_back_with_them(make: Make, server: Restful) -> None:
    task, context = RequestTask(), make()
    undo = {"method": "DELETE", "path": "/records/{outputs.record}"}
    inputs, faults = task.check({"path": "/records", "body": {"name": "x"}, "outputs": {"record": "/id"}, "undo": undo})
    assert faults == []
    outputs = await task.run(context, inputs)
    assert outputs == {"status": 201, "record": 1}
    assert (task.can_undo(inputs), task.can_undo({"path": "/records"})) == (True, False)
    for _ in range(2):
        await task.undo(context, inputs, outputs)
    assert server.records == {}
    assert {headers["idempotency-key"] for method, _, headers, _ in server.seen if method == "DELETE"} == {"op-undo"}
    assert [task.can_repeat({"method": method}) for method in ("GET", "PUT", "POST")] == [True, True, False]
    assert task.can_repeat({"method": "POST", "repeatable": True})


async def test_a_request_follows_what_takes_its_time(make: Make, server: Restful) -> None:
    inputs, _ = RequestTask().check({"path": "/records", "body": {"name": "x"}, "outputs": {"state": "/state"}})
    server.accidents.append("LATER")
    assert await RequestTask().run(make(), inputs) == {"status": 200, "state": "running"}
    error = await refused(
        RequestTask().run(make("two"), {**inputs, "body": {"name": "y"}, "outputs": {"nothing": "/nothing"}})
    )
    assert (error.kind, error.path) == (ErrorKind.INVALID, ("outputs", "nothing"))


async def test_a_webhook_is_signed_and_known_again(server: Restful, tmp_path: Path) -> None:
    provider = HttpProvider(Egress(Allowed.parse(["127.0.0.1"])))
    task = WebhookTask()
    inputs, faults = task.check({"path": "/records", "type": "a.b", "data": {"name": "n"}, "undo": {"type": "a.c"}})
    assert faults == []
    async with provider.session({"baseUrl": server.url, "signingSecret": SECRET}) as api:
        context = StandaloneContext("op", OWNER, api, tmp_path)
        server.accidents.append("BUSY")
        assert (await refused(task.run(context, inputs))).kind is ErrorKind.UNAVAILABLE
        # The server of these tests takes a message for a record without a name.
        server.records.clear()
        with pytest.raises(ProviderError):
            await task.undo(context, {**inputs, "path": "/records/9"}, {})
    for _, _, headers, body in server.seen:
        Webhook(SECRET).verify(body, headers)
    assert [headers["webhook-id"] for _, _, headers, _ in server.seen] == ["msg_op", "msg_op-undo"]
    assert json.loads(server.seen[0][3]) == {"type": "a.b", "data": {"name": "n"}}
    assert task.can_repeat(inputs)


@pytest.mark.parametrize(
    "config",
    [
        {}, {"baseUrl": "ftp://x"}, {"baseUrl": "https://u:p@x"}, {"baseUrl": "https://x?a"},
        {"baseUrl": "https://x", "headers": {"Host": "y"}}, {"baseUrl": "https://x", "headers": {"a": "b\r\nc: d"}},
        {"baseUrl": "https://x", "signingSecret": "abc"},
    ],
)  # fmt: skip
def test_a_configuration_that_makes_no_sense_is_refused(config: JsonObject) -> None:
    assert HttpProvider(Egress()).check_config(config)[1]


def test_headers_and_secrets_are_sealed() -> None:
    config, faults = HttpProvider(Egress()).check_config(
        {"baseUrl": "https://api.example/v1", "headers": {"Authorization": "x"}, "signingSecret": SECRET}
    )
    assert faults == []
    assert config["headers"] == Secret({"Authorization": "x"})
    assert config["signingSecret"] == Secret(SECRET)


def test_a_place_named_by_the_server_must_be_on_it() -> None:
    api = Api(None, {"baseUrl": "https://api.example/v1"})  # type: ignore[arg-type]
    assert api.local("/v1/operations/1?x=y") == "/v1/operations/1?x=y"
    assert api.local("https://api.example/other") == "/other"
    for elsewhere in ("https://evil.example/", "//evil.example/x", "http://api.example/x", "operations/1"):
        with pytest.raises(ProviderError):
            api.local(elsewhere)
