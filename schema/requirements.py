"""What permission each root field needs at the least: a field that nobody has thought about does not get built.

The services ask again (app.services.authorizing), about the very object. This is the net above: it is complete by
construction, and it is what clients are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from graphql import GraphQLSchema

from app.auth.principal import Principal
from app.domain.enums import Permission
from app.domain.errors import Forbidden

_MUTATIONS: Final[Mapping[Permission, str]] = {
    # What of it is asked of others than oneself needs more, and the services say so.
    Permission.READ: "createApiToken rotateApiToken revokeApiToken bulkPlanAction",
    Permission.WRITE: (
        "createPlan updatePlan submitPlan createResourceTemplate updateResourceTemplate publishResourceTemplate"
        " deprecateResourceTemplate createWorkflow updateWorkflow createWorkflowStep updateWorkflowStep"
        " updateOrchestrationJob updateCloudResource testWebhook replayWebhook redeliverWebhook acceptDrift ignoreDrift"
        " heedDrift importResource"
    ),
    Permission.APPROVE: "reviewPlan answerGate delegateGate",
    Permission.EXECUTE: (
        "executePlan retryPlan pausePlan resumePlan signalPlan signalJob stepAction rotatePlanHook revokePlanHook"
        " refreshResource resolveResource"
    ),
    Permission.CANCEL: "cancelPlan cancelJob",
    Permission.ROLLBACK: "rollbackPlan createRollbackPlan continueRollback acceptCurrentState",
    Permission.DELETE: (
        "deletePlan deleteResourceTemplate deleteWorkflow deleteWorkflowStep deleteOrchestrationJob detachCloudResource"
    ),
    Permission.ADMIN: (
        "createConnection updateConnection deleteConnection createUser updateUser deleteUser inviteUser updateTenant"
        " createWebhook updateWebhook rotateWebhookSecret deleteWebhook createPolicy updatePolicy deletePolicy"
        " createRole updateRole deleteRole endPlatformAccess"
        " createServiceAccount updateServiceAccount deleteServiceAccount"
    ),
}
_QUERIES: Final[Mapping[Permission, str]] = {
    Permission.READ: (
        "viewer tenant node nodes workflow workflows resourceTemplate resourceTemplates deploymentPlan deploymentPlans"
        " orchestrationJob orchestrationJobs cloudResource cloudResources webhook webhooks policy policies roles"
        " serviceAccounts previewPlan rollbackPreview resourceTypes"
    ),
    Permission.ADMIN: "auditLog platformAccesses",
}
_SUBSCRIPTIONS: Final[Mapping[Permission, str]] = {
    Permission.READ: "jobUpdated jobLogs planUpdated plansChanged jobsChanged tenantEvents replayJob",
}


def _by_field(table: Mapping[Permission, str]) -> Mapping[str, Permission]:
    return MappingProxyType({name: permission for permission, names in table.items() for name in names.split()})


MUTATIONS, QUERIES, SUBSCRIPTIONS = _by_field(_MUTATIONS), _by_field(_QUERIES), _by_field(_SUBSCRIPTIONS)


class Undeclared(Exception):
    """The schema has root fields of which nobody has said what they need, or the other way round."""


def require(principal: Principal, mutation: str) -> None:
    """Raises Forbidden for whoever lacks what the mutation needs at the least."""
    needed = MUTATIONS[mutation]
    if not principal.may(needed):
        message = f"this needs the permission {needed.value}"
        raise Forbidden(message, required=needed.value)


def declare(schema: GraphQLSchema) -> None:
    """Tell clients what each mutation needs. Raises Undeclared."""
    declared = {"Query": QUERIES, "Mutation": MUTATIONS, "Subscription": SUBSCRIPTIONS}
    roots = (schema.query_type, schema.mutation_type, schema.subscription_type)
    faults = [
        f"{root.name}.{name}"
        for root in roots
        if root is not None
        for name in sorted(root.fields.keys() ^ declared[root.name].keys())
    ]
    if faults:
        message = f"what permission is needed is said of these, or they are there, but not both: {', '.join(faults)}"
        raise Undeclared(message)
    if schema.mutation_type is not None:
        for name, field in schema.mutation_type.fields.items():
            field.description = " ".join(filter(None, (field.description, f"Needs {MUTATIONS[name].value}.")))
