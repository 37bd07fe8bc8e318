"""Limits as clients see and set them."""

from __future__ import annotations

from app.engine.liveness import Worker
from tests.schema.conftest import Api
from tests.schema.test_mutations import NOTE, revision
from tests.schema.verbs import done, refused

BLOCKED = "query($id: ID!) { deploymentPlan(id: $id) { status blockedBy { reason message queuePosition } } }"
QUOTAS = "{ viewer { tenants { quotas { key limit used } } } }"


async def test_an_administrator_sets_what_the_tenant_may_have_under_way(api: Api) -> None:
    await done(api, "updateTenant", name="Acme", expectedVersion=1, limits={"maxRunningJobs": 3})
    answer = await api.data(QUOTAS)
    (tenant,) = answer["viewer"]["tenants"]
    assert tenant["quotas"] == [
        {"key": "jobs.running", "limit": 3, "used": 0},
        {"key": "jobs.queued", "limit": 1000, "used": 0},
    ]


async def test_an_administrator_bounds_what_there_may_be(api: Api) -> None:
    limits = {"maxResources": 5, "maxPlans": 1}
    await done(api, "updateTenant", name="Acme", expectedVersion=1, limits=limits)
    given = {"name": "p", "type": "MANUAL", "templateRevisionId": await revision(api, NOTE)}
    await done(api, "createPlan", **given, stack="one")
    (tenant,) = (await api.data(QUOTAS))["viewer"]["tenants"]
    bounds = [{"key": "resources", "limit": 5, "used": 0}, {"key": "plans", "limit": 1, "used": 1}]
    assert tenant["quotas"][2:] == bounds
    (error,) = await refused(api, "createPlan", **given, stack="two")
    assert (error["__typename"], error["code"]) == ("QuotaError", "QUOTA_EXCEEDED")
    assert error["quota"] == {"key": "plans", "limit": 1, "used": 1}
    for name in limits:
        (error,) = await refused(api, "updateTenant", name="Acme", expectedVersion=2, limits={name: 0})
        assert (error["code"], error["path"]) == ("LIMIT_EXCEEDED", ["limits", name])


async def test_a_limit_that_means_nothing_is_refused_with_its_path(api: Api) -> None:
    (error,) = await refused(api, "updateTenant", name="Acme", expectedVersion=1, limits={"maxQueuedJobs": 0})
    assert (error["code"], error["path"]) == ("LIMIT_EXCEEDED", ["limits", "maxQueuedJobs"])


async def test_who_waits_for_room_knows_how_many_are_before_it(api: Api) -> None:
    await done(api, "updateTenant", name="Acme", expectedVersion=1, limits={"maxRunningJobs": 1})
    given = {"name": "p", "type": "IMMEDIATE", "templateRevisionId": await revision(api, NOTE)}
    made = [(await done(api, "createPlan", **given, stack=stack))["plan"]["id"] for stack in ("one", "two", "three")]
    seen = [(await api.data(BLOCKED, {"id": plan}))["deploymentPlan"]["blockedBy"] for plan in made[1:]]
    assert [blocker["queuePosition"] for (blocker,) in seen] == [1, 2]


async def test_a_job_that_no_worker_takes_says_so(api: Api) -> None:
    given = {"name": "p", "type": "IMMEDIATE", "templateRevisionId": await revision(api, NOTE)}
    plan = (await done(api, "createPlan", **given, stack="one"))["plan"]["id"]
    query = """query($id: ID!) { deploymentPlan(id: $id) {
      blockedBy { reason } lastJob { status blockedBy { reason } } } }"""
    alone = (await api.data(query, {"id": plan}))["deploymentPlan"]
    assert alone == {
        "blockedBy": [{"reason": "NO_WORKER"}],
        "lastJob": {"status": "DISPATCHED", "blockedBy": [{"reason": "NO_WORKER"}]},
    }
    worker = Worker(api.services.database, 30, "one", "0")
    await worker.register()
    attended = (await api.data(query, {"id": plan}))["deploymentPlan"]
    assert attended == {"blockedBy": [], "lastJob": {"status": "DISPATCHED", "blockedBy": []}}
    worker.draining = True
    await worker._renew()
    assert (await api.data(query, {"id": plan}))["deploymentPlan"] == alone


async def test_a_job_more_than_may_wait_is_refused_with_the_quota(api: Api) -> None:
    limits = {"maxRunningJobs": 1, "maxQueuedJobs": 1}
    await done(api, "updateTenant", name="Acme", expectedVersion=1, limits=limits)
    given = {"name": "p", "type": "IMMEDIATE", "templateRevisionId": await revision(api, NOTE)}
    await done(api, "createPlan", **given, stack="one")
    held = (await done(api, "createPlan", **given, stack="two"))["plan"]
    assert (await api.data(BLOCKED, {"id": held["id"]}))["deploymentPlan"] == {
        "status": "QUEUED",
        "blockedBy": [
            {
                "reason": "CONCURRENCY_LIMIT",
                "message": "the tenant has as many jobs under way as it may",
                "queuePosition": 1,
            }
        ],
    }
    (error,) = await refused(api, "createPlan", **given, stack="three")
    assert (error["__typename"], error["code"]) == ("QuotaError", "QUOTA_EXCEEDED")
    assert error["quota"] == {"key": "jobs.queued", "limit": 1, "used": 1}
