"""Times by which plans run, against somebody who looks at every minute of the clock on the wall."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.enums import MissedPolicy, OverlapPolicy
from app.domain.scheduling import MOST_QUEUED, PROMPT, Schedule, instant_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
# Half an hour, a whole one, none; put forward at midnight; south of the equator; a day that never was.
ZONES = {
    "UTC": [NOW],
    "Europe/Berlin": [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)],
    "America/New_York": [datetime(2026, 3, 8, 6, tzinfo=UTC), datetime(2026, 11, 1, 5, tzinfo=UTC)],
    "Australia/Lord_Howe": [datetime(2026, 4, 4, 14, tzinfo=UTC), datetime(2026, 10, 3, 14, tzinfo=UTC)],
    "America/Santiago": [datetime(2026, 4, 5, 2, tzinfo=UTC), datetime(2026, 9, 6, 3, tzinfo=UTC)],
    "Pacific/Apia": [datetime(2011, 12, 30, 9, tzinfo=UTC)],
    "Asia/Kathmandu": [NOW],
}
Field = tuple[str, frozenset[int]]


def field(low: int, high: int) -> st.SearchStrategy[Field]:
    """A field of a cron expression, and what it means."""
    whole = range(low, high + 1)
    one = st.integers(low, high)
    return st.one_of(
        st.just(("*", frozenset(whole))),
        one.map(lambda n: (str(n), frozenset({n}))),
        st.integers(2, 30).map(lambda n: (f"*/{n}", frozenset(whole[::n]))),
        st.tuples(one, one).map(lambda p: (f"{min(p)}-{max(p)}", frozenset(range(min(p), max(p) + 1)))),
        st.lists(one, min_size=2, max_size=4).map(lambda ns: (",".join(map(str, ns)), frozenset(ns))),
    )


moments = st.sampled_from([(zone, change) for zone, changes in ZONES.items() for change in changes]).flatmap(
    lambda pair: st.timedeltas(timedelta(hours=-5), timedelta(hours=5)).map(lambda off: (pair[0], pair[1] + off))
)


first, last = (datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (2020, 2040))
instants = st.datetimes(first, last, timezones=st.just(UTC))


def matches(wall: datetime, minute: Field, hour: Field, weekday: Field) -> bool:
    return wall.minute in minute[1] and wall.hour in hour[1] and (wall.isoweekday() % 7) in weekday[1]


def slowly(zone: str, start: datetime, end: datetime, *fields: Field) -> list[datetime]:
    """The instants from `start` to `end` by looking at the clock every minute.

    It fires when the clock shows a time that it has not shown before and that matches, or was put past one.
    """
    found = []
    instant = (start - timedelta(hours=30)).replace(second=0, microsecond=0)
    shown = instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    while instant < end:
        instant += MINUTE
        wall = instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        fires = False
        while shown < wall:
            shown += MINUTE
            fires = fires or matches(shown, *fields)
        if fires and start < instant <= end:
            found.append(instant)
    return found


@settings(max_examples=150, deadline=None)
@given(moments, field(0, 59), field(0, 23), field(0, 6))
def test_it_finds_what_somebody_finds_who_looks_every_minute(
    where: tuple[str, datetime], minute: Field, hour: Field, weekday: Field
) -> None:
    zone, moment = where
    schedule = Schedule(zone, recurrence=f"{minute[0]} {hour[0]} * * {weekday[0]}")
    end = moment + timedelta(hours=30)
    found, following = [], schedule.after(moment)
    while following is not None and following <= end:
        found.append(following)
        following = schedule.after(following)
    assert schedule.next_runs(moment, len(found)) == found
    assert found == slowly(zone, moment, end, minute, hour, weekday)
    before = slowly(zone, moment - timedelta(hours=30), moment, minute, hour, weekday)
    latest = schedule.latest(moment)
    assert latest is not None
    assert latest == before[-1] if before else latest <= moment - timedelta(hours=30)


@settings(max_examples=60, deadline=None)
@given(moments, field(0, 59), field(0, 23))
def test_the_latest_of_the_next_is_the_next(where: tuple[str, datetime], minute: Field, hour: Field) -> None:
    zone, moment = where
    schedule = Schedule(zone, recurrence=f"{minute[0]} {hour[0]} * * *")
    following = schedule.after(moment)
    assert following is not None
    assert following > moment
    assert schedule.latest(following) == following
    previous = schedule.latest(following - timedelta(seconds=1))
    assert previous is not None
    assert previous <= moment
    assert schedule.after(previous) == following


def local(schedule: Schedule, day: datetime, count: int) -> list[str]:
    return [f"{run.astimezone(ZoneInfo(schedule.time_zone)):%d %H:%M%z}" for run in schedule.next_runs(day, count)]


def test_a_time_that_does_not_exist_runs_at_the_next_that_does() -> None:
    schedule = Schedule("Europe/Berlin", recurrence="30 2 * * *")
    assert local(schedule, datetime(2026, 3, 28, tzinfo=UTC), 3) == ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"]


def test_a_time_that_there_is_twice_runs_once() -> None:
    schedule = Schedule("Europe/Berlin", recurrence="30 2 * * *")
    found = ["24 02:30+0200", "25 02:30+0200", "26 02:30+0100"]
    assert local(schedule, datetime(2026, 10, 23, 12, tzinfo=UTC), 3) == found


def test_a_day_that_never_was_runs_when_it_would_have_ended() -> None:
    schedule = Schedule("Pacific/Apia", recurrence="0 12 * * *")
    found = ["29 12:00-1000", "31 00:00+1400", "31 12:00+1400"]
    assert local(schedule, datetime(2011, 12, 29, 12, tzinfo=UTC), 3) == found


def test_several_times_that_fall_on_one_instant_are_one() -> None:
    schedule = Schedule("Europe/Berlin", recurrence="*/20 2,3 29 3 *")
    found = ["29 03:00+0200", "29 03:20+0200", "29 03:40+0200"]
    assert local(schedule, datetime(2026, 3, 28, tzinfo=UTC), 3) == found


def test_every_minute_of_a_clock_has_one_instant() -> None:
    """In order: what the clock shows later is never earlier."""
    for zone, changes in ZONES.items():
        for change in changes:
            wall = change.astimezone(ZoneInfo(zone)).replace(tzinfo=None) - timedelta(hours=26)
            instants = [instant_of(wall + MINUTE * n, ZoneInfo(zone)) for n in range(52 * 60)]
            assert instants == sorted(instants)


def test_runs_are_not_looked_for_for_ever() -> None:
    rare = Schedule("UTC", recurrence="0 0 29 2 *")
    assert rare.next_runs(NOW, 100) == [datetime(year, 2, 29, tzinfo=UTC) for year in (2028, 2032, 2036)]
    assert rare.next_runs(NOW, 0) == []


def test_one_instant_is_before_or_after() -> None:
    schedule = Schedule("UTC", at=NOW)
    assert (schedule.after(NOW), schedule.latest(NOW)) == (None, NOW)
    assert (schedule.after(NOW - MINUTE), schedule.latest(NOW - MINUTE)) == (NOW, None)
    assert schedule.next_runs(NOW - MINUTE, 5) == [NOW]


@given(st.integers(1, 10**9), instants)
def test_jitter_is_bounded_and_always_the_same(plan_id: int, time: datetime) -> None:
    jitter = timedelta(minutes=7)
    schedule = Schedule("UTC", recurrence="* * * * *", jitter=jitter)
    start = schedule.starts_at(plan_id, time)
    assert time <= start < time + jitter
    assert start == schedule.starts_at(plan_id, time)
    assert Schedule("UTC", recurrence="* * * * *").starts_at(plan_id, time) == time


def test_jitter_spreads() -> None:
    schedule = Schedule("UTC", at=NOW, jitter=timedelta(hours=1))
    delays = sorted(schedule.starts_at(plan_id, NOW) - NOW for plan_id in range(200))
    assert delays[0] < timedelta(minutes=5)
    assert delays[-1] > timedelta(minutes=55)
    assert len(set(delays)) == 200


def test_how_late_a_run_may_begin() -> None:
    hour = timedelta(hours=1)
    patient = Schedule("UTC", at=NOW)
    assert patient.is_in_time(NOW, NOW + 1000 * hour)
    strict = Schedule("UTC", at=NOW, missed=MissedPolicy.SKIP)
    assert [strict.is_in_time(NOW, NOW + late) for late in (PROMPT, PROMPT + MINUTE)] == [True, False]
    for missed in MissedPolicy:
        windowed = Schedule("UTC", at=NOW, missed=missed, window=hour)
        assert [windowed.is_in_time(NOW, NOW + late) for late in (hour, hour + MINUTE)] == [True, False]


def test_what_overlaps() -> None:
    free = {"busy": False, "queued": 0}
    busy, waiting, full = (
        {"busy": True, "queued": 0},
        {"busy": True, "queued": 1},
        {"busy": True, "queued": MOST_QUEUED},
    )
    admitted = {
        policy: [Schedule("UTC", recurrence="* * * * *", overlap=policy).admits(**now)  # type: ignore[arg-type]
                 for now in (free, busy, waiting, full)]
        for policy in OverlapPolicy
    }  # fmt: skip
    assert admitted == {
        OverlapPolicy.SKIP: [True, False, False, False],
        OverlapPolicy.QUEUE_ONE: [True, True, False, False],
        OverlapPolicy.QUEUE_ALL: [True, True, True, False],
        OverlapPolicy.CANCEL_RUNNING: [True, True, True, True],
    }


@given(
    st.builds(
        Schedule,
        time_zone=st.sampled_from(sorted(ZONES)),
        at=st.none() | instants,
        recurrence=st.none() | st.just("0 0 * * *"),
        overlap=st.sampled_from(OverlapPolicy),
        missed=st.sampled_from(MissedPolicy),
        window=st.none() | st.integers(1, 10**6).map(lambda seconds: timedelta(seconds=seconds)),
        jitter=st.none() | st.integers(1, 10**5).map(lambda seconds: timedelta(seconds=seconds)),
    )
)
def test_a_schedule_comes_back_from_its_document(schedule: Schedule) -> None:
    assert Schedule.of(schedule.document()) == schedule


@pytest.mark.parametrize(
    ("schedule", "paths"),
    [
        (Schedule("Europe/Berlin", recurrence="0 3 * * MON-FRI"), []),
        (Schedule("UTC", recurrence=" 0  0 L * * "), []),
        (Schedule("UTC", at=NOW + MINUTE), []),
        (Schedule("UTC"), ["at"]),
        (Schedule("UTC", at=NOW + MINUTE, recurrence="* * * * *"), ["at"]),
        (Schedule("UTC", at=NOW), ["at"]),
        (Schedule("UTC", at=NOW + timedelta(days=4000)), ["at"]),
        (Schedule("Mars/Olympus", at=NOW + MINUTE), ["timeZone"]),
        (Schedule("../../etc/passwd", at=NOW + MINUTE), ["timeZone"]),
        (Schedule("America", at=NOW + MINUTE), ["timeZone"]),
        (Schedule("", at=NOW + MINUTE), ["timeZone"]),
        (Schedule("UTC", at=NOW + MINUTE, window=timedelta(), jitter=timedelta(days=2)), ["window", "jitter"]),
        (Schedule("nowhere", recurrence="x", window=timedelta(days=32)), ["timeZone", "recurrence", "window"]),
    ],
)
def test_what_a_schedule_may_say(schedule: Schedule, paths: list[str]) -> None:
    assert [fault.path for fault in schedule.check(NOW)] == [("schedule", path) for path in paths]


@pytest.mark.parametrize(
    "text",
    [
        "", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "0 0 30 2 *", "0 0 31 2 1-", "a * * * *", "@daily",
        "*/0 * * * *", "5-1 * * * *", "* * * * 1L/2", "* * * * ²L", "0 0 * * " + "1," * 60 + "1", "1" * 90 + " * * * *",
    ],
)  # fmt: skip
def test_what_is_no_recurrence(text: str) -> None:
    assert [fault.path for fault in Schedule("UTC", recurrence=text).check(NOW)] == [("schedule", "recurrence")]


@given(st.text("0123456789*/,-L#WMONSU ", max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    """Whatever was not refused has a next time."""
    schedule = Schedule("Europe/Berlin", recurrence=text)
    if not schedule.check(NOW):
        following = schedule.after(NOW)
        assert following is not None
        assert following > NOW
