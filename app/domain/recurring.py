r"""Times that come again on a wall clock: a cron expression of five fields, or a rule of RFC 5545.

    0 3 * * MON-FRI
    FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=18;BYMINUTE=30
    DTSTART:20260105T090000 RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO

A rule begins at DTSTART, a wall time. Without one it begins long ago, so it has to say itself what DTSTART would: the
day of a week, and no INTERVAL. Hours and minutes that it does not name are those of DTSTART, or 0. It ends by UNTIL, a
wall time as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from cronsim import CronSim, CronSimError
from dateutil.rrule import rrule, rrulestr

_LONGEST: Final = {"cron": 100, "rule": 300}
_FIELDS: Final = 5
_WORDS: Final = re.compile(r"\S+")
_RULE: Final = re.compile(r"(?:DTSTART:(?P<start>\d{8}T\d{6})\s+)?(?:RRULE:)?(?P<rule>FREQ=[A-Z0-9=;,+-]+)")
_LONG_AGO: Final = datetime(2000, 1, 1)  # noqa: DTZ001  a wall time
# Calendars repeat after 400 years, weekdays and all, and no year is later than 9999. There a rule that never applies is
# tried for four hundred years; here it would be for eight thousand.
_CYCLES: Final = 19 * 400
# Of what comes more often there is too much to count, and cron says it.
_SELDOM: Final = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")


def times(recurrence: str, wall: datetime, *, reverse: bool = False) -> Iterator[datetime]:
    """The wall times after `wall`, or before it, the nearest first."""
    if not is_rule(recurrence):
        yield from CronSim(recurrence, wall, reverse=reverse)
        return
    rule, found = _rule(recurrence), _later(wall)
    while (next_ := rule.before(found) if reverse else rule.after(found)) is not None:
        found = next_
        yield found.replace(year=found.year - _CYCLES)


def is_rule(text: str) -> bool:
    """Whether it is meant as a rule, and not as a cron expression."""
    return "FREQ" in text.upper()


def fault_of(text: str, wall: datetime) -> str | None:
    """What is wrong with a recurrence; None when it can be kept."""
    if is_rule(text):
        return _fault_of_rule(text, wall)
    if len(text) > _LONGEST["cron"] or len(_WORDS.findall(text)) != _FIELDS:
        return (
            "a recurrence is a cron expression of five fields (minute, hour, day of month, month, day of week), or a"
            " rule such as FREQ=WEEKLY;BYDAY=MO;BYHOUR=9"
        )
    try:
        next(times(text, wall))
    except CronSimError as error:
        return f"this is not a cron expression: {error}"
    except StopIteration:
        return "there is no such time in the next fifty years"
    except (AssertionError, ValueError):
        # What the parser did not foresee, such as a step of a last weekday.
        return "this is not a cron expression"
    return None


def _fault_of_rule(text: str, wall: datetime) -> str | None:
    found = _RULE.fullmatch(text.strip())
    if found is None or len(text) > _LONGEST["rule"]:
        return "a rule is FREQ=… with parts after semicolons, in capitals, perhaps after DTSTART:20260105T090000"
    parts = dict(part.partition("=")[::2] for part in found["rule"].split(";") if part)
    if parts["FREQ"] not in _SELDOM:
        return f"the FREQ of a rule is {', '.join(_SELDOM)}; say what comes more often by a cron expression"
    if "COUNT" in parts:
        return "a rule ends by UNTIL, and not by COUNT"
    if found["start"] is None and "INTERVAL" in parts:
        return "INTERVAL is counted from DTSTART, which is missing"
    if found["start"] is None and parts["FREQ"] == "WEEKLY" and "BYDAY" not in parts:
        return "which day of the week? BYDAY and DTSTART are missing"
    try:
        if next(times(text, wall), None) is None:
            return "there is no such time"
    except (ValueError, TypeError, OverflowError) as error:
        return f"this is not a rule: {error}"
    return None


def _rule(text: str) -> rrule:
    """The rule, some cycles of the calendar later. Raises ValueError and the like for what is no rule."""
    found = _RULE.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    start, until = _LONG_AGO if found["start"] is None else _wall(found["start"]), None
    if start < _LONG_AGO:
        message = f"DTSTART lies before {_LONG_AGO:%Y}"
        raise ValueError(message)
    rest = []
    for part in found["rule"].split(";"):
        name, _, value = part.partition("=")
        if name == "UNTIL":
            until = _later(_wall(value))
        elif part:
            rest.append(part)
    rule = rrulestr(";".join(rest), dtstart=_later(start), cache=True)
    if not isinstance(rule, rrule):
        raise TypeError(text)
    return rule if until is None else rule.replace(until=until)


def _wall(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%S" if "T" in text else "%Y%m%d")  # noqa: DTZ007  a wall time


def _later(wall: datetime) -> datetime:
    return wall.replace(year=wall.year + _CYCLES)
