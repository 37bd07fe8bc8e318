"""What may be asked of the rows of a list. None means: does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from app.domain.enums import (
    DefinitionStatus,
    DriftStatus,
    JobDirection,
    JobType,
    LogLevel,
    PlanType,
    Stage,
    TemplateType,
    WorkflowType,
)
from app.domain.statuses import JobStatus, PlanStatus, ResourceStatus


@dataclass(frozen=True, slots=True)
class TextFilter:
    equal: str | None = None
    one_of: tuple[str, ...] | None = None
    contains: str | None = None
    starts_with: str | None = None


@dataclass(frozen=True, slots=True)
class DateRange:
    """From `start` inclusive to `end` exclusive."""

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class TagFilter:
    key: str
    value: TextFilter | None = None


@dataclass(frozen=True, slots=True)
class WorkflowFilter:
    status: tuple[DefinitionStatus, ...] | None = None
    type: tuple[WorkflowType, ...] | None = None
    name: TextFilter | None = None
    is_active: bool | None = None


@dataclass(frozen=True, slots=True)
class TemplateFilter:
    status: tuple[DefinitionStatus, ...] | None = None
    type: tuple[TemplateType, ...] | None = None
    name: TextFilter | None = None
    is_public: bool | None = None
    tags: tuple[TagFilter, ...] | None = None


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Somebody, and whether they may approve. `waited_for` asks for plans that wait for them, or that do not."""

    user_id: int
    may_approve: bool
    waited_for: bool


@dataclass(frozen=True, slots=True)
class PlanFilter:
    status: tuple[PlanStatus, ...] | None = None
    stage: tuple[Stage, ...] | None = None
    type: tuple[PlanType, ...] | None = None
    name: TextFilter | None = None
    stack: TextFilter | None = None
    # Of the plan's metadata.
    tags: tuple[TagFilter, ...] | None = None
    workflow_id: int | None = None
    template_id: int | None = None
    user_id: int | None = None
    created: DateRange | None = None
    scheduled: DateRange | None = None
    reviewer: Reviewer | None = None


@dataclass(frozen=True, slots=True)
class JobFilter:
    status: tuple[JobStatus, ...] | None = None
    stage: tuple[Stage, ...] | None = None
    type: tuple[JobType, ...] | None = None
    plan_id: int | None = None
    resource_id: int | None = None
    started: DateRange | None = None
    direction: JobDirection | None = None
    simulated: bool | None = None


@dataclass(frozen=True, slots=True)
class ResourceFilter:
    status: tuple[ResourceStatus, ...] | None = None
    drift: tuple[DriftStatus, ...] | None = None
    type: TextFilter | None = None
    stack: TextFilter | None = None
    plan_id: int | None = None


@dataclass(frozen=True, slots=True)
class LogFilter:
    min_level: LogLevel | None = None
    step_key: str | None = None
    contains: str | None = None


LEVELS: Sequence[LogLevel] = tuple(LogLevel)


def at_least(level: LogLevel) -> tuple[LogLevel, ...]:
    """The levels that matter as much as `level`, or more."""
    return tuple(LEVELS[LEVELS.index(level) :])
