"""What a plan says about how long things may take."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.errors import DomainError
from app.domain.operations import OperationKind
from app.domain.timeouts import DAY, Timeouts, timeouts_of


def test_what_is_not_said_has_its_default() -> None:
    assert timeouts_of(None) == timeouts_of({}) == timeouts_of({"timeouts": {}}) == Timeouts(None, DAY)
    assert timeouts_of({"timeouts": {"queue": "PT1H"}}) == Timeouts(3600, DAY)
    assert timeouts_of({"timeouts": {"total": "P2D"}}) == Timeouts(None, 2 * DAY)


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        (7, "TYPE_MISMATCH", ()),
        ({"total": "PT0S"}, "INVALID", ("total",)),
        ({"total": "P31D"}, "INVALID", ("total",)),
        ({"queue": 60}, "INVALID", ("queue",)),
        ({"attempt": "PT1M"}, "INVALID", ("attempt",)),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_stands(given: Any, code: str, path: tuple[str, ...]) -> None:
    with pytest.raises(DomainError) as refused:
        timeouts_of({"timeouts": given})
    assert (refused.value.code, refused.value.path) == (code, ("configuration", "timeouts", *path))


@pytest.mark.parametrize("operation", list(OperationKind))
def test_every_step_that_acts_has_an_end(operation: OperationKind) -> None:
    ends_by_itself = operation in (OperationKind.GATE, OperationKind.VERIFY, OperationKind.PREFLIGHT)
    assert Timeouts(total=60).total_of(operation, 5, 7) == (None if ends_by_itself else 7)
    assert Timeouts(total=60).total_of(operation, 5, None) == (None if ends_by_itself else 60)
    # One attempt alone may take longer than the default says of all.
    assert Timeouts(total=60).total_of(operation, 90, None) == (None if ends_by_itself else 90)
