"""Who has spoken about a plan: its reviews, read under its lock."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select

from app.db.models import Approval, DeploymentPlan
from app.db.uow import Transaction
from app.domain.approvals import ApprovalPolicy, Council, Review


def council(plan: DeploymentPlan, policy: ApprovalPolicy, rows: list[Approval]) -> Council:
    """The council of a plan from the reviews that are known."""
    authors = {author for author in (plan.user_id, plan.submitted_by_id) if author is not None}
    reviews = tuple(Review(row.user_id, row.approved, row.preview_hash, row.round) for row in rows)
    return Council(policy, authors, plan.review_round, plan.preview_hash, reviews)


async def convene(transaction: Transaction, plan: DeploymentPlan, policy: ApprovalPolicy) -> Council:
    """The council of a plan that the caller has locked: what it says will not change before the commit."""
    found = await transaction.session.execute(
        select(Approval).where(
            Approval.tenant_id == transaction.tenant_id,
            Approval.plan_id == plan.id,
            Approval.round == plan.review_round,
        )
    )
    return council(plan, policy, list(found.scalars()))


async def has_agreed(transaction: Transaction, plan: DeploymentPlan, policy: ApprovalPolicy) -> bool:
    """Whether enough people agreed to what the plan's stored preview says; nobody has to where none are required."""
    return policy.required == 0 or (await convene(transaction, plan, policy)).agreed


async def is_agreed_to(transaction: Transaction, plan: DeploymentPlan, preview_hash: str) -> bool:
    """Whether enough people agreed to this hash, whatever the plan's stored preview says."""
    policy = ApprovalPolicy.of(plan.configuration)
    if policy.required == 0:
        return True
    return replace(await convene(transaction, plan, policy), preview_hash=preview_hash).agreed
