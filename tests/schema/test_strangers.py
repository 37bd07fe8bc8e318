"""What a stranger found who walked through the features with the documentation only: each was a fault of ours once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from app.domain.enums import PlanType
from schema.nodes import decode_id
from tests.schema.conftest import Api
from tests.schema.test_hooks import address, call, standing
from tests.schema.test_mutations import WAIT
from tests.schema.verbs import done, refused, send

TAKEN_UP = "query($id: ID!) { deploymentPlan(id: $id) { status lastJob { id } } }"


@pytest.mark.parametrize("size", [True, False, 1.5, "5"])
async def test_a_page_size_that_is_no_number_is_refused_like_any_wrong_variable(api: Api, size: Any) -> None:
    query = "query($n: Int!) { deploymentPlans(first: $n) { nodes { id } } }"
    answer = await api.ask(query, {"n": size})
    (error,) = answer["errors"]
    assert (error["extensions"]["code"], "Int cannot represent" in error["message"]) == (
        "GRAPHQL_VALIDATION_FAILED",
        True,
    )


@pytest.mark.parametrize("name", ["nowhere", "${", "🦄", "x" * 1000])
async def test_an_import_by_a_connection_that_is_not_there_is_refused(api: Api, name: str) -> None:
    given = {"type": "core.note", "provider": "core", "externalId": "a", "name": "a", "connection": name}
    (error,) = await refused(api, "importResource", **given)
    assert (error["code"], error["path"]) == ("NOT_FOUND", ["connection"])


async def _cancelled(api: Api, plan_id: str) -> None:
    plan = (await done(api, "cancelPlan", planId=plan_id))["plan"]
    assert (plan["status"], plan["lastJob"]) == ("CANCELLED", None)


@pytest.mark.parametrize(
    ("kind", "more", "status"),
    [
        (PlanType.MANUAL, {}, "READY"),
        (PlanType.CONDITIONAL, {"condition": {"when": "${signals.go.received}"}}, "WAITING"),
        (PlanType.SCHEDULED, {"schedule": {"recurrence": "0 3 * * *", "timeZone": "UTC"}}, "SCHEDULED"),
    ],
)
async def test_what_was_cancelled_before_it_ran_is_taken_up_as_if_it_was_new(
    api: Api, kind: PlanType, more: dict[str, Any], status: str
) -> None:
    workflow = (await done(api, "createWorkflow", name="w", type="CUSTOM", definition={"steps": [WAIT]}))["workflow"]
    given = {"name": "p", "type": kind.value, "workflowId": workflow["id"], **more}
    plan_id = (await done(api, "createPlan", **given))["plan"]["id"]
    await _cancelled(api, plan_id)
    answer = await done(api, "retryPlan", planId=plan_id, mode="RESTART")
    assert answer["job"] is None
    plan = (await api.data(TAKEN_UP, {"id": plan_id}))["deploymentPlan"]
    assert (plan["status"], plan["lastJob"]) == (status, None)


async def test_a_standing_plan_that_is_taken_up_listens_and_does_not_run(api: Api) -> None:
    plan_id = await standing(api)
    await _cancelled(api, plan_id)
    assert (await send(api, "retryPlan", {"planId": plan_id, "mode": "RESTART"}))["userErrors"] == []
    plan = (await api.data(TAKEN_UP, {"id": plan_id}))["deploymentPlan"]
    assert (plan["status"], plan["lastJob"]) == ("WAITING", None)


async def test_a_call_of_a_hook_does_not_wait_for_who_renews_the_hook_and_waits_for_the_call(api: Api) -> None:
    plan_id = await standing(api)
    await address(api, plan_id)
    number = {"plan": decode_id(plan_id)[1]}
    async with api.acme.rows.write() as calling:
        await calling.session.execute(text("SELECT 1 FROM plan_hook WHERE plan_id = :plan FOR UPDATE"), number)
        renewing = asyncio.create_task(address(api, plan_id))
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        async with asyncio.timeout(10):
            while not await calling.session.scalar(waiting):  # noqa: ASYNC110  the server has no bell for it
                await asyncio.sleep(0.02)
        await calling.session.execute(text("SET LOCAL lock_timeout = '2s'"))
        await calling.session.execute(
            text(
                "INSERT INTO plan_trigger (tenant_id, plan_id, kind, key, chain, cause)"
                " SELECT tenant_id, id, 'WEBHOOK', 'k', '{}', '{}' FROM deployment_plan WHERE id = :plan"
            ),
            number,
        )
    assert (await renewing)["path"]


async def test_a_hook_is_called_paused_resumed_and_renewed_at_once_without_a_fault_of_ours(api: Api) -> None:
    plan_id = await standing(api)
    paths = [(await address(api, plan_id))["path"]]

    async def renew() -> None:
        paths.append((await address(api, plan_id))["path"])

    for _ in range(3):
        steering = [send(api, name, {"planId": plan_id}) for name in ("pausePlan", "resumePlan") for _ in range(3)]
        called, steered, _ = await asyncio.gather(
            asyncio.gather(*(call(api, paths[-1], {}) for _ in range(4))),
            asyncio.gather(*steering),
            asyncio.gather(*(renew() for _ in range(3))),
        )
        assert {answer.status_code for answer in called} <= {202, 404}
        codes = {error["code"] for answer in steered for error in answer["userErrors"]}
        assert codes <= {"ILLEGAL_STATE"}


async def test_a_hook_that_was_taken_away_is_of_no_use(api: Api) -> None:
    plan_id = await standing(api)
    (error,) = await refused(api, "revokePlanHook", planId=plan_id)
    assert (error["code"], error["path"]) == ("NOT_FOUND", ["planId"])
    old = (await address(api, plan_id))["path"]
    assert (await done(api, "revokePlanHook", planId=plan_id))["plan"]["id"] == plan_id
    assert (await call(api, old, {})).status_code == 404
    new = (await address(api, plan_id))["path"]
    assert [(await call(api, path, {})).status_code for path in (old, new)] == [404, 202]
