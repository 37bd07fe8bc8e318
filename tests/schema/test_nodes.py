"""Anything by its id; and nothing that is somebody else's."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from app.db import models
from app.domain.enums import Role
from schema.nodes import MalformedId, decode_id, encode_id
from tests.schema.conftest import Access, Api

NODE = "query ($id: ID!) { node(id: $id) { __typename id ... on Entity { version viewerCan } } }"
NODES = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"


async def one_of_each(access: Access) -> dict[str, int]:
    """A row of every type that is a Node, by type name."""
    rows = access.rows
    workflow = await rows.workflow()
    template = await rows.template()
    revision = await rows.revision(template)
    plan = await rows.plan(workflow_id=workflow.id)
    job = await rows.job(plan)
    step = await rows.step(job, "role")
    resource = await rows.resource("role", plan)
    connection = await rows.add(
        models.ProviderConnection(
            tenant_id=access.tenant_id, name="main", provider="postgres", config={"password": {"$sealed": "AAAA"}}
        )
    )
    policy = await rows.policy()
    role, account = await rows.role(), await rows.service_account()
    access_id = await rows.platform_access("ann@platform.example", "ticket 4711")
    webhook = await rows.webhook()
    delivery = await rows.delivery(webhook)
    async with rows.database.read(access.tenant_id) as session:
        step_definition = (await session.execute(_first_step(workflow.id))).scalar_one()
    return {
        "Tenant": access.tenant_id,
        "User": access.principal.user_id,
        "ApiToken": access.principal.token_id,
        "Workflow": workflow.id,
        "WorkflowStep": step_definition,
        "ResourceTemplate": template.id,
        "TemplateRevision": revision.id,
        "DeploymentPlan": plan.id,
        "OrchestrationJob": job.id,
        "StepRun": step.id,
        "CloudResource": resource.id,
        "ProviderConnection": connection.id,
        "Policy": policy.id,
        "CustomRole": role.id,
        "ServiceAccount": account.id,
        "PlatformAccess": access_id,
        "Webhook": webhook.id,
        "WebhookDelivery": delivery.id,
    }


async def test_every_type_is_found_by_its_id_and_by_nobody_else(api: Api) -> None:
    known = await one_of_each(api.acme)
    for kind, number in known.items():
        gid = encode_id(kind, number)
        found = (await api.data(NODE, {"id": gid}))["node"]
        assert (found["__typename"], found["id"]) == (kind, gid)
        assert (await api.data(NODE, {"id": gid}, access=api.rival))["node"] is None
    gids = [encode_id(kind, number) for kind, number in known.items()]
    assert [node["id"] for node in (await api.data(NODES, {"ids": gids}))["nodes"]] == gids
    assert (await api.data(NODES, {"ids": gids}, access=api.rival))["nodes"] == [None] * len(gids)


async def test_every_node_type_of_the_schema_is_covered(api: Api) -> None:
    answer = await api.data('{ __type(name: "Node") { possibleTypes { name } } }')
    named = {kind["name"] for kind in answer["__type"]["possibleTypes"]}
    assert set(await one_of_each(api.acme)) == named


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "ÿÿÿ",
        "a" * 200,
        encode_id("Workflow", 0),
        encode_id("Workflow", 2**62),
        encode_id("Nonsense", 1),
        base64.urlsafe_b64encode(b"Workflow:-1").decode(),
        base64.urlsafe_b64encode(b"Workflow:1 OR 1=1").decode(),
        base64.urlsafe_b64encode(b"Workflow:99999999999999999999999").decode(),
    ],
)
async def test_what_is_no_id_is_answered_like_an_id_of_nothing(api: Api, text: str) -> None:
    assert await api.data(NODE, {"id": text}) == {"node": None}


async def test_deleted_rows_are_gone(api: Api) -> None:
    plan = await api.acme.rows.plan()
    async with api.acme.rows.write() as transaction:
        (await transaction.session.get_one(models.DeploymentPlan, plan.id)).is_deleted = True
    assert await api.data(NODE, {"id": encode_id("DeploymentPlan", plan.id)}) == {"node": None}
    assert (await api.data("{ deploymentPlans { totalCount { value } } }"))["deploymentPlans"] == {
        "totalCount": {"value": 0}
    }


async def test_an_id_of_another_type_is_not_taken(api: Api) -> None:
    plan = await api.acme.rows.plan()
    query = "query ($id: ID!) { workflow(id: $id) { id } orchestrationJob(id: $id) { id } }"
    answer = await api.data(query, {"id": encode_id("DeploymentPlan", plan.id)})
    assert answer == {"workflow": None, "orchestrationJob": None}


async def test_tokens_are_for_their_owner_and_for_administrators(api: Api) -> None:
    colleague = await api.acme.rows.add(
        models.User(tenant_id=api.acme.tenant_id, email="v@acme.example", display_name="V", role=Role.VIEWER)
    )
    gid = encode_id("User", colleague.id)
    query = "query ($id: ID!) { node(id: $id) { ... on User { tokens { nodes { id } } } } }"
    answer = await api.data(query, {"id": gid})
    assert answer["node"] == {"tokens": {"nodes": []}}


@pytest.mark.parametrize("number", [0, 1, 2**63 - 1])
def test_ids_survive_the_journey(number: int) -> None:
    assert decode_id(encode_id("CloudResource", number), "CloudResource") == ("CloudResource", number)


@pytest.mark.parametrize("spoil", [lambda t: t + "!", lambda t: t[:-3], lambda t: " " + t, lambda t: t.swapcase()])
def test_a_spoiled_id_is_malformed(spoil: Callable[[str], str]) -> None:
    with pytest.raises(MalformedId):
        decode_id(spoil(encode_id("CloudResource", 1234567)), "CloudResource")


def _first_step(workflow_id: int) -> Any:
    from sqlalchemy import select

    return select(models.WorkflowStep.id).where(models.WorkflowStep.workflow_id == workflow_id).limit(1)
