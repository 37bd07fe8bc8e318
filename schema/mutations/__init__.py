"""What may be changed."""

from __future__ import annotations

import strawberry

from schema.mutations.accesses import AccessMutations
from schema.mutations.bulk import BulkMutations
from schema.mutations.connections import ConnectionMutations
from schema.mutations.drift import DriftMutations
from schema.mutations.hooks import HookMutations
from schema.mutations.jobs import JobMutations
from schema.mutations.plans import PlanMutations
from schema.mutations.policies import PolicyMutations
from schema.mutations.resources import ResourceMutations
from schema.mutations.roles import RoleMutations
from schema.mutations.service_accounts import ServiceAccountMutations
from schema.mutations.steps import StepMutations
from schema.mutations.templates import TemplateMutations
from schema.mutations.tenants import TenantMutations
from schema.mutations.webhooks import WebhookMutations
from schema.mutations.workflows import WorkflowMutations


@strawberry.type
class Mutation(
    PlanMutations,
    BulkMutations,
    HookMutations,
    JobMutations,
    StepMutations,
    TemplateMutations,
    WorkflowMutations,
    ResourceMutations,
    DriftMutations,
    ConnectionMutations,
    TenantMutations,
    WebhookMutations,
    PolicyMutations,
    RoleMutations,
    ServiceAccountMutations,
    AccessMutations,
):
    """Each takes one `input` with an idempotency key and answers with a payload; what is refused is in userErrors."""
