"""Filtered, ordered lists, live: the page, and what changes in it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Hashable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic, TypeVar

import strawberry

from app import clock
from app.db.models import DeploymentPlan as PlanRow
from app.db.models import OrchestrationJob as JobRow
from app.db.pages import Count, Window
from app.domain.listing import Change, changes
from app.domain.statuses import JobStatus, PlanStatus
from app.reads import jobs, lists, plans, rows
from app.reads.lists import Listing, ListQuery
from schema.context import Context, Info
from schema.live_lists import ListKey, Look
from schema.pace import HEARTBEAT_SECONDS
from schema.scalars import Cursor
from schema.types.filters import JobFilter, JobOrder, PlanFilter, PlanOrder, ordered, wanted_jobs, wanted_plans
from schema.types.frames import FrameKind, JobDelta, JobListFrame, PlanDelta, PlanListFrame, StatusCount
from schema.types.jobs import OrchestrationJob
from schema.types.plans import DeploymentPlan

_SIZE = 50

Row = TypeVar("Row")

_FRAMES = (
    "Begins with a SNAPSHOT of the page; then EVENTS with what entered it, changed in it and left it, and the counts."
    " Changes that follow each other fast come together. After a lost connection it begins again. Never ends by itself."
)


@dataclass(frozen=True, slots=True)
class _Step(Generic[Row]):
    """The content of one frame."""

    kind: FrameKind
    listing: Listing[Row]
    changed: list[tuple[Change, Row]]
    lag_ms: int

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.listing.place.encode())

    @property
    def page(self) -> list[Row] | None:
        return self.listing.in_order() if self.kind is FrameKind.SNAPSHOT else None


@strawberry.type
class ListSubscriptions:
    @strawberry.subscription(  # type: ignore[untyped-decorator]  # a partial of overloads
        description=f"A list of plans, live, newest first unless ordered otherwise. {_FRAMES}",
    )
    async def plans_changed(
        self, info: Info, filter: PlanFilter | None = None, order_by: PlanOrder | None = None, first: int = _SIZE
    ) -> AsyncGenerator[PlanListFrame, None]:
        wanted = wanted_plans(filter, info)
        tenant_id = info.context.tenant_id
        query = ListQuery(
            rows=plans.listed(tenant_id, wanted),
            everything=rows.of_tenant(PlanRow, tenant_id, deleted=True),
            order=ordered(plans.order, order_by),
            size=Window(first).size(_SIZE),
            counted=plans.listed(tenant_id, replace(wanted, status=None, stage=None)),
            status=PlanRow.status,
            statuses=tuple(PlanStatus),
        )
        async with aclosing(_follow(info.context, query, wanted)) as steps:
            async for step in steps:
                page = step.page
                yield PlanListFrame(
                    kind=step.kind,
                    cursor=step.cursor,
                    plans=None if page is None else [DeploymentPlan.of(row) for row in page],
                    deltas=[
                        PlanDelta(op=change.op, plan=DeploymentPlan.of(row), position=change.position)
                        for change, row in step.changed
                    ],
                    counts=_counts(step.listing.counts),
                    lag_ms=step.lag_ms,
                )

    @strawberry.subscription(  # type: ignore[untyped-decorator]  # a partial of overloads
        description=f"A list of jobs, live, newest first unless ordered otherwise. {_FRAMES}",
    )
    async def jobs_changed(
        self, info: Info, filter: JobFilter | None = None, order_by: JobOrder | None = None, first: int = _SIZE
    ) -> AsyncGenerator[JobListFrame, None]:
        wanted = wanted_jobs(filter)
        tenant_id = info.context.tenant_id
        query = ListQuery(
            rows=jobs.listed(tenant_id, wanted),
            everything=rows.of_tenant(JobRow, tenant_id, deleted=True),
            order=ordered(jobs.order, order_by),
            size=Window(first).size(_SIZE),
            counted=jobs.listed(tenant_id, replace(wanted, status=None, stage=None)),
            status=JobRow.status,
            statuses=tuple(JobStatus),
        )
        async with aclosing(_follow(info.context, query, wanted)) as steps:
            async for step in steps:
                page = step.page
                yield JobListFrame(
                    kind=step.kind,
                    cursor=step.cursor,
                    jobs=None if page is None else [OrchestrationJob.of(row) for row in page],
                    deltas=[
                        JobDelta(op=change.op, job=OrchestrationJob.of(row), position=change.position)
                        for change, row in step.changed
                    ],
                    counts=_counts(step.listing.counts),
                    lag_ms=step.lag_ms,
                )


async def _follow(context: Context, query: ListQuery[Row], wanted: Hashable) -> AsyncGenerator[_Step[Row], None]:
    """Every frame. A follower has seen one listing; what it is told is how the newest differs from that."""
    context.require_read()
    key = ListKey(context.tenant_id, (wanted, query.order.name, query.size))
    seen: Listing[Row] | None = None
    async with context.services.lists.watch(context.bus, key, _look(context, query)) as board:
        while True:
            newest = await board.after(seen, HEARTBEAT_SECONDS)
            lag_ms = max(0, round((clock.monotonic() - board.looked_at) * 1000))
            # The frame is resolved anew: what earlier frames fetched may have changed.
            context.loaders.forget()
            if newest is None:
                if seen is not None:
                    yield _Step(FrameKind.HEARTBEAT, seen, [], lag_ms)
            elif seen is None:
                yield _Step(FrameKind.SNAPSHOT, newest, [], lag_ms)
            else:
                yield _Step(FrameKind.EVENTS, newest, _changed(seen, newest), lag_ms)
            seen = newest or seen


def _look(context: Context, query: ListQuery[Row]) -> Look[Row]:
    # Nothing of whoever watches first stays here but the tenant, which all who share the list have in common.
    database, tenant_id = context.database, context.tenant_id

    async def look(before: Listing[Row] | None) -> Listing[Row]:
        async with database.read(tenant_id) as session:
            return await lists.look(session, tenant_id, query, before)

    return look


def _changed(before: Listing[Row], after: Listing[Row]) -> list[tuple[Change, Row]]:
    """The changes with their rows; what left is shown as it is now, where that is known."""
    return [
        (change, after.rows.get(change.id) or after.gone.get(change.id) or before.rows[change.id])
        for change in changes(before.entries, after.entries)
    ]


def _counts(counts: Mapping[StrEnum, Count]) -> list[StatusCount]:
    return [
        StatusCount(status=status.value, count=count.value, exact=count.exact)
        for status, count in counts.items()
        if count.value > 0
    ]
