"""What a subscription sends: one frame type per stream, all alike."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import strawberry
from strawberry.scalars import JSON

from app.reads import logs
from schema.enums import ListOp
from schema.fields import described
from schema.scalars import Cursor
from schema.types.events import Event
from schema.types.logs import PACKED, LogLine
from schema.types.references import JobRef, PlanRef

_CURSOR = "Everything up to here is delivered. Give it back as `after` on another connection, and nothing is missed."
_LAG = (
    "Milliseconds from the newest of these facts to this frame; on a heartbeat, since the journal was last looked at."
)


_KINDS = (
    "What a frame of a live stream is. SNAPSHOT: the first frame when `after` is null, with the state and the cursor"
    " that it is consistent with. EVENTS: a batch, strictly ordered, without gaps or repetitions. RESYNC: the cursor is"
    " not of this stream's history, as after a backup was restored, so forget what you have and begin from this frame;"
    " of a log also: lines behind the cursor are too old and gone, see `skippedBefore`. HEARTBEAT: nothing for you"
    " happened for ten seconds; the cursor may have moved. END: nothing more will happen, and everything is delivered;"
    " the operation completes."
)


@strawberry.enum(description=_KINDS)
class FrameKind(StrEnum):
    SNAPSHOT = "SNAPSHOT"
    EVENTS = "EVENTS"
    RESYNC = "RESYNC"
    HEARTBEAT = "HEARTBEAT"
    END = "END"


@strawberry.type(description="A step of following a job. Log lines are not among the events: they come from `jobLogs`.")
class JobFrame:
    kind: FrameKind
    cursor: Cursor = strawberry.field(description=_CURSOR)
    job: JobRef | None = strawberry.field(description="As it is now: at the cursor, or newer.")
    events: list[Event]
    lag_ms: int = strawberry.field(description=_LAG)


@strawberry.type(description="A step of following a job's log.")
class LogFrame:
    kind: FrameKind
    cursor: Cursor = strawberry.field(description=_CURSOR)
    items: strawberry.Private[Sequence[logs.Line]]
    lag_ms: int = strawberry.field(description=_LAG)
    skipped_before: Cursor | None = strawberry.field(
        description="In the first frame: lines up to here are left out, by `tail` or because they are old and gone."
    )

    @strawberry.field
    def lines(self) -> list[LogLine]:
        return [LogLine.of(line) for line in self.items]

    @described(f"The same lines for those who show many: without `lines` beside it, frames are larger. {PACKED}")
    def packed(self) -> JSON:
        return JSON(logs.packed(self.items))


@strawberry.type(description="A step of following a tenant.")
class EventFrame:
    kind: FrameKind
    cursor: Cursor = strawberry.field(description=_CURSOR)
    events: list[Event]
    lag_ms: int = strawberry.field(description=_LAG)


@strawberry.type(description="A step of following a plan.")
class PlanFrame:
    kind: FrameKind
    cursor: Cursor = strawberry.field(description=_CURSOR)
    plan: PlanRef | None = strawberry.field(description="As it is now: at the cursor, or newer.")
    events: list[Event]
    lag_ms: int = strawberry.field(description=_LAG)


@strawberry.type(description="How many rows have a status. Exact up to 1000, then a floor.")
class StatusCount:
    status: str
    count: int
    exact: bool


_DELTAS = (
    "Apply a frame's deltas together: take every row that they name out of the list, then put those with a position"
    " there, in the order given."
)
_COUNTS = "Of all rows that the filter describes when its `status` and `stage` are left out; those that are not 0."
_LIST_CURSOR = "A place for `tenantEvents`: what happened before it is in this list."
_LIST_LAG = "Milliseconds since the list was looked at."


@strawberry.type
class PlanDelta:
    op: ListOp
    plan: PlanRef
    position: int | None = strawberry.field(description="From 0, in the list as it is now; null for LEAVE.")


@strawberry.type
class JobDelta:
    op: ListOp
    job: JobRef
    position: int | None = strawberry.field(description="From 0, in the list as it is now; null for LEAVE.")


@strawberry.type(description="A step of following a list of plans.")
class PlanListFrame:
    kind: FrameKind
    cursor: Cursor = strawberry.field(description=_LIST_CURSOR)
    plans: list[PlanRef] | None = strawberry.field(description="The whole page, in a SNAPSHOT.")
    deltas: list[PlanDelta] = strawberry.field(description=_DELTAS)
    counts: list[StatusCount] = strawberry.field(description=_COUNTS)
    lag_ms: int = strawberry.field(description=_LIST_LAG)


@strawberry.type(description="A step of following a list of jobs.")
class JobListFrame:
    kind: FrameKind
    cursor: Cursor = strawberry.field(description=_LIST_CURSOR)
    jobs: list[JobRef] | None = strawberry.field(description="The whole page, in a SNAPSHOT.")
    deltas: list[JobDelta] = strawberry.field(description=_DELTAS)
    counts: list[StatusCount] = strawberry.field(description=_COUNTS)
    lag_ms: int = strawberry.field(description=_LIST_LAG)
