"""Standing plans of type AUTOMATED: how they begin to listen, and how they are let go on after too many failures."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import func, null, select, update
from sqlalchemy.dialects.postgresql import insert

from app import clock
from app.db import feed
from app.db.models import AutomationFeed, DeploymentPlan, PlanAutomation, PlanTrigger, ResourceTemplate, Workflow
from app.db.uow import Transaction
from app.domain import automation as documents
from app.domain.automation import Automation, TriggerKind
from app.domain.enums import PlanType, StatusReason
from app.domain.errors import DomainError, Invalid
from app.domain.firing import TriggerOutcome


def faults_of(kind: PlanType, configuration: Any, now: datetime) -> list[DomainError]:
    """What is wrong with what a plan says itself about when it fires."""
    if kind is not PlanType.AUTOMATED:
        if (configuration or {}).get("automation") is None:
            return []
        message = f"a plan of type {kind} fires by no triggers: make it AUTOMATED"
        return [Invalid(message, path=documents.PATH)]
    try:
        documents.check(configuration, now)
    except DomainError as fault:
        return [fault]
    return []


async def document_of(transaction: Transaction, plan: DeploymentPlan) -> dict[str, Any]:
    """The whole document of the plan, its workflow's part included, checked. Raises Invalid and its kin."""
    triggers: Any = None
    if plan.workflow_id is not None:
        triggers = await transaction.session.scalar(
            select(Workflow.triggers).where(Workflow.tenant_id == plan.tenant_id, Workflow.id == plan.workflow_id)
        )
    document = documents.combined(plan.configuration, triggers)
    documents.read(document, clock.utc_now())
    return document


async def arm(transaction: Transaction, plan: DeploymentPlan) -> None:
    """Let the plan listen from now on. What it heard before, in an earlier life, is forgotten."""
    document = await document_of(transaction, plan)
    automation = Automation.of(document)
    here = await feed.head(transaction)
    template = await _followed(transaction, plan) if automation.listens(TriggerKind.TEMPLATE_PUBLISHED) else None
    row = {
        "automation": document,
        "concurrency_key": key_of(automation, plan.id),
        "armed_feed": here.feed,
        "counts_after": await _newest_run(transaction, plan.id),
        "fire_at": automation.next_time(clock.utc_now()),
        "look_at": None,
        "retry_at": None,
        "template_tenant_id": None if template is None else template.tenant_id,
        "template_id": None if template is None else template.id,
        "seen_revision_id": None if template is None else template.latest_revision_id,
    }
    whose = {"tenant_id": transaction.tenant_id, "plan_id": plan.id}
    await transaction.session.execute(
        insert(PlanAutomation).values(whose | row).on_conflict_do_update(index_elements=list(whose), set_=row)
    )
    place = {"tenant_id": transaction.tenant_id, "feed": here.feed, "stream": "", "stream_id": 0, "seq": 0}
    await transaction.session.execute(insert(AutomationFeed).values(place).on_conflict_do_nothing())
    await forget(transaction, plan.id)


def key_of(automation: Automation, plan_id: int) -> str:
    """What the plan's runs are counted under; a plan without a key counts its own."""
    key = automation.concurrency_key
    return f"plan:{plan_id}" if key is None else f"key:{key}"


async def forget(transaction: Transaction, plan_id: int) -> None:
    """What still waits to be decided about was meant for the plan as it was."""
    await transaction.session.execute(
        update(PlanTrigger)
        .where(
            PlanTrigger.tenant_id == transaction.tenant_id,
            PlanTrigger.plan_id == plan_id,
            PlanTrigger.outcome == TriggerOutcome.PENDING,
        )
        .values(
            outcome=TriggerOutcome.SKIPPED,
            reason=StatusReason.NONE,
            message="the plan waits no more",
            payload=null(),
            decided_at=func.clock_timestamp(),
        )
    )


async def close_circuit(transaction: Transaction, plan: DeploymentPlan) -> None:
    """Count failures anew from here: somebody has looked."""
    await transaction.session.execute(
        update(PlanAutomation)
        .where(PlanAutomation.tenant_id == transaction.tenant_id, PlanAutomation.plan_id == plan.id)
        .values(counts_after=await _newest_run(transaction, plan.id), retry_at=None)
    )


async def _newest_run(transaction: Transaction, plan_id: int) -> int:
    newest = await transaction.session.scalar(
        select(func.max(DeploymentPlan.id)).where(
            DeploymentPlan.tenant_id == transaction.tenant_id, DeploymentPlan.parent_plan_id == plan_id
        )
    )
    return newest or 0


async def _followed(transaction: Transaction, plan: DeploymentPlan) -> ResourceTemplate:
    """The template of the plan, which may be another tenant's public one. Raises Invalid when there is none."""
    if plan.template_id is not None:
        found: ResourceTemplate | None = await transaction.session.scalar(
            select(ResourceTemplate).where(
                ResourceTemplate.tenant_id == plan.template_tenant_id, ResourceTemplate.id == plan.template_id
            )
        )
        if found is not None:
            return found
    message = "a plan without a template hears of no publication"
    raise Invalid(message, path=(*documents.PATH, "triggers"))
