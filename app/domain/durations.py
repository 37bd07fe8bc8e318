"""Lengths of time as people write them: ISO-8601 durations such as PT15M, P1DT12H or P2W."""

from __future__ import annotations

import re
from datetime import timedelta

from app.domain.errors import Invalid, Path

# A month or a year has no length of its own, so neither is taken.
_FORM = re.compile(
    r"P(?:(?P<weeks>\d{1,6})W|(?:(?P<days>\d{1,6})D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d{1,8})H)?(?:(?P<minutes>\d{1,9})M)?(?:(?P<seconds>\d{1,9}(?:\.\d{1,6})?)S)?)?)",
    re.ASCII,
)


def parse_duration(text: object, path: Path = ()) -> timedelta:
    """The length that `text` names. Raises Invalid, also for months and years, whose length varies."""
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    parts = {name: float(value) for name, value in found.groupdict().items() if value} if found else {}
    if not parts:
        message = "a duration is written like PT15M, P1DT12H or P2W"
        raise Invalid(message, path=path)
    return timedelta(**parts)


def seconds_of(text: object, path: Path, *, most: float) -> float:
    """The seconds of a duration. Raises Invalid, at `path`, for what is none, is zero, or is longer than `most`."""
    seconds = parse_duration(text, path).total_seconds()
    if not 0 < seconds <= most:
        message = f"this duration must be longer than nothing and at most {most / 86400:g} days"
        raise Invalid(message, path=path)
    return seconds
