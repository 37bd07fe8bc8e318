"""Questions about workflows and their steps."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Workflow, WorkflowStep
from app.db.pages import Order
from app.reads import rows
from app.reads.filters import WorkflowFilter

_COLUMNS = {
    "CREATED_AT": Workflow.created_at,
    "UPDATED_AT": Workflow.updated_at,
    "NAME": Workflow.workflow_name,
}


def order(by: str = "CREATED_AT", *, descending: bool = True) -> Order:
    """By CREATED_AT, UPDATED_AT or NAME."""
    return Order(f"workflow:{by}:{descending}", (_COLUMNS[by],), Workflow.id, descending)


def listed(tenant_id: int, wanted: WorkflowFilter) -> Select[Workflow]:
    """The tenant's workflows that `wanted` describes."""
    return rows.of_tenant(Workflow, tenant_id).where(
        *rows.one_of(Workflow.status, wanted.status),
        *rows.one_of(Workflow.workflow_type, wanted.type),
        *rows.text_conditions(Workflow.workflow_name, wanted.name),
        *rows.exactly(Workflow.is_active, wanted.is_active),
    )


async def by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, Workflow]:
    return await rows.by_ids(session, rows.of_tenant(Workflow, tenant_id), ids)


async def steps_by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, WorkflowStep]:
    """Step definitions, also those deleted since: a finished run still says what it ran."""
    query = rows.of_tenant(WorkflowStep, tenant_id, deleted=True)
    return await rows.by_ids(session, query, ids)


async def live_steps_by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, WorkflowStep]:
    """Step definitions of workflows as they are now."""
    workflow = (Workflow.tenant_id == WorkflowStep.tenant_id) & (Workflow.id == WorkflowStep.workflow_id)
    query = rows.of_tenant(WorkflowStep, tenant_id).join(Workflow, workflow).where(~Workflow.is_deleted)
    return await rows.by_ids(session, query, ids)


async def steps_of(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, list[WorkflowStep]]:
    """The steps of each workflow, in their order."""
    query = rows.of_tenant(WorkflowStep, tenant_id).order_by(WorkflowStep.step_order, WorkflowStep.id)
    return await rows.grouped(session, query, WorkflowStep.workflow_id, ids)
