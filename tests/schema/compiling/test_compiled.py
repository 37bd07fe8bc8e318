"""A compiled query answers what the ordinary execution answers, for everybody."""

from __future__ import annotations

import base64
import os
import random
from dataclasses import replace
from typing import Any

import orjson
import pytest
from strawberry.types.execution import PreExecutionError

from app.db.pages import Order
from app.domain.enums import Permission
from app.domain.permissions import ROLE_PERMISSIONS
from app.reads import plans
from schema.compiling import coverage
from schema.compiling.queries import CompiledQueries
from schema.fields import reads_of
from schema.nodes import encode_id
from schema.root import build_schema
from tests.schema.compiling.documents import World, Writer, answer_of, populate
from tests.schema.conftest import Access, Api

SCHEMA = build_schema()
COMPILED = build_schema(compiled=True)
CORE: Any = SCHEMA._schema
# How many documents are compared, and where they begin: those of one seed are always the same.
EXAMPLES = int(os.environ.get("COMPILED_EXAMPLES", "150"))
SEED = int(os.environ.get("COMPILED_SEED", "0"))
# What Python works out of columns that the statement brings. Whoever makes one of these SQL takes it away here;
# nothing joins them unnoticed.
COMPUTED = {
    "ApiToken": "scopes",
    "AuditEntry": "chainHash target",
    "CloudResource": "availableDecisions drift driftIgnoreRules lockedBy needsAttention observationError",
    "CustomRole": "permissions",
    "DeploymentPlan": "approvals availableActions blockedBy diagnostics events graph policyResults preview schedule"
    " trigger",
    "Gate": "approvers delegates",
    "OrchestrationJob": "artifacts availableActions blockedBy error estimatedCompletion events logs rollbackIssues",
    "PlanTrigger": "chain",
    "PlatformAccess": "active",
    "Policy": "level",
    "ResourceTemplate": "impactOf",
    "ServiceAccount": "scopes",
    "StepRun": "attempts availableStepActions change error notRunBecause",
    "TemplateRevision": "constraints graph lint outputsSchema parametersSchema",
    "Tenant": "quotas",
    "User": "roles",
    "Webhook": "cursor types",
    "WebhookDelivery": "cursor",
    "Workflow": "graph",
    "WorkflowStep": "checkpoint dependsOn errorHandling heartbeat retry timeout totalTimeout",
}
ROOTS = [
    "deploymentPlan", "deploymentPlans", "orchestrationJob", "orchestrationJobs", "workflow", "workflows",
    "resourceTemplate", "resourceTemplates", "cloudResource", "cloudResources", "webhook", "webhooks", "policy",
    "policies", "roles", "serviceAccounts", "node", "nodes", "viewer", "tenant",
]  # fmt: skip


def test_what_python_works_out_is_known() -> None:
    found = {}
    for kind, (view, entity) in coverage.entities(CORE).items():
        names = [name for name, in_sql in coverage.fields_of(SCHEMA, kind, view, entity) if not in_sql]
        assert all(reads_of(kind.fields[name]) is not None for name in names), (kind.name, names)
        if names:
            found[kind.name] = " ".join(sorted(names))
    assert found == COMPUTED


@pytest.fixture
async def world(api: Api) -> World:
    world, chance = World(), random.Random(7)
    await populate(api.acme, chance, world)
    await populate(api.rival, chance, world)
    return world


