"""Where expressions end: in documents, and at the edge of what they may cost."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from app.domain.errors import Diagnostic, Invalid, Severity
from app.domain.expressions import BudgetExceeded, ExpressionError, embedded, evaluate, parse
from app.domain.expressions.budget import MAX_RESULT, MAX_VALUE_DEPTH, MAX_WORK, Budget
from app.domain.values import UNKNOWN, Secret
from tests.domain.test_expressions import SCOPE, value

# ── budgets, at the edge and one beyond it ───────────────────────────────────────────────────────────────────────


def test_a_value_may_be_as_large_as_is_said_and_no_larger() -> None:
    budget = Budget()
    budget.build(MAX_RESULT, 7)
    assert budget.work == MAX_WORK - MAX_RESULT
    with pytest.raises(BudgetExceeded) as caught:
        budget.build(MAX_RESULT + 1, 7)
    assert caught.value.message == "a value may have 65536 characters; the one made at 7 would be larger"
    assert caught.value.position == 7


def test_work_is_done_up_to_the_last_character() -> None:
    budget = Budget()
    budget.spend(MAX_WORK, 1)
    with pytest.raises(BudgetExceeded) as caught:
        budget.spend(1, 9)
    assert (caught.value.message, caught.value.position) == (
        "the expression works on more than 1048576 characters",
        9,
    )
    with pytest.raises(BudgetExceeded) as caught:
        budget.build(1, 8)
    assert caught.value.position == 8


@pytest.mark.parametrize(
    ("read", "size"),
    [
        ("abc", 3),
        (5, 1),
        (None, 1),
        (Secret("abcd"), 4),
        ([], 0),
        ([1, 2], 4),
        ((1, "ab"), 5),
        ({"ab": "c", "d": 1}, 7),
        ([[1], {"k": [Secret("xy")]}, "z"], 11),
    ],
)
def test_what_is_read_is_counted(read: Any, size: int) -> None:
    budget = Budget()
    assert budget.read(read, 3) == size
    assert budget.work == MAX_WORK - size
    budget.work = size
    budget.read(read, 3)
    assert budget.work == 0
    if size:
        budget.work = size - 1
        with pytest.raises(BudgetExceeded) as caught:
            budget.read(read, 3)
        assert caught.value.position == 3


@pytest.mark.parametrize("wrap", [lambda inside: [inside], lambda inside: {"a": inside}])
def test_what_is_read_may_be_as_deep_as_is_said_and_no_deeper(wrap: Any) -> None:
    deep: Any = 1
    for _ in range(MAX_VALUE_DEPTH):
        deep = wrap(deep)
    Budget().read(deep, 2)
    Budget().read(Secret(deep), 2)
    with pytest.raises(BudgetExceeded) as caught:
        Budget().read(wrap(deep), 2)
    assert caught.value.message == "the value at 2 is nested more than 256 levels deep"
    assert caught.value.position == 2


def test_each_part_of_an_expression_is_a_step() -> None:
    budget = Budget()
    budget.steps = 0
    with pytest.raises(BudgetExceeded) as caught:
        budget.step(4)
    assert (caught.value.message, caught.value.position) == ("the expression takes more than 10000 steps", 4)


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("1" * 4097, "an expression may have 4096 characters, this one has 4097", 4096),
        ("(" * 65 + "1" + ")" * 65, "the expression is nested more than 64 levels deep at 64", 64),
        ("'a'" + ".trim()" * 200, "the expression has too many calls in a row or inside each other", 0),
    ],
)
def test_what_is_too_large_is_said_to_the_letter(text: str, message: str, position: int) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        parse(text)
    assert (caught.value.message, caught.value.position) == (message, position)


@pytest.fixture
def twice_the_stack() -> Iterator[None]:
    """Where mutants are tested, calls go through functions of the tool."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(2 * before + 500)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("twice_the_stack")
def test_as_deep_and_as_long_as_is_said_is_fine() -> None:
    assert value("(" * 63 + "1" + ")" * 63) == 1
    assert value("1" + " " * 4095) == 1
    assert value("'a'" + ".trim()" * 126) == "a"


@pytest.mark.parametrize(
    "text",
    [
        "lower(a)",
        "a.upper()",
        "a.split('b')",
        "base64(a)",
        "a + b",
        "[a].join('')",
        "a.replace('x', 'yy')",
        "fromJson(a)",
    ],
)
def test_what_would_be_too_large_is_refused_where_it_would_be_made(text: str) -> None:
    scope = {"a": "x" * (MAX_RESULT + 1), "b": ""}
    with pytest.raises(BudgetExceeded) as caught:
        evaluate(parse(text), scope)
    assert caught.value.message.startswith("a value may have 65536 characters")


