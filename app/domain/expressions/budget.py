"""What one evaluation may cost, and the types of values as expressions see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.domain.expressions.errors import BudgetExceeded
from app.domain.values import UNKNOWN, Secret, Value

MAX_STEPS: Final = 10_000
MAX_RESULT: Final = 64 * 1024
# Characters and elements that one evaluation may look at or copy in all.
MAX_WORK: Final = 1024 * 1024
MAX_VALUE_DEPTH: Final = 256


class Budget:
    """Counts down. Every method raises BudgetExceeded before the cost arises, not after."""

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.work = MAX_WORK

    def step(self, position: int) -> None:
        """One node of the syntax tree."""
        self.steps -= 1
        if self.steps < 0:
            message = f"the expression takes more than {MAX_STEPS} steps"
            raise BudgetExceeded(message, position=position)

    def build(self, size: int, position: int) -> None:
        """A text or collection of `size` characters or elements is about to be made."""
        if size > MAX_RESULT:
            message = f"a value may have {MAX_RESULT} characters; the one made at {position} would be larger"
            raise BudgetExceeded(message, position=position)
        self.spend(size, position)

    def read(self, value: Value, position: int) -> int:
        """All of `value` is about to be looked at. Returns its size in characters and elements."""
        size = 0
        pending = [(value, 0)]
        while pending:
            item, depth = pending.pop()
            if depth > MAX_VALUE_DEPTH:
                message = f"the value at {position} is nested more than {MAX_VALUE_DEPTH} levels deep"
                raise BudgetExceeded(message, position=position)
            if isinstance(item, Secret):
                pending.append((item.value, depth))
            elif isinstance(item, str):
                size += len(item)
            elif isinstance(item, Mapping):
                size += sum(len(key) + 1 for key in item)
                pending.extend((child, depth + 1) for child in item.values())
            elif isinstance(item, (list, tuple)):
                size += len(item)
                pending.extend((child, depth + 1) for child in item)
            else:
                size += 1
            if size > self.work:
                break
        self.spend(size, position)
        return size

    def spend(self, size: int, position: int) -> None:
        """`size` characters or elements are about to be looked at or copied."""
        self.work -= size
        if self.work < 0:
            message = f"the expression works on more than {MAX_WORK} characters"
            raise BudgetExceeded(message, position=position)


def type_name(value: Value) -> str:
    """What messages call the type of `value`; never the value, which may be secret."""
    if value is UNKNOWN:
        return "an unknown value"
    if value is None:
        return "null"
    if isinstance(value, Secret):
        return "a secret"
    if isinstance(value, Mapping):
        return "a map"
    names = {bool: "a bool", int: "an int", float: "a double", str: "a string", list: "a list", tuple: "a list"}
    return names.get(type(value), f"a {type(value).__name__}")


def is_integer(value: Value) -> bool:
    """Whether it is a whole number; to Python, true and false are numbers too."""
    return isinstance(value, int) and not isinstance(value, bool)
