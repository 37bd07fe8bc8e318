"""JSON that says one thing to every reader."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from app.web.bodies import Ambiguous, Unreadable, json_of


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


@pytest.mark.parametrize(
    ("text", "message", "path"),
    [
        ('{"a": [1, %s]}' % ("9" * 400), "the number at a.1 is too large", ("a", "1")),
        ('{"a": {"b": 1}, "c": -1e400}', "the number at c is too large", ("c",)),
        ("1e400", "the number is too large", ()),
        (
            '{"variables": {"name": "x\\ud800"}}',
            "the text at variables.name is not valid Unicode: U+D800 is half of a character",
            ("variables", "name"),
        ),
        ('[{"\\udfff": 1}]', "the text at 0 is not valid Unicode: U+DFFF is half of a character", ("0",)),
    ],
)
def test_what_no_reader_could_take_is_told_with_its_place(text: str, message: str, path: tuple[str, ...]) -> None:
    for given in (text, text.encode()):
        with pytest.raises(Unreadable) as caught:
            json_of(given)
        assert (caught.value.message, caught.value.path) == (message, path)


def test_bytes_that_are_no_text_are_told_apart_from_what_is_no_json() -> None:
    with pytest.raises(Unreadable) as caught:
        json_of(b'{"a": "\xff"}')
    assert caught.value.message == "the text is not UTF-8 at byte 7"


def test_a_fault_among_many_deep_leaves_is_found_without_their_paths() -> None:
    text = "[" * 800 + "0," * 60_000 + "1e400" + "]" * 800
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable) as caught:
            json_of(text)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(caught.value.path) == 800
    assert most < 32 * 2**20


def test_numbers_are_read_however_long_they_are_written() -> None:
    assert json_of(f"[0.{'9' * 10_000}, {'9' * 300}]") == [1.0, 1e300]


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", '{"a": NaN, "b": 1e400', "[1,]", "\ufeff{}", "[" * 2_000 + "]" * 2_000, "{'a': 1}"]
)
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
