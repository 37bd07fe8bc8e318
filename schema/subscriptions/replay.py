"""What a finished job looked like while it ran: its journal told again, in its own time or another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import strawberry

from app import clock
from app.db.models import EventLog
from app.db.models import OrchestrationJob as JobRow
from app.domain import cursors
from app.domain.cursors import BEGINNING, Place
from app.domain.errors import IllegalState, LimitExceeded
from app.domain.events import Stream
from app.domain.statuses import JOB
from app.reads import jobs, streams
from schema.context import Context, Info
from schema.nodes import number_in
from schema.pace import HEARTBEAT_SECONDS
from schema.scalars import Cursor
from schema.subscriptions.following import not_found
from schema.types.events import event_of
from schema.types.frames import FrameKind, JobFrame
from schema.types.jobs import OrchestrationJob

MIN_SPEED, MAX_SPEED = 0.1, 10_000.0
# What happened as close together as this is shown together.
_TOGETHER_SECONDS = 0.05


@strawberry.type
class ReplaySubscriptions:
    @strawberry.subscription(  # type: ignore[untyped-decorator]  # a partial of overloads
        description=(
            "A finished job told again: a SNAPSHOT with the job as it ended, then its events at the distances at which"
            f" they happened, divided by `speed` ({MIN_SPEED:g} to {MAX_SPEED:.0f}), then END. For a job that is not"
            " over, use `jobUpdated`."
        ),
    )
    async def replay_job(self, info: Info, id: strawberry.ID, speed: float = 1.0) -> AsyncGenerator[JobFrame, None]:
        if not MIN_SPEED <= speed <= MAX_SPEED:
            message = f"speed is from {MIN_SPEED:g} to {MAX_SPEED:.0f}"
            raise LimitExceeded(message, path=("speed",))
        context = info.context
        job = await _finished(context, number_in(id, "OrchestrationJob"))
        yield _frame(FrameKind.SNAPSHOT, job.id, BEGINNING, job)
        began, start, place = clock.monotonic(), None, BEGINNING
        async with aclosing(_scenes(context, job)) as scenes:
            async for scene in scenes:
                start = start or scene[0].at
                due = began + (scene[0].at - start).total_seconds() / speed
                while (left := due - clock.monotonic()) > HEARTBEAT_SECONDS:
                    await asyncio.sleep(HEARTBEAT_SECONDS)
                    yield _frame(FrameKind.HEARTBEAT, job.id, place)
                await asyncio.sleep(max(0.0, left))
                # The frame is resolved anew: what earlier frames fetched may have changed.
                context.loaders.forget()
                place = Place(scene[-1].seq, scene[-1].at)
                yield _frame(FrameKind.EVENTS, job.id, place, events=scene)
        context.loaders.forget()
        yield _frame(FrameKind.END, job.id, Place(job.event_seq, job.event_at), job)


async def _finished(context: Context, job_id: int) -> JobRow:
    """The job. Raises Forbidden, NotFound, and IllegalState while it is not over."""
    context.require_read()
    async with context.read() as session:
        job = await jobs.by_ids(session, context.tenant_id, [job_id])
    if job_id not in job:
        raise not_found(Stream.JOB)
    if job[job_id].status not in JOB.closed:
        message = "a job is told again when it is over; `jobUpdated` follows one that is not"
        raise IllegalState(message, status=job[job_id].status, path=("id",))
    return job[job_id]


async def _scenes(context: Context, job: JobRow) -> AsyncGenerator[list[EventLog], None]:
    """The job's events in order, those that happened together in one list."""
    place, until, scene = BEGINNING, Place(job.event_seq, job.event_at), list[EventLog]()
    while place < until:
        async with context.read() as session:
            batch = await streams.events_after(session, context.tenant_id, Stream.JOB, job.id, after=place, until=until)
        place = batch.place
        for event in batch.items:
            apart = bool(scene) and (event.at - scene[0].at).total_seconds() > _TOGETHER_SECONDS
            if apart or len(scene) == streams.EVENT_LIMIT:
                yield scene
                scene = []
            scene.append(event)
    if scene:
        yield scene


def _frame(
    kind: FrameKind, job_id: int, place: Place, job: JobRow | None = None, *, events: Sequence[EventLog] = ()
) -> JobFrame:
    return JobFrame(
        kind=kind,
        cursor=Cursor(cursors.encode(Stream.JOB, job_id, place)),
        job=None if job is None else OrchestrationJob.of(job),
        events=[event_of(row) for row in events],
        lag_ms=0,
    )
