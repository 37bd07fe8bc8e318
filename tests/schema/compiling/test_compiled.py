"""A compiled query answers what the ordinary execution answers, for everybody."""

from __future__ import annotations

import base64
import os
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from graphql import FieldNode, NameNode, SelectionSetNode, get_named_type, is_leaf_type
from graphql.execution.values import VariableValues
from sqlalchemy import select

from app.auth.principal import Principal
from app.db import models
from app.db.pages import Order
from app.domain.enums import Permission, Role
from app.domain.permissions import ROLE_PERMISSIONS
from app.reads import plans
from schema.compiling.compiler import Compiler
from schema.compiling.queries import CompiledQueries
from schema.context import Context
from schema.loaders import TracingLoaders
from schema.nodes import encode_id, view
from schema.root import build_schema
from schema.symbols import NotExpressible, NumberSlot, SymbolicPrincipal, SymbolicRow, Tracing
from tests.schema.compiling.documents import World, Writer, objects, populate
from tests.schema.conftest import Api

SCHEMA = build_schema()
CORE: Any = SCHEMA._schema
# How many documents are compared, and where they begin: those of one seed are always the same.
EXAMPLES = int(os.environ.get("COMPILED_EXAMPLES", "150"))
SEED = int(os.environ.get("COMPILED_SEED", "0"))
_ROWS = {
    "ApiToken": models.ApiToken, "CloudResource": models.CloudResource, "DeploymentPlan": models.DeploymentPlan,
    "OrchestrationJob": models.OrchestrationJob, "ProviderConnection": models.ProviderConnection,
    "ResourceTemplate": models.ResourceTemplate, "StepRun": models.StepRun,
    "TemplateRevision": models.TemplateRevision, "Tenant": models.Tenant, "User": models.User,
    "Workflow": models.Workflow, "WorkflowStep": models.WorkflowStep,
}  # fmt: skip
# What is executed field by field. Whoever makes one of these SQL takes it away here; nothing joins them unnoticed.
ORDINARY = {
    "ApiToken": "scopes",
    "CloudResource": "availableDecisions createdBy drift driftIgnoreRules lockedBy needsAttention observationError"
    " updatedBy",
    "DeploymentPlan": "approvals availableActions blockedBy createdBy diagnostics events graph policyResults preview"
    " schedule trigger updatedBy",
    "OrchestrationJob": "artifacts availableActions blockedBy createdBy error estimatedCompletion events logs"
    " rollbackIssues updatedBy",
    "ProviderConnection": "createdBy updatedBy",
    "ResourceTemplate": "constraints content createdBy dependencies impactOf metadata outputs parameters updatedBy",
    "StepRun": "attempts availableStepActions change durationSeconds error nextRetryAt notRunBecause",
    "TemplateRevision": "constraints graph lint outputsSchema parametersSchema",
    "Tenant": "createdBy quotas updatedBy viewerCan",
    "User": "createdBy roles tokens updatedBy",
    "Workflow": "createdBy graph updatedBy",
    "WorkflowStep": "checkpoint createdBy dependsOn errorHandling heartbeat retry timeout totalTimeout updatedBy",
}  # fmt: skip
ROOTS = [
    "deploymentPlan", "deploymentPlans", "orchestrationJob", "orchestrationJobs", "workflow", "workflows",
    "resourceTemplate", "resourceTemplates", "cloudResource", "cloudResources",
]  # fmt: skip


def compiler(services: Any) -> tuple[Compiler, Tracing]:
    tenant = NumberSlot.of(1, lambda given: given["$tenant"])
    tracing = Tracing(tenant)
    until = datetime.now(UTC) + timedelta(hours=1)
    real = Principal(1, "acme", 1, Role.ADMIN, frozenset(Permission), 1, until)
    principal: Any = SymbolicPrincipal(real, tenant, tenant)
    context = Context(services, principal, "test", TracingLoaders(tracing), tracing)
    return Compiler(SCHEMA, {}, VariableValues({}, {}), context, tracing), tracing


def expressible() -> dict[str, list[str]]:
    """The fields of each type of rows that SQL can answer."""
    found: dict[str, list[str]] = {"Query": ROOTS}
    for kind in objects(CORE).values():
        if kind.name not in _ROWS:
            continue
        asking, tracing = compiler(None)
        found[kind.name] = []
        for name, defined in kind.fields.items():
            below = None if is_leaf_type(get_named_type(defined.type)) else SelectionSetNode(selections=(TYPENAME,))
            node = FieldNode(name=NameNode(value=name), arguments=(), directives=(), selection_set=below)
            row = SymbolicRow(tracing.level(select(_ROWS[kind.name]), many=False))
            try:
                asking._field(kind, view(kind.name)(row), [node])
            except NotExpressible:
                continue
            found[kind.name].append(name)
    return found


TYPENAME = FieldNode(name=NameNode(value="__typename"), arguments=(), directives=(), selection_set=None)
ALLOWED = expressible()


def test_what_is_not_compiled_is_known() -> None:
    known = objects(CORE)
    rest = {name: " ".join(sorted(set(known[name].fields) - set(ALLOWED[name]))) for name in _ROWS if name in known}
    assert rest == ORDINARY


@pytest.fixture
async def world(api: Api) -> World:
    world, chance = World(), random.Random(7)
    await populate(api.acme, chance, world)
    await populate(api.rival, chance, world)
    return world


async def test_any_query_is_answered_as_the_ordinary_execution_does(api: Api, world: World) -> None:
    queries = CompiledQueries(SCHEMA)
    compiled = 0
    # Of each of the roles, and of somebody who may not even read.
    allowed = [*ROLE_PERMISSIONS.values(), frozenset({Permission.APPROVE})]
    for seed in range(SEED, SEED + EXAMPLES):
        chance = random.Random(seed)
        writer = Writer(CORE, ALLOWED, world, chance)
        text = writer.document()
        access = chance.choice([api.acme, api.rival])
        principal = replace(access.principal, permissions=chance.choice(allowed))
        context = api.services.context(principal, "test")
        answer = await queries.answer(text, writer.variables, None, context)
        if answer is None:
            continue
        compiled += 1
        ordinary = await SCHEMA.execute(text, writer.variables, api.services.context(principal, "test"))
        assert not ordinary.errors, (seed, text, ordinary.errors)
        wanted = {"data": orjson.loads(orjson.dumps(ordinary.data))}
        try:
            same = orjson.loads(answer) == wanted
        except orjson.JSONDecodeError:
            same = False
        assert same, f"{seed}: {text}\n{answer.decode()}\n{wanted}"
    # Those who may not read, and those who ask for too much, are told so in the ordinary way.
    assert compiled > EXAMPLES * 0.7


async def test_another_request_with_the_same_document_gets_its_own_answer(api: Api, world: World) -> None:
    """One plan, found again for every id and every tenant: nothing of the first request stays in it."""
    queries = CompiledQueries(SCHEMA)
    text = "query($id: ID!) { deploymentPlan(id: $id) { id name tenant { slug } viewerCan } }"
    seen = set()
    for access in (api.acme, api.rival):
        for gid in [*world.ids["DeploymentPlan"], "nonsense", encode_id("User", 1), encode_id("DeploymentPlan", 2**62)]:
            context = api.services.context(access.principal, "test")
            answer = await queries.answer(text, {"id": gid}, None, context)
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
        answer = await queries.answer(text, {"after": place}, None, api.services.context(api.acme.principal, "test"))
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
        assert await queries.answer(text, {"after": wrong}, None, context) is None


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
