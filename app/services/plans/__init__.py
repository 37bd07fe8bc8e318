"""What someone may do with deployment plans; one file a group of verbs."""

from __future__ import annotations

from app.services.plans.authoring import CreatePlan, PlanAction, UpdatePlan, create, delete, submit, update
from app.services.plans.execution import ExecutePlan, RetryPlan, accept_current_state, cancel, execute, retry, rollback
from app.services.plans.forecasting import rollback_preview
from app.services.plans.pausing import pause, resume
from app.services.plans.restoring import create_rollback_plan
from app.services.plans.reviewing import ReviewPlan, review, send_back
from app.services.plans.scopes import RollbackPlan
from app.services.plans.signalling import SignalPlan, signal

__all__ = [
    "CreatePlan",
    "ExecutePlan",
    "PlanAction",
    "RetryPlan",
    "ReviewPlan",
    "RollbackPlan",
    "SignalPlan",
    "UpdatePlan",
    "accept_current_state",
    "cancel",
    "create",
    "create_rollback_plan",
    "delete",
    "execute",
    "pause",
    "resume",
    "retry",
    "review",
    "rollback",
    "rollback_preview",
    "send_back",
    "signal",
    "submit",
    "update",
]
