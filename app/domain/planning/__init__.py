"""From documents, parameters and recorded reality to ordered steps and a preview of what they will change.

`plan` is pure: the same input gives the same deployment and the same hash. It refuses with every fault it finds.
"""

from __future__ import annotations

from app.domain.planning.deployment import (
    Deployment,
    Origin,
    PlannedStep,
    PlanningInput,
    RecordedResource,
    ResourceChange,
)
from app.domain.planning.planner import plan

__all__ = [
    "Deployment",
    "Origin",
    "PlannedStep",
    "PlanningInput",
    "RecordedResource",
    "ResourceChange",
    "plan",
]
