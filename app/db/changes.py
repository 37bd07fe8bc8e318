"""What a session changes, column by column, seen as it is written: for the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from sqlalchemy import Column, event, inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ColumnProperty, Session
from sqlalchemy.orm.base import NO_VALUE

from app.db import models
from app.db.sealing import masked
from app.domain.enums import UserKind

# By what clients call it. What is worked out from the others, or only counts, is left out.
_NAMES: Final[Mapping[type[Any], tuple[str, frozenset[str]]]] = {
    models.Tenant: ("Tenant", frozenset()),
    models.TenantLimit: ("TenantLimit", frozenset()),
    models.User: ("User", frozenset()),
    models.CustomRole: ("CustomRole", frozenset()),
    models.PlatformAccess: ("PlatformAccess", frozenset({"user_id"})),
    models.ApiToken: ("ApiToken", frozenset({"secret_hash", "last_used_at"})),
    models.Workflow: ("Workflow", frozenset({"execution_count", "last_executed_at"})),
    models.WorkflowStep: ("WorkflowStep", frozenset()),
    models.ResourceTemplate: ("ResourceTemplate", frozenset()),
    models.TemplateRevision: ("TemplateRevision", frozenset()),
    models.DeploymentPlan: (
        "DeploymentPlan",
        frozenset({"preview", "dependencies", "diagnostics", "resources", "policy_results"}),
    ),
    models.Approval: ("Approval", frozenset()),
    models.OrchestrationJob: ("OrchestrationJob", frozenset({"inputs", "configuration"})),
    models.Gate: ("Gate", frozenset()),
    models.CloudResource: ("CloudResource", frozenset({"private"})),
    models.ProviderConnection: ("ProviderConnection", frozenset()),
    models.Policy: ("Policy", frozenset()),
    models.WebhookEndpoint: ("Webhook", frozenset({"lease_until", "fence"})),
}
_NEVER: Final = frozenset(
    {"tenant_id", "id", "created_at", "updated_at", "created_by", "updated_by", "event_seq", "event_at"}
)


@dataclass(slots=True)
class Changes:
    """By "Type:id", what columns were and are. What an object was before is not there for one that is new."""

    before: dict[str, dict[str, Any]] = field(default_factory=dict)
    after: dict[str, dict[str, Any]] = field(default_factory=dict)

    def note(self, row: Any, *, new: bool) -> None:
        """What the flush under way writes of a row."""
        named = _NAMES.get(type(row))
        if named is None:
            return
        name, left_out = named
        if isinstance(row, models.User) and row.kind is UserKind.SERVICE_ACCOUNT:
            name = "ServiceAccount"
        state = inspect(row)
        key = f"{name}:{'-'.join(map(str, state.identity or _primary_key(row)))}"
        for attribute in state.mapper.column_attrs:
            column = str(attribute.key).rstrip("_")
            if column in _NEVER or column in left_out or attribute.key not in state.dict or _follows(attribute):
                continue
            history = state.attrs[attribute.key].history
            if not new and not history.has_changes():
                continue
            value = _shown(state.dict[attribute.key])
            if new and value is None:
                continue
            self.after.setdefault(key, {})[column] = value
            if not new:
                was = history.deleted[0] if history.deleted else None
                self.before.setdefault(key, {}).setdefault(column, None if was is NO_VALUE else _shown(was))


def _follows(attribute: ColumnProperty[Any]) -> bool:
    """Whether the database makes it of other columns."""
    column = attribute.columns[0]
    return isinstance(column, Column) and column.computed is not None


def collect(session: AsyncSession) -> Changes:
    """Note from now on what the session writes of what people are told about."""
    changes = Changes()

    @event.listens_for(session.sync_session, "after_flush")
    def noted(flushed: Session, _: object) -> None:
        for row in flushed.new:
            changes.note(row, new=True)
        for row in flushed.dirty:
            changes.note(row, new=False)

    return changes


def _primary_key(row: Any) -> tuple[Any, ...]:
    return tuple(inspect(type(row)).primary_key_from_instance(row))


def _shown(value: Any) -> Any:
    """The value as JSON, without secrets."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (bytes, Decimal)):
        return str(value)
    return masked(value)
