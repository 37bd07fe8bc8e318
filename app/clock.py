"""The only place that asks for the time."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    """The wall clock, aware, UTC. For display and expiry; deadlines inside a process use `monotonic`."""
    return datetime.now(UTC)


def unix_micros() -> int:
    """The wall clock in microseconds since 1970, UTC: for what is said a hundred thousand times a second."""
    return time.time_ns() // 1000


def monotonic() -> float:
    """Seconds of a clock that never steps."""
    return time.monotonic()
