"""Jobs and plans, live: what happens to them, fact by fact."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import EventLog
from app.db.uow import Database
from app.domain.cursors import Place
from app.domain.events import Stream
from app.reads import streams
from app.reads.streams import Batch
from schema.context import Info
from schema.nodes import number_in
from schema.scalars import Cursor
from schema.subscriptions.following import Follower, Start
from schema.types.events import event_of
from schema.types.frames import JobFrame, PlanFrame
from schema.types.jobs import OrchestrationJob
from schema.types.plans import DeploymentPlan

_RESUMING = (
    "Begins with a SNAPSHOT, or behind `after`; every event exactly once, across connections, servers and restarts."
)


@dataclass(frozen=True, slots=True)
class EventSource:
    """The facts of one stream. A snapshot is the owner's row; the facts before it are history."""

    tenant_id: int
    stream: Stream
    stream_id: int

    async def start(self, session: AsyncSession, row: Any) -> Start[EventLog]:  # noqa: ARG002
        return Start(Place(row.event_seq, row.event_at))

    async def read(self, session: AsyncSession, *, after: Place, until: Place) -> Batch[EventLog]:
        return await streams.events_after(
            session, self.tenant_id, self.stream, self.stream_id, after=after, until=until
        )

    async def read_on(self, database: Database, *, after: Place) -> None:  # noqa: ARG002
        # Its frames have the owner's row, which is the ORM's.
        return None


@strawberry.type
class EventSubscriptions:
    @strawberry.subscription(  # type: ignore[untyped-decorator]  # a partial of overloads
        description=(
            f"A job, live. {_RESUMING} Log lines are not among the events (see `jobLogs`), but share their numbering."
            " Ends when the job has reached a terminal status."
        ),
    )
    async def job_updated(
        self, info: Info, id: strawberry.ID, after: Cursor | None = None
    ) -> AsyncGenerator[JobFrame, None]:
        number = number_in(id, "OrchestrationJob")
        follower = _follower(info, Stream.JOB, number)
        async with aclosing(follower.follow(after)) as deliveries:
            async for delivery in deliveries:
                yield JobFrame(
                    kind=delivery.kind,
                    cursor=Cursor(delivery.cursor),
                    job=None if delivery.row is None else OrchestrationJob.of(delivery.row),
                    events=[event_of(row) for row in delivery.items],
                    lag_ms=delivery.lag_ms,
                )

    @strawberry.subscription(  # type: ignore[untyped-decorator]  # a partial of overloads
        description=(
            f"A plan, live. {_RESUMING} Ends when the plan is closed for ever: SUCCEEDED, REJECTED, EXPIRED or deleted."
            " One that failed, was rolled back or cancelled can be tried again, so its stream stays open."
        ),
    )
    async def plan_updated(
        self, info: Info, id: strawberry.ID, after: Cursor | None = None
    ) -> AsyncGenerator[PlanFrame, None]:
        number = number_in(id, "DeploymentPlan")
        follower = _follower(info, Stream.PLAN, number)
        async with aclosing(follower.follow(after)) as deliveries:
            async for delivery in deliveries:
                yield PlanFrame(
                    kind=delivery.kind,
                    cursor=Cursor(delivery.cursor),
                    plan=None if delivery.row is None else DeploymentPlan.of(delivery.row),
                    events=[event_of(row) for row in delivery.items],
                    lag_ms=delivery.lag_ms,
                )


def _follower(info: Info, stream: Stream, stream_id: int) -> Follower[EventLog]:
    context = info.context
    return Follower(context, stream, stream_id, EventSource(context.tenant_id, stream, stream_id))
