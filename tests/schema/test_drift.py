"""Drift as clients see and steer it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.domain.enums import DriftStatus
from app.domain.events import Event, EventKind, Stream
from app.domain.statuses import ResourceStatus
from schema.nodes import encode_id
from tests.schema.conftest import Api
from tests.schema.verbs import done, refused, send

SECRET = {"$sealed": "AAAA"}
DRIFT: list[Any] = [
    {"path": ["limit"], "expected": 1, "actual": 2, "sensitive": False},
    {"path": ["password"], "expected": SECRET, "actual": None, "sensitive": True},
]


async def a_resource(api: Api, key: str = "r", **columns: Any) -> str:
    row = await api.acme.rows.resource(key, **columns)
    return encode_id("CloudResource", row.id)


async def test_what_differs_is_shown_and_secrets_are_not(api: Api) -> None:
    gid = await a_resource(api, drift=DRIFT, drift_status=DriftStatus.MODIFIED)
    answer = await api.data(
        "query($id: ID!) { cloudResource(id: $id) { driftStatus drift { path expected actual sensitive } } }",
        {"id": gid},
    )
    assert answer["cloudResource"] == {
        "driftStatus": "MODIFIED",
        "drift": [
            {"path": ["limit"], "expected": 1, "actual": 2, "sensitive": False},
            {"path": ["password"], "expected": {"$sensitive": True}, "actual": None, "sensitive": True},
        ],
    }


async def test_a_refresh_makes_it_due_and_changes_nothing_else(api: Api) -> None:
    gid = await a_resource(api, applied={"limit": 1})
    shown = (await done(api, "refreshResource", id=gid))["cloudResource"]
    assert (shown["status"], shown["driftStatus"], shown["applied"]) == ("ACTIVE", "NOT_CHECKED", {"limit": 1})
    (error,) = await refused(api, "refreshResource", id=gid, expectedVersion=shown["version"] - 1)
    assert (error["__typename"], error["path"]) == ("ConflictError", ["expectedVersion"])
    gone = await a_resource(api, "gone", status=ResourceStatus.DETACHED)
    (error,) = await refused(api, "refreshResource", id=gone)
    assert (error["__typename"], error["status"], error["path"]) == ("IllegalStateError", "DETACHED", ["id"])


async def test_rules_are_set_replaced_and_taken_back(api: Api) -> None:
    gid = await a_resource(api)
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    await done(api, "ignoreDrift", id=gid, path=["limit"], reason="first")
    shown = await done(api, "ignoreDrift", id=gid, path=["limit"], reason="second", expiresAt=later)
    (rule,) = shown["cloudResource"]["driftIgnoreRules"]
    assert (rule["path"], rule["reason"], rule["expired"]) == (["limit"], "second", False)
    (error,) = await refused(api, "heedDrift", id=gid, path=["other"])
    assert (error["code"], error["path"]) == ("NOT_FOUND", ["path"])
    shown = await done(api, "heedDrift", id=gid, path=["limit"])
    assert shown["cloudResource"]["driftIgnoreRules"] == []


async def test_every_fault_of_a_rule_is_named_at_once(api: Api) -> None:
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    errors = await refused(api, "ignoreDrift", id=await a_resource(api), path=[], reason=" ", expiresAt=past)
    assert [error["path"] for error in errors] == [["path"], ["reason"], ["expiresAt"]]


async def test_a_resource_has_a_bounded_number_of_rules(api: Api) -> None:
    rules = [{"path": [f"p{number}"], "reason": "x", "expiresAt": None} for number in range(50)]
    gid = await a_resource(api, drift_ignores=rules)
    (error,) = await refused(api, "ignoreDrift", id=gid, path=["one more"], reason="x")
    assert (error["code"], error["path"]) == ("LIMIT_EXCEEDED", ["path"])


async def test_drift_is_accepted_by_whoever_has_seen_it(api: Api) -> None:
    applied = {"limit": 1, "password": SECRET}
    gid = await a_resource(api, applied={**applied, "password": None}, drift=DRIFT[:1], revision=1)
    (error,) = await refused(api, "acceptDrift", id=gid)
    assert (error["__typename"], error["status"]) == ("IllegalStateError", "NOT_CHECKED")
    other = await a_resource(
        api, "other", applied={"limit": 1}, drift=DRIFT[:1], drift_status=DriftStatus.MODIFIED, revision=1
    )
    shown = (await done(api, "acceptDrift", id=other))["cloudResource"]
    assert (shown["driftStatus"], shown["drift"], shown["applied"]) == ("IN_SYNC", [], {"limit": 2})


async def test_an_import_waits_for_a_worker_and_is_refused_where_it_cannot_be(api: Api) -> None:
    given = {"type": "postgres.role", "provider": "postgres", "externalId": "app", "name": "app"}
    plan = await api.acme.rows.plan()
    plan_id = encode_id("DeploymentPlan", plan.id)
    shown = (await done(api, "importResource", **given, planId=plan_id))["cloudResource"]
    assert (shown["status"], shown["externalId"], shown["stack"]) == ("IMPORTING", "app", "plan")
    assert shown["ownerPlan"] == {"id": plan_id}
    (error,) = await refused(api, "importResource", **given)
    assert (error["__typename"], error["path"]) == ("ConflictError", ["externalId"])
    (error,) = await refused(api, "importResource", **{**given, "externalId": "b"}, planId=plan_id)
    assert (error["__typename"], error["path"]) == ("ConflictError", ["name"])
    (error,) = await refused(api, "importResource", **{**given, "externalId": "b", "provider": "core"})
    assert error["path"] == ["provider"]


async def test_an_import_is_begun_once_for_each_key(api: Api) -> None:
    given = {"type": "core.note", "provider": "core", "externalId": "a", "name": "a", "idempotencyKey": "k"}
    first, second = await send(api, "importResource", given), await send(api, "importResource", given)
    assert (second["replayed"], second["cloudResource"]["id"]) == (True, first["cloudResource"]["id"])


@pytest.mark.parametrize(
    ("configuration", "path"),
    [
        ({"drift": {"evry": "PT1H"}}, ["configuration", "drift", "evry"]),
        ({"drift": {"reaction": "FIX"}}, ["configuration", "drift", "reaction"]),
        ({"ttl": "never"}, ["configuration", "ttl"]),
    ],
)
async def test_a_misspelt_wish_is_refused(api: Api, configuration: dict[str, Any], path: list[str]) -> None:
    template = await api.acme.rows.template()
    revision = await api.acme.rows.revision(template)
    given = {"name": "p", "type": "MANUAL", "templateRevisionId": encode_id("TemplateRevision", revision.id)}
    errors = await refused(api, "createPlan", **given, configuration=configuration)
    assert path in [error["path"] for error in errors]


async def test_the_event_says_what_the_drift_is(api: Api) -> None:
    plan = await api.acme.rows.plan()
    row = await api.acme.rows.resource("r", plan)
    data = {"resourceId": row.id, "key": "r", "previous": "ACTIVE", "status": "ACTIVE", "drift": "MISSING"}
    await api.acme.rows.events(Stream.PLAN, plan.id, Event(EventKind.RESOURCE_CHANGED, data))
    answer = await api.data(
        "query($id: ID!) { deploymentPlan(id: $id) { events(first: 5) { nodes { __typename"
        " ... on ResourceChanged { driftStatus resource { key } } } } } }",
        {"id": encode_id("DeploymentPlan", plan.id)},
    )
    assert answer["deploymentPlan"]["events"]["nodes"] == [
        {"__typename": "ResourceChanged", "driftStatus": "MISSING", "resource": {"key": "r"}}
    ]


DECISIONS = """query($id: ID!) {
  cloudResource(id: $id) { needsAttention availableDecisions { action allowed reason message } } }"""


async def test_a_resource_in_doubt_needs_attention_and_says_what_can_be_decided(api: Api) -> None:
    known, unknown = await a_resource(api, "known"), await a_resource(api, "lost", status=ResourceStatus.UNKNOWN)
    shown = (await api.data(DECISIONS, {"id": known}))["cloudResource"]
    assert (shown["needsAttention"], {item["allowed"] for item in shown["availableDecisions"]}) == (False, {False})
    assert shown["availableDecisions"][0]["message"] == "not while it is ACTIVE"
    shown = (await api.data(DECISIONS, {"id": unknown}))["cloudResource"]
    assert shown["needsAttention"] is True
    assert {item["action"]: item["allowed"] for item in shown["availableDecisions"]} == {
        "ADOPT": True,
        "ABANDON": True,
        "RETRY": True,
    }
    (error,) = await refused(api, "resolveResource", id=known, action="ADOPT")
    assert (error["__typename"], error["status"], error["path"]) == ("IllegalStateError", "ACTIVE", ["id"])


async def test_that_somebody_is_needed_is_told_of_each_resource_of_a_list(api: Api) -> None:
    await a_resource(api, "known")
    await a_resource(api, "lost", status=ResourceStatus.UNKNOWN)
    await a_resource(api, "broken", status=ResourceStatus.FAILED, external_id="b")
    answer = await api.data("{ cloudResources(first: 9) { nodes { key needsAttention } } }")
    found = {node["key"]: node["needsAttention"] for node in answer["cloudResources"]["nodes"]}
    assert found == {"known": False, "lost": True, "broken": False}


async def test_a_decision_is_taken_once_and_by_who_has_seen_the_resource(api: Api) -> None:
    gid = await a_resource(api, "lost", status=ResourceStatus.UNKNOWN)
    (error,) = await refused(api, "resolveResource", id=gid, action="ABANDON", expectedVersion=99)
    assert (error["code"], error["path"]) == ("STALE_VERSION", ["expectedVersion"])
    (error,) = await refused(api, "resolveResource", id=gid, action="ABANDON", externalId="x")
    assert (error["code"], error["path"]) == ("INVALID", ["externalId"])
    (error,) = await refused(api, "resolveResource", id=gid, action="ADOPT", externalId=" ")
    assert error["path"] == ["externalId"]
    answer = await done(api, "resolveResource", id=gid, action="ABANDON", idempotencyKey="once")
    assert answer["cloudResource"]["status"] == "DETACHED"
    again = await send(api, "resolveResource", {"id": gid, "action": "ABANDON", "idempotencyKey": "once"})
    assert (again["replayed"], again["userErrors"]) == (True, [])
    refreshed = await a_resource(api, "other", status=ResourceStatus.UNKNOWN)
    assert (await done(api, "refreshResource", id=refreshed))["cloudResource"]["status"] == "UNKNOWN"
