"""What expressions come to and how they are refused, to the letter: messages and positions are read by people."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from app.domain.errors import Diagnostic, Invalid, Severity
from app.domain.expressions import BudgetExceeded, ExpressionError, MissingReference, embedded, evaluate, parse
from app.domain.expressions.budget import MAX_RESULT, MAX_VALUE_DEPTH, MAX_WORK, Budget
from app.domain.values import UNKNOWN, Secret
from tests.domain.test_expressions import SCOPE, value

REFUSED: list[tuple[str, str, int, type[ExpressionError]]] = [
    (
        "1 + 1.0",
        "'+' at 2 cannot be applied to an int and a double; convert one of them with int() or double()",
        2,
        ExpressionError,
    ),
    (
        "1.5 - 1",
        "'-' at 4 cannot be applied to a double and an int; convert one of them with int() or double()",
        4,
        ExpressionError,
    ),
    ("true < false", "'<' at 5 cannot be applied to a bool and a bool", 5, ExpressionError),
    ("'a' >= 1", "'>=' at 4 cannot be applied to a string and an int", 4, ExpressionError),
    ("null + 1", "'+' at 5 cannot be applied to null and an int", 5, ExpressionError),
    ("'a' + 1", "'+' at 4 cannot be applied to a string and an int", 4, ExpressionError),
    ("1 + 'a'", "'+' at 2 cannot be applied to an int and a string", 2, ExpressionError),
    ("[1] + 'a'", "'+' at 4 cannot be applied to a list and a string", 4, ExpressionError),
    ("[1] + {}", "'+' at 4 cannot be applied to a list and a map", 4, ExpressionError),
    ("1.5 % 2.5", "'%' at 4 cannot be applied to a double and a double", 4, ExpressionError),
    ("1.0 / 0.0", "division by zero at 4", 4, ExpressionError),
    ("3 % 0", "division by zero at 2", 2, ExpressionError),
    ("4 / 0", "division by zero at 2", 2, ExpressionError),
    ("-9223372036854775807 - 2", "the integer made at 21 does not fit into 64 bits", 21, ExpressionError),
    ("9223372036854775808", "the integer at 0 does not fit into 64 bits", 0, ExpressionError),
    ("99999999999999999999", "the integer at 0 does not fit into 64 bits", 0, ExpressionError),
    ("1e999", "the number at 0 is too large", 0, ExpressionError),
    ("1e308 * 10.0", "the number made at 6 is not finite", 6, ExpressionError),
    ("1e308 + 1e308", "the number made at 6 is not finite", 6, ExpressionError),
    ("!1", "'!' at 0 cannot be applied to an int", 0, ExpressionError),
    ("-'a'", "'-' at 0 cannot be applied to a string", 0, ExpressionError),
    ("-null", "'-' at 0 cannot be applied to null", 0, ExpressionError),
    ("1 && true", "a bool is needed at 2, not an int", 2, ExpressionError),
    ("true && [1]", "a bool is needed at 5, not a list", 5, ExpressionError),
    ("1 ? 2 : 3", "a bool is needed at 2, not an int", 2, ExpressionError),
    ("sise('a')", "there is no function 'sise' (at 0); did you mean 'size'?", 0, ExpressionError),
    ("zzzzzzzz(1)", "there is no function 'zzzzzzzz' (at 0)", 0, ExpressionError),
    ("size()", "'size' at 0 takes 1 arguments, not 0", 0, ExpressionError),
    ("size(1, 2)", "'size' at 0 takes 1 arguments, not 2", 0, ExpressionError),
    ("join()", "'join' at 0 takes 1 to 2 arguments, not 0", 0, ExpressionError),
    ("min()", "'min' at 0 takes 1 to 16 arguments, not 0", 0, ExpressionError),
    ("size(1)", "size() at 0: a string, a list or a map is needed, not an int", 0, ExpressionError),
    ("'abc", "the text that begins at 0 has no closing quote", 0, ExpressionError),
    ("1 +", "unexpected the end of the expression at 3", 3, ExpressionError),
    ("a ? b", "unexpected the end of the expression at 5; ':' was expected", 5, ExpressionError),
    ("1 2", "unexpected '2' at 2", 2, ExpressionError),
    ("1 + @", "unexpected character '@' at 4", 4, ExpressionError),
    ("(1", "unexpected the end of the expression at 2; ')' was expected", 2, ExpressionError),
    ("[1", "unexpected the end of the expression at 2; ']' was expected", 2, ExpressionError),
    ("[1 2", "unexpected '2' at 3; ']' was expected", 3, ExpressionError),
    ("{'a': 1", "unexpected the end of the expression at 7; '}' was expected", 7, ExpressionError),
    ("{'a' 1}", "unexpected '1' at 5; ':' was expected", 5, ExpressionError),
    ("{'a'; 1}", "unexpected character ';' at 4", 4, ExpressionError),
    ("a.1", "unexpected '.1' at 1", 1, ExpressionError),
    ("a.(", "unexpected '(' at 2", 2, ExpressionError),
    (")", "unexpected ')' at 0", 0, ExpressionError),
    ("in", "unexpected 'in' at 0", 0, ExpressionError),
    ("'\\q'", "unknown escape at 1; known are \\n \\t \\r \\\\ \\' \\\" \\uXXXX", 1, ExpressionError),
    ("'\\u12'", "unknown escape at 1; known are \\n \\t \\r \\\\ \\' \\\" \\uXXXX", 1, ExpressionError),
    ("'\\ud800'", "unknown escape at 1; known are \\n \\t \\r \\\\ \\' \\\" \\uXXXX", 1, ExpressionError),
    ("'\\udfff'", "unknown escape at 1; known are \\n \\t \\r \\\\ \\' \\\" \\uXXXX", 1, ExpressionError),
    ("'\\u0000'", "the character U+0000 at 1 can be kept nowhere", 1, ExpressionError),
    ("parameters.name.x", "'parameters.name' is a string and has no 'x'", 15, ExpressionError),
    ("parameters.n['x']", "'parameters.n' is an int and has no 'x'", 12, ExpressionError),
    ("parameters.list.x", "'parameters.list' is a list: an int is needed at 15, not a string", 15, ExpressionError),
    ("parameters.list['x']", "'parameters.list' is a list: an int is needed at 15, not a string", 15, ExpressionError),
    ("parameters.list[9]", "'parameters.list' has no element 9", 15, MissingReference),
    ("parameters.list[-1]", "'parameters.list' has no element -1", 15, MissingReference),
    ("parameters.list[true]", "'parameters.list' is a list: an int is needed at 15, not a bool", 15, ExpressionError),
    ("parameters.user[1]", "'parameters.user' is a map: a string is needed at 15, not an int", 15, ExpressionError),
    ("parameters.user.logn", "'parameters.user' has no 'logn'; did you mean 'login'?", 15, MissingReference),
    ("parameters.none.x", "'parameters.none' is null and has no 'x'", 15, MissingReference),
    ("parameters.absent", "'parameters' has no 'absent'", 10, MissingReference),
    ("paramters.n", "there is no 'paramters'; did you mean 'parameters'?", 0, MissingReference),
    ("zzz", "there is no 'zzz'", 0, MissingReference),
    ("('a' + 'b').x", "'(…)' is a string and has no 'x'", 11, ExpressionError),
    ("{1: 2}", "the key at 1 must be a string, not an int", 1, ExpressionError),
    ("{parameters.password: 1}", "the key at 1 must be a string, not a secret", 1, ExpressionError),
    ("{null: 1}", "the key at 1 must be a string, not null", 1, ExpressionError),
    ("{'a': 1}.b", "'(…)' has no 'b'", 8, MissingReference),
    ("1 in 2", "an int cannot contain an int (at 2)", 2, ExpressionError),
    ("1 in 'abc'", "a string cannot contain an int (at 2)", 2, ExpressionError),
    ("[] in {}['x']", "'(…)' has no 'x'", 8, MissingReference),
    ("split('a', '')", "split() at 0: the separator is empty", 0, ExpressionError),
    ("replace('a', '', 'b')", "replace() at 0: the text to be replaced is empty", 0, ExpressionError),
    ("lower(1)", "lower() at 0: a string is needed, not an int", 0, ExpressionError),
    ("join('a', 'b')", "join() at 0: a list is needed, not a string", 0, ExpressionError),
    ("join([[1]], 'b')", "a list cannot become part of a text", 0, ExpressionError),
    ("join([null])", "null cannot become part of a text", 0, ExpressionError),
    ("keys([1])", "keys() at 0: a map is needed, not a list", 0, ExpressionError),
    ("merge({}, 1)", "merge() at 0: a map is needed, not an int", 0, ExpressionError),
    ("concat([], {})", "concat() at 0: a list is needed, not a map", 0, ExpressionError),
    ("fromJson('{')", "fromJson() at 0: the text is no JSON", 0, ExpressionError),
    ("toJson(9223372036854775807) + 1", "'+' at 28 cannot be applied to a string and an int", 28, ExpressionError),
    ("int('x')", "int() at 0: a string that is no whole number cannot become an int", 0, ExpressionError),
    ("int('1.5')", "int() at 0: a string that is no whole number cannot become an int", 0, ExpressionError),
    ("int(true)", "int() at 0: a bool that is no whole number cannot become an int", 0, ExpressionError),
    ("int(1e300)", "the integer made at 0 does not fit into 64 bits", 0, ExpressionError),
    ("double('x')", "double() at 0: a string that is no number cannot become a double", 0, ExpressionError),
    ("double(true)", "double() at 0: a bool that is no number cannot become a double", 0, ExpressionError),
    ("bool('yes')", "bool() at 0: only true, false, 'true' and 'false' are bools", 0, ExpressionError),
    ("bool(1)", "bool() at 0: only true, false, 'true' and 'false' are bools", 0, ExpressionError),
    ("string(null)", "null cannot become part of a text", 0, ExpressionError),
    ("string([1])", "a list cannot become part of a text", 0, ExpressionError),
    ("string({})", "a map cannot become part of a text", 0, ExpressionError),
    ("abs('a')", "abs() at 0: a number is needed, not a string", 0, ExpressionError),
    ("abs(-9223372036854775807 - 1)", "the integer made at 0 does not fit into 64 bits", 0, ExpressionError),
    ("min([])", "min() at 0: there is nothing to choose from", 0, ExpressionError),
    ("max()", "'max' at 0 takes 1 to 16 arguments, not 0", 0, ExpressionError),
    ("min(1, 'a')", "'<' at 0 cannot be applied to a string and an int", 0, ExpressionError),
    ("max([1, true])", "'>' at 0 cannot be applied to a bool and an int", 0, ExpressionError),
    ("min([true])", "'<' at 0 cannot be applied to a bool and a bool", 0, ExpressionError),
    ("'%d'.format(['a'])", "format() at 5: %d does not take a string", 5, ExpressionError),
    ("'%d'.format([1.5])", "format() at 5: %d does not take a double", 5, ExpressionError),
    ("'%f'.format(['a'])", "format() at 5: %f does not take a string", 5, ExpressionError),
    ("'%x'.format([null])", "format() at 5: %x does not take null", 5, ExpressionError),
    ("'%s'.format([[1]])", "a list cannot become part of a text", 5, ExpressionError),
    ("'%s'.format([])", "format() at 5: there are more places than values", 5, ExpressionError),
    ("'%s'.format([1, 2])", "format() at 5: there are more values than places for them", 5, ExpressionError),
    ("'%q'.format([1])", "format() at 5: known are %s, %d, %x, %f, %.2f and %%", 5, ExpressionError),
    ("'%'.format([1])", "format() at 4: known are %s, %d, %x, %f, %.2f and %%", 4, ExpressionError),
    ("'%.123f'.format([1.0])", "format() at 9: known are %s, %d, %x, %f, %.2f and %%", 9, ExpressionError),
    ("contains(1, 2)", "an int cannot contain an int (at 0)", 0, ExpressionError),
    ("'a'.contains(1)", "a string cannot contain an int (at 4)", 4, ExpressionError),
    ("startsWith(1, 'a')", "startsWith() at 0: a string is needed, not an int", 0, ExpressionError),
    ("parameters.password + 1", "'+' at 20 cannot be applied to a string and an int", 20, ExpressionError),
    ("parameters.user.token.x", "'parameters.user.token' is a string and has no '…'", 21, ExpressionError),
    ("parameters.user[parameters.password]", "'parameters.user' has no '…'", 15, MissingReference),
    (
        "parameters.list[parameters.password]",
        "'parameters.list' is a list: an int is needed at 15, not a string",
        15,
        ExpressionError,
    ),
    ("default(1)", "'default' at 0 takes 2 arguments, not 1", 0, ExpressionError),
    ("coalesce()", "'coalesce' at 0 takes 1 to 16 arguments, not 0", 0, ExpressionError),
    ("has()", "'has' at 0 takes 1 arguments, not 0", 0, ExpressionError),
    ("'a'.trim(1)", "'trim' at 4 takes 1 arguments, not 2", 4, ExpressionError),
]
VALUES: list[tuple[str, Any]] = [
    ("1 + 2 - 4 * 5 / 3 % 4", 1),
    ("'b' > 'a'", True),
    ("'b' > 'b'", False),
    ("'b' >= 'b'", True),
    ("'a' >= 'b'", False),
    ("1 <= 1", True),
    ("2 <= 1", False),
    ("1 < 1", False),
    ("2 > 1", True),
    ("2.5 > 2", True),
    ("2 >= 2.5", False),
    ("1 != 1", False),
    ("'a' != 'b'", True),
    ("null == null", True),
    ("null == 0", False),
    ("[1, [2.0]] == [1.0, [2]]", True),
    ("[1, 2] == [1]", False),
    ("[1, 2] == [2, 1]", False),
    ("[1] == [true]", False),
    ("{'a': 1} == {'a': 1.0}", True),
    ("{'a': 1} == {'b': 1}", False),
    ("{'a': 1, 'b': 2} == {'a': 1}", False),
    ("{'a': 1} == [1]", False),
    ("{} == null", False),
    ("[] == null", False),
    ("true == true", True),
    ("1 in [true]", False),
    ("1.0 in [1]", True),
    ("'a' in {'b': 1}", False),
    ("1 in {'b': 1}", False),
    ("'b' in 'abc'", True),
    ("'d' in 'abc'", False),
    ("7 / 2", 3),
    ("-7 / 2", -3),
    ("7 / -2", -3),
    ("-7 / -2", 3),
    ("0 / 5", 0),
    ("0 / -5", 0),
    ("7 % -2", 1),
    ("-7 % -2", -1),
    ("5.0 - 2.5", 2.5),
    ("2.0 * 2.5", 5.0),
    ("0.5 + 0.25", 0.75),
    ("1 - 2 - 3", -4),
    ("true ? 1 : 2 + 3", 1),
    ("false ? 1 : true ? 2 : 3", 2),
    ("(true ? false : true) ? 1 : 2", 2),
    ("true || false && false", True),
    ("!false && true", True),
    ("-parameters.n * 2", -6),
    ("--3", 3),
    ("!!true", True),
    ("-1.5", -1.5),
    ("- -9223372036854775807", 9223372036854775807),
    ("9223372036854775807", 9223372036854775807),
    ("'\\t\\r\\\\\\\"\\''", "\t\r\\\"'"),
    ('"it\'s"', "it's"),
    ('"\\u00e4"', "ä"),
    ("[]", []),
    ("[1, ]", [1]),
    ("{}", {}),
    ("{'a': 1, }", {"a": 1}),
    ("{'a': true ? 1 : 2, \"b\": [1, 2]}", {"a": 1, "b": [1, 2]}),
    ("[true ? 1 : 2, 3]", [1, 3]),
    ("parameters?.n", 3),
    ("parameters.list[0]", 1),
    ("parameters.user.login", "ann"),
    ("size('äö')", 2),
    ("size({'a': 1})", 1),
    ("int(-3.9)", -3),
    ("int('+5')", 5),
    ("int('-5')", -5),
    ("int(7)", 7),
    ("double('-1.5e3')", -1500.0),
    ("double(2)", 2.0),
    ("double(2.5)", 2.5),
    ("bool('false')", False),
    ("bool(false)", False),
    ("string(-5)", "-5"),
    ("string(false)", "false"),
    ("string('x')", "x"),
    ("abs(2)", 2),
    ("abs(-2.5)", 2.5),
    ("min([2])", 2),
    ("min('b', 'a')", "a"),
    ("max(1, 2.5)", 2.5),
    ("max(3, 1, 2)", 3),
    ("min(2, 1, 1.0)", 1),
    ("join(['a', 'b'])", "ab"),
    ("join([1.5, true, 'x'], ', ')", "1.5, true, x"),
    ("'aXbX'.replace('X', 'YY')", "aYYbYY"),
    ("'a,b,'.split(',')", ["a", "b", ""]),
    ("'ABC'.lower()", "abc"),
    ("values({'b': 1, 'a': 2, 'c': 0})", [2, 1, 0]),
    ("merge({'a': 1}, {'b': 2}, {'a': 3})", {"a": 3, "b": 2}),
    ("concat([1], [], [2])", [1, 2]),
    ("toJson('ä')", '"ä"'),
    ("fromJson('null')", None),
    ("base64('ä')", "w6Q="),
    ("base64('')", ""),
    ("'%d %x %f'.format([-5, 255, 1])", "-5 ff 1.000000"),
    ("'%.0f|%.3f'.format([2.5, 1])", "2|1.000"),
    ("'%%'.format([])", "%"),
    ("'a%sb%sc'.format([1, 'x'])", "a1bxc"),
    ("coalesce(null, parameters.absent, 3, 4)", 3),
    ("coalesce(null)", None),
    ("has(parameters.none)", False),
    ("has(parameters.user.login)", True),
    ("has(steps.a)", UNKNOWN),
    ("default(null, null)", None),
    ("true || 1", True),
    ("false && 1", False),
    ("steps.a && 1 == 1", UNKNOWN),
    ("[steps.a] + [1]", [UNKNOWN, 1]),
    ("steps + [1]", UNKNOWN),
    ("parameters.list + steps", UNKNOWN),
    ("[parameters.password] + [1]", [Secret("hush"), 1]),
    ("{'a': steps.a}", {"a": UNKNOWN}),
    ("-steps.a", UNKNOWN),
    ("!steps.a", UNKNOWN),
    ("steps.a in [1]", UNKNOWN),
    ("size(steps.a)", UNKNOWN),
    ("parameters.list[steps.a]", UNKNOWN),
    ("keys(steps)", UNKNOWN),
    ("merge({'a': steps.a}, {'b': 1})", {"a": UNKNOWN, "b": 1}),
    ("'a' + steps.a", UNKNOWN),
    ("size([parameters.password])", 1),
    ("size(parameters.user)", 2),
    ("parameters.password == 'x' && true", Secret(False)),
    ("parameters.password == 'x' || parameters.password == 'hush'", Secret(True)),
    ("parameters.password != 'hush'", Secret(False)),
    ("{'a': parameters.password}", {"a": Secret("hush")}),
    ("[parameters.password, 1][1]", 1),
    ("parameters.password.trim()", Secret("hush")),
    ("min(parameters.password, 'a')", Secret("a")),
    ("sha256('')", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("2 in [1, 2] && 'a' in {'a': 1}", True),
    ("'abc'.endsWith('c') && !'abc'.startsWith('c')", True),
    ("' a '.trim()", "a"),
    ("'a'.upper()", "A"),
    ("1e3", 1000.0),
    (".5", 0.5),
    ("1.5e-3", 0.0015),
    ("'a' + 'b' + 'c'", "abc"),
    ("[1] + [2] + [3]", [1, 2, 3]),
    ("'x' == 'x' ? 'y' : 'z'", "y"),
]


@pytest.mark.parametrize(("text", "message", "position", "kind"), REFUSED)
def test_refusals_to_the_letter(text: str, message: str, position: int, kind: type[ExpressionError]) -> None:
    with pytest.raises(ExpressionError) as caught:
        value(text)
    assert (caught.value.message, caught.value.position, type(caught.value)) == (message, position, kind)


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_values_to_the_letter(text: str, expected: Any) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


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
    assert caught.value.message == "in ${1 +}: unexpected the end of the expression at 3"
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
    assert broken.value.message == "in ${1 +}: unexpected the end of the expression at 3"


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
            "in ${1 +}: unexpected the end of the expression at 3",
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
