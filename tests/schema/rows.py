"""Rows as they are after something happened, written straight into the tables."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from app import clock
from app.db import models
from app.db.journal import append, append_lines
from app.db.uow import Database, Transaction
from app.domain.enums import (
    ChangeAction,
    DefinitionStatus,
    JobDirection,
    JobType,
    PlanType,
    PolicyLevel,
    PolicySubject,
    Role,
    StepType,
    TemplateType,
    UserKind,
    WorkflowType,
)
from app.domain.events import Event, Stream
from app.domain.operations import OperationKind
from app.domain.statuses import JobStatus, PlanStatus, ResourceStatus, StepStatus
from app.domain.webhooks import DeliverySource, DeliveryStatus
from app.services.seeding import as_platform
from schema.nodes import number_in

Row = TypeVar("Row", bound=models.Base)

TEMPLATE: dict[str, Any] = {
    "parameters": {"type": "object", "properties": {"name": {"type": "string"}}},
    "resources": {
        "role": {"type": "postgres.role", "properties": {"name": "${parameters.name}"}},
        "database": {
            "type": "postgres.database",
            "properties": {"name": "app", "owner": "${resources.role.properties.name}"},
        },
    },
    "outputs": {"owner": {"value": "${resources.role.properties.name}"}},
}
WORKFLOW: dict[str, Any] = {
    "steps": [
        {"key": "first", "type": "CUSTOM", "configuration": {"task": "core.wait"}, "inputs": {"seconds": 0}},
        {
            "key": "second",
            "type": "CUSTOM",
            "configuration": {"task": "core.wait"},
            "inputs": {"seconds": 0},
            "dependsOn": ["first"],
            "retry": {"maxAttempts": 5, "initialSeconds": 2},
        },
    ]
}


@dataclass(slots=True)
class Rows:
    """Writes rows of one tenant; every method gives back what it wrote."""

    database: Database
    tenant_id: int
    user_id: int
    actor: str

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        async with self.database.write(self.tenant_id, actor=self.actor, correlation_id="test") as transaction:
            transaction.authorize("test")
            yield transaction

    async def add(self, row: Row) -> Row:
        async with self.write() as transaction:
            transaction.session.add(row)
            await transaction.session.flush()
            await transaction.session.refresh(row)
        return row

    async def workflow(self, name: str = "flow", **columns: Any) -> models.Workflow:
        values = {
            "workflow_type": WorkflowType.DEPLOYMENT,
            "definition": WORKFLOW,
            "status": DefinitionStatus.PUBLISHED,
            "created_by": self.actor,
            **columns,
        }
        workflow = await self.add(models.Workflow(tenant_id=self.tenant_id, workflow_name=name, **values))
        for order, step in enumerate(values["definition"]["steps"]):
            await self.add(
                models.WorkflowStep(
                    tenant_id=self.tenant_id,
                    workflow_id=workflow.id,
                    step_key=step["key"],
                    step_name=step["key"].title(),
                    step_order=order,
                    step_type=StepType(step["type"]),
                    status=DefinitionStatus.PUBLISHED,
                    configuration=step["configuration"],
                    inputs=step["inputs"],
                )
            )
        return workflow

    async def template(self, name: str = "template", **columns: Any) -> models.ResourceTemplate:
        values = {"template_type": TemplateType.DATABASE, "template_content": TEMPLATE, **columns}
        return await self.add(models.ResourceTemplate(tenant_id=self.tenant_id, template_name=name, **values))

    async def revision(self, template: models.ResourceTemplate, number: int = 1) -> models.TemplateRevision:
        revision = await self.add(
            models.TemplateRevision(
                tenant_id=self.tenant_id,
                template_id=template.id,
                number=number,
                content=template.template_content,
                checksum="0" * 64,
                is_public=template.is_public,
            )
        )
        async with self.write() as transaction:
            stored = await transaction.session.get_one(models.ResourceTemplate, template.id)
            stored.latest_revision_id = revision.id
            stored.status = DefinitionStatus.PUBLISHED
        return revision

    async def plan(self, name: str = "plan", **columns: Any) -> models.DeploymentPlan:
        values = {
            "plan_type": PlanType.IMMEDIATE,
            "status": PlanStatus.READY,
            "stack": name,
            "user_id": self.user_id,
            "created_by": self.actor,
            **columns,
        }
        return await self.add(models.DeploymentPlan(tenant_id=self.tenant_id, plan_name=name, **values))

    async def settled(self, plan_id: str, status: PlanStatus) -> None:
        """The plan of that global id has come to its end, whatever it was."""
        async with self.write() as transaction:
            plan = await transaction.session.get_one(models.DeploymentPlan, number_in(plan_id, "DeploymentPlan"))
            plan.status = status

    async def job(self, plan: models.DeploymentPlan, **columns: Any) -> models.OrchestrationJob:
        values = {
            "job_name": f"{plan.plan_name} #1",
            "job_type": JobType.DEPLOY,
            "status": JobStatus.RUNNING,
            "stack": plan.stack,
            **columns,
        }
        return await self.add(models.OrchestrationJob(tenant_id=self.tenant_id, plan_id=plan.id, **values))

    async def step(self, job: models.OrchestrationJob, key: str, **columns: Any) -> models.StepRun:
        values = {
            "name": key.title(),
            "step_type": StepType.RESOURCE_CREATE,
            "operation": OperationKind.APPLY,
            "change": ChangeAction.CREATE,
            "status": StepStatus.SUCCEEDED,
            "needs": [],
            "spec": {},
            "timeout_seconds": 60.0,
            "operation_id": uuid.uuid4(),
            **columns,
        }
        return await self.add(models.StepRun(tenant_id=self.tenant_id, job_id=job.id, step_key=key, **values))

    async def attempt(self, step: models.StepRun, number: int = 1, **columns: Any) -> models.StepAttempt:
        values = {"direction": JobDirection.FORWARD, "worker": "worker-1", "fence": 1, **columns}
        return await self.add(
            models.StepAttempt(tenant_id=self.tenant_id, step_run_id=step.id, number=number, **values)
        )

    async def resource(
        self, key: str, plan: models.DeploymentPlan | None = None, **columns: Any
    ) -> models.CloudResource:
        values = {
            "stack": "stack" if plan is None else plan.stack,
            "name": key,
            "type": "postgres.role",
            "provider": "postgres",
            "status": ResourceStatus.ACTIVE,
            "owner_plan_id": None if plan is None else plan.id,
            **columns,
        }
        resource = await self.add(models.CloudResource(tenant_id=self.tenant_id, resource_key=key, **values))
        if plan is not None:
            await self.add(models.PlanResource(tenant_id=self.tenant_id, plan_id=plan.id, resource_id=resource.id))
        return resource

    async def policy(self, name: str = "rule", **columns: Any) -> models.Policy:
        """One that everything passes."""
        values = {"level": PolicyLevel.ADVISORY, "subject": PolicySubject.PLAN, "requirement": "${true}", **columns}
        return await self.add(models.Policy(tenant_id=self.tenant_id, name=name, **values))

    async def role(self, name: str = "readers", **columns: Any) -> models.CustomRole:
        """One that reads."""
        values = {"permissions": ["READ"], **columns}
        return await self.add(models.CustomRole(tenant_id=self.tenant_id, name=name, **values))

    async def platform_access(self, administrator: str, reason: str) -> int:
        """One that is over; only the platform can open any."""
        async with as_platform(self.database) as transaction:
            user = models.User(
                tenant_id=self.tenant_id, email=administrator, display_name=reason, kind=UserKind.PLATFORM,
                role=Role.ADMIN,
            )  # fmt: skip
            transaction.session.add(user)
            await transaction.session.flush()
            access = models.PlatformAccess(
                tenant_id=self.tenant_id, administrator=administrator, user_id=user.id, role=Role.VIEWER, reason=reason,
                created_at=clock.utc_now() - timedelta(hours=1), expires_at=clock.utc_now() - timedelta(minutes=1),
            )  # fmt: skip
            transaction.session.add(access)
            await transaction.session.flush()
            return access.id

    async def service_account(self, name: str = "robot", **columns: Any) -> models.User:
        """One that reads."""
        values = {"kind": UserKind.SERVICE_ACCOUNT, "email": "", "role": Role.VIEWER, **columns}
        return await self.add(models.User(tenant_id=self.tenant_id, display_name=name, **values))

    async def webhook(self, name: str = "hook", **columns: Any) -> models.WebhookEndpoint:
        """At the beginning of the feed, with nothing that it could be signed with."""
        place = {"feed": 0, "feed_stream": "", "feed_stream_id": 0, "feed_seq": 0}
        values = {"url": "https://hooks.example/", "secret": {}, **place, **columns}
        return await self.add(models.WebhookEndpoint(tenant_id=self.tenant_id, name=name, **values))

    async def delivery(self, webhook: models.WebhookEndpoint, **columns: Any) -> models.WebhookDelivery:
        values = {
            "source": DeliverySource.PING,
            "type": "webhook.ping",
            "message_id": "msg_1",
            "status": DeliveryStatus.FAILED,
            **columns,
        }
        return await self.add(models.WebhookDelivery(tenant_id=self.tenant_id, endpoint_id=webhook.id, **values))

    async def events(self, stream: Stream, stream_id: int, *events: Event) -> int:
        async with self.write() as transaction:
            return await append(transaction, stream, stream_id, events)

    async def lines(self, job: models.OrchestrationJob, *messages: str, level: str = "INFO", step: str = "a") -> int:
        at = "2026-01-31T08:00:00+00:00"
        lines = [{"at": at, "level": level, "stream": "provider", "message": message} for message in messages]
        async with self.write() as transaction:
            return await append_lines(transaction, job.id, lines, step_run_id=None, step_key=step, attempt=1)
