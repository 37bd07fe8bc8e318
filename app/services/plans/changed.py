"""What was agreed to of a plan, and what follows when it would do something else by the time that it is due."""

from __future__ import annotations

from dataclasses import dataclass

from app.db.models import DeploymentPlan
from app.domain.enums import ChangedPolicy
from app.domain.planning import Deployment
from app.domain.policies import overridable
from app.domain.scheduling import Schedule
from app.services.plans import councils

WHY = "what it would do is not what was agreed to any more"


@dataclass(frozen=True, slots=True)
class Agreement:
    """The preview that a plan has been let go with, the failures of policies that were overruled, and its setting."""

    preview_hash: str | None
    overruled: frozenset[str]
    changed: ChangedPolicy | None

    @classmethod
    def of(cls, plan: DeploymentPlan) -> Agreement:
        """Of a plan that waits for its time, before it is worked out anew."""
        changed = None if plan.schedule is None else Schedule.of(plan.schedule).changed
        return cls(plan.preview_hash, frozenset(overridable(councils.findings_of(plan))), changed)

    def calls_off(self, deployment: Deployment) -> bool:
        """Whether the plan is not to run because it would do something else. Nothing to do is nothing else."""
        differs = deployment.preview()["hash"] != self.preview_hash
        return self.changed is ChangedPolicy.CANCEL and differs and not deployment.is_empty

    def covers(self, deployment: Deployment) -> bool:
        """Whether what was agreed to is enough, although it would do something else: policies are not outvoted so."""
        return self.changed is ChangedPolicy.PROCEED and self.overruled.issuperset(overridable(deployment.findings))
