"""JSON that says one thing to every reader."""

from __future__ import annotations

import json

import pytest

from app.web.bodies import Ambiguous, json_of


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"a": 1, "a": 1}', "a"),
        ('{"a": 1, "\\u0061": 2}', "a"),
        ('[{"a": {"": 1, "": 2}}]', ""),
        ('{"a": [{"b": 1, "c": 2, "b": 3}]}', "b"),
        ('{"a" \t\r\n : 1, "b": "\\":", "a":2}', "a"),
        (f'{{"{"x" * 300}": 1, "{"x" * 300}": 2}}', "x" * 100),
    ],
)
def test_two_values_under_one_name_are_refused(text: str, name: str) -> None:
    for given in (text, text.encode()):
        with pytest.raises(Ambiguous) as caught:
            json_of(given)
        assert caught.value.name == name
        assert caught.value.message == f"an object has two values under the name '{name}'"


@pytest.mark.parametrize(
    "text",
    [
        "null", "[]", '"a"', '{"a": {"a": {"a": 1}}, "b": {"a": 1}}', '[{"a": 1}, {"a": 1}]', "1.5e300", "-0",
        '{"a": "\\": \\"b\\" :", "c": ":"}',
        '{"query": "{ a: b(c: \\"d\\") }", "variables": {"query": "x"}}', '"\\ud83e\\udd84"',
    ],
)  # fmt: skip
def test_whatever_else_is_read_as_it_stands(text: str) -> None:
    assert json_of(text) == json_of(text.encode()) == json.loads(text)


def test_numbers_are_read_however_long_they_are_written() -> None:
    assert json_of(f"[0.{'9' * 10_000}, {'9' * 300}]") == [1.0, 1e300]


@pytest.mark.parametrize("text", ["", "{", "NaN", "[1,]", "\ufeff{}", "[" * 2_000 + "]" * 2_000, "{'a': 1}"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        json_of(text)


def test_what_is_as_deep_as_a_reader_goes_is_read_or_refused() -> None:
    for depth in (100, 900):
        assert json_of("[" * depth + "]" * depth)
    for depth in (1_000, 1_023):
        try:
            json_of("[" * depth + "]" * depth)
        except json.JSONDecodeError as error:
            assert "deep" in error.msg  # noqa: PT017  which of both depends on the stack that is used up already
