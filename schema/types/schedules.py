"""When plans run by themselves."""

from __future__ import annotations

from datetime import datetime, timedelta

import strawberry

from app import clock
from app.db import models
from app.domain import scheduling
from app.domain.enums import ChangedPolicy, MissedPolicy, OverlapPolicy
from app.domain.errors import LimitExceeded
from app.domain.statuses import PLAN
from schema.fields import described
from schema.scalars import Duration

_MOST_RUNS = 100
_CHANGED = (
    "What follows when it is due and would do something else than what was agreed to. Null: REAPPROVE where approvals"
    " are asked for, PROCEED where they are not."
)


@strawberry.input(description="One instant, or times of day that come again; exactly one of `at` and `recurrence`.")
class ScheduleInput:
    at: datetime | None = None
    recurrence: str | None = strawberry.field(
        default=None,
        description="A cron expression of five fields (minute, hour, day of month, month, day of week), or a rule of"
        " RFC 5545 such as FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=18, perhaps after DTSTART:20260105T090000.",
    )
    time_zone: str = strawberry.field(description="By its IANA name, like Europe/Berlin.")
    overlap: OverlapPolicy = OverlapPolicy.SKIP
    missed: MissedPolicy = MissedPolicy.RUN_NOW
    window: Duration | None = strawberry.field(default=None, description="How late a run may begin.")
    jitter: Duration | None = strawberry.field(
        default=None, description="How much later than its time a run may be put; each by another part of it."
    )
    changed: ChangedPolicy | None = strawberry.field(default=None, description=_CHANGED)

    def value(self) -> scheduling.Schedule:
        return scheduling.Schedule(
            time_zone=self.time_zone,
            at=self.at,
            recurrence=self.recurrence,
            overlap=self.overlap,
            missed=self.missed,
            window=None if self.window is None else timedelta(seconds=self.window),
            jitter=None if self.jitter is None else timedelta(seconds=self.jitter),
            changed=self.changed,
        )


@strawberry.type(description="When a plan runs by itself, on the clocks of its time zone.")
class Schedule:
    row: strawberry.Private[models.DeploymentPlan]
    schedule: strawberry.Private[scheduling.Schedule]
    at: datetime | None
    recurrence: str | None
    time_zone: str
    overlap: OverlapPolicy
    missed: MissedPolicy
    window: Duration | None
    jitter: Duration | None
    changed: ChangedPolicy | None = strawberry.field(description=_CHANGED)

    @described("The next times, at most 100, without jitter; none once the plan is over.")
    def next_runs(self, first: int = 5) -> list[datetime]:
        if not 0 <= first <= _MOST_RUNS:
            message = f"from 0 to {_MOST_RUNS} runs can be asked for"
            raise LimitExceeded(message, path=("first",))
        if self.row.status in PLAN.closed | PLAN.settled:
            return []
        return self.schedule.next_runs(clock.utc_now(), first)

    @classmethod
    def of(cls, row: models.DeploymentPlan) -> Schedule:
        """The schedule of a plan that has one."""
        schedule = scheduling.Schedule.of(row.schedule or {})
        return cls(
            row=row,
            schedule=schedule,
            at=schedule.at,
            recurrence=schedule.recurrence,
            time_zone=schedule.time_zone,
            overlap=schedule.overlap,
            missed=schedule.missed,
            window=None if schedule.window is None else Duration(schedule.window.total_seconds()),
            jitter=None if schedule.jitter is None else Duration(schedule.jitter.total_seconds()),
            changed=schedule.changed,
        )
