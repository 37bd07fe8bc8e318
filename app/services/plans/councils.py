"""Who has spoken about a plan: its reviews, read under its lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import select

from app.auth.principal import Principal
from app.db.models import Approval, DeploymentPlan
from app.db.uow import Transaction
from app.domain.approvals import ApprovalPolicy, Council, Review
from app.domain.enums import UserKind
from app.domain.planning import Deployment
from app.domain.policies import Finding, overridable


def quorum_of(plan: DeploymentPlan, findings: Sequence[Finding] | None = None) -> ApprovalPolicy:
    """Who has to agree to the plan: what it asks for itself, and somebody else where it fails a SOFT_MANDATORY policy.

    `findings` are those stored with it where none are given. Raises as ApprovalPolicy.of does.
    """
    policy = ApprovalPolicy.of(plan.configuration)
    said = findings_of(plan) if findings is None else findings
    return policy.overruling if overridable(said) else policy


def findings_of(plan: DeploymentPlan) -> list[Finding]:
    """What policies said of the plan when it was last worked out."""
    return [Finding.of(document) for document in plan.policy_results or ()]


def council(plan: DeploymentPlan, policy: ApprovalPolicy, rows: list[Approval]) -> Council:
    """The council of a plan from the reviews that are known."""
    authors = {author for author in (plan.user_id, plan.submitted_by_id) if author is not None}
    reviews = tuple(Review(row.user_id, row.approved, row.preview_hash, row.round) for row in rows)
    return Council(policy, authors, plan.review_round, plan.preview_hash, reviews)


def bars(members: Council, principal: Principal) -> bool:
    """Whether somebody may not approve because they asked for it; a service account never may, whatever a plan says."""
    own = principal.kind is UserKind.SERVICE_ACCOUNT and principal.user_id in members.authors
    return own or members.is_barred(principal.user_id)


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


async def is_agreed_to(transaction: Transaction, plan: DeploymentPlan, deployment: Deployment) -> bool:
    """Whether enough people agreed to what would be done now, whatever the plan's stored preview says."""
    policy = quorum_of(plan, deployment.findings)
    if policy.required == 0:
        return True
    return replace(await convene(transaction, plan, policy), preview_hash=deployment.preview()["hash"]).agreed
