from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.expressions import ExpressionError, embedded
from app.domain.values import UNKNOWN, Secret

SCOPE: dict[str, Any] = {
    "parameters": {
        "n": 3,
        "name": "shop",
        "none": None,
        "list": [1, 2, 3],
        "password": Secret("hush"),
        "user": {"login": "ann", "token": Secret("t")},
    },
    "resources": {"web-1": {"id": "w", "outputs": UNKNOWN, "properties": {"size": 2}}},
    "steps": UNKNOWN,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${parameters.list}", [1, 2, 3]),
        ("${parameters.n}", 3),
        ("n=${parameters.n}, ${true}", "n=3, true"),
        ("$${parameters.n}", "${parameters.n}"),
        ("$$${parameters.n}", "$${parameters.n}"),
        ("cost: 5$ {x}", "cost: 5$ {x}"),
        ("${'}' + \"{\"}", "}{"),
        ("${ {'a': {'b': 1}} }", {"a": {"b": 1}}),
        ("${steps.x}-suffix", UNKNOWN),
        ("${parameters.password}@host", Secret("hush@host")),
        ("", ""),
    ],
)
def test_embedded_values(text: str, expected: Any) -> None:
    assert embedded.render([text], SCOPE) == [expected]


@pytest.mark.parametrize("text", ["${", "${parameters.n", "a${'}", "x${parameters.list}", "x${parameters.none}"])
def test_embedded_refusals_carry_the_path(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        embedded.render({"a": {"b": [text]}}, SCOPE)
    assert caught.value.path == ("a", "b", "0")


def test_find_gives_every_expression_with_its_path() -> None:
    found = list(embedded.find({"a": "x${parameters.n}y${steps.s}", "b": [{"c": "${1}"}], "d": "$${no}"}))
    assert [(item.path, item.text) for item in found] == [
        (("a",), "${parameters.n}"),
        (("a",), "${steps.s}"),
        (("b", "0", "c"), "${1}"),
    ]


def test_survey_says_what_can_never_have_a_value() -> None:
    found, faults = embedded.survey(
        {"a": "${1 / 0}", "b": "${parameters.x / 0}", "c": "${false && 1 / 0 > 1}", "d": "${-true}"}
    )
    assert len(found) == 4
    assert [(fault.path, fault.message) for fault in faults] == [
        (("a",), "division by zero at 2"),
        (("d",), "'-' at 0 cannot be applied to a bool"),
    ]


def test_survey_goes_on_after_a_fault() -> None:
    found, faults = embedded.survey({"a": "${1 +}", "b": "${2}", "c": "${"})
    assert [item.path for item in found] == [("b",)]
    assert [fault.path for fault in faults] == [("a",), ("c",)]


def test_values_are_never_rendered_again() -> None:
    assert embedded.render("${parameters.x}", {"parameters": {"x": "${parameters.y}"}}) == "${parameters.y}"


@given(st.text(max_size=30))
def test_escaped_text_comes_back_as_it_was(text: str) -> None:
    assert embedded.render(text.replace("${", "$${"), {}) == text


@given(st.recursive(st.text(st.characters(codec="utf-8"), max_size=10), lambda inner: st.lists(inner, max_size=3)))
def test_any_string_survives_as_a_literal_of_the_language(tree: Any) -> None:
    def literal(node: Any) -> str:
        if isinstance(node, list):
            return "[" + ", ".join(map(literal, node)) + "]"
        return "'" + str(node).replace("\\", "\\\\").replace("'", "\\'") + "'"

    text = literal(tree)
    if len(text) <= 4096:
        assert embedded.render("${" + text + "}", {}) == tree
