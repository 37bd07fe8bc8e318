"""Two tenants: whatever is asked or watched, another tenant's things are as if they were not there."""

from __future__ import annotations

from typing import Any

import pytest
from graphql import (
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    is_required_argument,
)

from app.db import models
from app.domain import cursors
from app.domain.cursors import Place
from app.domain.events import Stream
from schema.nodes import encode_id
from schema.root import build_schema
from tests.schema.belongings import ABSENT, CANARY, KIND_OF, Owned, all_alike, belongings, ids_in, raw, strangers
from tests.schema.conftest import Access, Api
from tests.schema.rows import TEMPLATE
from tests.schema.verbs import SCHEMA

QUERIES: dict[str, GraphQLField] = SCHEMA.query_type.fields if SCHEMA.query_type else {}
ONE = {
    "workflow": "Workflow",
    "resourceTemplate": "ResourceTemplate",
    "deploymentPlan": "DeploymentPlan",
    "orchestrationJob": "OrchestrationJob",
    "cloudResource": "CloudResource",
    "policy": "Policy",
    "webhook": "Webhook",
}
LISTS = sorted(name for name, field in QUERIES.items() if "after" in field.args and name != "auditLog")
# Characters of a document: about half of what its limit on tokens leaves room for.
ROOM = 10_000
# Fields that have a test of their own below.
# The audit log, too, has its own in test_audit_log.py.
SPECIAL = {"auditLog", "node", "nodes", "tenant", "previewPlan", "rollbackPreview"}
WITHOUT_IDS = {"viewer", "resourceTypes"}


async def both(api: Api) -> tuple[Owned, Owned]:
    """What the rival has, marked with the canary, and what is ours."""
    return await belongings(api.rival, CANARY), await belongings(api.acme, "ours")


def names_none_of(owned: Owned, answer: bytes) -> bool:
    """Whether no id of theirs is in the answer."""
    return not [kind for kind in owned.numbers if f'"{owned.gid(kind)}"'.encode() in answer]


def test_every_field_of_the_query_root_has_a_case() -> None:
    assert QUERIES.keys() == ONE.keys() | {*LISTS} | SPECIAL | WITHOUT_IDS
    for name in WITHOUT_IDS:
        assert not QUERIES[name].args
    assert {name for name, field in QUERIES.items() if set(field.args) == {"id"}} == ONE.keys() | {"node"}


async def test_one_thing_of_another_tenant_is_not_there(api: Api) -> None:
    theirs, ours = await both(api)
    for name, kind in ONE.items():
        text = f"query($id: ID!) {{ {name}(id: $id) {{ __typename id }} }}"
        assert (await api.data(text, {"id": ours.gid(kind)}))[name]["id"] == ours.gid(kind)
        variants = {why: {"id": gid} for why, gid in strangers(kind, theirs, ours).items()}
        assert await all_alike(api, text, variants) == {"data": {name: None}}


async def test_nodes_of_another_tenant_are_not_there(api: Api) -> None:
    theirs, ours = await both(api)
    one, many = "query($id: ID!) { node(id: $id) { id } }", "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    interface = SCHEMA.type_map["Node"]
    assert isinstance(interface, GraphQLInterfaceType)
    assert {kind.name for kind in SCHEMA.get_possible_types(interface)} == theirs.numbers.keys()
    for kind in theirs.numbers:
        ids = {why: gid for why, gid in strangers(kind, theirs, ours).items() if why != "of another type"}
        assert await all_alike(api, one, {why: {"id": gid} for why, gid in ids.items()}) == {"data": {"node": None}}
        among_ours = {why: {"ids": [gid, ours.gid(kind), gid]} for why, gid in ids.items()}
        found = await all_alike(api, many, among_ours)
        assert found == {"data": {"nodes": [None, {"id": ours.gid(kind)}, None]}}


