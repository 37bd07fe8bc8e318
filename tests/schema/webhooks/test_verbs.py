"""What people may do with webhooks, and what is refused, where it was wrong."""

from __future__ import annotations

from typing import Any

import pytest

from app.db.feed import Position
from app.services import webhooks
from tests.factories.databases import fetch
from tests.schema.conftest import Access, Api
from tests.schema.verbs import done, refused, send
from tests.schema.webhooks.conftest import Desk
from tests.schema.webhooks.receiver import Answer

URL = "https://hooks.example/windlass"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://hooks.example/", "the URL begins with https://"),
        ("https://hooks.example:8443/", "https is spoken on port 443"),
        ("ftp://hooks.example/", "this is no URL of a web server"),
        ("hooks.example", "this is no URL of a web server"),
        ("https://user:password@hooks.example/", "the URL holds a user or a fragment, which are not sent"),
        ("https://hooks.example/#a", "the URL holds a user or a fragment, which are not sent"),
        ("https://10.0.0.1/", "10.0.0.1 is not an address of the public internet"),
        ("https://[::1]/", "::1 is not an address of the public internet"),
        ("https://169.254.169.254/latest", "169.254.169.254 is an address of the cloud's own services"),
        (f"https://hooks.example/{'x' * 2000}", "a URL has at most 2000 characters"),
        ("https://exa mple/", "this is no URL of a web server"),
        ("", "this is no URL of a web server"),
    ],
)
async def test_a_url_that_may_not_be_reached_is_refused(api: Api, url: str, told: str) -> None:
    (error,) = await refused(api, "createWebhook", name="h", url=url)
    assert (error["__typename"], error["path"], error["message"]) == ("ValidationError", ["url"], told)


async def test_all_faults_are_named_at_once_and_where_they_are(api: Api) -> None:
    selection = "{ id\n  ... on JobStatusChanged { jobStatu }\n  nix }"
    errors = await refused(
        api, "createWebhook", name=" ", url="http://a", types=["JobStatusChanged", "JobStatus"], selection=selection
    )
    assert {tuple(error["path"]): error["code"] for error in errors} == {
        ("name",): "REQUIRED",
        ("url",): "INVALID",
        ("types", "1"): "UNKNOWN_REFERENCE",
        ("selection", "2", "29"): "INVALID",
        ("selection", "3", "3"): "INVALID",
    }
    assert "did you mean 'JobStatusChanged'" in next(e["message"] for e in errors if e["path"][0] == "types")


@pytest.mark.parametrize(
    ("selection", "path"),
    [
        ("{", ["selection", "1", "2"]),
        ("{ id } { seq }", ["selection", "1", "1"]),
        ("mutation { deletePlan }", ["selection", "1", "1"]),
        ("query($a: Int) { id }", ["selection", "1", "1"]),
        ("{ __schema { types { name } } }", ["selection", "1", "3"]),
        ("{ a: id " + " ".join(f"a{n}: id" for n in range(40)) + " }", ["selection"]),
        ("{ id " + "# x\n" * 4000 + "}", ["selection"]),
    ],
)
async def test_a_selection_that_could_not_be_answered_is_refused(api: Api, selection: str, path: list[str]) -> None:
    (error,) = await refused(api, "createWebhook", name="h", url=URL, selection=selection)
    assert (error["__typename"], error["path"]) == ("ValidationError", path)


async def test_the_secret_is_shown_once(api: Api, database_url: str) -> None:
    given = {"idempotencyKey": "k", "name": "h", "url": URL}
    first, again = await send(api, "createWebhook", given), await send(api, "createWebhook", given)
    assert first["secret"].startswith("whsec_")
    assert (again["replayed"], again["secret"], again["webhook"]["id"]) == (True, None, first["webhook"]["id"])
    (row,) = await fetch(database_url, "SELECT webhook_endpoint::text AS all FROM webhook_endpoint")
    assert first["secret"].removeprefix("whsec_") not in row["all"]
    await done(api, "deleteWebhook", id=first["webhook"]["id"])
    (row,) = await fetch(database_url, "SELECT secret, is_deleted FROM webhook_endpoint")
    assert (row["secret"], row["is_deleted"]) == ("{}", True)


async def test_a_webhook_is_changed_by_who_knows_its_version(api: Api) -> None:
    made = (await done(api, "createWebhook", name="h", url=URL, types=["JobStatusChanged"], selection="{ id }"))[
        "webhook"
    ]
    assert (made["types"], made["selection"], made["status"]) == (["JobStatusChanged"], "{ id }", "ACTIVE")
    given = {"id": made["id"], "expectedVersion": made["version"]}
    changed = (await done(api, "updateWebhook", **given, name="i", url=f"{URL}/2", types=[], selection=""))["webhook"]
    assert (changed["name"], changed["url"], changed["types"], changed["selection"]) == ("i", f"{URL}/2", [], None)
    (error,) = await refused(api, "updateWebhook", **given, name="j")
    assert error["code"] == "STALE_VERSION"
    given["expectedVersion"] = changed["version"]
    (error,) = await refused(api, "updateWebhook", **given, selection="{ nix }")
    assert error["path"] == ["selection", "1", "3"]
    paused = (await done(api, "updateWebhook", **given, paused=True))["webhook"]
    assert (paused["status"], paused["statusReason"]) == ("PAUSED", "USER")


