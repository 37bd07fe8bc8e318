"""Names of time zones, as the IANA database has them."""

from __future__ import annotations

import zoneinfo
from functools import lru_cache
from typing import Final

NO_ZONE: Final = "this is not the name of a time zone; one is written like Europe/Berlin"


def is_time_zone(name: object) -> bool:
    """Whether there is a time zone of this name."""
    return isinstance(name, str) and name in _names()


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