async def test_another_tenant_is_not_there_by_its_name(api: Api) -> None:
    text = "query($slug: String!) { tenant(slug: $slug) { id name } }"
    assert (await api.data(text, {"slug": "rival"}, access=api.rival))["tenant"]["name"] == "Rival"
    slugs = {"another tenant's": "rival", "nobody's": "nobody", "malformed": "'; --", "empty": ""}
    assert await all_alike(api, text, {why: {"slug": slug} for why, slug in slugs.items()}) == {
        "data": {"tenant": None}
    }


async def test_definitions_of_another_tenant_cannot_be_previewed(api: Api) -> None:
    theirs, ours = await both(api)
    text = """query($input: PreviewPlanInput!) { previewPlan(input: $input) {
        preview { hash } graph { nodes { key } } diagnostics { code message path } } }"""
    given = SCHEMA.type_map["PreviewPlanInput"]
    assert isinstance(given, GraphQLInputObjectType)
    for field in ids_in(given):
        ids = strangers(KIND_OF[field], theirs, ours)
        answer = await all_alike(api, text, {why: {"input": {field: gid}} for why, gid in ids.items()})
        (error,) = answer["errors"]
        assert error["extensions"] == {"code": "NOT_FOUND", "path": [field]}


async def test_the_rollback_of_another_tenants_plan_cannot_be_foretold(api: Api) -> None:
    theirs, ours = await both(api)
    text = "query($id: ID!) { rollbackPreview(planId: $id) { failAt residual compensations { key } } }"
    ids = strangers("DeploymentPlan", theirs, ours)
    (error,) = (await all_alike(api, text, {why: {"id": gid} for why, gid in ids.items()}))["errors"]
    assert error["extensions"] == {"code": "NOT_FOUND", "path": ["planId"]}


async def test_filters_by_ids_of_another_tenant_find_nothing(api: Api) -> None:
    theirs, ours = await both(api)
    tried = set()
    for name in LISTS:
        if "filter" not in QUERIES[name].args:
            continue
        kind = get_named_type(QUERIES[name].args["filter"].type)
        assert isinstance(kind, GraphQLInputObjectType)
        text = f"query($filter: {kind}) {{ {name}(filter: $filter) {{ nodes {{ id }} totalCount {{ value }} }} }}"
        for field in sorted(ids_in(kind)):
            own = await api.data(text, {"filter": {field: ours.gid(KIND_OF[field])}})
            assert own[name]["totalCount"] == {"value": 1}, f"{name} by {field} finds what is ours"
            ids = strangers(KIND_OF[field], theirs, ours)
            answer = await all_alike(api, text, {why: {"filter": {field: gid}} for why, gid in ids.items()})
            assert answer == {"data": {name: {"nodes": [], "totalCount": {"value": 0}}}}
            tried.add(field)
    assert tried == {"workflowId", "templateId", "userId", "planId", "resourceId"}


async def test_cursors_of_another_tenant_lead_to_ones_own(api: Api) -> None:
    theirs, _ = await both(api)
    for name in LISTS:
        text = f"query($after: Cursor) {{ {name}(after: $after) {{ nodes {{ id }} pageInfo {{ endCursor }} }} }}"
        foreign = (await api.data(text, access=api.rival))[name]["pageInfo"]["endCursor"]
        answer = await raw(api, text, {"after": foreign})
        assert b'"errors"' not in answer
        assert names_none_of(theirs, answer)


# ── everything that can be seen ──────────────────────────────────────────────────────────────────────────────────────


def selection(kind: GraphQLNamedType, depth: int, path: tuple[str, ...] = ()) -> str:
    """All of a type that asks for no argument, `depth` objects deep, never again by a field it was come by."""
    return " ".join(selections(kind, depth, path))


