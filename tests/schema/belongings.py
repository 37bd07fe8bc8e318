"""What a tenant owns: one of everything, all of it related, with a word in every text that a client could see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from graphql import GraphQLInputObjectType, get_named_type
from sqlalchemy import select

from app.db import models
from app.domain.events import Event, EventKind, Stream
from app.domain.statuses import JobStatus
from schema.nodes import encode_id
from tests.schema.conftest import Access, Api
from tests.schema.rows import TEMPLATE, WORKFLOW

CANARY = "canary-7f3a"
ABSENT = 999_999_999
# The type whose ids an argument or input field takes; for `id` the case itself says it.
KIND_OF = {
    "planId": "DeploymentPlan",
    "againstPlanId": "DeploymentPlan",
    "dependsOnPlanIds": "DeploymentPlan",
    "resourceIds": "CloudResource",
    "jobId": "OrchestrationJob",
    "workflowId": "Workflow",
    "templateId": "ResourceTemplate",
    "templateRevisionId": "TemplateRevision",
    "resourceId": "CloudResource",
    "userId": "User",
    "stepRunId": "StepRun",
    "deliveryId": "WebhookDelivery",
    "customRoleId": "CustomRole",
}


@dataclass(frozen=True, slots=True)
class Owned:
    """One row of every type that is a Node, by type name: global ids."""

    numbers: dict[str, int]

    def gid(self, kind: str) -> str:
        return encode_id(kind, self.numbers[kind])


async def belongings(access: Access, word: str) -> Owned:
    """One of everything, all of it related to each other, with `word` in every text that a client could see."""
    rows, told = access.rows, {"text": word}
    content = {**TEMPLATE, "constraints": [{"assert": "${true}", "message": word}]}
    definition = {"steps": [{**step, "name": word, "description": word} for step in WORKFLOW["steps"]]}
    workflow = await rows.workflow(
        f"{word}-workflow", definition=definition, description=word, triggers=told, conditions=told, actions=told,
        metadata_=told,
    )  # fmt: skip
    template = await rows.template(
        f"{word}-template", template_content=content, description=word, tags=told, metadata_=told
    )
    revision = await rows.revision(template)
    error = {"class": "PERMANENT", "code": "X", "message": word, "retryable": False, "stepKey": word, "detail": told}
    diagnostic = {"severity": "WARN", "code": "X", "message": word, "path": [word], "suggestion": word}
    plan = await rows.plan(
        f"{word}-plan", workflow_id=workflow.id, template_tenant_id=access.tenant_id, template_id=template.id,
        template_revision_id=revision.id, description=word, parameters=told, configuration=told, metadata_=told,
        diagnostics=[diagnostic], status_message=word, error_message=word, condition=told,
    )  # fmt: skip
    await rows.add(
        models.ConditionEvaluation(
            tenant_id=access.tenant_id, plan_id=plan.id, spawned_plan_id=plan.id, result=True, trigger=word,
            message=word, inputs=told,
        )
    )  # fmt: skip
    job = await rows.job(
        plan, job_name=f"{word}-job", description=word, inputs=told, configuration=told, outputs=told, metadata_=told,
        error=error, error_message=word, status=JobStatus.ROLLBACK_FAILED,
    )  # fmt: skip
    resource = await rows.resource(
        f"{word}-resource", plan, desired=told, applied=told, observed=told, outputs=told, external_id=word
    )
    step = await rows.step(job, f"{word}-step", resource_id=resource.id, inputs=told, outputs=told, error=error)
    await rows.attempt(step, error=error, worker=word)
    await rows.lines(job, word, step=word)
    await rows.events(Stream.JOB, job.id, Event(EventKind.STEP_PROGRESSED, {
        "jobId": job.id, "stepRunId": step.id, "stepKey": word, "percent": 1.0, "message": word,
    }))  # fmt: skip
    connection = await rows.add(
        models.ProviderConnection(
            tenant_id=access.tenant_id, name=f"{word}-connection", provider="postgres", config=told
        )
    )
    webhook = await rows.webhook(
        f"{word}-webhook", url=f"https://hooks.example/{word}", secret=told, selection=word, last_error=word
    )
    delivery = await rows.delivery(webhook, type=word, message_id=word, error=word, answer=word)
    role = await rows.role(f"{word}-role", description=word)
    access_id = await rows.platform_access(f"{word}@platform.example", word)
    account = await rows.service_account(f"{word}-account")
    policy = await rows.policy(f"{word}-policy", description=word, message=word)
    async with rows.write() as transaction:
        session = transaction.session
        stored = await session.get_one(models.DeploymentPlan, plan.id)
        stored.active_job_id = stored.last_job_id = job.id
        (await session.get_one(models.User, access.principal.user_id)).display_name = word
        (await session.get_one(models.ApiToken, access.principal.token_id)).name = word
        (await session.get_one(models.Tenant, access.tenant_id)).name = word
        defined = await session.scalar(
            select(models.WorkflowStep.id).where(models.WorkflowStep.workflow_id == workflow.id).limit(1)
        )
    return Owned(
        {
            "Tenant": access.tenant_id,
            "User": access.principal.user_id,
            "ApiToken": access.principal.token_id,
            "Workflow": workflow.id,
            "WorkflowStep": defined or 0,
            "ResourceTemplate": template.id,
            "TemplateRevision": revision.id,
            "DeploymentPlan": plan.id,
            "OrchestrationJob": job.id,
            "StepRun": step.id,
            "CloudResource": resource.id,
            "ProviderConnection": connection.id,
            "Policy": policy.id,
            "ServiceAccount": account.id,
            "PlatformAccess": access_id,
            "CustomRole": role.id,
            "Webhook": webhook.id,
            "WebhookDelivery": delivery.id,
        }
    )


def strangers(kind: str, theirs: Owned, ours: Owned) -> dict[str, str]:
    """Ids that `kind` may not be found by, and nobody may tell which is which."""
    other = "Workflow" if kind != "Workflow" else "DeploymentPlan"
    return {
        "another tenant's": theirs.gid(kind),
        "nobody's": encode_id(kind, ABSENT),
        "beyond 64 bits": encode_id(kind, 2**63),
        "of another type": ours.gid(other),
        "malformed": "no id",
        "empty": "",
    }


async def raw(api: Api, text: str, variables: dict[str, Any], access: Access | None = None) -> bytes:
    """The bytes of an answer. All requests have the same number, so answers may differ in what they say only."""
    body = {"query": text, "variables": variables}
    token = (access or api.acme).token
    response = await api.post(body, token=token, x_request_id="same")
    assert response.status_code == 200
    return response.content


async def all_alike(api: Api, text: str, variants: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The one answer to every variant of the variables."""
    answers = {name: await raw(api, text, variables) for name, variables in variants.items()}
    different = {name: answer for name, answer in answers.items() if answer != answers["nobody's"]}
    assert not different, (different, answers["nobody's"])
    assert CANARY.encode() not in answers["nobody's"]
    found: dict[str, Any] = orjson.loads(answers["nobody's"])
    return found


def ids_in(kind: GraphQLInputObjectType) -> set[str]:
    """The fields of an input that take an id."""
    return {name for name, field in kind.fields.items() if get_named_type(field.type).name == "ID"}
