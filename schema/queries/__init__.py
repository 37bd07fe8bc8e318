"""What may be asked."""

from __future__ import annotations

import strawberry

from schema.queries.accesses import AccessQueries
from schema.queries.audit import AuditQueries
from schema.queries.catalogue import CatalogueQueries
from schema.queries.jobs import JobQueries
from schema.queries.nodes import NodeQueries
from schema.queries.plans import PlanQueries
from schema.queries.policies import PolicyQueries
from schema.queries.resources import ResourceQueries
from schema.queries.roles import RoleQueries
from schema.queries.service_accounts import ServiceAccountQueries
from schema.queries.templates import TemplateQueries
from schema.queries.tenants import TenantQueries
from schema.queries.webhooks import WebhookQueries
from schema.queries.workflows import WorkflowQueries


@strawberry.type
class Query(
    NodeQueries,
    TenantQueries,
    WorkflowQueries,
    TemplateQueries,
    PlanQueries,
    JobQueries,
    ResourceQueries,
    CatalogueQueries,
    WebhookQueries,
    PolicyQueries,
    RoleQueries,
    ServiceAccountQueries,
    AccessQueries,
    AuditQueries,
):
    """Everything that can be read. Nothing here changes anything."""
