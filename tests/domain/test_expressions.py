from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import Invalid, UnknownReference
from app.domain.expressions import BudgetExceeded, ExpressionError, MissingReference, embedded, evaluate, parse
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


def value(text: str) -> Any:
    return evaluate(parse(text), SCOPE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3 - 4", 3),
        ("(1 + 2) * 3", 9),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("7.5 / 2.5", 3.0),
        ("1 < 1.5", True),
        ("1 == 1.0", True),
        ("true == 1", False),
        ("'b' > 'a'", True),
        ("'ab' + \"c\"", "abc"),
        ("[1] + [2]", [1, 2]),
        ("2 in [1, 2]", True),
        ("'x' in {'x': 1}", True),
        ("!true || 1 < 2 && true", True),
        ("true ? 1 : 2 ", 1),
        ("false ? 1 : false ? 2 : 3", 3),
        ("true?.5:1", 0.5),
        ("'\\u0041\\n\\''", "A\n'"),
        ("{'a': [1, {'b': null}]}", {"a": [1, {"b": None}]}),
        ("parameters.n * 2", 6),
        ("parameters['n']", 3),
        ("parameters.list[1]", 2),
        ("resources['web-1'].properties.size", 2),
        ("parameters.none?.x", None),
        ("parameters.absent?.x.y.z", None),
        ("parameters?.absent.x", None),
        ("default(parameters.absent.x, 5)", 5),
        ("default(parameters.none, 5)", 5),
        ("default(parameters.n, 5)", 3),
        ("coalesce(parameters.absent, null, 'x')", "x"),
        ("has(parameters.absent)", False),
        ("has(parameters.n)", True),
        ("size('abc') + size([1]) + size({})", 4),
        ("string(1.5) + string(true) + string(2)", "1.5true2"),
        ("int('12') + int(3.9)", 15),
        ("double('1.5') + double(1)", 2.5),
        ("bool('true')", True),
        ("parameters.name.contains('ho')", True),
        ("'abc'.startsWith('a') && 'abc'.endsWith('c')", True),
        ("' Ab '.trim().lower() + 'x'.upper()", "abX"),
        ("'a-b-c'.replace('-', '')", "abc"),
        ("'a,b'.split(',')", ["a", "b"]),
        ("[1, 'b'].join('-')", "1-b"),
        ("keys({'b': 1, 'a': 2})", ["a", "b"]),
        ("values({'b': 1, 'a': 2})", [2, 1]),
        ("min(3, 1, 2) + max([1, 2])", 3),
        ("abs(-2)", 2),
        ("merge({'a': 1}, {'a': 2, 'b': 3})", {"a": 2, "b": 3}),
        ("concat([1], [2, 3])", [1, 2, 3]),
        ("toJson({'b': 1, 'a': [null]})", '{"a":[null],"b":1}'),
        ("fromJson('[1, {\"a\": 2}]')[1].a", 2),
        ("base64('hi')", "aGk="),
        ("sha256('hi')", hashlib.sha256(b"hi").hexdigest()),
        ("'%s has %d, %.1f%%, %x'.format(['a', 3, 2.55, 255])", "a has 3, 2.5%, ff"),
    ],
)
def test_values(text: str, expected: Any) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("1 + 1.0", "cannot be applied to an int and a double"),
        ("true < false", "cannot be applied to a bool and a bool"),
        ("1 / 0", "division by zero"),
        ("9223372036854775807 + 1", "64 bits"),
        ("9223372036854775808", "64 bits"),
        ("1e308 * 10.0", "not finite"),
        ("!1", "cannot be applied to an int"),
        ("1 && true", "a bool is needed"),
        ("sise('a')", "did you mean 'size'?"),
        ("size()", "takes 1 arguments"),
        ("'abc", "no closing quote"),
        ("1 +", "unexpected end"),
        ("a ? b", "':' was expected"),
        ("#", "unexpected character"),
        ("'\\q'", "unknown escape"),
        ("'\\ud800'", "unknown escape"),
        ("parameters.name.x", "is a string and has no 'x'"),
        ("{1: 2}", "must be a string"),
        ("split('a', '')", "separator is empty"),
        ("fromJson('{')", "no JSON"),
        ("'%d'.format(['a'])", "does not take"),
        ("'%s'.format([])", "more places than values"),
    ],
)
def test_refusals_say_where_and_why(text: str, part: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        value(text)
    assert part in caught.value.message
    assert 0 <= caught.value.position <= len(text)


def test_position_points_at_the_fault() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse("1 + @")
    assert caught.value.position == 4


def test_missing_reference_names_path_and_nearest() -> None:
    with pytest.raises(MissingReference, match=r"'parameters\.user' has no 'logn'; did you mean 'login'\?") as caught:
        value("parameters.user.logn")
    assert isinstance(caught.value, UnknownReference)
    assert caught.value.code == "UNKNOWN_REFERENCE"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps.a.outputs.b + 1", UNKNOWN),
        ("true || steps.a", True),
        ("steps.a || true", True),
        ("steps.a && false", False),
        ("steps.a && true", UNKNOWN),
        ("steps.a || 1 / 0 == 1", UNKNOWN),
        ("steps.a ? 1 : 2", UNKNOWN),
        ("true ? 1 : steps.a", 1),
        ("[steps.a, 1]", [UNKNOWN, 1]),
        ("size([steps.a, 1])", 2),
        ("[steps.a] == [1]", UNKNOWN),
        ("resources['web-1'].outputs.url + '/x'", UNKNOWN),
        ("default(steps.a, 1)", UNKNOWN),
        ("toJson({'a': steps.a})", UNKNOWN),
        ("{'k': 1}[steps.a]", UNKNOWN),
    ],
)
def test_unknown_spreads_unless_the_rest_decides(text: str, expected: Any) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("parameters.password + '!'", "hush!"),
        ("parameters.password == 'hush'", True),
        ("parameters.password == 'x' ? 1 : 2", 2),
        ("size(parameters.password)", 4),
        ("'%s'.format([parameters.password])", "hush"),
        ("toJson(parameters.user)", '{"login":"ann","token":"t"}'),
        ("[parameters.password].join('')", "hush"),
        ("'hush' in [parameters.password]", True),
        ("parameters.list[size(parameters.user.token)]", 2),
        ("-size(parameters.password)", -4),
        ("!(parameters.password == '')", True),
        ("parameters.password == 'hush' || false", True),
        ("default(parameters.absent, parameters.password)", "hush"),
    ],
)
def test_what_is_computed_from_a_secret_is_secret(text: str, hidden: Any) -> None:
    found = value(text)
    assert found == Secret(hidden)
    assert str(hidden) not in repr(found)