async def test_any_query_is_answered_as_the_ordinary_execution_does(api: Api, world: World) -> None:
    queries = CompiledQueries(COMPILED)
    compiled = compared = 0
    # Of each of the roles, and of somebody who may not even read.
    allowed = [*ROLE_PERMISSIONS.values(), frozenset({Permission.APPROVE})]
    for seed in range(SEED, SEED + EXAMPLES):
        chance = random.Random(seed)
        writer = Writer(CORE, ROOTS, world, chance)
        text = writer.document()
        access = chance.choice([api.acme, api.rival])
        principal = replace(access.principal, permissions=chance.choice(allowed))
        context = api.services.context(principal, "test")
        answer = await answer_of(queries, text, writer.variables, None, context)
        ordinary = await SCHEMA.execute(text, writer.variables, api.services.context(principal, "test"))
        if answer is None:
            # Whatever could be answered is; the ordinary way is for those who have to be told what is wrong, and for
            # what is many objects of any kind: those are compiled one by one. Null may be wrong where no row leads to.
            explained = ordinary.errors or "nodes(ids" in text or None in writer.variables.values()
            assert explained, f"{seed}: {text}\n{writer.variables}"
            by_objects = await COMPILED.execute(text, writer.variables, context)
            found: Any = {"data": by_objects.data, "errors": _said(by_objects.errors)}
            wanted: Any = {"data": ordinary.data, "errors": _said(ordinary.errors)}
        else:
            compiled += 1
            assert not ordinary.errors, (seed, text, ordinary.errors)
            found, wanted = answer, {"data": ordinary.data}
        try:
            same = _plain(found) == _plain(wanted)
        except orjson.JSONDecodeError:
            same = False
        assert same, f"{seed}: {text}\n{found}\n{wanted}"
        compared += 1
    print(f"{compared} documents compared, {compiled} of them one statement")  # noqa: T201  what a long run shows
    assert compared == EXAMPLES
    # Those who may not read, and those who ask for too much, are told so in the ordinary way.
    assert compiled > EXAMPLES * 0.65


# What is changed, and what the payload calls it.
CHANGES = {
    "Workflow": ("updateWorkflow", "workflow"), "ResourceTemplate": ("updateResourceTemplate", "resourceTemplate"),
    "OrchestrationJob": ("updateOrchestrationJob", "job"), "CloudResource": ("updateCloudResource", "cloudResource"),
}  # fmt: skip


