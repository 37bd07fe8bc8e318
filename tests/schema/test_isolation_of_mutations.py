"""Two tenants: no mutation reaches what is another's, or tells whether it is there."""

from __future__ import annotations

from typing import Any

from graphql import GraphQLInputObjectType, get_named_type, is_required_input_field

from app.db import models
from schema.nodes import encode_id
from tests.schema.belongings import ABSENT, CANARY, KIND_OF, Owned, all_alike, belongings, ids_in, strangers
from tests.schema.conftest import Api
from tests.schema.verbs import Contents, document, mutations

_NOTE = {"resources": {"a": {"type": "core.note", "properties": {"name": "a"}}}}
_WAIT = {"key": "wait", "type": "CUSTOM", "configuration": {"task": "core.wait"}, "inputs": {"seconds": 0}}
# Each mutation: the type that its `id` is of, and what else it needs.
GIVEN: dict[str, tuple[str | None, dict[str, Any]]] = {
    "createPlan": (None, {"name": "p", "type": "MANUAL"}),
    "updatePlan": ("DeploymentPlan", {"expectedVersion": 1, "description": "x"}),
    "submitPlan": (None, {}),
    "reviewPlan": (None, {"previewHash": "0" * 64, "decision": "APPROVE"}),
    "executePlan": (None, {}),
    "pausePlan": (None, {}),
    "resumePlan": (None, {}),
    "signalPlan": (None, {"name": "go"}),
    "cancelPlan": (None, {}),
    "rotatePlanHook": (None, {}),
    "revokePlanHook": (None, {}),
    "retryPlan": (None, {"mode": "RESUME"}),
    "rollbackPlan": (None, {}),
    "createRollbackPlan": (None, {}),
    "acceptCurrentState": (None, {}),
    "deletePlan": (None, {}),
    "cancelJob": (None, {"mode": "FORCE"}),
    "signalJob": (None, {"name": "go"}),
    "continueRollback": (None, {"resolutions": []}),
    "answerGate": (None, {"approve": True}),
    "delegateGate": (None, {}),
    "stepAction": (None, {"action": "RETRY"}),
    "updateOrchestrationJob": ("OrchestrationJob", {"expectedVersion": 1, "description": "x"}),
    "deleteOrchestrationJob": ("OrchestrationJob", {}),
    "updateResourceTemplate": ("ResourceTemplate", {"expectedVersion": 1, "content": _NOTE}),
    "publishResourceTemplate": ("ResourceTemplate", {"expectedVersion": 1}),
    "deprecateResourceTemplate": ("ResourceTemplate", {}),
    "deleteResourceTemplate": ("ResourceTemplate", {}),
    "updateWorkflow": ("Workflow", {"expectedVersion": 1, "definition": {"steps": [_WAIT]}}),
    "deleteWorkflow": ("Workflow", {}),
    "createWorkflowStep": (None, {"step": _WAIT}),
    "updateWorkflowStep": ("WorkflowStep", {"step": _WAIT}),
    "deleteWorkflowStep": ("WorkflowStep", {}),
    "updateCloudResource": ("CloudResource", {"expectedVersion": 1, "retain": True}),
    "detachCloudResource": ("CloudResource", {}),
    "refreshResource": ("CloudResource", {}),
    "resolveResource": ("CloudResource", {"action": "RETRY"}),
    "acceptDrift": ("CloudResource", {}),
    "ignoreDrift": ("CloudResource", {"path": ["text"], "reason": "x"}),
    "heedDrift": ("CloudResource", {"path": ["text"]}),
    "importResource": (None, {"type": "core.note", "provider": "core", "externalId": "x", "name": "x"}),
    "updateConnection": ("ProviderConnection", {"expectedVersion": 1, "isDefault": True}),
    "deleteConnection": ("ProviderConnection", {}),
    "updateWebhook": ("Webhook", {"expectedVersion": 1, "paused": True}),
    "rotateWebhookSecret": ("Webhook", {}),
    "deleteWebhook": ("Webhook", {}),
    "testWebhook": ("Webhook", {}),
    "replayWebhook": ("Webhook", {"from": "2026-01-31T08:00:00Z"}),
    "redeliverWebhook": (None, {}),
    "updateRole": ("CustomRole", {"expectedVersion": 1, "description": "x"}),
    "deleteRole": ("CustomRole", {}),
    "updatePolicy": ("Policy", {"expectedVersion": 1, "enabled": False}),
    "deletePolicy": ("Policy", {}),
    "createUser": (None, {"email": "x@acme.example", "displayName": "x"}),
    "updateUser": ("User", {"expectedVersion": 1, "displayName": "x"}),
    "deleteUser": ("User", {}),
    "createApiToken": (None, {"name": "x"}),
    "revokeApiToken": ("ApiToken", {}),
    "createServiceAccount": (None, {"name": "x"}),
    "updateServiceAccount": ("ServiceAccount", {"expectedVersion": 1, "name": "x"}),
    "deleteServiceAccount": ("ServiceAccount", {}),
    "rotateApiToken": ("ApiToken", {"graceSeconds": 60}),
    "endPlatformAccess": ("PlatformAccess", {}),
    "inviteUser": (None, {}),
}
# These take no id at all; what they make or change can only be the asker's.
WITHOUT_ID = {
    "createResourceTemplate", "createWorkflow", "createConnection", "updateTenant", "createWebhook", "createPolicy",
    "createRole",
}  # fmt: skip


