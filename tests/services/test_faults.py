"""What is refused of names before anything is stored."""

from __future__ import annotations

import pytest

from app.domain.errors import Invalid, Required
from app.services.faults import name_fault, text_fault


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "two\nlines", "a\x9bb", "a\x7fb", "a\ud800b"])
def test_a_name_that_would_steer_a_terminal_is_refused_where_it_stands(name: str) -> None:
    fault = name_fault(name, 200, "the name of the plan", "name")
    assert type(fault) is Invalid
    assert fault.path == ("name",)
    assert "may not contain the control character U+" in fault.message
    assert text_fault(name, 200, "the reason", "reason") is None


def test_a_good_name_is_taken_and_a_missing_one_still_called_missing() -> None:
    assert name_fault(" Zürich \n", 200, "the name of the plan", "name") is None
    assert type(name_fault("\n", 200, "the name of the plan", "name")) is Required
