"""What clients may ask of lists, and what that means to `app.reads`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import strawberry

from app.db.pages import Order, Window
from app.domain.enums import (
    DefinitionStatus,
    DriftStatus,
    JobDirection,
    JobType,
    LogLevel,
    Permission,
    PlanType,
    Stage,
    TemplateType,
    WorkflowType,
)
from app.domain.errors import Invalid, LimitExceeded
from app.domain.statuses import JobStatus, PlanStatus, ResourceStatus
from app.reads import audit
from app.reads import filters as reads
from schema.context import Info
from schema.enums import JobOrderField, NameOrderField, OrderDirection, PlanOrderField
from schema.nodes import MalformedId, decode_id, number_in

T = TypeVar("T")

_MAX_ITEMS = 100
_MAX_TEXT = 200


@strawberry.input(description="All of what is given must hold. Case matters to `eq` and `in` only.")
class StringFilter:
    eq: str | None = None
    in_: list[str] | None = strawberry.field(default=None, name="in")
    contains: str | None = None
    starts_with: str | None = None


@strawberry.input(description="From `from` inclusive to `to` exclusive.")
class DateRange:
    from_: datetime | None = strawberry.field(default=None, name="from")
    to: datetime | None = None


@strawberry.input(description="The tag is there and, where `value` is given, has such a value.")
class TagFilter:
    key: str
    value: StringFilter | None = None


@strawberry.input
class AuditFilter:
    actor_id: strawberry.ID | None = None
    target_id: strawberry.ID | None = None
    action: StringFilter | None = None
    at: DateRange | None = None


@strawberry.input
class WorkflowFilter:
    status: list[DefinitionStatus] | None = None
    type: list[WorkflowType] | None = None
    name: StringFilter | None = None
    is_active: bool | None = None


@strawberry.input
class TemplateFilter:
    status: list[DefinitionStatus] | None = None
    type: list[TemplateType] | None = None
    name: StringFilter | None = None
    is_public: bool | None = None
    tags: list[TagFilter] | None = None


@strawberry.input
class PlanFilter:
    status: list[PlanStatus] | None = None
    stage: list[Stage] | None = None
    type: list[PlanType] | None = None
    name: StringFilter | None = None
    stack: StringFilter | None = None
    tags: list[TagFilter] | None = strawberry.field(
        default=None, description="Entries of its metadata, all of which have to be there."
    )
    workflow_id: strawberry.ID | None = None
    template_id: strawberry.ID | None = None
    user_id: strawberry.ID | None = None
    created: DateRange | None = None
    scheduled: DateRange | None = None
    needs_my_approval: bool | None = strawberry.field(
        default=None, description="Whether the plan waits for an approval that the asker could give."
    )


@strawberry.input
class JobFilter:
    status: list[JobStatus] | None = None
    stage: list[Stage] | None = None
    type: list[JobType] | None = None
    plan_id: strawberry.ID | None = None
    resource_id: strawberry.ID | None = None
    started: DateRange | None = None
    direction: JobDirection | None = None
    simulated: bool | None = None


@strawberry.input
class ResourceFilter:
    status: list[ResourceStatus] | None = None
    drift: list[DriftStatus] | None = None
    type: StringFilter | None = None
    stack: StringFilter | None = None
    plan_id: strawberry.ID | None = None


@strawberry.input(description="Lines that matter at least this much, of this step, with this text in them.")
class LogFilter:
    min_level: LogLevel | None = None
    step_key: str | None = None
    contains: str | None = None


@strawberry.input
class PlanOrder:
    field: PlanOrderField
    direction: OrderDirection


@strawberry.input
class JobOrder:
    field: JobOrderField
    direction: OrderDirection


@strawberry.input
class WorkflowOrder:
    field: NameOrderField
    direction: OrderDirection


@strawberry.input
class TemplateOrder:
    field: NameOrderField
    direction: OrderDirection


@strawberry.input
class ResourceOrder:
    field: NameOrderField
    direction: OrderDirection


def page(first: int | None, after: str | None, last: int | None = None, before: str | None = None) -> Window:
    return Window(first, after, last, before)


def ordered(order: Callable[..., Order], given: Any) -> Order:
    """The list's own order, or the one asked for: `given` has a `field` and a `direction`."""
    return order() if given is None else order(given.field.value, descending=given.direction is OrderDirection.DESC)


def wanted_workflows(given: WorkflowFilter | None) -> reads.WorkflowFilter:
    if given is None:
        return reads.WorkflowFilter()
    return reads.WorkflowFilter(
        _some(given.status, "status"), _some(given.type, "type"), _text(given.name, "name"), given.is_active
    )


