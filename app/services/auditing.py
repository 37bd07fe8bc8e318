"""Writing down who did what: in the transaction in which it was done, so that there is never one without the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.db.audit import ADD
from app.db.changes import Changes
from app.db.statements import dumps
from app.db.uow import Origin, Transaction
from app.domain.audit import AuditOutcome, bounded

# What an outcome names (schema.payloads) and what clients call it; the first that is there is what an act was about.
_TYPES: Mapping[str, str] = {
    "plan": "DeploymentPlan",
    "job": "OrchestrationJob",
    "resource_template": "ResourceTemplate",
    "revision": "TemplateRevision",
    "workflow_step": "WorkflowStep",
    "workflow": "Workflow",
    "cloud_resource": "CloudResource",
    "tenant": "Tenant",
    "role": "CustomRole",
    "platform_access": "PlatformAccess",
    "user": "User",
    "service_account": "ServiceAccount",
    "api_token": "ApiToken",
    "connection": "ProviderConnection",
    "policy": "Policy",
    "webhook": "Webhook",
    "delivery": "WebhookDelivery",
}


async def record(
    transaction: Transaction,
    action: str,
    outcome: Mapping[str, int | None] | None = None,
    *,
    refused: str | None = None,
) -> None:
    """Add an entry: `action` was done, and is about the objects of `outcome`, or was refused because of `refused`.

    What the transaction's session has changed up to now is written beside it, and why somebody acts who is not of the
    tenant.
    """
    await transaction.session.flush()
    changes = transaction.changes or Changes()
    kind, target = _target(outcome or {}, changes)
    origin = transaction.origin or Origin()
    values: dict[str, Any] = {
        "tenant": transaction.tenant_id,
        "actor": transaction.actor,
        "token": origin.token_id or None,
        "address": origin.address[:64] or None,
        "request": transaction.correlation_id[:64],
        "action": action,
        "outcome": (AuditOutcome.DONE if refused is None else AuditOutcome.REFUSED).value,
        "type": kind,
        "target": target,
        "before": dumps(bounded(changes.before)) if changes.before else None,
        "after": dumps({**(bounded(changes.after) if refused is None else {"reason": refused}), **_why(origin)}),
    }
    await transaction.fetch(ADD, values)


def _why(origin: Origin) -> dict[str, Any]:
    return {"$platformAdministration": {"reason": origin.reason}} if origin.reason else {}


def _target(outcome: Mapping[str, int | None], changes: Changes) -> tuple[str | None, int | None]:
    for name, kind in _TYPES.items():
        if outcome.get(name) is not None:
            return kind, outcome[name]
    # What was deleted is in no outcome, and the first thing that was changed is what was meant.
    kind, _, number = next(iter(changes.after), "").partition(":")
    return (kind, int(number)) if number.isdigit() else (None, None)
