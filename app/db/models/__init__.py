"""Every table, one file a noun. Importing this package fills `Base.metadata`."""

from __future__ import annotations

from app.db.models.audit import AuditEntry, AuditSeal
from app.db.models.automation import AutomationFeed, PlanAutomation, PlanHook, PlanTrigger
from app.db.models.base import Base
from app.db.models.conditions import ConditionEvaluation, PlanSignal, PlanWatch, WatchCursor
from app.db.models.events import EventLog, JobLog
from app.db.models.jobs import OrchestrationJob
from app.db.models.operations import IdempotencyKey, Worker
from app.db.models.plans import Approval, DeploymentPlan, PlanDependency, PlanFiring, PlanResource
from app.db.models.platform import PlatformAccess, PlatformAdministrator
from app.db.models.policies import Policy
from app.db.models.resources import CloudResource, ProviderConnection, ResourceLock, ResourceRevision
from app.db.models.roles import CustomRole
from app.db.models.simulation import SimulatedResource
from app.db.models.steps import Gate, StepAttempt, StepEffect, StepRun
from app.db.models.templates import ResourceTemplate, TemplateRevision
from app.db.models.tenants import ApiToken, Tenant, TenantLimit, User, UserPassword
from app.db.models.tofu import TofuState, TofuStateVersion
from app.db.models.webhooks import WebhookDelivery, WebhookEndpoint
from app.db.models.workflows import Workflow, WorkflowStep

__all__ = [
    "ApiToken",
    "Approval",
    "AuditEntry",
    "AuditSeal",
    "AutomationFeed",
    "Base",
    "CloudResource",
    "ConditionEvaluation",
    "CustomRole",
    "DeploymentPlan",
    "EventLog",
    "Gate",
    "IdempotencyKey",
    "JobLog",
    "OrchestrationJob",
    "PlanAutomation",
    "PlanDependency",
    "PlanFiring",
    "PlanHook",
    "PlanResource",
    "PlanSignal",
    "PlanTrigger",
    "PlanWatch",
    "PlatformAccess",
    "PlatformAdministrator",
    "Policy",
    "ProviderConnection",
    "ResourceLock",
    "ResourceRevision",
    "ResourceTemplate",
    "SimulatedResource",
    "StepAttempt",
    "StepEffect",
    "StepRun",
    "TemplateRevision",
    "Tenant",
    "TenantLimit",
    "TofuState",
    "TofuStateVersion",
    "User",
    "UserPassword",
    "WatchCursor",
    "WebhookDelivery",
    "WebhookEndpoint",
    "Worker",
    "Workflow",
    "WorkflowStep",
]
