"""Characters that names do not hold, and how they are shown where they are held already."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.characters import control_in, half_in, spelled
from app.domain.keeping import first_fault


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\x1b[31mred", "U+001B"),
        ("a\nb", "U+000A"),
        ("a\tb", "U+0009"),
        ("a\x7f", "U+007F"),
        ("\x9b31m", "U+009B"),
        ("a\udc80b", "U+DC80"),
        ("Zürich — naïve 名前 🚀", None),
        ("a\u00a0b", None),
    ],
)
def test_a_control_character_is_named(text: str, found: str | None) -> None:
    assert control_in(text) == found


def test_half_a_character_is_found_wherever_it_is_in_a_document() -> None:
    assert half_in("\x1b\n") is None
    fault = first_fault({"a": ["good", "\ud800"]}, ("input",))
    assert fault is not None
    assert (fault.path, fault.message) == (
        ("input", "a", "1"),
        "text may not contain U+D800, which is half of a character",
    )


@given(st.text(st.characters(codec=None)))
def test_what_is_spelled_can_be_shown_and_is_still_the_same_to_a_reader_of_json(text: str) -> None:
    shown = spelled(text)
    assert control_in(shown) is None
    assert control_in(spelled(text, lines=True).replace("\n", "").replace("\t", "")) is None
    plain = "".join(letter for letter in text if letter not in '"\\')
    assert json.loads(f'"{spelled(plain)}"') == json.loads(json.dumps(plain))
