"""Rules of RFC 5545 as recurrences; cron expressions are in test_scheduling."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.recurring import fault_of, times
from app.domain.scheduling import Schedule

WALL = datetime(2026, 11, 23, 12)  # noqa: DTZ001  a Monday
NOW = WALL.replace(tzinfo=UTC)
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


@pytest.mark.parametrize(
    ("rule", "following", "before"),
    [
        ("FREQ=DAILY;BYHOUR=9;BYMINUTE=30", "2026-11-24 09:30", "2026-11-23 09:30"),
        ("RRULE:FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=18", "2026-11-27 18:00", "2026-10-30 18:00"),
        ("FREQ=YEARLY;BYMONTH=3;BYMONTHDAY=29", "2027-03-29 00:00", "2026-03-29 00:00"),
        ("DTSTART:20260105T090000 RRULE:FREQ=WEEKLY;INTERVAL=2", "2026-12-07 09:00", "2026-11-23 09:00"),
        ("DTSTART:20260105T090000\nRRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=TU", "2026-11-24 09:00", "2026-11-10 09:00"),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "2026-11-30 00:00", "2026-10-30 00:00"),
        # The leap day, on its century.
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "2028-02-29 00:00", "2024-02-29 00:00"),
    ],
)
def test_what_comes_next_and_what_was_last(rule: str, following: str, before: str) -> None:
    assert fault_of(rule, WALL) is None
    assert f"{next(times(rule, WALL)):%Y-%m-%d %H:%M}" == following
    assert f"{next(times(rule, WALL, reverse=True)):%Y-%m-%d %H:%M}" == before


def test_a_rule_ends() -> None:
    rule = "FREQ=DAILY;UNTIL=20261125T000000"
    assert [f"{time:%d}" for time in times(rule, WALL)] == ["24", "25"]
    schedule = Schedule("UTC", recurrence=rule)
    assert schedule.after(datetime(2026, 11, 25, tzinfo=UTC)) is None
    assert schedule.latest(datetime(2027, 1, 1, tzinfo=UTC)) == datetime(2026, 11, 25, tzinfo=UTC)
    assert fault_of(rule, WALL + timedelta(days=9)) == "there is no such time"


def test_wall_clocks_that_are_put_forward() -> None:
    schedule = Schedule("Europe/Berlin", recurrence="FREQ=YEARLY;BYMONTH=3;BYMONTHDAY=28;BYHOUR=2;BYMINUTE=30")
    assert schedule.after(NOW) == datetime(2027, 3, 28, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FREQ=HOURLY", "cron expression"),
        ("FREQ=SECONDLY", "cron expression"),
        ("FREQ=WEEKLY", "BYDAY"),
        ("FREQ=DAILY;INTERVAL=2", "DTSTART"),
        ("FREQ=DAILY;COUNT=3", "UNTIL"),
        ("DTSTART:20260105T090000 RRULE:FREQ=DAILY;COUNT=3", "UNTIL"),
        ("DTSTART:19000105T090000 RRULE:FREQ=DAILY", "2000"),
        ("DTSTART:20261305T090000 RRULE:FREQ=DAILY", "not a rule"),
        ("DTSTART;TZID=Europe/Berlin:20260105T090000 RRULE:FREQ=DAILY", "DTSTART:2026"),
        ("FREQ=DAILY;UNTIL=20261125T000000Z", "not a rule"),
        ("FREQ=DAILY;UNTIL=soon", "capitals"),
        ("freq=daily", "capitals"),
        ("FREQ=DAILY;BYHOUR=99", "not a rule"),
        ("FREQ=DAILY;BYHOUR=", "not a rule"),
        ("FREQ=DAILY;WHAT=1", "not a rule"),
        ("FREQ=DAILY;EXDATE=20261125", "not a rule"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "no such time"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "no such time"),
        ("FREQ=DAILY;BYHOUR=" + ",".join(map(str, range(24))) * 9, "capitals"),
    ],
)
def test_what_is_no_rule(text: str, said: str) -> None:
    fault = fault_of(text, WALL)
    assert fault is not None
    assert said in fault


@settings(deadline=None)
@given(st.text("FREQ=DAILYWEKMONTHBS;,0123456789:+- ", max_size=60).map(lambda text: f"FREQ={text}"))
def test_no_text_breaks_the_parser(text: str) -> None:
    if fault_of(text, WALL) is None:
        assert next(times(text, WALL)) > WALL


@settings(deadline=None)
@given(
    st.sets(st.sampled_from(DAYS), min_size=1),
    st.sets(st.integers(0, 23), min_size=1, max_size=4),
    st.datetimes(datetime(2001, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001
)
def test_days_and_hours_are_those_that_a_calendar_has(days: set[str], hours: set[int], wall: datetime) -> None:
    rule = f"FREQ=WEEKLY;BYDAY={','.join(sorted(days))};BYHOUR={','.join(map(str, sorted(hours)))}"
    assert fault_of(rule, wall) is None
    first = wall.replace(minute=0, second=0, microsecond=0)
    wanted = (first + timedelta(hours=number) for number in range(1, 24 * 43))
    right = [time for time in wanted if DAYS[time.weekday()] in days and time.hour in hours][:5]
    assert list(islice(times(rule, wall), 5)) == right
