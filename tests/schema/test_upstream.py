"""Plans that depend on plans, as a client sees them."""

from __future__ import annotations

from typing import Any

from app.domain.statuses import PlanStatus
from tests.schema.conftest import Api
from tests.schema.test_mutations import NOTE, revision
from tests.schema.verbs import done, refused

OUTPUT = {**NOTE, "outputs": {"name": {"value": "${resources.a.properties.name}"}}}
READER = {"resources": {"b": {"type": "core.note", "properties": {"name": '${plans["network"].outputs.name}'}}}}
BLOCKED = """query($id: ID!) { deploymentPlan(id: $id) {
  status blockedBy { reason message node { __typename ... on DeploymentPlan { name } } }
  dependsOnPlans { name } lastJob { status statusReason blockedBy { reason } } } }"""
DEPENDENTS = """query($id: ID!) { deploymentPlan(id: $id) {
  dependentPlans { nodes { name dependsOnPlans { name } } totalCount { value } } } }"""
TAGGED = """query($tags: [TagFilter!]) { deploymentPlans(filter: {tags: $tags}) { nodes { name } } }"""


async def plan(api: Api, name: str, content: dict[str, Any], **more: Any) -> str:
    given = {"name": name, "type": "IMMEDIATE", "templateRevisionId": await revision(api, content, name), **more}
    made: str = (await done(api, "createPlan", **given))["plan"]["id"]
    return made


async def test_a_plan_says_what_it_waits_for_and_who_waits_for_it(api: Api) -> None:
    network = await plan(api, "network", OUTPUT, type="MANUAL")
    app = await plan(api, "app", READER)
    other = await plan(api, "other", NOTE, dependsOnPlanIds=[network], stack="elsewhere")
    for waiting in (app, other):
        found = (await api.data(BLOCKED, {"id": waiting}))["deploymentPlan"]
        (blocker,) = found.pop("blockedBy")
        assert (blocker["reason"], blocker["node"]) == (
            "DEPENDENCY_PENDING",
            {"__typename": "DeploymentPlan", "name": "network"},
        )
        assert found == {
            "status": "QUEUED",
            "dependsOnPlans": [{"name": "network"}],
            "lastJob": {
                "status": "QUEUED",
                "statusReason": "DEPENDENCY_PENDING",
                "blockedBy": [{"reason": "DEPENDENCY_PENDING"}],
            },
        }
    dependents = (await api.data(DEPENDENTS, {"id": network}))["deploymentPlan"]["dependentPlans"]
    assert dependents == {
        "nodes": [
            {"name": "other", "dependsOnPlans": [{"name": "network"}]},
            {"name": "app", "dependsOnPlans": [{"name": "network"}]},
        ],
        "totalCount": {"value": 2},
    }
    await api.acme.rows.settled(network, PlanStatus.ROLLED_BACK)
    (blocker,) = (await api.data(BLOCKED, {"id": app}))["deploymentPlan"]["blockedBy"]
    assert (blocker["reason"], "ROLLED_BACK" in blocker["message"]) == ("DEPENDENCY_FAILED", True)
    (error,) = await refused(api, "deletePlan", planId=network)
    assert (error["code"], "'app'" in error["message"]) == ("CONFLICT", True)


async def test_a_circle_is_answered_with_its_edges(api: Api) -> None:
    first = await plan(api, "first", NOTE, submit=False)
    second = await plan(api, "second", NOTE, submit=False, dependsOnPlanIds=[first])
    (error,) = await refused(api, "updatePlan", id=first, expectedVersion=1, dependsOnPlanIds=[second])
    assert (error["__typename"], error["code"], error["path"]) == ("CycleError", "CYCLE", ["dependsOnPlanIds"])


async def test_plans_are_found_by_their_metadata(api: Api) -> None:
    await plan(api, "one", NOTE, submit=False, metadata={"team": "Payments", "tier": "gold"})
    await plan(api, "two", NOTE, submit=False, metadata={"team": "search"})
    await plan(api, "three", NOTE, submit=False)
    for tags, names in (
        ([{"key": "team"}], ["two", "one"]),
        ([{"key": "team", "value": {"startsWith": "pay"}}], ["one"]),
        ([{"key": "team"}, {"key": "tier", "value": {"eq": "gold"}}], ["one"]),
        ([{"key": "nothing"}], []),
        (None, ["three", "two", "one"]),
    ):
        found = (await api.data(TAGGED, {"tags": tags}))["deploymentPlans"]["nodes"]
        assert [item["name"] for item in found] == names, tags
