"""How long a pause waits, and durations as they are written."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.durations import seconds_of
from app.domain.enums import FailureStrategy
from app.domain.errors import Invalid
from app.domain.pausing import DAY, Patience, patience_of


@pytest.mark.parametrize(
    ("text", "seconds"), [("PT15M", 900), ("PT1H30M", 5400), ("P7D", 7 * DAY), ("P1W", 7 * DAY), ("PT0.5S", 0.5)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert seconds_of(text, (), most=30 * DAY) == seconds


@pytest.mark.parametrize("text", ["", "P", "PT", "P1DT", "1H", "P1Y", "PT1", "-PT1H", "PT0S", "P31D", 60, None, "PT١H"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(Invalid) as refused:
        seconds_of(text, ("a",), most=30 * DAY)
    assert refused.value.path == ("a",)


def test_a_pause_lasts_a_day_and_halts_unless_told_otherwise() -> None:
    assert patience_of(None) == patience_of({}) == patience_of({"pause": {}}) == Patience(DAY, FailureStrategy.HALT)
    given = {"pause": {"deadline": "PT1H", "then": "ROLLBACK"}}
    assert patience_of(given).document() == {"seconds": 3600.0, "then": "ROLLBACK"}


@pytest.mark.parametrize(
    ("pause", "path"),
    [
        ("PT1H", ()),
        ({"until": "PT1H"}, ("until",)),
        ({"deadline": "soon"}, ("deadline",)),
        ({"then": "CONTINUE"}, ("then",)),
        ({"then": ["HALT"]}, ("then",)),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_stands(pause: Any, path: tuple[str, ...]) -> None:
    with pytest.raises(Invalid) as refused:
        patience_of({"pause": pause})
    assert refused.value.path == ("configuration", "pause", *path)
