"""Whatever is computed from a secret is one, and no more than that; what costs too much is refused at the edge."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.expressions import BudgetExceeded, ExpressionError, MissingReference, evaluate, parse
from app.domain.expressions.budget import MAX_RESULT, MAX_STEPS, Budget, type_name
from app.domain.values import UNKNOWN, Secret

SCOPE: dict[str, Any] = {
    "yes": Secret(True),
    "no": Secret(False),
    "number": Secret(2),
    "half": Secret(0.5),
    "list": Secret([1, 2]),
    "map": Secret({"a": 1}),
    "holds": ["open", Secret("shut")],
    "key": Secret("a"),
    "place": Secret(1),
    "open": {"a": "x", "b": ["p", "q"]},
    "later": UNKNOWN,
}


def result(text: str) -> Any:
    return evaluate(parse(text), SCOPE)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("yes || true", True),
        ("no || true", True),
        ("true && no", False),
        ("false || yes", True),
        ("yes && true", True),
        ("true && yes", True),
        ("no || false", False),
        ("later || yes", True),
        ("later && no", False),
        ("!yes", False),
        ("-number", -2),
        ("-half", -0.5),
        ("list + [3]", [1, 2, 3]),
        ("[3] + list", [3, 1, 2]),
        ("list + list", [1, 2, 1, 2]),
        ("map.a", 1),
        ("list[0]", 1),
        ("open[key]", "x"),
        ("open.b[place]", "q"),
        ("yes ? 1 : 2", 1),
        ("double(number)", 2.0),
        ("format('%d', [number])", "2"),
        ("format('%x', [number])", "2"),
        ("number == 2", True),
    ],
)
def test_what_comes_of_a_secret_is_secret(text: str, inside: Any) -> None:
    found = result(text)
    assert isinstance(found, Secret)
    assert (found.value, type(found.value)) == (inside, type(inside))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true || yes", True),
        ("false && yes", False),
        ("true && true", True),
        ("-1.5", -1.5),
        ("[1] + [2]", [1, 2]),
        ("open.b[0]", "p"),
        ("holds[0]", "open"),
        ("size(list + [3]) > 0 ? 1 : 2", Secret(1)),
    ],
)
def test_what_does_not_come_of_one_is_open(text: str, expected: Any) -> None:
    assert result(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("map.b", "'map' has no '…'"),
        ("list[7]", "'list' has no element …"),
        ("open[key].b", "'open[…]' is a string and has no '…'"),
        ("open.b[9]", "'open.b' has no element 9"),
        ("open.b[1].c", "'open.b[1]' is a string and has no 'c'"),
        ("open.b[2]", "'open.b' has no element 2"),
    ],
)
def test_refusals_name_no_secret_key(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        result(text)
    assert caught.value.message == message
    assert isinstance(caught.value.position, int)


@pytest.mark.parametrize(
    ("text", "position"),
    [("nothing", 0), ("1 + nothing", 4), ("-nothing", 1), ("!'a'", 0), ("1 + -'a'", 4), ("open.b[true]", 6)],
)
def test_refusals_say_where(text: str, position: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        result(text)
    assert caught.value.position == position


def test_a_question_mark_covers_the_next_link_and_no_other() -> None:
    assert result("open.zzz?.a") is None
    assert result("open?.zzz") is None
    with pytest.raises(MissingReference):
        result("open.zzz.a?.b")
    with pytest.raises(MissingReference):
        result("open.b[7].c?.d")


def test_steps_are_counted_one_by_one() -> None:
    budget = Budget()
    for _ in range(MAX_STEPS):
        budget.step(1)
    with pytest.raises(BudgetExceeded) as caught:
        budget.step(7)
    assert (caught.value.message, caught.value.position) == ("the expression takes more than 10000 steps", 7)


HALF = MAX_RESULT // 2


@pytest.mark.parametrize(
    ("text", "scope", "size"),
    [
        ("a + b", {"a": "x" * HALF, "b": "y" * HALF}, MAX_RESULT),
        ("join(a + b)", {"a": ["x"] * (HALF // 2), "b": ["y"] * (HALF // 2)}, HALF),
        ("join(a, b)", {"a": ["x"] * 2, "b": "y" * (HALF - 1)}, MAX_RESULT - HALF + 1),
        ("replace(a, 'x', b)", {"a": "x" * 2, "b": "y" * HALF}, MAX_RESULT),
        ("base64(a)", {"a": "x" * (MAX_RESULT * 3 // 4 - 3)}, MAX_RESULT - 4),
    ],
)
def test_values_may_be_as_large_as_they_are_allowed_to_be(text: str, scope: dict[str, Any], size: int) -> None:
    assert len(evaluate(parse(text), scope)) == size


@pytest.mark.parametrize(
    ("text", "scope", "position"),
    [
        ("a + b", {"a": "x" * HALF, "b": "y" * (HALF + 1)}, 2),
        ("a + b", {"a": ["x"] * HALF, "b": ["y"] * (HALF + 1)}, 2),
        ("join(a, b)", {"a": ["x"] * 3, "b": "y" * HALF}, 0),
        ("replace(a, 'x', b)", {"a": "x" * 2, "b": "y" * (HALF + 1)}, 0),
        ("base64(a)", {"a": "x" * (MAX_RESULT * 3 // 4)}, 0),
    ],
)
def test_larger_ones_are_refused_before_they_are_made(text: str, scope: dict[str, Any], position: int) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        evaluate(parse(text), scope)
    assert caught.value.position == position
    assert "may have 65536" in caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("double('1E2')", 100.0),
        ("double('1e2')", 100.0),
        ("double(1.5)", 1.5),
        ("double(2)", 2.0),
        ("format('%f', [2])", "2.000000"),
        ("format('%f', [0.5])", "0.500000"),
        (r"'\u00AF\u00af'", "\xaf\xaf"),
        (r"'\uE000'", "\ue000"),
        ("0 / -5", 0),
        ("1 / 2", 0),
        ("1 / -1", -1),
        ("-7 / 2", -3),
        ("7 / -2", -3),
        ("1 / 1", 1),
    ],
)
def test_numbers_and_letters(text: str, expected: Any) -> None:
    found = result(text)
    assert (found, type(found)) == (expected, type(expected))


def test_types_have_names() -> None:
    assert type_name(UNKNOWN) == "an unknown value"
    assert type_name((1,)) == "a list"
    assert type_name({1}) == "a set"
