"""Freezes: when they hold, when they end, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.domain.drifting import DriftPolicy
from app.domain.errors import DomainError, Several
from app.domain.freezing import Freeze, freezes_of, thaw

HOLIDAYS = {"from": "2026-12-20T00:00:00Z", "until": "2027-01-02T00:00:00Z"}
# Office hours, in a zone whose clocks are put back on 25 October 2026.
OFFICE = {"recurrence": "0 8 * * MON-FRI", "duration": "PT10H", "timeZone": "Europe/Berlin"}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def read(*freezes: Any) -> tuple[Freeze, ...]:
    return freezes_of(list(freezes), ("freeze",))


@pytest.mark.parametrize(
    ("now", "ends"),
    [
        ("2026-12-19T23:59:59", None),
        ("2026-12-20T00:00:00", "2027-01-02T00:00:00"),
        ("2027-01-01T23:59:59", "2027-01-02T00:00:00"),
        ("2027-01-02T00:00:00", None),
    ],
)
def test_a_stretch_holds_from_its_beginning_to_before_its_end(now: str, ends: str | None) -> None:
    assert thaw(read(HOLIDAYS), at(now)) == (None if ends is None else at(ends))


@pytest.mark.parametrize(
    ("now", "ends"),
    [
        # Summer time: eight o'clock is six.
        ("2026-10-23T05:59:00", None),
        ("2026-10-23T06:00:00", "2026-10-23T16:00:00"),
        ("2026-10-23T16:00:00", None),
        ("2026-10-24T10:00:00", None),
        # Winter time, from Monday on.
        ("2026-10-26T06:30:00", None),
        ("2026-10-26T07:00:00", "2026-10-26T17:00:00"),
    ],
)
def test_one_that_comes_again_keeps_to_the_wall_clock(now: str, ends: str | None) -> None:
    assert thaw(read(OFFICE), at(now)) == (None if ends is None else at(ends))


def test_freezes_that_touch_are_one() -> None:
    later = {"from": "2027-01-02T00:00:00Z", "until": "2027-01-03T00:00:00+00:00"}
    assert thaw(read(later, HOLIDAYS), at("2026-12-25T00:00:00")) == at("2027-01-03T00:00:00")
    assert thaw(read(later), at("2026-12-25T00:00:00")) is None


def test_one_that_never_ends_is_looked_at_again_some_time() -> None:
    always = {"recurrence": "0 0 * * *", "duration": "P1D", "timeZone": "UTC"}
    ends = thaw(read(always), at("2026-10-23T12:00:00"))
    assert ends is not None
    assert timedelta(days=30) < ends - at("2026-10-23T12:00:00") < timedelta(days=60)


@pytest.mark.parametrize(
    ("freeze", "code", "path"),
    [
        ({}, "REQUIRED", ("from",)),
        ({"from": "2026-12-20T00:00:00Z"}, "REQUIRED", ("until",)),
        ({**HOLIDAYS, "until": "2026-12-20T00:00:00Z"}, "INVALID", ("until",)),
        ({**HOLIDAYS, "from": "2026-12-20"}, "INVALID", ("from",)),
        ({**HOLIDAYS, "from": 7}, "INVALID", ("from",)),
        ({**HOLIDAYS, "duration": "P1D"}, "INVALID", ("duration",)),
        ({**OFFICE, "timeZone": "Mars"}, "INVALID", ("timeZone",)),
        ({**OFFICE, "recurrence": "every day"}, "INVALID", ("recurrence",)),
        ({**OFFICE, "recurrence": 8}, "INVALID", ("recurrence",)),
        ({**OFFICE, "duration": "P32D"}, "INVALID", ("duration",)),
        ({"recurrence": "0 8 * * *", "timeZone": "UTC"}, "REQUIRED", ("duration",)),
        (7, "TYPE_MISMATCH", ()),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_stands(freeze: Any, code: str, path: tuple[str, ...]) -> None:
    with pytest.raises(DomainError) as refused:
        DriftPolicy.of({"drift": {"freeze": [HOLIDAYS, freeze]}})
    assert (refused.value.code, refused.value.path) == (code, ("configuration", "drift", "freeze", "1", *path))


def test_all_faults_are_named_and_there_are_not_too_many_freezes() -> None:
    with pytest.raises(Several) as several:
        DriftPolicy.of({"drift": {"freeze": [7, {}], "reaction": "x"}})
    assert len(several.value.errors) == 3
    with pytest.raises(DomainError, match="at most 20"):
        read(*[HOLIDAYS] * 21)
    with pytest.raises(DomainError, match="a list"):
        freezes_of({}, ("freeze",))