async def test_what_a_mutation_answers_is_what_a_query_finds(api: Api, world: World) -> None:
    """The object of a payload, as the mutation has left it: compiled there, executed field by field afterwards."""
    entities: Any = COMPILED.execution_context_class
    compared = 0
    for seed in range(SEED, SEED + max(30, EXAMPLES // 5)):
        chance = random.Random(seed)
        writer, kind = Writer(CORE, ROOTS, world, chance), chance.choice(sorted(CHANGES))
        gid = chance.choice(world.ids[kind])
        access, version = await _owner(api, kind, gid)
        changed = "name" if kind == "CloudResource" else "description"
        given = {"idempotencyKey": f"{seed}", "id": gid, "expectedVersion": version, changed: f"new {seed}"}
        name, shown = CHANGES[kind]
        mutation, query = writer.mutation(name, shown, given)
        done = await COMPILED.execute(mutation, writer.variables, api.services.context(access.principal, "test"))
        if isinstance(done, PreExecutionError) or (done.errors and None in writer.variables.values()):
            # More than an operation may have, or null where only a default would do.
            continue
        asked = await SCHEMA.execute(query, writer.variables, api.services.context(access.principal, "test"))
        assert done.data is not None, (seed, mutation, done.errors)
        if done.data[name]["userErrors"]:
            # Of the other tenant, or deleted.
            assert done.data[name][shown] is None
            continue
        assert not done.errors, (seed, mutation, done.errors)
        assert asked.data is not None
        assert _plain(done.data[name][shown]) == _plain(asked.data["node"]), f"{seed}: {mutation}"
        compared += 1
    print(f"{compared} payloads compared")  # noqa: T201
    assert compared > max(30, EXAMPLES // 5) / 3
    assert len(entities.entities._plans) > compared / 2


async def _owner(api: Api, kind: str, gid: str) -> tuple[Access, int]:
    """Whose an object is, and its version; anybody where it is deleted."""
    text = f"query($id: ID!) {{ node(id: $id) {{ ... on {kind} {{ version viewerCan }} }} }}"
    for access in (api.acme, api.rival):
        found = await SCHEMA.execute(text, {"id": gid}, api.services.context(access.principal, "test"))
        node = (found.data or {}).get("node")
        if node is not None and "WRITE" in node["viewerCan"]:
            return access, node["version"]
    return api.acme, 1


def _plain(answer: Any) -> Any:
    return orjson.loads(answer if isinstance(answer, bytes) else orjson.dumps(answer))


def _said(errors: Any) -> list[Any]:
    # Fields of a list fail in any order.
    return sorted(((error.message, error.path) for error in errors or ()), key=str)


async def test_another_request_with_the_same_document_gets_its_own_answer(api: Api, world: World) -> None:
    """One plan, found again for every id and every tenant: nothing of the first request stays in it."""
    queries = CompiledQueries(SCHEMA)
    text = "query($id: ID!) { deploymentPlan(id: $id) { id name tenant { slug } viewerCan } }"
    seen = set()
    for access in (api.acme, api.rival):
        for gid in [*world.ids["DeploymentPlan"], "nonsense", encode_id("User", 1), encode_id("DeploymentPlan", 2**62)]:
            context = api.services.context(access.principal, "test")
            answer = await answer_of(queries, text, {"id": gid}, None, context)
            ordinary = await SCHEMA.execute(text, {"id": gid}, api.services.context(access.principal, "test"))
            assert answer is not None
            assert orjson.loads(answer) == {"data": ordinary.data}
            seen.add(answer)
    assert len(queries._plans) == 1
    assert len(seen) > 6


async def test_pages_are_turned_to_their_end_and_back(api: Api, world: World) -> None:
    assert world.ids
    text = """query($after: Cursor, $before: Cursor, $first: Int, $last: Int) {
      deploymentPlans(after: $after, before: $before, first: $first, last: $last, orderBy: {field: STARTED_AT,
      direction: ASC}) { nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""
    forward, back, place = list[str](), list[str](), None
    for _ in range(20):
        page = (await api.data(text, {"first": 2, "after": place}))["deploymentPlans"]
        forward += [node["id"] for node in page["nodes"]]
        place = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    for _ in range(20):
        page = (await api.data(text, {"last": 2, "before": place}))["deploymentPlans"]
        back = [node["id"] for node in page["nodes"]] + back
        place = page["pageInfo"]["startCursor"]
        if not page["pageInfo"]["hasPreviousPage"]:
            break
    assert forward[:-1] == back
    assert len(forward) == len(set(forward)) > 3


async def test_one_plan_serves_the_pages_of_a_list(api: Api, world: World) -> None:
    assert world.ids
    queries = CompiledQueries(SCHEMA)
    text = """query($after: Cursor) { deploymentPlans(after: $after, first: 1, orderBy: {field: STARTED_AT,
      direction: ASC}) { nodes { id } pageInfo { hasNextPage endCursor } } }"""
    seen, place = list[str](), None
    while place is not None or not seen:
        answer = await answer_of(
            queries, text, {"after": place}, None, api.services.context(api.acme.principal, "test")
        )
        assert answer is not None
        page = orjson.loads(answer)["data"]["deploymentPlans"]
        seen += [node["id"] for node in page["nodes"]]
        place = page["pageInfo"]["endCursor"] if page["pageInfo"]["hasNextPage"] else None
    assert len(seen) == len(set(seen)) > 3
    # Of the first page, of those after a plan that has started, and perhaps of those after one that has not.
    assert len(queries._plans) <= 3 < len(seen)
    # What is no place of this list is told so in the ordinary way, whatever plan there is for others.
    for wrong in (cursor(plans_order().name, 7, 7), cursor("another", None, 7), "nonsense"):
        context = api.services.context(api.acme.principal, "test")
        assert await answer_of(queries, text, {"after": wrong}, None, context) is None


def cursor(*parts: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


def plans_order() -> Order:
    return plans.order("STARTED_AT", descending=False)


async def test_what_is_sealed_stays_hidden(api: Api) -> None:
    plan = await api.acme.rows.plan(
        parameters={"a": {"$sealed": "c2VjcmV0"}, "b": [{"$sealed": "x"}, {"c": "$sealed"}]}
    )
    text = "query($id: ID!) { deploymentPlan(id: $id) { parameters } }"
    found = await api.data(text, {"id": encode_id("DeploymentPlan", plan.id)})
    assert found["deploymentPlan"]["parameters"] == {
        "a": {"$sensitive": True},
        "b": [{"$sensitive": True}, {"c": "$sealed"}],
    }


async def test_resources_lead_to_each_other(api: Api) -> None:
    plan = await api.acme.rows.plan()
    await api.acme.rows.resource("role", plan)
    await api.acme.rows.resource("database", plan, depends_on=["role"])
    found = await api.data("{ cloudResources { nodes { key dependsOn { key } dependents { key } } } }")
    assert found["cloudResources"]["nodes"] == [
        {"key": "database", "dependsOn": [{"key": "role"}], "dependents": []},
        {"key": "role", "dependsOn": [], "dependents": [{"key": "database"}]},
    ]
