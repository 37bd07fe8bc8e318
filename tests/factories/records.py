"""Rows of definitions, plans, jobs and resources, written straight into the tables. Columns can be given by name."""

from __future__ import annotations

from typing import Any, TypeVar

from app.db import models
from app.domain.enums import DefinitionStatus, JobType, PlanType, TemplateType, WorkflowType
from app.domain.statuses import ResourceStatus
from tests.factories.tenants import Access

Row = TypeVar("Row", bound=models.Base)

CONTENT: dict[str, Any] = {
    "parameters": {"type": "object", "properties": {"name": {"type": "string"}}},
    "resources": {"note": {"type": "core.note", "properties": {"text": "${parameters.name}"}}},
}
STEPS: dict[str, Any] = {
    "steps": [{"key": "wait", "type": "CUSTOM", "configuration": {"task": "core.wait"}, "inputs": {"seconds": 0}}]
}


async def add(access: Access, row: Row) -> Row:
    """Write a row as the application's role."""
    async with access.write() as transaction:
        transaction.authorize("test")
        transaction.session.add(row)
        await transaction.session.flush()
        await transaction.session.refresh(row)
    return row


async def template(access: Access, name: str = "template", **columns: Any) -> models.ResourceTemplate:
    values = {
        "template_type": TemplateType.DATABASE,
        "template_content": CONTENT,
        "status": DefinitionStatus.PUBLISHED,
        **columns,
    }
    return await add(access, models.ResourceTemplate(tenant_id=access.tenant_id, template_name=name, **values))


async def revision(access: Access, of: models.ResourceTemplate, **columns: Any) -> models.TemplateRevision:
    values = {
        "number": 1,
        "content": of.template_content,
        "checksum": "0" * 64,
        "is_public": of.is_public,
        **columns,
    }
    return await add(access, models.TemplateRevision(tenant_id=access.tenant_id, template_id=of.id, **values))


async def workflow(access: Access, name: str = "workflow", **columns: Any) -> models.Workflow:
    values = {
        "workflow_type": WorkflowType.DEPLOYMENT,
        "definition": STEPS,
        "status": DefinitionStatus.PUBLISHED,
        **columns,
    }
    return await add(access, models.Workflow(tenant_id=access.tenant_id, workflow_name=name, **values))


async def plan(access: Access, name: str = "plan", **columns: Any) -> models.DeploymentPlan:
    values = {"plan_type": PlanType.MANUAL, "stack": name, "user_id": access.principal.user_id, **columns}
    return await add(access, models.DeploymentPlan(tenant_id=access.tenant_id, plan_name=name, **values))


async def job(access: Access, of: models.DeploymentPlan, **columns: Any) -> models.OrchestrationJob:
    values = {"job_name": f"{of.plan_name} #1", "job_type": JobType.DEPLOY, "stack": of.stack, **columns}
    return await add(access, models.OrchestrationJob(tenant_id=access.tenant_id, plan_id=of.id, **values))


async def resource(access: Access, key: str = "note", **columns: Any) -> models.CloudResource:
    values = {
        "stack": "stack",
        "name": key,
        "type": "core.note",
        "provider": "core",
        "status": ResourceStatus.ACTIVE,
        **columns,
    }
    return await add(access, models.CloudResource(tenant_id=access.tenant_id, resource_key=key, **values))
