"""Limits as clients see and set them."""

from __future__ import annotations

from tests.schema.conftest import Api
from tests.schema.test_mutations import NOTE, revision
from tests.schema.verbs import done, refused

BLOCKED = "query($id: ID!) { deploymentPlan(id: $id) { status blockedBy { reason message } } }"
QUOTAS = "{ viewer { tenants { quotas { key limit used } } } }"


async def test_an_administrator_sets_what_the_tenant_may_have_under_way(api: Api) -> None:
    await done(api, "updateTenant", name="Acme", expectedVersion=1, limits={"maxRunningJobs": 3})
    answer = await api.data(QUOTAS)
    (tenant,) = answer["viewer"]["tenants"]
    assert tenant["quotas"] == [
        {"key": "jobs.running", "limit": 3, "used": 0},
        {"key": "jobs.queued", "limit": 1000, "used": 0},
    ]


async def test_a_limit_that_means_nothing_is_refused_with_its_path(api: Api) -> None:
    (error,) = await refused(api, "updateTenant", name="Acme", expectedVersion=1, limits={"maxQueuedJobs": 0})
    assert (error["code"], error["path"]) == ("LIMIT_EXCEEDED", ["limits", "maxQueuedJobs"])


async def test_a_job_more_than_may_wait_is_refused_with_the_quota(api: Api) -> None:
    limits = {"maxRunningJobs": 1, "maxQueuedJobs": 1}
    await done(api, "updateTenant", name="Acme", expectedVersion=1, limits=limits)
    given = {"name": "p", "type": "IMMEDIATE", "templateRevisionId": await revision(api, NOTE)}
    await done(api, "createPlan", **given, stack="one")
    held = (await done(api, "createPlan", **given, stack="two"))["plan"]
    assert (await api.data(BLOCKED, {"id": held["id"]}))["deploymentPlan"] == {
        "status": "QUEUED",
        "blockedBy": [{"reason": "CONCURRENCY_LIMIT", "message": "the tenant has as many jobs under way as it may"}],
    }
    (error,) = await refused(api, "createPlan", **given, stack="three")
    assert (error["__typename"], error["code"]) == ("QuotaError", "QUOTA_EXCEEDED")
    assert error["quota"] == {"key": "jobs.queued", "limit": 1, "used": 1}
