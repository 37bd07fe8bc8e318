"""Schedules as clients write and read them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.db.models import DeploymentPlan
from app.domain.statuses import PlanStatus
from app.engine.ticking import tick
from app.services.plans.firing import DuePlan, fire
from schema.nodes import decode_id, encode_id
from tests.schema.conftest import Api
from tests.schema.test_mutations import NOTE, WAIT, revision
from tests.schema.verbs import done, refused

SCHEDULE = """query($id: ID!, $first: Int) { deploymentPlan(id: $id) { status scheduledAt
  schedule { at recurrence timeZone overlap missed changed window jitter nextRuns(first: $first) }
  availableActions { action allowed message } parentPlan { id }
  spawnedPlans { nodes { id status parentPlan { id } schedule { at } availableActions { action allowed } } } } }"""
DAILY = {"recurrence": "30 2 * * *", "timeZone": "Europe/Berlin"}


async def made(api: Api, schedule: dict[str, Any], **more: Any) -> dict[str, Any]:
    flow = await done(api, "createWorkflow", name="w", type="CUSTOM", definition={"steps": [WAIT]})
    given = {"name": "p", "type": "SCHEDULED", "workflowId": flow["workflow"]["id"], "schedule": schedule, **more}
    plan: dict[str, Any] = (await done(api, "createPlan", **given))["plan"]
    return plan


async def shown(api: Api, plan_id: str, first: int = 3) -> dict[str, Any]:
    plan: dict[str, Any] = (await api.data(SCHEDULE, {"id": plan_id, "first": first}))["deploymentPlan"]
    return plan


async def test_a_recurring_plan_shows_its_next_runs(api: Api) -> None:
    plan = await made(
        api, {**DAILY, "window": "PT2H", "jitter": "PT90S", "overlap": "QUEUE_ONE", "missed": "SKIP",
              "changed": "CANCEL"}
    )  # fmt: skip
    assert plan["status"] == "SCHEDULED"
    found = await shown(api, plan["id"])
    runs = found["schedule"].pop("nextRuns")
    assert found["schedule"] == {
        "at": None, "recurrence": "30 2 * * *", "timeZone": "Europe/Berlin", "overlap": "QUEUE_ONE", "missed": "SKIP",
        "window": "PT2H", "jitter": "PT1M30S", "changed": "CANCEL",
    }  # fmt: skip
    assert (len(runs), runs[0]) == (3, found["scheduledAt"])
    gaps = [
        datetime.fromisoformat(later) - datetime.fromisoformat(sooner) for sooner, later in itertools.pairwise(runs)
    ]
    assert all(timedelta(hours=23) <= gap <= timedelta(hours=25) for gap in gaps)
    assert {action["action"]: action["allowed"] for action in found["availableActions"]}["EXECUTE"] is False
    (error,) = await refused(api, "executePlan", planId=plan["id"])
    assert (error["__typename"], error["path"]) == ("IllegalStateError", ["planId"])
    cancelled = (await done(api, "cancelPlan", planId=plan["id"]))["plan"]
    assert cancelled["status"] == "CANCELLED"
    assert (await shown(api, plan["id"]))["schedule"]["nextRuns"] == []


async def test_a_plan_that_runs_once_may_be_run_before(api: Api) -> None:
    at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    plan = await made(api, {"at": at, "timeZone": "UTC"})
    found = await shown(api, plan["id"])
    assert [datetime.fromisoformat(run) for run in found["schedule"]["nextRuns"]] == [datetime.fromisoformat(at)]
    assert (found["schedule"]["overlap"], found["schedule"]["missed"]) == ("SKIP", "RUN_NOW")
    run = await done(api, "executePlan", planId=plan["id"])
    assert run["job"] is not None


async def test_the_runs_of_a_plan_are_plans_of_their_own(api: Api) -> None:
    plan = await made(api, DAILY)
    number = decode_id(plan["id"])[1]
    async with api.acme.rows.write() as transaction:
        stored = await transaction.session.get_one(DeploymentPlan, number)
        stored.scheduled_at = stored.fire_at = datetime.now(UTC) - timedelta(seconds=5)
    ticked = await tick(api.services.database, ring_again_seconds=10)
    assert list(ticked.due_plans) == [(api.acme.tenant_id, number)]
    context = api.services.context(api.acme.principal, "test")
    assert await fire(api.services.database, DuePlan(api.acme.tenant_id, number), context.dependencies)
    found = await shown(api, plan["id"])
    (child,) = found["spawnedPlans"]["nodes"]
    assert (child["parentPlan"], child["schedule"], found["parentPlan"]) == ({"id": plan["id"]}, None, None)
    assert {action["action"]: action["allowed"] for action in child["availableActions"]}["EDIT"] is False


async def test_runs_are_asked_for_in_bounds(api: Api) -> None:
    plan = await made(api, {"recurrence": "* * * * *", "timeZone": "UTC"})
    assert len((await shown(api, plan["id"], 100))["schedule"]["nextRuns"]) == 100
    for wrong in (101, -1):
        answer = await api.ask(SCHEDULE, {"id": plan["id"], "first": wrong})
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["LIMIT_EXCEEDED"]


@pytest.mark.parametrize(
    ("schedule", "paths"),
    [
        (None, [["schedule"]]),
        ({"timeZone": "UTC"}, [["schedule", "at"]]),
        ({"timeZone": "UTC", "at": "2020-01-01T00:00:00Z"}, [["schedule", "at"]]),
        ({"timeZone": "UTC", "recurrence": "0 0 * *"}, [["schedule", "recurrence"]]),
        ({"timeZone": "UTC", "recurrence": "0 0 30 2 *"}, [["schedule", "recurrence"]]),
        ({"timeZone": "Mars", "recurrence": "61 * * * *"}, [["schedule", "timeZone"], ["schedule", "recurrence"]]),
        ({**DAILY, "jitter": "P2D", "window": "PT0S"}, [["schedule", "window"], ["schedule", "jitter"]]),
    ],
)
async def test_a_schedule_that_cannot_be_kept_is_refused_with_its_paths(
    api: Api, schedule: dict[str, Any] | None, paths: list[list[str]]
) -> None:
    given = {"name": "p", "type": "SCHEDULED", "templateRevisionId": await revision(api, NOTE), "schedule": schedule}
    assert [error["path"] for error in await refused(api, "createPlan", **given)] == paths
    if schedule is not None:
        stored = await api.acme.rows.plan(plan_type="SCHEDULED", status=PlanStatus.DRAFT)
        edit = {"id": encode_id("DeploymentPlan", stored.id), "expectedVersion": 1, "schedule": schedule}
        assert [error["path"] for error in await refused(api, "updatePlan", **edit)] == paths


async def test_a_plan_of_another_type_has_no_schedule(api: Api) -> None:
    given = {"name": "p", "type": "MANUAL", "templateRevisionId": await revision(api, NOTE), "schedule": DAILY}
    (error,) = await refused(api, "createPlan", **given)
    assert (error["code"], error["path"]) == ("INVALID", ["schedule"])


@pytest.mark.parametrize("wrong", ["1 hour", "P1M", "PT-5M", ""])
async def test_a_duration_is_written_as_iso_8601(api: Api, wrong: str) -> None:
    document = "mutation($i: CreatePlanInput!) { createPlan(input: $i) { plan { id } } }"
    given = {"idempotencyKey": "k", "name": "p", "type": "SCHEDULED", "schedule": {**DAILY, "window": wrong}}
    answer = await api.ask(document, {"i": given})
    assert "a duration is written like" in answer["errors"][0]["message"]