# ── inside documents ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_fault_in_a_document_says_in_what_and_where() -> None:
    with pytest.raises(ExpressionError) as caught:
        embedded.split("ab ${1 +} cd")
    assert caught.value.message == "in ${1 +}: unexpected end of the expression at 3"
    assert caught.value.position == 8
    with pytest.raises(ExpressionError) as caught:
        embedded.split("a ${'}'")
    assert caught.value.message == "'${' is never closed by '}'; write '$${' for a literal '${'"
    assert caught.value.position == 2


@pytest.mark.parametrize(("length", "shown"), [(79, "+" * 79), (80, "+" * 79 + "…"), (200, "+" * 79 + "…")])
def test_a_long_faulty_expression_is_shown_in_part(length: int, shown: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        embedded.split("${" + "+" * length + "}")
    assert caught.value.message == f"in ${{{shown}}}: unexpected '+' at 0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${{'a': {'b': '}'}}}", {"a": {"b": "}"}}),
        ("${'\\'}'}", "'}"),
        ('${"\\"}"}', '"}'),
        ("${'{'}${'\"'}", '{"'),
        ("a$b $${x} ${1}$", "a$b ${x} 1$"),
        ("${true}-${1.5}-${'x'}", "true-1.5-x"),
        ("${parameters.name}/${steps.a}", UNKNOWN),
        ("${parameters.name}/${parameters.password}", Secret("shop/hush")),
    ],
)
def test_where_an_expression_ends(text: str, expected: Any) -> None:
    assert embedded.render(text, SCOPE) == expected


@pytest.mark.parametrize(
    ("document", "known"),
    [
        ("a $${b}", "a ${b}"),
        ("a ${b}", UNKNOWN),
        ("${b}", UNKNOWN),
        (1, 1),
        (None, None),
        ({"a": ["x", "${b}"], "c": ("y",)}, {"a": ["x", UNKNOWN], "c": ["y"]}),
    ],
)
def test_what_is_known_without_a_scope(document: Any, known: Any) -> None:
    assert embedded.render_known(document) == known


def test_one_expression_and_nothing_else() -> None:
    assert evaluate(embedded.single("  ${1 + 1} "), {}) == 2
    for text in ("a ${1}", "${1}${2}", "1", ""):
        with pytest.raises(Invalid) as caught:
            embedded.single(text, ("when",))
        assert caught.value.message == "this is one expression, written ${…}, and nothing else"
        assert caught.value.path == ("when",)
    with pytest.raises(ExpressionError) as broken:
        embedded.single("${1 +}", ("when",))
    assert broken.value.path == ("when",)
    assert broken.value.message == "in ${1 +}: unexpected end of the expression at 3"


@pytest.mark.parametrize(
    ("document", "is_one"), [("${1}", True), ("a${1}", False), ("${1}${2}", False), ("a", False), (1, False)]
)
def test_whether_it_is_one_expression(document: Any, is_one: bool) -> None:
    assert embedded.is_expression(document) is is_one


def test_all_faults_of_a_document_are_found_and_all_expressions() -> None:
    found, faults = embedded.survey({"a": "${1 +}", "b": ["x ${2}", "${)}"]}, ("content",))
    assert [(one.path, one.text, evaluate(one.expression, {})) for one in found] == [(("content", "b", "0"), "${2}", 2)]
    assert faults == [
        Diagnostic(
            Severity.ERROR,
            "INVALID",
            "in ${1 +}: unexpected end of the expression at 3",
            ("content", "a"),
        ),
        Diagnostic(Severity.ERROR, "INVALID", "in ${)}: unexpected ')' at 0", ("content", "b", "1")),
    ]


def test_what_expressions_add_to_a_text_is_bounded() -> None:
    scope = {"a": "x" * 33_000}
    assert embedded.render("${a}-", scope) == "x" * 33_000 + "-"
    with pytest.raises(BudgetExceeded) as caught:
        embedded.render({"k": "${a}${a}"}, scope)
    assert caught.value.message == "the values in a text may have 65536 characters in all; these are longer"
    assert caught.value.path == ("k",)


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("a['b'][1].c", ["a.b.1.c"]),
        ("a[1.5].c", ["a"]),
        ("a[true].c", ["a"]),
        ("a[null].c", ["a"]),
        ("a[b.c].d", ["a", "b.c"]),
        ("a.b + a.b", ["a.b"]),
    ],
)
def test_paths_are_followed_as_far_as_they_are_written(text: str, paths: list[str]) -> None:
    assert [str(reference) for reference in parse(text).references] == paths