def wanted_templates(given: TemplateFilter | None) -> reads.TemplateFilter:
    if given is None:
        return reads.TemplateFilter()
    return reads.TemplateFilter(
        _some(given.status, "status"),
        _some(given.type, "type"),
        _text(given.name, "name"),
        given.is_public,
        _tags(given.tags),
    )


def _tags(given: list[TagFilter] | None) -> tuple[reads.TagFilter, ...] | None:
    tags = None if given is None else [reads.TagFilter(tag.key, _text(tag.value, "tags")) for tag in given]
    return _some(tags, "tags")


def wanted_plans(given: PlanFilter | None, info: Info) -> reads.PlanFilter:
    if given is None:
        return reads.PlanFilter()
    principal, waited_for = info.context.principal, given.needs_my_approval
    return reads.PlanFilter(
        _some(given.status, "status"),
        _some(given.stage, "stage"),
        _some(given.type, "type"),
        _text(given.name, "name"),
        _text(given.stack, "stack"),
        _tags(given.tags),
        _number(given.workflow_id, "Workflow"),
        _number(given.template_id, "ResourceTemplate"),
        _number(given.user_id, "User"),
        _range(given.created, "created"),
        _range(given.scheduled, "scheduled"),
        None
        if waited_for is None
        else reads.Reviewer(principal.user_id, principal.may(Permission.APPROVE), waited_for),
    )


def wanted_jobs(given: JobFilter | None) -> reads.JobFilter:
    if given is None:
        return reads.JobFilter()
    return reads.JobFilter(
        _some(given.status, "status"),
        _some(given.stage, "stage"),
        _some(given.type, "type"),
        _number(given.plan_id, "DeploymentPlan"),
        _number(given.resource_id, "CloudResource"),
        _range(given.started, "started"),
        given.direction,
        given.simulated,
    )


def wanted_resources(given: ResourceFilter | None) -> reads.ResourceFilter:
    if given is None:
        return reads.ResourceFilter()
    return reads.ResourceFilter(
        _some(given.status, "status"),
        _some(given.drift, "drift"),
        _text(given.type, "type"),
        _text(given.stack, "stack"),
        _number(given.plan_id, "DeploymentPlan"),
    )


def wanted_lines(given: LogFilter | None) -> reads.LogFilter:
    if given is None:
        return reads.LogFilter()
    return reads.LogFilter(given.min_level, given.step_key, given.contains)


def wanted_entries(given: AuditFilter | None) -> audit.AuditFilter:
    if given is None:
        return audit.AuditFilter()
    try:
        target = None if given.target_id is None else decode_id(given.target_id)
    except MalformedId:
        # Of nothing, as any id is that is none.
        target = "", 0
    return audit.AuditFilter(
        actor=None if given.actor_id is None else _actor(given.actor_id),
        target=target,
        action=_text(given.action, "action"),
        at=_range(given.at, "at"),
    )


# What audit columns call whoever has an id.
_ACTORS = {"User": "user", "ServiceAccount": "service-account", "PlatformAccess": "platform-access"}


def _actor(given: str) -> str:
    try:
        kind, number = decode_id(given)
    except MalformedId:
        return ""
    return f"{_ACTORS[kind]}:{number}" if kind in _ACTORS else ""


def _some(items: Sequence[T] | None, name: str) -> tuple[T, ...] | None:
    if items is None:
        return None
    if len(items) > _MAX_ITEMS:
        message = f"a filter lists at most {_MAX_ITEMS} values"
        raise LimitExceeded(message, path=("filter", name))
    return tuple(items)


def _text(given: StringFilter | None, name: str) -> reads.TextFilter | None:
    if given is None:
        return None
    for text in (given.eq, given.contains, given.starts_with, *(given.in_ or ())):
        if text is not None and (len(text) > _MAX_TEXT or "\x00" in text):
            message = f"a text to look for has at most {_MAX_TEXT} characters, and no NUL among them"
            raise Invalid(message, path=("filter", name))
    return reads.TextFilter(given.eq, _some(given.in_, name), given.contains, given.starts_with)


def _range(given: DateRange | None, name: str) -> reads.DateRange | None:
    if given is None:
        return None
    if given.from_ is not None and given.to is not None and given.to < given.from_:
        message = "a range ends after it begins"
        raise Invalid(message, path=("filter", name, "to"))
    return reads.DateRange(given.from_, given.to)


def _number(given: strawberry.ID | None, kind: str) -> int | None:
    return None if given is None else number_in(given, kind)
