"""Lines of a job's log, and how far a log may grow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from app.domain.enums import LogLevel

# What one chunk of the store holds at most: so many lines, and so many characters in them.
CHUNK_LINES = 500
CHUNK_TEXT = 64 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROS = tuple(f"{micros:03d}Z" for micros in range(1_000))


class LogLine(NamedTuple):
    """A line as it is written. `at` is in microseconds since 1970, in UTC."""

    at: int
    level: LogLevel
    stream: str
    message: str
    fields: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LogRoom:
    """What is kept of one job's log: no batch begins when so many lines, or bytes before packing, are there."""

    lines: int = 1_000_000
    bytes: int = 256 * 1024 * 1024


DEFAULT_ROOM = LogRoom()


def micros_of(moment: datetime) -> int:
    """A moment as lines have it."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment_of(micros: int) -> datetime:
    """The moment that a line has, in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def stamps(moments: Iterable[int]) -> list[str]:
    """Moments as the API writes a DateTime. What neighbours share, all but the microseconds, is written once."""
    found = []
    low, shared = -1_000, ""
    for moment in moments:
        rest = moment - low
        if not 0 <= rest < 1_000:
            low, rest = moment - moment % 1_000, moment % 1_000
            second, thousandth = divmod(low // 1_000, 1_000)
            shared = f"{_second(second)}.{thousandth:03d}"
        found.append(shared + _MICROS[rest])
    return found


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return f"{_EPOCH + timedelta(seconds=second):%Y-%m-%dT%H:%M:%S}"


def chunked(lines: Sequence[LogLine]) -> Iterator[Sequence[LogLine]]:
    """The lines in pieces that a chunk may hold, in order; a single line is never divided."""
    start = text = 0
    for place, line in enumerate(lines):
        text += len(line.message)
        if place > start and (place - start == CHUNK_LINES or text > CHUNK_TEXT):
            yield lines[start:place]
            start, text = place, len(line.message)
    if start < len(lines):
        yield lines[start:]
