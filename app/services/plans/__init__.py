"""What someone may do with deployment plans; one file a group of verbs."""

from __future__ import annotations

from app.services.plans.authoring import CreatePlan, PlanAction, UpdatePlan, create, delete, submit, update
from app.services.plans.execution import ExecutePlan, RetryPlan, RollbackPlan, cancel, execute, retry, rollback
from app.services.plans.pausing import pause, resume

__all__ = [
    "CreatePlan",
    "ExecutePlan",
    "PlanAction",
    "RetryPlan",
    "RollbackPlan",
    "UpdatePlan",
    "cancel",
    "create",
    "delete",
    "execute",
    "pause",
    "resume",
    "retry",
    "rollback",
    "submit",
    "update",
]
