"""Types as other types name them. They refer to each other in circles: names are looked up when the schema is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import strawberry

if TYPE_CHECKING:
    from schema.types.jobs import OrchestrationJob
    from schema.types.plans import DeploymentPlan
    from schema.types.provider_connections import ProviderConnection
    from schema.types.resources import CloudResource
    from schema.types.roles import CustomRole
    from schema.types.steps import StepRun
    from schema.types.templates import ResourceTemplate, TemplateRevision
    from schema.types.tenants import Tenant
    from schema.types.tokens import ApiToken
    from schema.types.users import Actor, User
    from schema.types.webhooks import Webhook, WebhookDelivery
    from schema.types.workflows import Workflow, WorkflowStep

ActorRef: TypeAlias = Annotated["Actor", strawberry.lazy("schema.types.users")]
ApiTokenRef: TypeAlias = Annotated["ApiToken", strawberry.lazy("schema.types.tokens")]
ConnectionRef: TypeAlias = Annotated["ProviderConnection", strawberry.lazy("schema.types.provider_connections")]
JobRef: TypeAlias = Annotated["OrchestrationJob", strawberry.lazy("schema.types.jobs")]
PlanRef: TypeAlias = Annotated["DeploymentPlan", strawberry.lazy("schema.types.plans")]
CustomRoleRef: TypeAlias = Annotated["CustomRole", strawberry.lazy("schema.types.roles")]
ResourceRef: TypeAlias = Annotated["CloudResource", strawberry.lazy("schema.types.resources")]
RevisionRef: TypeAlias = Annotated["TemplateRevision", strawberry.lazy("schema.types.templates")]
StepRunRef: TypeAlias = Annotated["StepRun", strawberry.lazy("schema.types.steps")]
TemplateRef: TypeAlias = Annotated["ResourceTemplate", strawberry.lazy("schema.types.templates")]
TenantRef: TypeAlias = Annotated["Tenant", strawberry.lazy("schema.types.tenants")]
UserRef: TypeAlias = Annotated["User", strawberry.lazy("schema.types.users")]
WebhookRef: TypeAlias = Annotated["Webhook", strawberry.lazy("schema.types.webhooks")]
WebhookDeliveryRef: TypeAlias = Annotated["WebhookDelivery", strawberry.lazy("schema.types.webhooks")]
WorkflowRef: TypeAlias = Annotated["Workflow", strawberry.lazy("schema.types.workflows")]
WorkflowStepRef: TypeAlias = Annotated["WorkflowStep", strawberry.lazy("schema.types.workflows")]
