"""When a plan runs by itself: date arithmetic only, everything else asks here.

A schedule names one instant, or times on a wall clock that come again (app.domain.recurring). Wall clocks are put
forward and back: a time that does not exist runs at the next instant that does, a time that there is twice runs the
first time. Several times that fall on one instant are one.
"""

from __future__ import annotations

import hashlib
import zoneinfo
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from app.domain import recurring
from app.domain.enums import ChangedPolicy, MissedPolicy, OverlapPolicy
from app.domain.errors import DomainError, Invalid, Required
from app.domain.time_zones import NO_ZONE, is_time_zone

_PATH = ("schedule",)
_LONGEST_JITTER = timedelta(days=1)
_LONGEST_WINDOW = timedelta(days=31)
_FURTHEST = timedelta(days=3660)
# What a plan may be late that must not be late: a tick or two, and a restart.
PROMPT = timedelta(minutes=1)
# How many times may wait for an earlier run to end.
MOST_QUEUED = 100


@dataclass(frozen=True, slots=True)
class Schedule:
    """Either `at` or `recurrence`, the latter on the clocks of `time_zone`. `check` says what is wrong with it.

    `window` is how late a run may begin, `jitter` how much later than its time it may be put, so that not everything
    that runs at midnight runs at midnight.
    """

    time_zone: str
    at: datetime | None = None
    recurrence: str | None = None
    overlap: OverlapPolicy = OverlapPolicy.SKIP
    missed: MissedPolicy = MissedPolicy.RUN_NOW
    window: timedelta | None = None
    jitter: timedelta | None = None
    # None: it is approved again where approvals are asked for, and goes on where they are not.
    changed: ChangedPolicy | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Schedule:
        """From what `document` wrote."""
        at, window, jitter = document["at"], document["windowSeconds"], document["jitterSeconds"]
        return cls(
            time_zone=document["timeZone"],
            at=None if at is None else datetime.fromisoformat(at),
            recurrence=document["recurrence"],
            overlap=OverlapPolicy(document["overlap"]),
            missed=MissedPolicy(document["missed"]),
            window=None if window is None else timedelta(seconds=window),
            jitter=None if jitter is None else timedelta(seconds=jitter),
            changed=None if document.get("changed") is None else ChangedPolicy(document["changed"]),
        )

    def document(self) -> dict[str, Any]:
        """As JSON: {"at", "recurrence", "timeZone", "overlap", "missed", "windowSeconds", "jitterSeconds",
        "changed"}.
        """
        return {
            "at": None if self.at is None else self.at.astimezone(UTC).isoformat(),
            "recurrence": self.recurrence,
            "timeZone": self.time_zone,
            "overlap": self.overlap.value,
            "missed": self.missed.value,
            "windowSeconds": None if self.window is None else self.window.total_seconds(),
            "jitterSeconds": None if self.jitter is None else self.jitter.total_seconds(),
            "changed": None if self.changed is None else self.changed.value,
        }

    def check(self, now: datetime) -> list[DomainError]:
        """Every fault of the schedule, with its path; none when it can be kept."""
        faults: list[DomainError] = []
        if (self.at is None) == (self.recurrence is None):
            faults.append(Required("a schedule has either 'at' or 'recurrence'", path=(*_PATH, "at")))
        zone_known = is_time_zone(self.time_zone)
        if not zone_known:
            faults.append(Invalid(NO_ZONE, path=(*_PATH, "timeZone")))
        if self.at is not None and not now < self.at <= now + _FURTHEST:
            message = "it lies in the past" if self.at <= now else "it lies more than ten years ahead"
            faults.append(Invalid(message, path=(*_PATH, "at")))
        if self.recurrence is not None and (fault := recurring.fault_of(self.recurrence, now.replace(tzinfo=None))):
            faults.append(Invalid(fault, path=(*_PATH, "recurrence")))
        for name, length, longest in (
            ("window", self.window, _LONGEST_WINDOW),
            ("jitter", self.jitter, _LONGEST_JITTER),
        ):
            if length is not None and not timedelta() < length <= longest:
                message = f"a {name} is longer than nothing and at most {longest.days} days long"
                faults.append(Invalid(message, path=(*_PATH, name)))
        return faults

    def after(self, moment: datetime) -> datetime | None:
        """The first time after `moment`; None when there is none."""
        if self.recurrence is None:
            return self.at if self.at is not None and self.at > moment else None
        zone = zoneinfo.ZoneInfo(self.time_zone)
        wall = moment.astimezone(zone).replace(tzinfo=None)
        # What the clock has shown has been; what it will show again has been, too.
        return next((found for found in self._instants(wall, zone) if found > moment), None)

    def latest(self, moment: datetime) -> datetime | None:
        """The last time up to `moment`; None when there was none in fifty years."""
        if self.recurrence is None:
            return self.at if self.at is not None and self.at <= moment else None
        zone = zoneinfo.ZoneInfo(self.time_zone)
        local = moment.astimezone(zone)
        wall = local.replace(tzinfo=None) + timedelta(seconds=1)
        if local.fold:
            # The clock shows these times for the second time: all that it showed before it was put back has been.
            wall += (local.replace(fold=0).utcoffset() or timedelta()) - (local.utcoffset() or timedelta())
        return next((found for found in self._instants(wall, zone, reverse=True) if found <= moment), None)

    def next_runs(self, moment: datetime, count: int) -> list[datetime]:
        """The next times after `moment`, at most `count`, and none that is further away than ten years."""
        following = self.after(moment)
        if following is None or count <= 0:
            return []
        found = [following]
        if self.recurrence is None:
            return found
        zone = zoneinfo.ZoneInfo(self.time_zone)
        for instant in self._instants(following.astimezone(zone).replace(tzinfo=None), zone):
            if len(found) == count or instant > moment + _FURTHEST:
                break
            if instant > found[-1]:
                found.append(instant)
        return found

    def starts_at(self, plan_id: int, time: datetime) -> datetime:
        """When the plan's run of `time` starts: later by a part of the jitter that is always the same."""
        if self.jitter is None:
            return time
        digest = hashlib.sha256(f"{plan_id}:{time.timestamp()}".encode()).digest()
        return time + self.jitter * (int.from_bytes(digest[:8]) / 2**64)

    def is_in_time(self, start: datetime, now: datetime) -> bool:
        """Whether a run that had to start at `start` may still begin."""
        late = now - start
        if self.window is not None:
            return late <= self.window
        return self.missed is MissedPolicy.RUN_NOW or late <= PROMPT

    def admits(self, *, busy: bool, queued: int) -> bool:
        """Whether one more run may wait, or begin: `busy` while an earlier one is not over, `queued` wait already."""
        if not busy and not queued:
            return True
        match self.overlap:
            case OverlapPolicy.SKIP:
                return False
            case OverlapPolicy.QUEUE_ONE:
                return queued == 0
            case OverlapPolicy.QUEUE_ALL:
                return queued < MOST_QUEUED
            case OverlapPolicy.CANCEL_RUNNING:
                return True

    def _instants(self, wall: datetime, zone: zoneinfo.ZoneInfo, *, reverse: bool = False) -> Iterator[datetime]:
        """The times from `wall` on, or back, as instants; one may come several times."""
        for time in recurring.times(self.recurrence or "", wall, reverse=reverse):
            yield instant_of(time, zone)


def instant_of(wall: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    """When a clock of the zone shows `wall` for the first time, or is put past it."""
    instant = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wall:
        return instant
    # Read with the offset of after the change it lies before it, and the other way round.
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    after = instant
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if middle.astimezone(zone).replace(tzinfo=None) < wall:
            before = middle
        else:
            after = middle
    return after