def selections(kind: GraphQLNamedType, depth: int, path: tuple[str, ...] = ()) -> list[str]:
    """The same field by field."""
    if isinstance(kind, GraphQLUnionType):
        members = [f"... on {member.name} {{ {selection(member, depth, path)} }}" for member in kind.types]
        return ["__typename", *members]
    assert isinstance(kind, (GraphQLObjectType, GraphQLInterfaceType))
    parts = ["__typename"]
    for name, field in kind.fields.items():
        inner = get_named_type(field.type)
        if any(is_required_argument(argument) for argument in field.args.values()):
            continue
        if is_leaf_type(inner):
            parts.append(name)
        elif depth > 0 and name not in {*path, "edges"}:
            page = "(first: 2)" if "first" in field.args else ""
            # A page is no step further away.
            deeper = depth if name == "nodes" else depth - 1
            parts.append(f"{name}{page} {{ {selection(inner, deeper, (*path, name))} }}")
    return parts


def in_documents(kind: GraphQLNamedType, depth: int, path: tuple[str, ...] = ()) -> list[str]:
    """All of a type, in as many parts as the limit on the length of documents makes necessary."""
    documents = [""]
    for part in selections(kind, depth, path):
        if len(documents[-1]) + len(part) > ROOM:
            documents.append("")
        documents[-1] += f" {part}"
    return documents


async def all_of(api: Api, kind: str, gid: str, access: Access | None = None, *, depth: int) -> bytes:
    """All that can be seen of an object, in as many documents as the limit on their length makes necessary."""
    found = in_documents(SCHEMA.type_map[kind], depth)
    texts = [f"query($id: ID!) {{ node(id: $id) {{ ... on {kind} {{ {parts} }} }} }}" for parts in found]
    return b"\n".join([await raw(api, text, {"id": gid}, access) for text in texts])


# One step away from every type is every edge there is; what is two steps away takes a minute.
DEPTHS = [1, pytest.param(2, marks=pytest.mark.long)]


@pytest.mark.parametrize("depth", DEPTHS)
async def test_no_list_shows_anything_of_another_tenant(api: Api, depth: int) -> None:
    theirs, _ = await both(api)
    for name in (*LISTS, *WITHOUT_IDS):
        kind = get_named_type(QUERIES[name].type)
        parts = [selection(kind, 1)]
        if isinstance(kind, GraphQLObjectType) and name in LISTS:
            nodes = in_documents(get_named_type(kind.fields["nodes"].type), depth, ("nodes",))
            parts = ["pageInfo { endCursor } totalCount { value }", *(f"nodes {{ {part} }}" for part in nodes)]
        texts = [f"{{ {name} {{ {part} }} }}" for part in parts]
        if name != "resourceTypes":
            seen = b"".join([await raw(api, text, {}, api.rival) for text in texts])
            assert b'"errors"' not in seen
            assert CANARY.encode() in seen, "whose it is can see it"
        answer = b"".join([await raw(api, text, {}) for text in texts])
        assert b'"errors"' not in answer
        assert CANARY.encode() not in answer, name
        assert names_none_of(theirs, answer), name


@pytest.mark.parametrize("depth", DEPTHS)
async def test_nothing_of_ours_leads_to_another_tenant(api: Api, depth: int) -> None:
    theirs, ours = await both(api)
    for kind in theirs.numbers:
        seen = await all_of(api, kind, theirs.gid(kind), api.rival, depth=depth)
        assert b'"errors"' not in seen
        assert CANARY.encode() in seen, "whose it is can see it"
        answer = await all_of(api, kind, ours.gid(kind), depth=depth)
        assert b'"errors"' not in answer
        assert ours.gid(kind).encode() in answer
        assert CANARY.encode() not in answer, kind
        assert names_none_of(theirs, answer), kind