def test_neighbours_of_a_secret_are_not_secret() -> None:
    assert value("parameters.user.login") == "ann"
    assert value("merge(parameters.user, {'x': 1})") == {"login": "ann", "token": Secret("t"), "x": 1}
    assert value("keys(parameters.user)") == ["login", "token"]


def test_secret_keys_are_not_suggested() -> None:
    scope = {"parameters": {"map": Secret({"classified": 1})}}
    with pytest.raises(MissingReference) as caught:
        evaluate(parse("parameters.map.classifed"), scope)
    assert "classified" not in caught.value.message


def test_references_are_static_paths_and_know_when_they_are_guarded() -> None:
    found = parse(
        "resources['web-1'].outputs.list[parameters.n].x + steps.a?.outputs.b + default(tenant.slug, plan.name)"
    ).references
    assert [(str(reference), reference.guarded) for reference in found] == [
        ("resources.web-1.outputs.list", False),
        ("parameters.n", False),
        ("steps.a.outputs.b", True),
        ("tenant.slug", True),
        ("plan.name", False),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 65 + "1" + ")" * 65,
        "!" * 70 + "true",
        "[" * 70 + "]" * 70,
        "'a'" + ".trim()" * 200,
        "1 " * 2049,
    ],
)
def test_what_is_too_long_or_too_deep_is_not_parsed(text: str) -> None:
    with pytest.raises(BudgetExceeded):
        parse(text)


def test_long_chains_are_fine() -> None:
    assert value("1" + "+1" * 2000) == 2001


