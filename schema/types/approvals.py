# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""Reviews of plans."""

from __future__ import annotations

from datetime import datetime

import strawberry

from app.db import models
from app.domain.approvals import ApprovalPolicy
from app.domain.enums import ReviewDecision
from app.domain.errors import DomainError
from app.services.plans.councils import council, quorum_of
from schema.context import Info
from schema.fields import described
from schema.nodes import load
from schema.types.entities import actor_of
from schema.types.references import ActorRef, UserRef


@strawberry.type(description="What somebody said of a preview of a plan.")
class Review:
    user_id: strawberry.Private[int]
    created_by: strawberry.Private[str | None]
    decision: ReviewDecision
    comment: str | None
    at: datetime
    preview_hash: str

    @strawberry.field
    async def by(self, info: Info) -> UserRef:
        return await load(info.context.loaders.actor, self.user_id, "User")

    @described("The same, as what they are.")
    async def actor(self, info: Info) -> ActorRef | None:
        return await actor_of(info, self.created_by)

    @classmethod
    def of(cls, row: models.Approval) -> Review:
        return cls(
            user_id=row.user_id,
            created_by=row.created_by,
            decision=ReviewDecision.APPROVE if row.approved else ReviewDecision.REJECT,
            comment=row.comment,
            at=row.created_at,
            preview_hash=row.preview_hash,
        )


@strawberry.type(description="Who has to agree before a plan runs.")
class Approvals:
    required: int
    granted: int = strawberry.field(
        description="Different people who have approved what it would do now. An edit or a changed preview voids them."
    )
    preview_hash: str | None = strawberry.field(description="What a review has to name.")
    deadline: datetime | None = strawberry.field(description="Not approved until then, the plan becomes EXPIRED.")
    reviews: list[Review] = strawberry.field(
        description="Oldest first, those of earlier previews too; the newest hundred."
    )

    @classmethod
    def of(cls, plan: models.DeploymentPlan, rows: list[models.Approval]) -> Approvals:
        """The approvals of a plan whose newest reviews are `rows`."""
        try:
            policy = quorum_of(plan)
        except DomainError:
            # Stored before it was checked; submitting such a plan is refused and says why.
            policy = ApprovalPolicy()
        members = council(plan, policy, rows)
        return cls(
            required=policy.required,
            granted=members.granted,
            preview_hash=plan.preview_hash,
            deadline=plan.approval_deadline,
            reviews=[Review.of(row) for row in rows],
        )
