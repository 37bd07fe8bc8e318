"""What mutations answer: the object, or why not. One runner carries every mutation out."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import strawberry

from app.db.uow import Transaction
from app.domain.errors import DomainError, Forbidden, TypeMismatch
from app.services import auditing, idempotency
from schema import inputs
from schema.context import Info
from schema.errors import UserError, user_errors
from schema.nodes import refer
from schema.requirements import require
from schema.types.accesses import PlatformAccess
from schema.types.jobs import OrchestrationJob
from schema.types.plans import DeploymentPlan
from schema.types.policies import Policy
from schema.types.provider_connections import ProviderConnection
from schema.types.resources import CloudResource
from schema.types.roles import CustomRole
from schema.types.service_accounts import ServiceAccount
from schema.types.templates import ResourceTemplate, TemplateRevision
from schema.types.tenants import Tenant
from schema.types.tokens import ApiToken
from schema.types.users import User
from schema.types.webhooks import Webhook, WebhookDelivery
from schema.types.workflows import Workflow, WorkflowStep


@strawberry.interface(
    description="`replayed` is true when the idempotency key was seen before: then nothing was done again."
)
class Payload:
    user_errors: list[UserError]
    replayed: bool
    request_id: str


@strawberry.type
class PlanPayload(Payload):
    plan: DeploymentPlan | None = None


@strawberry.type
class PlanHookPayload(Payload):
    plan: DeploymentPlan | None = None
    path: str | None = strawberry.field(
        default=None, description="Where to POST, below the address of the API: shown here, once, never again."
    )
    signing_secret: str | None = strawberry.field(
        default=None, description="What calls are signed with: shown here, once, never again."
    )


@strawberry.type
class JobPayload(Payload):
    job: OrchestrationJob | None = None
    plan: DeploymentPlan | None = None


@strawberry.type
class TemplatePayload(Payload):
    resource_template: ResourceTemplate | None = None
    revision: TemplateRevision | None = None


@strawberry.type
class WorkflowPayload(Payload):
    workflow: Workflow | None = None


@strawberry.type
class WorkflowStepPayload(Payload):
    workflow_step: WorkflowStep | None = None
    workflow: Workflow | None = None


@strawberry.type
class ResourcePayload(Payload):
    cloud_resource: CloudResource | None = None


@strawberry.type
class TenantPayload(Payload):
    tenant: Tenant | None = None


@strawberry.type
class UserPayload(Payload):
    user: User | None = None


@strawberry.type
class ApiTokenPayload(Payload):
    api_token: ApiToken | None = None
    text: str | None = strawberry.field(default=None, description="The token itself: shown here, once, never again.")


@strawberry.type
class ConnectionPayload(Payload):
    connection: ProviderConnection | None = None


@strawberry.type
class PolicyPayload(Payload):
    policy: Policy | None = None


@strawberry.type
class RolePayload(Payload):
    role: CustomRole | None = None


@strawberry.type
class PlatformAccessPayload(Payload):
    platform_access: PlatformAccess | None = None


@strawberry.type
class ServiceAccountPayload(Payload):
    service_account: ServiceAccount | None = None


@strawberry.type
class WebhookPayload(Payload):
    webhook: Webhook | None = None
    delivery: WebhookDelivery | None = None


@strawberry.type
class WebhookSecretPayload(Payload):
    webhook: Webhook | None = None
    secret: str | None = strawberry.field(
        default=None, description="What messages are signed with, `whsec_…`: shown here, once, never again."
    )


@strawberry.type
class DeletedPayload(Payload):
    deleted_id: strawberry.ID | None = strawberry.field(default=None, description="What is no longer shown.")


PAYLOAD_TYPES = (
    PlanPayload,
    PlanHookPayload,
    JobPayload,
    TemplatePayload,
    WorkflowPayload,
    WorkflowStepPayload,
    ResourcePayload,
    TenantPayload,
    UserPayload,
    ApiTokenPayload,
    ConnectionPayload,
    PolicyPayload,
    RolePayload,
    ServiceAccountPayload,
    PlatformAccessPayload,
    WebhookPayload,
    WebhookSecretPayload,
    DeletedPayload,
)
# The GraphQL type and the loader of each object that an outcome can name.
_OBJECTS = {
    "plan": ("DeploymentPlan", "plan"),
    "job": ("OrchestrationJob", "job"),
    "resource_template": ("ResourceTemplate", "template"),
    "revision": ("TemplateRevision", "revision"),
    "workflow": ("Workflow", "workflow"),
    "workflow_step": ("WorkflowStep", "workflow_step"),
    "cloud_resource": ("CloudResource", "resource"),
    "tenant": ("Tenant", "tenant"),
    "user": ("User", "user"),
    "api_token": ("ApiToken", "token"),
    "connection": ("ProviderConnection", "connection"),
    "policy": ("Policy", "policy"),
    "role": ("CustomRole", "role"),
    "service_account": ("ServiceAccount", "service_account"),
    "platform_access": ("PlatformAccess", "platform_access"),
    "webhook": ("Webhook", "webhook"),
    "delivery": ("WebhookDelivery", "webhook_delivery"),
}

Answer = TypeVar("Answer", bound=Payload)
# What a verb did: the rows it is about, by the payload's field names.
Verb = Callable[[Transaction], Awaitable[dict[str, int | None]]]


async def mutate(info: Info, payload: type[Answer], operation: str, given: Any, verb: Verb, **beside: Any) -> Answer:
    """Carry a mutation out in one transaction, once for each idempotency key, and answer with what it is about.

    A refusal rolls everything back and comes as userErrors. `given` is the input, which the key stands for; `beside`
    goes into the payload as it is when nothing was refused.
    """
    context = info.context
    outcome: dict[str, int | None] = {}
    replayed = False
    try:
        require(context.principal, operation)
        inputs.check(given)
        async with context.write() as transaction:
            outcome, replayed = await idempotency.once(
                transaction, operation, given.idempotency_key, document(given), lambda: verb(transaction)
            )
    except DomainError as error:
        if isinstance(error, Forbidden):
            await _write_down(info, operation, error)
        return payload(user_errors=user_errors(error, _subject(given)), replayed=False, request_id=context.request_id)
    objects = {name: await _object(info, name, number) for name, number in outcome.items()}
    return payload(user_errors=[], replayed=replayed, request_id=context.request_id, **objects, **beside)


def _subject(given: Any) -> str | None:
    """The id of what an input is about, where it has one of the names that mutations call it."""
    return next((found for name in ("id", "plan_id", "job_id") if (found := getattr(given, name, None))), None)


async def _write_down(info: Info, operation: str, error: Forbidden) -> None:
    """Somebody tried what they may not: in the audit log, in a transaction of its own, since theirs is rolled back."""
    async with info.context.write() as transaction:
        transaction.authorize("a refusal is written down")
        await auditing.record(transaction, operation, refused=error.message)


async def _object(info: Info, name: str, number: int | None) -> Any:
    kind, loader = _OBJECTS[name]
    return await refer(info, loader, number, kind)


def mapping(value: Any, *path: str) -> dict[str, Any] | None:
    """A JSON argument that has to be an object, or null. Raises TypeMismatch."""
    if value is None:
        return None
    if not isinstance(value, dict):
        message = f"{path[-1]} is a JSON object"
        raise TypeMismatch(message, path=path)
    return value


def document(given: Any) -> Any:
    """An input as JSON, without the key itself: what the key stands for."""
    document = dataclasses.asdict(given)
    document.pop("idempotency_key")
    return {name: value for name, value in document.items() if value is not strawberry.UNSET}
