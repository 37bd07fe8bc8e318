"""The address under which the world outside fires a plan: made by a mutation, called over HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import text

from app.db import models
from app.domain.hooks import Call
from app.engine.ticking import tick
from app.services import hooks
from app.services.plans import triggering
from app.services.plans.firing import DuePlan
from app.web.hooks import MAX_BODY
from schema.nodes import decode_id, encode_id
from tests.schema.conftest import Access, Api
from tests.schema.test_mutations import WAIT
from tests.schema.verbs import Contents, done, refused, send

HOOK: dict[str, Any] = {"triggers": [{"on": "WEBHOOK"}]}
UNKNOWN = {"error": "there is no such hook"}


async def standing(api: Api, access: Access | None = None, /, **automation: Any) -> str:
    """A plan that waits to be called; its id."""
    flow = await done(api, "createWorkflow", access, name="w", type="CUSTOM", definition={"steps": [WAIT]})
    made = await done(
        api, "createPlan", access, name="p", type="AUTOMATED", workflowId=flow["workflow"]["id"],
        configuration={"automation": {**HOOK, **automation}},
    )  # fmt: skip
    assert made["plan"]["status"] == "WAITING"
    return str(made["plan"]["id"])


async def address(api: Api, plan_id: str, access: Access | None = None, /, **more: Any) -> dict[str, Any]:
    return await done(api, "rotatePlanHook", access, planId=plan_id, **more)


async def call(api: Api, path: str, body: Any = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return await api.client.post(path, content=content, headers={"content-type": "application/json", **named})


def signed(secret: str, body: bytes, call_id: str = "msg_1", at: float | None = None) -> dict[str, str]:
    """The headers as a caller makes them that has never seen our code."""
    timestamp = str(int(time.time() if at is None else at))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{call_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook_id": call_id,
        "webhook_timestamp": timestamp,
        "webhook_signature": "v1," + base64.b64encode(digest).decode(),
    }


async def heard(access: Access) -> list[tuple[str, Any]]:
    """(key, payload) of all calls that were taken."""
    async with access.rows.write() as transaction:
        rows = await transaction.session.execute(text("SELECT key, payload FROM plan_trigger ORDER BY id"))
        return [tuple(row) for row in rows]


async def fire(api: Api) -> None:
    """What a scheduler process does in a round or two."""
    for _ in range(2):
        ticked = await tick(api.services.database, ring_again_seconds=10)
        for tenant_id, plan_id in ticked.heard_plans:
            context = api.services.context(api.acme.principal, "test")
            await triggering.fire(api.services.database, DuePlan(tenant_id, plan_id), context.dependencies)


async def test_a_call_makes_a_run_with_what_it_brings(api: Api) -> None:
    content = {
        "parameters": {"type": "object", "properties": {
            "tag": {"type": "string", "default": "none"},
            "secret": {"type": "string", "writeOnly": True, "default": "x"},
        }},
        "resources": {"a": {"type": "core.note", "properties": {"name": "a", "text": "${parameters.tag}"}}},
    }  # fmt: skip
    made = await done(api, "createResourceTemplate", name="t", type="CUSTOM", content=content)
    published = await done(api, "publishResourceTemplate", id=made["resourceTemplate"]["id"], expectedVersion=1)
    mapping = {"tag": "${trigger.payload.release.tag}", "secret": "${trigger.payload.key}"}
    plan = await done(
        api, "createPlan", name="p", type="AUTOMATED", templateRevisionId=published["revision"]["id"],
        configuration={"automation": {**HOOK, "parameters": mapping}},
    )  # fmt: skip
    hook = await address(api, plan["plan"]["id"])
    assert (hook["path"][:11], hook["signingSecret"], hook["plan"]["id"]) == ("/hooks/wlh_", None, plan["plan"]["id"])
    answer = await call(api, hook["path"], {"release": {"tag": "v7"}, "key": "canary"})
    assert (answer.status_code, answer.headers["cache-control"]) == (202, "no-store")
    assert [key for key, _ in await heard(api.acme)] == [answer.json()["id"]]
    await fire(api)
    spawned = await api.data(
        "query($id: ID!) { deploymentPlan(id: $id) { spawnedPlans { nodes { type status parameters } } } }",
        {"id": plan["plan"]["id"]},
    )
    (child,) = spawned["deploymentPlan"]["spawnedPlans"]["nodes"]
    assert (child["type"], child["parameters"]) == ("IMMEDIATE", {"tag": "v7", "secret": {"$sensitive": True}})
    assert [payload for _, payload in await heard(api.acme)] == [None]
    async with api.acme.rows.write() as transaction:
        kept = await transaction.session.scalar(
            text("SELECT count(*) FROM deployment_plan p WHERE to_jsonb(p)::text LIKE '%canary%'")
        )
    assert kept == 0


async def test_an_id_is_taken_once(api: Api) -> None:
    hook = await address(api, await standing(api))
    answers = await asyncio.gather(*(call(api, hook["path"], {"n": n}, webhook_id="msg_1") for n in range(4)))
    assert [(answer.status_code, answer.json()) for answer in answers] == [(202, {"id": "msg_1"})] * 4
    assert len(await heard(api.acme)) == 1
    await fire(api)
    assert (await call(api, hook["path"], webhook_id="msg_1")).status_code == 202
    assert (await call(api, hook["path"], webhook_id="msg_2")).json() == {"id": "msg_2"}
    assert [key for key, _ in await heard(api.acme)] == ["msg_1", "msg_2"]
    assert (await call(api, hook["path"], webhook_id="a b")).status_code == 400


async def test_a_hook_whose_calls_are_signed(api: Api) -> None:
    hook = await address(api, await standing(api), signed=True)
    secret, body = hook["signingSecret"], b'{"a": 1}'
    assert secret.startswith("whsec_")
    wrong = [
        {},
        {**signed(secret, body), "webhook_signature": "v1,AAAA"},
        signed("whsec_" + base64.b64encode(bytes(32)).decode(), body),
        signed(secret, b'{"a": 2}'),
        signed(secret, body, at=time.time() - 301),
        signed(secret, body, at=time.time() + 302),
        {**signed(secret, body), "webhook_id": "msg_2"},
    ]
    for headers in wrong:
        answer = await call(api, hook["path"], body, **headers)
        assert (answer.status_code, list(answer.json())) == (401, ["error"]), headers
    assert await heard(api.acme) == []
    assert (await call(api, hook["path"], body, **signed(secret, body))).status_code == 202
    assert await heard(api.acme) == [("msg_1", {"a": 1})]
    async with api.acme.rows.write() as transaction:
        stored = await transaction.session.scalar(text("SELECT to_jsonb(h)::text FROM plan_hook h"))
    assert stored is not None
    assert secret not in stored
    assert hook["path"].removeprefix("/hooks/") not in stored


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b" " * (MAX_BODY + 1), {}, 413),
        (b"{", {}, 400),
        (b'{"a": {"$sealed": "x"}}', {}, 400),
        (b'{"a": "\\u0000"}', {}, 400),
        (b"[" * 300 + b"]" * 300, {}, 400),
        (b"a=1", {"content_type": "application/x-www-form-urlencoded"}, 415),
    ],
)
async def test_what_cannot_be_taken(api: Api, body: bytes, headers: dict[str, str], status: int) -> None:
    hook = await address(api, await standing(api))
    answer = await call(api, hook["path"], body, **headers)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert await heard(api.acme) == []


async def test_a_body_may_be_as_large_as_is_said_and_may_be_missing(api: Api) -> None:
    hook = await address(api, await standing(api))
    largest = orjson.dumps("x" * (MAX_BODY - 2))
    assert [(await call(api, hook["path"], body)).status_code for body in (largest, b"")] == [202, 202]


async def test_all_that_is_wrong_with_a_token_is_told_alike(api: Api, database_url: str) -> None:
    plan_id = await standing(api)
    old = await address(api, plan_id)
    new = await address(api, plan_id)
    good = new["path"]
    last = "A" if good[-1] != "A" else "B"
    before = await Contents.of(database_url)
    told = set()
    for path in (
        old["path"],
        good[:-1] + last,
        good[:-1],
        "/hooks/x",
        "/hooks/" + "x" * 5000,
        "/hooks/%00",
        "/hooks/é",
    ):
        answer = await call(api, path, b"not JSON at all", x_request_id="same")
        assert (answer.status_code, answer.json()) == (404, UNKNOWN)
        told.add(tuple(answer.headers.items()))
    assert len(told) == 1
    assert await Contents.of(database_url) == before
    assert (await api.client.get(good)).status_code == 405
    assert (await call(api, good)).status_code == 202


async def test_a_token_that_is_renewed_while_it_is_used_is_of_no_use(api: Api) -> None:
    plan_id = await standing(api)
    hook, services = await address(api, plan_id), api.services
    found = await hooks.locate(services.database, hook["path"].removeprefix("/hooks/"))
    await address(api, plan_id)
    with pytest.raises(hooks.UnknownHook):
        await hooks.deliver(services.database, services.sealer, found, Call(b"", None), "test")
    assert await heard(api.acme) == []


async def test_a_hook_is_called_no_more_often_than_its_plan_may_fire(api: Api) -> None:
    hook = await address(api, await standing(api, rate={"count": 2, "per": "PT1M"}))
    answers = await asyncio.gather(*(call(api, hook["path"]) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [202, 202, 429, 429, 429]
    late = next(answer for answer in answers if answer.status_code == 429)
    assert 1 <= int(late.headers["retry-after"]) <= 60
    async with api.acme.rows.write() as transaction:
        await transaction.session.execute(text("UPDATE plan_trigger SET created_at = created_at - interval '1 minute'"))
    assert (await call(api, hook["path"])).status_code == 202


async def test_a_plan_that_does_not_wait_cannot_be_called(api: Api) -> None:
    plan_id = await standing(api)
    hook = await address(api, plan_id)
    assert (await done(api, "pausePlan", planId=plan_id))["plan"]["status"] == "PAUSED"
    assert (await call(api, hook["path"])).status_code == 202, "that it is paused is the plan's to say"
    await fire(api)
    await done(api, "resumePlan", planId=plan_id)
    await done(api, "cancelPlan", planId=plan_id)
    assert (await call(api, hook["path"])).status_code == 409


async def test_one_tenants_hook_fires_nothing_of_anothers(api: Api) -> None:
    theirs, ours = await standing(api, api.rival), await standing(api)
    hook = await address(api, theirs, api.rival)
    assert (await call(api, hook["path"], {"a": 1})).status_code == 202
    assert (await heard(api.acme), len(await heard(api.rival))) == ([], 1)
    (error,) = await refused(api, "rotatePlanHook", planId=theirs)
    assert (error["code"], error["path"]) == ("NOT_FOUND", ["planId"])
    assert ours != theirs


async def test_a_replayed_key_shows_no_address(api: Api) -> None:
    plan_id = await standing(api)
    given = {"idempotencyKey": "k", "planId": plan_id, "signed": True}
    first, second = await send(api, "rotatePlanHook", given), await send(api, "rotatePlanHook", given)
    assert (second["replayed"], second["path"], second["signingSecret"]) == (True, None, None)
    assert (await call(api, first["path"])).status_code == 401, "and nothing was renewed"


async def test_only_a_plan_that_listens_to_calls_has_a_hook(api: Api) -> None:
    deaf = await standing(api, triggers=[{"on": "DRIFT"}])
    other = await api.acme.rows.plan("other")
    for plan_id in (deaf, encode_id("DeploymentPlan", other.id)):
        (error,) = await refused(api, "rotatePlanHook", planId=plan_id)
        assert (error["__typename"], error["path"]) == ("IllegalStateError", ["planId"])
    async with api.acme.rows.write() as transaction:
        plan = await transaction.session.get_one(models.DeploymentPlan, decode_id(deaf)[1])
        assert plan.status == "WAITING"