@pytest.mark.parametrize(
    "text",
    [
        "big + big",
        "big.replace('a', 'aaaaaaaaaa')",
        "[big, big].join('')",
        "toJson([big, big])",
        "[big, big]",
        "'%s%s'.format([big, big])",
        " && ".join(["big == other"] * 40),
    ],
)
def test_what_would_grow_too_large_is_stopped(text: str) -> None:
    scope = {"big": "a" * 60_000, "other": "a" * 60_000}
    with pytest.raises(BudgetExceeded):
        evaluate(parse(text), scope)


def test_deep_json_in_a_text_is_stopped() -> None:
    with pytest.raises(ExpressionError):
        evaluate(parse("fromJson(deep)"), {"deep": "[" * 900 + "]" * 900})


# ── against Python ───────────────────────────────────────────────────────────────────────────────────────────────


@st.composite
def arithmetic(draw: st.DrawFn, depth: int = 0) -> tuple[str, int]:
    """An expression of ints, and its value by Python."""
    if depth > 4 or draw(st.booleans()):
        number = draw(st.integers(0, 99))
        return str(number), number
    operator = draw(st.sampled_from("+-*/%"))
    (left, one), (right, other) = draw(arithmetic(depth + 1)), draw(arithmetic(depth + 1))
    if operator in "/%" and other == 0:
        operator = "+"
    quotient = abs(one) // abs(other or 1) * (1 if (one < 0) == (other < 0) else -1)
    results = {"+": one + other, "-": one - other, "*": one * other, "/": quotient, "%": one - other * quotient}
    return f"({left} {operator} {right})", results[operator]


@st.composite
def logic(draw: st.DrawFn, depth: int = 0) -> tuple[str, bool]:
    """An expression of bools, and its value by Python."""
    if depth > 4:
        truth = draw(st.booleans())
        return ("true" if truth else "false"), truth
    kind = draw(st.sampled_from(["&&", "||", "!", "?", "<", "literal"]))
    if kind == "literal":
        return draw(logic(5))
    (left, one), (right, other) = draw(logic(depth + 1)), draw(logic(depth + 1))
    if kind == "!":
        return f"!{left}", not one
    if kind == "?":
        return f"({left} ? {right} : !{right})", other if one else not other
    if kind == "<":
        (small, first), (large, second) = draw(arithmetic(4)), draw(arithmetic(4))
        return f"({small} < {large})", first < second
    return f"({left} {kind} {right})", (one and other) if kind == "&&" else (one or other)


@given(arithmetic())
def test_arithmetic_agrees_with_python(case: tuple[str, int]) -> None:
    text, expected = case
    assert value(text) == expected


@given(logic())
def test_logic_agrees_with_python(case: tuple[str, bool]) -> None:
    text, expected = case
    assert value(text) is expected


@given(st.lists(st.sampled_from([2, 3, 5]), min_size=2, max_size=5), st.data())
def test_precedence_and_association_agree_with_python(numbers: list[int], data: st.DataObject) -> None:
    text = str(numbers[0])
    for number in numbers[1:]:
        text += f" {data.draw(st.sampled_from('+-*'))} {number}"
    assert value(text) == eval(text)  # digits and operators only


_WORDS = st.sampled_from(
    [
        *("parameters", "resources", "steps", "n", "list", "password", "user", "web-1"),
        *(".", "?.", "[", "]", "(", ")", "{", "}", ",", ":", "?"),
        *("+", "-", "*", "/", "%", "==", "!=", "<", "&&", "||", "!", "in"),
        *("'a'", '"b"', "1", "2.5", "0", "true", "null"),
        *("size", "join", "default", "format", "replace", "toJson", "fromJson", "keys", "merge"),
    ]
)


@given(st.one_of(st.text(max_size=60), st.lists(_WORDS, max_size=25).map(" ".join)))
@settings(max_examples=300)
def test_any_text_is_evaluated_or_refused_without_showing_secrets(text: str) -> None:
    try:
        shown = repr(value(text))
    except Invalid as error:
        shown = error.message
    assert "hush" not in shown


@given(st.one_of(st.text(max_size=40), st.lists(_WORDS, max_size=12).map(lambda words: "${" + " ".join(words) + "}")))
@settings(max_examples=200)
def test_any_document_is_rendered_or_refused_with_the_path(text: str) -> None:
    try:
        embedded.render({"a": [text]}, SCOPE)
        path: tuple[str, ...] = ("a", "0")
    except Invalid as error:
        path = error.path
    assert path == ("a", "0")
