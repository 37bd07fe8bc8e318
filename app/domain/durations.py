"""ISO 8601 durations of fixed length: weeks, days, hours, minutes and seconds."""

from __future__ import annotations

import re

from app.domain.errors import Invalid, Path

_DURATION = re.compile(
    r"P(?=.)(?:(?P<weeks>\d{1,4})W)?(?:(?P<days>\d{1,5})D)?"
    r"(?:T(?=.)(?:(?P<hours>\d{1,6})H)?(?:(?P<minutes>\d{1,7})M)?(?:(?P<seconds>\d{1,9}(?:\.\d{1,6})?)S)?)?",
    re.ASCII,
)
_SECONDS = {"weeks": 7 * 86400, "days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}


def seconds_of(text: object, path: Path, *, most: float) -> float:
    """The seconds of a duration such as "PT1H30M". Raises Invalid, at `path`, for what is none, is zero, or too long.

    Years and months are refused: their length depends on when they begin.
    """
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        message = "a duration is written as in PT15M, PT36H or P7D"
        raise Invalid(message, path=path)
    seconds = sum(float(value) * _SECONDS[unit] for unit, value in found.groupdict(default="0").items())
    if not 0 < seconds <= most:
        message = f"this duration must be longer than nothing and at most {most / 86400:g} days"
        raise Invalid(message, path=path)
    return seconds