# It answers for each plan apart, and has its case in test_bulk.py.
APART = {"bulkPlanAction"}


def given_type(name: str) -> GraphQLInputObjectType:
    kind = get_named_type(mutations()[name].args["input"].type)
    assert isinstance(kind, GraphQLInputObjectType)
    return kind


def places() -> list[tuple[str, str]]:
    """Every mutation with every field of its input that takes an id."""
    return [(name, field) for name in sorted(mutations().keys() - APART) for field in sorted(ids_in(given_type(name)))]


def beside(name: str, field: str, ours: Owned) -> dict[str, Any]:
    """What the input needs beside an id in `field`: the other ids that it cannot do without are our own."""
    kind = given_type(name)
    others = {other for other in ids_in(kind) if is_required_input_field(kind.fields[other])} - {field}
    filled = {other: ours.gid(KIND_OF.get(other) or GIVEN[name][0] or "") for other in others}
    if name == "createPlan" and field in ("dependsOnPlanIds", "resourceIds"):
        filled["workflowId"] = ours.gid("Workflow")
    # `belongings` has changed our user and our plan after it made them.
    renamed = filled and GIVEN[name][0] in ("User", "DeploymentPlan")
    return {**GIVEN[name][1], **filled, **({"expectedVersion": 2} if renamed else {})}


def test_every_mutation_has_a_case() -> None:
    assert mutations().keys() == GIVEN.keys() | WITHOUT_ID | APART
    assert {name for name in mutations() if not ids_in(given_type(name))} - APART == WITHOUT_ID


async def test_no_mutation_reaches_another_tenant(api: Api, database_url: str) -> None:
    theirs, ours = await belongings(api.rival, CANARY), await belongings(api.acme, "ours")
    before = await Contents.of(database_url)
    for name, field in places():
        kind = KIND_OF.get(field) or GIVEN[name][0]
        assert kind is not None
        ids = strangers(kind, theirs, ours)
        variants = {
            why: {"input": {"idempotencyKey": why, **beside(name, field, ours), field: gid}} for why, gid in ids.items()
        }
        answer = await all_alike(api, document(name), variants)
        (error,) = answer["data"][name]["userErrors"]
        found = (error["__typename"], error["code"], error["path"])
        assert found == ("SimpleUserError", "NOT_FOUND", [field]), (name, field)
    assert await Contents.of(database_url) == before


DELETABLE: dict[str, type[Any]] = {
    "DeploymentPlan": models.DeploymentPlan,
    "OrchestrationJob": models.OrchestrationJob,
    "Workflow": models.Workflow,
    "WorkflowStep": models.WorkflowStep,
    "ResourceTemplate": models.ResourceTemplate,
    "CloudResource": models.CloudResource,
    "ProviderConnection": models.ProviderConnection,
    "Policy": models.Policy,
    "CustomRole": models.CustomRole,
    "Webhook": models.WebhookEndpoint,
}


async def test_what_was_deleted_is_as_if_it_were_not_there(api: Api) -> None:
    ours = await belongings(api.acme, "ours")
    async with api.acme.rows.write() as transaction:
        for kind, table in DELETABLE.items():
            (await transaction.session.get_one(table, ours.numbers[kind])).is_deleted = True
    asked = [(name, field, KIND_OF.get(field) or GIVEN[name][0] or "") for name, field in places()]
    assert {kind for _, _, kind in asked} >= DELETABLE.keys()
    for name, field, kind in asked:
        if kind in DELETABLE:
            ids = {"deleted": ours.gid(kind), "nobody's": encode_id(kind, ABSENT)}
            variants = {
                why: {"input": {"idempotencyKey": why, **beside(name, field, ours), field: gid}}
                for why, gid in ids.items()
            }
            answer = await all_alike(api, document(name), variants)
            assert [error["code"] for error in answer["data"][name]["userErrors"]] == ["NOT_FOUND"], name


async def test_an_idempotency_key_means_nothing_to_another_tenant(api: Api) -> None:
    text = document("createWorkflow")
    given = {"idempotencyKey": "k", "name": f"{CANARY}-x", "type": "CUSTOM", "definition": {"steps": [_WAIT]}}
    first = (await api.data(text, {"input": given}, access=api.rival))["createWorkflow"]
    second = (await api.data(text, {"input": {**given, "name": "x"}}))["createWorkflow"]
    assert (second["replayed"], second["workflow"]["name"]) == (False, "x")
    assert first["workflow"]["id"] != second["workflow"]["id"]