async def test_a_name_is_taken_once_and_webhooks_are_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "ENDPOINT_LIMIT", 2)
    first = (await done(api, "createWebhook", name="h", url=URL))["webhook"]
    (error,) = await refused(api, "createWebhook", name="h", url=URL)
    assert (error["code"], error["path"]) == ("CONFLICT", ["name"])
    await done(api, "createWebhook", name="i", url=URL)
    (error,) = await refused(api, "createWebhook", name="j", url=URL)
    assert error["code"] == "QUOTA_EXCEEDED"
    await done(api, "createWebhook", api.rival, name="h", url=URL)
    await done(api, "deleteWebhook", id=first["id"])
    await done(api, "createWebhook", name="h", url=URL)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({}, ["after"]),
        ({"after": "x"}, ["after"]),
        ({"after": Position(1, "x" * 100, 1, 1).encode()}, ["after"]),
        ({"after": Position(1, "JOB", 1, 1).encode(), "from": "2026-01-31T08:00:00Z"}, ["after"]),
    ],
)
async def test_a_replay_names_one_place(api: Api, given: dict[str, Any], path: list[str]) -> None:
    made = (await done(api, "createWebhook", name="h", url=URL))["webhook"]
    (error,) = await refused(api, "replayWebhook", id=made["id"], **given)
    assert error["path"] == path


async def test_an_old_secret_does_not_go_on_for_ever(api: Api) -> None:
    made = (await done(api, "createWebhook", name="h", url=URL))["webhook"]
    (error,) = await refused(api, "rotateWebhookSecret", id=made["id"], grace="PT169H")
    assert (error["path"], error["message"]) == (["grace"], "the old secret goes on for at most 7 days")
    await done(api, "rotateWebhookSecret", id=made["id"], grace="PT0S")


async def test_what_is_asked_for_is_bounded_and_waited_for(desk: Desk) -> None:
    hook = await desk.create()
    made = [await done(desk.api, "testWebhook", id=hook.id) for _ in range(20)]
    (error,) = await refused(desk.api, "testWebhook", id=hook.id)
    assert error["code"] == "QUOTA_EXCEEDED"
    (error,) = await refused(desk.api, "redeliverWebhook", deliveryId=made[0]["delivery"]["id"])
    assert (error["__typename"], error["path"]) == ("IllegalStateError", ["deliveryId"])
    await desk.arrive(20)
    await done(desk.api, "redeliverWebhook", deliveryId=made[0]["delivery"]["id"])
    await desk.arrive(21)
    assert desk.receiver.received[20].id == made[0]["delivery"]["messageId"]


async def _member(api: Api, role: str) -> Access:
    user = (await done(api, "createUser", email=f"{role}@acme.example", displayName=role, role=role))["user"]
    text = (await done(api, "createApiToken", name="t", userId=user["id"]))["text"]
    return Access(api.acme.tenant_id, api.acme.slug, text, api.acme.principal, api.acme.rows)


async def test_others_see_the_server_and_not_the_path_nor_what_was_answered(desk: Desk) -> None:
    hook = await desk.create()
    desk.receiver.script.append(Answer(500, b"inside"))
    await desk.happen(await desk.job())
    await desk.arrive(1)
    mine = await desk.look(hook)
    assert (mine["url"], mine["deliveries"][0]["answer"]) == (desk.receiver.url, "inside")
    operator = await _member(desk.api, "OPERATOR")
    theirs = await desk.look(hook, operator)
    assert theirs["url"] == f"http://127.0.0.1:{desk.receiver.port}/…"
    assert theirs["deliveries"][0]["answer"] is None
    assert theirs["deliveries"][0]["error"] == "the receiver answered 500"
    await done(desk.api, "testWebhook", operator, id=hook.id)
    (error,) = await refused(desk.api, "deleteWebhook", operator, id=hook.id)
    assert error["required"] == "ADMIN"


async def test_webhooks_and_their_deliveries_come_in_pages(desk: Desk) -> None:
    job, hook = await desk.job(), await desk.create()
    quiet = await desk.create()
    seen = await desk.look(quiet)
    await done(desk.api, "updateWebhook", id=quiet.id, expectedVersion=seen["version"], paused=True)
    listed = (
        "query($status: [WebhookStatus!]) { webhooks(filter: {status: $status}) { nodes { id } totalCount { value } } }"
    )
    both = (await desk.api.data(listed))["webhooks"]
    assert ([node["id"] for node in both["nodes"]], both["totalCount"]["value"]) == ([quiet.id, hook.id], 2)
    paused = (await desk.api.data(listed, {"status": ["PAUSED"]}))["webhooks"]
    assert [node["id"] for node in paused["nodes"]] == [quiet.id]
    desk.receiver.script.extend([Answer(), Answer(500)])
    await desk.happen(job, 5)
    deliverer = desk.deliverer()
    await desk.arrive(2, deliverer)
    await desk.due_now()
    await desk.arrive(6, deliverer)
    text = """query($id: ID!, $after: Cursor, $status: [DeliveryStatus!]) { webhook(id: $id) {
      deliveries(first: 4, after: $after, status: $status) { nodes { cursor status webhook { id } }
        pageInfo { endCursor hasNextPage } } } }"""
    first = (await desk.api.data(text, {"id": hook.id}))["webhook"]["deliveries"]
    after = first["pageInfo"]["endCursor"]
    second = (await desk.api.data(text, {"id": hook.id, "after": after}))["webhook"]["deliveries"]
    assert (first["pageInfo"]["hasNextPage"], second["pageInfo"]["hasNextPage"]) == (True, False)
    seqs = [Position.decode(node["cursor"]).seq for node in first["nodes"] + second["nodes"]]
    assert seqs == [5, 4, 3, 2, 2, 1]
    failed = (await desk.api.data(text, {"id": hook.id, "status": ["FAILED"]}))["webhook"]["deliveries"]["nodes"]
    assert [(node["status"], node["webhook"]["id"]) for node in failed] == [("FAILED", hook.id)]
