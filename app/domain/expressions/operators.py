"""Arithmetic and comparison of known, revealed values, with the rules of CEL."""

from __future__ import annotations

import math
from collections.abc import Mapping

from app.domain.expressions.budget import Budget, is_integer, type_name
from app.domain.expressions.errors import ExpressionError
from app.domain.expressions.lexer import MAX_INTEGER
from app.domain.values import Value


def integer(value: int, position: int) -> int:
    """`value`, if it fits into 64 bits."""
    if -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
        return value
    message = f"the integer made at {position} does not fit into 64 bits"
    raise ExpressionError(message, position=position)


def double(value: float, position: int) -> float:
    """`value`, if JSON can say it."""
    if math.isfinite(value):
        return value
    message = f"the number made at {position} is not finite"
    raise ExpressionError(message, position=position)


def calculate(operator: str, left: Value, right: Value, position: int) -> int | float:
    """`+ - * / %` of two ints or two doubles; they do not mix. Integer division rounds towards zero."""
    if is_integer(left) and is_integer(right):
        return integer(_on_integers(operator, left, right, position), position)
    if isinstance(left, float) and isinstance(right, float) and operator != "%":
        if operator == "/" and right == 0:
            raise _division_by_zero(position)
        results = {"+": left + right, "-": left - right, "*": left * right}
        return double(results[operator] if operator in results else left / right, position)
    raise _mismatch(operator, left, right, position)


def _on_integers(operator: str, left: int, right: int, position: int) -> int:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if right == 0:
        raise _division_by_zero(position)
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    return quotient if operator == "/" else left - right * quotient


def add(left: Value, right: Value, budget: Budget, position: int) -> Value:
    """`+`, which also joins two strings or two lists."""
    if isinstance(left, str) and isinstance(right, str):
        budget.build(len(left) + len(right), position)
        return left + right
    if isinstance(left, list) and isinstance(right, list):
        budget.build(len(left) + len(right), position)
        return left + right
    return calculate("+", left, right, position)


def compare(operator: str, left: Value, right: Value, position: int) -> bool:
    """`< <= > >=` of two numbers or two strings. Numbers of either kind compare by value."""
    numbers = all(is_integer(side) or isinstance(side, float) for side in (left, right))
    if not numbers and not (isinstance(left, str) and isinstance(right, str)):
        raise _mismatch(operator, left, right, position)
    if operator == "<":
        return bool(left < right)
    if operator == "<=":
        return bool(left <= right)
    return bool(left > right) if operator == ">" else bool(left >= right)


def equal(left: Value, right: Value) -> bool:
    """Deep equality. true is not 1, but 1 is 1.0, in collections too."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(equal(item, right[key]) for key, item in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(equal(one, other) for one, other in zip(left, right, strict=True))
    return bool(left == right)


def holds(container: Value, item: Value, position: int) -> bool:
    """Whether a list has the element, a map the key, or a string the part."""
    if isinstance(container, Mapping):
        return isinstance(item, str) and item in container
    if isinstance(container, list):
        return any(equal(item, element) for element in container)
    if isinstance(container, str) and isinstance(item, str):
        return item in container
    message = f"{type_name(container)} cannot contain {type_name(item)} (at {position})"
    raise ExpressionError(message, position=position)


def _division_by_zero(position: int) -> ExpressionError:
    message = f"division by zero at {position}"
    return ExpressionError(message, position=position)


def _mismatch(operator: str, left: Value, right: Value, position: int) -> ExpressionError:
    message = f"'{operator}' at {position} cannot be applied to {type_name(left)} and {type_name(right)}"
    if {type(left), type(right)} == {int, float}:
        message += "; convert one of them with int() or double()"
    return ExpressionError(message, position=position)
