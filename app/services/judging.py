"""What the tenant's policies say of a plan that was worked out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Executable, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.db.models import DeploymentPlan, Policy, ResourceTemplate, TemplateRevision, Tenant, User, Workflow
from app.domain.conditions import time_scope
from app.domain.enums import FailureStrategy, PlanType, RollbackScope
from app.domain.errors import PolicyDenied
from app.domain.planning import Deployment
from app.domain.policies import MOST_POLICIES, Rule, Setting, denied, judge, read

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Proposal:
    """What rules read of a plan, beside what it would change; as much of it as a preview has by default."""

    name: str
    stack: str
    author_id: int | None
    type: PlanType = PlanType.IMMEDIATE
    failure_strategy: FailureStrategy = FailureStrategy.ROLLBACK
    rollback_scope: RollbackScope = RollbackScope.JOB
    configuration: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    teardown: bool = False
    workflow_id: int | None = None
    template_revision_id: int | None = None

    @classmethod
    def of(cls, plan: DeploymentPlan) -> Proposal:
        """A plan's own."""
        return cls(
            name=plan.plan_name,
            stack=plan.stack,
            author_id=plan.user_id,
            type=plan.plan_type,
            failure_strategy=plan.failure_strategy,
            rollback_scope=plan.rollback_scope,
            configuration=plan.configuration,
            metadata=plan.metadata_,
            teardown=bool(plan.teardown),
            workflow_id=plan.workflow_id,
            template_revision_id=plan.template_revision_id,
        )


async def judged(session: AsyncSession, tenant_id: int, proposal: Proposal, deployment: Deployment) -> Deployment:
    """The deployment with what every enabled policy of the tenant says of it."""
    found = await session.scalars(
        select(Policy)
        .where(Policy.tenant_id == tenant_id, Policy.is_enabled, ~Policy.is_deleted)
        .order_by(Policy.name)
        .limit(MOST_POLICIES)
    )
    rules = [_rule(policy) for policy in found]
    if not rules:
        return deployment
    now = clock.utc_now()
    setting = Setting(
        scope={**await _surroundings(session, tenant_id, proposal), "parameters": deployment.parameters},
        times={zone: time_scope(now, zone) for zone in {rule.time_zone for rule in rules}},
    )
    # Thousands of changes take their time, and others shall have theirs meanwhile.
    return replace(deployment, findings=await asyncio.to_thread(judge, rules, deployment.acting, setting))


def require_permitted(deployment: Deployment) -> None:
    """Raises PolicyDenied where a HARD_MANDATORY policy fails, with what the first of them say."""
    refusals = denied(deployment.findings)
    if refusals:
        said = [
            f"{found.policy}{f' ({found.path[-1]})' if found.path else ''}: {found.message or 'not met'}"
            for found in refusals[:_NAMED]
        ]
        more = len(refusals) - len(said)
        raise PolicyDenied("; ".join([*said, *([f"and {more} more"] if more else [])]), path=())


def _rule(policy: Policy) -> Rule:
    rule, faults = read(
        policy.name,
        policy.level,
        policy.subject,
        when=policy.condition,
        require=policy.requirement,
        message=policy.message,
        time_zone=policy.time_zone,
    )
    if rule is None:
        # It was read before it was stored: a rule that is understood no longer must not be passed over.
        message = f"the policy '{policy.name}' cannot be read: {faults[0].message}"
        raise PolicyDenied(message)
    return rule


async def _surroundings(session: AsyncSession, tenant_id: int, proposal: Proposal) -> dict[str, Any]:
    tenant = (await session.execute(select(Tenant.name, Tenant.slug).where(Tenant.id == tenant_id))).one()
    author = await _one(
        session, select(User.email, User.role).where(User.tenant_id == tenant_id, User.id == proposal.author_id)
    )
    workflow = await _one(
        session,
        select(Workflow.workflow_name, Workflow.workflow_type).where(
            Workflow.tenant_id == tenant_id, Workflow.id == proposal.workflow_id
        ),
    )
    template = await _one(
        session,
        select(ResourceTemplate.template_name, TemplateRevision.number, ResourceTemplate.template_type)
        .join(
            TemplateRevision,
            (TemplateRevision.tenant_id == ResourceTemplate.tenant_id)
            & (TemplateRevision.template_id == ResourceTemplate.id),
        )
        .where(TemplateRevision.id == proposal.template_revision_id),
    )
    return {
        "tenant": {"name": tenant.name, "slug": tenant.slug},
        "author": None if author is None else {"email": author[0], "role": author[1].value},
        "workflow": None if workflow is None else {"name": workflow[0], "type": workflow[1].value},
        "template": None
        if template is None
        else {"name": template[0], "revision": template[1], "type": template[2].value},
        "plan": {
            "name": proposal.name,
            "type": proposal.type.value,
            "stack": proposal.stack,
            "failureStrategy": proposal.failure_strategy.value,
            "rollbackScope": proposal.rollback_scope.value,
            "configuration": proposal.configuration or {},
            "metadata": proposal.metadata or {},
            "teardown": proposal.teardown,
        },
    }


async def _one(session: AsyncSession, query: Executable) -> Any:
    """The one row of the query, or None."""
    return (await session.execute(query)).one_or_none()