@pytest.mark.parametrize("depth", DEPTHS)
async def test_a_public_template_shows_what_was_published_and_nothing_else(api: Api, depth: int) -> None:
    rows = api.rival.rows
    template = await rows.template("shared", is_public=True, created_by=rows.actor, updated_by=rows.actor)
    revision = await rows.revision(template)
    pinned = {
        "template_tenant_id": api.rival.tenant_id,
        "template_id": template.id,
        "template_revision_id": revision.id,
    }
    await rows.plan(f"{CANARY}-plan", **pinned)
    draft = {"text": CANARY}
    async with rows.write() as transaction:
        user = await transaction.session.get_one(models.User, api.rival.principal.user_id)
        user.display_name = user.email = f"{CANARY}@rival.example"
        stored = await transaction.session.get_one(models.ResourceTemplate, template.id)
        stored.template_content = {**TEMPLATE, "constraints": [{"assert": "${true}", "message": CANARY}]}
        stored.parameters = stored.outputs = stored.metadata_ = draft
        stored.constraints = stored.dependencies = [draft]
    ours = await api.acme.rows.plan("from-shared", **pinned)
    for kind, number in (("ResourceTemplate", template.id), ("TemplateRevision", revision.id)):
        gid = encode_id(kind, number)
        assert CANARY.encode() in await all_of(api, kind, gid, api.rival, depth=depth), "whose it is can see it"
    for kind, number in (
        ("ResourceTemplate", template.id),
        ("TemplateRevision", revision.id),
        ("DeploymentPlan", ours.id),
    ):
        gid = encode_id(kind, number)
        answer = await all_of(api, kind, gid, depth=depth)
        assert b'"errors"' not in answer
        assert gid.encode() in answer
        assert CANARY.encode() not in answer, kind


# ── subscriptions ────────────────────────────────────────────────────────────────────────────────────────────────────

WATCHED = {
    "jobUpdated": ("OrchestrationJob", Stream.JOB),
    "jobLogs": ("OrchestrationJob", Stream.JOB),
    "planUpdated": ("DeploymentPlan", Stream.PLAN),
}

REPLAYED = {"replayJob": "OrchestrationJob"}


EXECUTABLE = build_schema()


async def first_of(api: Api, text: str, variables: dict[str, Any]) -> Any:
    """The first thing that a subscription says, before it is put on a socket."""
    context = api.services.context(api.acme.principal, "same")
    results: Any = await EXECUTABLE.subscribe(text, variable_values=variables, context_value=context)
    if not hasattr(results, "__aiter__"):
        return results
    result = await anext(results)
    await results.aclose()
    return result


def test_every_subscription_has_a_case() -> None:
    assert SCHEMA.subscription_type is not None
    # Those of the tenant as a whole have their cases in live/test_tenant_events.py and live/test_lists.py.
    whole = {"tenantEvents", "plansChanged", "jobsChanged"}
    assert SCHEMA.subscription_type.fields.keys() == WATCHED.keys() | REPLAYED.keys() | whole


async def test_nobody_watches_another_tenant(api: Api) -> None:
    theirs, ours = await both(api)
    for name, (kind, stream) in WATCHED.items():
        text = f"subscription($id: ID!, $after: Cursor) {{ {name}(id: $id, after: $after) {{ kind cursor }} }}"
        assert (await first_of(api, text, {"id": ours.gid(kind)})).data is not None
        asked: list[dict[str, Any]] = [{"id": gid} for gid in strangers(kind, theirs, ours).values()]
        # Somebody may have got hold of a whole cursor.
        for number in (theirs.numbers[kind], ABSENT):
            asked += [{"id": encode_id(kind, number), "after": cursors.encode(stream, number, Place(1))}]
        told = []
        for variables in asked:
            result = await first_of(api, text, variables)
            assert not result.data
            told.append([error.formatted for error in result.errors])
        assert all(errors == told[0] for errors in told), told
        assert [error["extensions"]["code"] for error in told[0]] == ["NOT_FOUND"]


async def test_nobody_replays_what_is_another_tenants(api: Api) -> None:
    theirs, ours = await both(api)
    for name, kind in REPLAYED.items():
        text = f"subscription($id: ID!) {{ {name}(id: $id) {{ kind cursor }} }}"
        told = [(await first_of(api, text, {"id": gid})).errors for gid in strangers(kind, theirs, ours).values()]
        assert all(errors == told[0] for errors in told), told
        assert [error.extensions["code"] for error in told[0]] == ["NOT_FOUND"]
